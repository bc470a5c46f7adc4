//! `withlock`'s options beyond those that every script uses.

use lock_tests::place::Place;
use lock_tests::withlock::{Ended, Run, Sandbox, eventually, is_alive, parent, state, url};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Duration, Instant};

const UNTIL_GO: &str = "while [ ! -e go ]; do sleep 0.02; done";

fn is_free(sandbox: &Sandbox) -> bool {
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).code == 0
}

// As flock spells them.

#[test]
fn short_options_are_those_of_flock() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let _holder = sandbox.hold(&url, &["n"], UNTIL_GO);
    sandbox.run(&url, &["-n", "n", "--", "true"]).expect(75);
    sandbox.run(&url, &["-n", "-E", "9", "n", "--", "true"]).expect(9);
    sandbox.run(&url, &["-nE9", "n", "--", "true"]).expect(9);
    for wait in ["0.3", "300ms"] {
        let began = Instant::now();
        sandbox.run(&url, &["-w", wait, "n", "--", "true"]).expect(124);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    }
    sandbox.run(&url, &["-w", "0", "n", "--", "true"]).expect(124);
    sandbox.run(&url, &["-w", "1h30m", "free", "--", "true"]).expect(0);
}

#[test]
fn a_name_may_begin_with_a_dash() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    for args in [&["--name", "-x"][..], &["--name=-x"], &["--name=--try"], &["--name", "plain"]] {
        let told = ["--", "sh", "-c", "printf %s \"$WITHLOCK_NAME\""];
        let name = args.last().map_or("", |arg| arg.trim_start_matches("--name="));
        assert_eq!(sandbox.run(&url, &[args, &told].concat()).expect(0).stdout, name);
    }
}

#[test]
fn a_long_wait_is_told_of_again() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let waiter = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &["-v", "n", "--", "true"]));
    eventually("it is told again", || waiter.output()[1].lines().count() == 2);
    let [_, told] = waiter.output();
    let again = told.lines().last().unwrap_or_default();
    assert!(again.starts_with("withlock: waiting for \"n\" for 1"), "ten seconds and some: {told}");
    assert!(again.contains(&format!(" pid {} ", holder.pid())), "{told}");
    std::fs::write(sandbox.path("go"), "").expect("written");
    waiter.end().expect(0);
}

// Kept for a while.

/// The least of several times, for a busy machine delays some.
#[test]
fn a_wait_lasts_no_longer_than_was_asked_for() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let _holder = sandbox.hold(&url, &["n"], "exec sleep 600");
    let took = |_| sandbox.run(&url, &["-w", "100ms", "n", "--", "true"]).expect(124).took;
    let least = (0..4).map(took).min();
    assert!(least < Some(Duration::from_millis(1_500)), "{least:?}");
}

/// On a table, nobody has to wait for it.
#[test]
fn the_lock_is_kept_after_a_command_that_was_quick() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let args = ["-v", "--min-hold", "1h", "n", "--", "sh", "-c", "exit 7"];
    let ended = sandbox.run(&url, &args).expect(7);
    let told = "the command ended with exit code 7; the table keeps \"n\" for 59m";
    assert!(ended.stderr.contains(told), "{ended:?}");
    for (option, code) in [("--try", 75), ("--wait=300ms", 124), ("--skip", 0)] {
        let refused = sandbox.run(&url, &[option, "-v", "n", "--", "touch", "ran"]).expect(code);
        assert!(refused.stderr.contains("\"n\" was released, but is kept for "), "{refused:?}");
    }
    assert!(!sandbox.path("ran").exists());
    let shown = sandbox.run(&url, &["--status", "n"]).expect(75);
    assert!(shown.stdout.starts_with("\"n\" was released by "), "{shown:?}");
    assert!(shown.stdout.contains(", and is kept for 59m"), "{shown:?}");
    let list = sandbox.run(&url, &["--list"]).expect(0);
    assert!(list.stdout.contains("(released, and kept)"), "{list:?}");
    let json = sandbox.run(&url, &["--list", "--json"]).expect(0);
    for is in [r#""kept":true"#, r#""held":true"#] {
        assert!(json.stdout.contains(is), "nobody can have it: {json:?}");
    }
    let broken = sandbox.run(&url, &["--break", "n", "--yes"]).expect(0);
    assert!(broken.stderr.contains("\"n\" is kept no longer"), "{broken:?}");
    assert!(is_free(&sandbox));
}

#[test]
fn a_lock_is_kept_no_longer_than_was_asked_for() {
    let sandbox = Sandbox::new();
    let began = Instant::now();
    sandbox.run(&sandbox.url(), &["--min-hold", "1s", "n", "--", "true"]).expect(0);
    sandbox.run(&sandbox.url(), &["n", "--", "true"]).expect(0);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

/// It is counted from the grant: a command that takes as long costs nothing more.
#[test]
fn the_time_that_a_lock_is_kept_begins_with_its_grant() {
    let sandbox = Sandbox::new();
    let args = ["-v", "--min-hold", "1s", "n", "--", "sleep", "1.2"];
    let ended = sandbox.run(&sandbox.url(), &args).expect(0);
    assert!(!ended.stderr.contains(" keeps "), "{ended:?}");
    assert!(is_free(&sandbox));
}

/// Where a lock ends with its connection, `withlock` stays to keep it.
fn keeps(sandbox: &Sandbox, place: &Place) -> Run {
    let args = ["-v", "--min-hold", "50s", "n", "--", "sh", "-c", "exit 7"];
    let holder = sandbox.start(&mut sandbox.withlock(&url(place), &args));
    eventually("it is kept", || holder.output()[1].contains("withlock keeps \"n\" for 4"));
    sandbox.run(&url(place), &["--try", "n", "--", "true"]).expect(75);
    holder
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_signal_ends_the_keeping_and_the_exit_code_is_the_commands() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (sandbox, place) = (Sandbox::new(), Place::postgres_advisory());
        let holder = keeps(&sandbox, &place);
        // These would be for the command.
        for other in [Signal::USR1, Signal::WINCH, Signal::CONT] {
            holder.signal(other);
        }
        sandbox.run(&url(&place), &["--try", "n", "--", "true"]).expect(75);
        holder.signal(signal);
        let ended = holder.end().expect(7);
        assert!(ended.took < Duration::from_secs(40), "{ended:?}");
        assert!(ended.stderr.contains("a signal ended --min-hold 4"), "{signal:?}: {ended:?}");
        sandbox.run(&url(&place), &["--try", "n", "--", "true"]).expect(0);
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_withlock_that_keeps_a_lock_can_be_stopped_and_goes_on() {
    let (sandbox, place) = (Sandbox::new(), Place::postgres_advisory());
    let holder = keeps(&sandbox, &place);
    holder.signal(Signal::TSTP);
    eventually("it is stopped", || state(holder.pid()) == Some('T'));
    holder.signal(Signal::CONT);
    holder.signal(Signal::TERM);
    holder.end().expect(7);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn withlock_keeps_a_lock_whose_session_it_is() {
    let (sandbox, place) = (Sandbox::new(), Place::consul());
    let holder = keeps(&sandbox, &place);
    holder.signal(Signal::TERM);
    holder.end().expect(7);
    sandbox.run(&url(&place), &["--try", "n", "--", "true"]).expect(0);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_lock_that_withlock_will_keep_may_be_shared() {
    let (sandbox, place) = (Sandbox::new(), Place::postgres_advisory());
    let args = ["--shared", "--min-hold", "50s", "n"];
    let _holder = sandbox.hold(&url(&place), &args, "exec sleep 600");
    sandbox.run(&url(&place), &["--try", "--shared", "n", "--", "true"]).expect(0);
    sandbox.run(&url(&place), &["--try", "n", "--", "true"]).expect(75);
}

/// Who ends the command by a signal wants it over.
#[test]
fn a_signal_to_the_command_ends_it_without_keeping() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["--min-hold", "50s", "n"], "exec sleep 600");
    holder.signal(Signal::TERM);
    let ended = holder.end().expect(143);
    assert!(ended.took < Duration::from_secs(40), "{ended:?}");
    assert!(is_free(&sandbox));
}

/// Many commands take a signal as news, and end by themselves much later.
#[test]
fn a_signal_that_ends_no_command_changes_nothing_about_the_keeping() {
    let sandbox = Sandbox::new();
    let script =
        "trap 'touch told' USR1; touch ready; until [ -e told ]; do sleep 0.02; done; exit 7";
    let holder = sandbox.hold(&sandbox.url(), &["--min-hold", "1h", "n"], script);
    eventually("it takes note of signals", || sandbox.path("ready").exists());
    holder.signal(Signal::USR1);
    holder.end().expect(7);
    assert!(!is_free(&sandbox));
}

/// The command has ended: a loss then is no reason for another exit code.
#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_loss_while_keeping_changes_no_exit_code() {
    let (sandbox, place) = (Sandbox::new(), Place::consul());
    let holder = keeps(&sandbox, &place);
    place.rob("n");
    let ended = holder.end().expect(7);
    assert!(ended.took < Duration::from_secs(40), "{ended:?}");
}

// When the lock is lost.

/// Loses the lock of a command that notes TERM and goes on until it is killed, or `go`.
fn lost(options: &[&str]) -> (Sandbox, Ended) {
    let sandbox = Sandbox::new();
    let script = format!("trap 'date +%s%N >told' TERM; {UNTIL_GO}; exit 7");
    let args = [&["--ttl", "4s"], options, &["n"]].concat();
    let holder = sandbox.hold(&sandbox.url(), &args, &script);
    let child = sandbox.child();
    // No renewal gets through.
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file.execute_batch("BEGIN IMMEDIATE").expect("begun");
    if options.contains(&"ignore") {
        eventually("it is told", || holder.output()[1].contains("but the command keeps running"));
        sleep(Duration::from_millis(300));
        assert!(is_alive(child) && state(child) != Some('T'));
        std::fs::write(sandbox.path("go"), "").expect("written");
    } else {
        eventually("it is killed", || !is_alive(child));
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let killed = at.expect("after 1970").as_nanos().to_string();
        std::fs::write(sandbox.path("killed"), killed).expect("written");
    }
    file.execute_batch("ROLLBACK").expect("rolled back");
    (sandbox, holder.end())
}

/// How long before KILL TERM came, in seconds; `None` if it did not come.
fn grace(sandbox: &Sandbox) -> Option<f64> {
    let at = |file: &str| sandbox.read(file).trim().parse::<f64>().ok();
    Some((at("killed")? - at("told")?) / 1e9)
}

#[test]
fn term_comes_a_sixth_of_the_ttl_before_kill() {
    let (sandbox, ended) = lost(&[]);
    assert_eq!(ended.code, 123, "{ended:?}");
    let grace = grace(&sandbox).expect("told");
    assert!((0.4..1.0).contains(&grace), "{grace} s of 4 s");
}

#[test]
fn the_grace_can_be_chosen() {
    let (sandbox, ended) = lost(&["--grace", "1.5s"]);
    assert_eq!(ended.code, 123, "{ended:?}");
    let grace = grace(&sandbox).expect("told");
    assert!((1.2..2.0).contains(&grace), "{grace} s");
}

#[test]
fn a_grace_that_leaves_no_time_for_a_renewal_is_refused() {
    let sandbox = Sandbox::new();
    let args = ["--ttl", "6s", "--grace", "3s", "n", "--", "touch", "ran"];
    // The option goes before the URL.
    for url in [sandbox.url(), format!("{}?ttl=1h", sandbox.url())] {
        let ended = sandbox.run(&url, &args).expect(125);
        assert!(ended.stderr.contains("--grace must not be more than 2s"), "{ended:?}");
    }
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn kill_comes_alone_if_that_was_asked_for() {
    let (sandbox, ended) = lost(&["--on-lost", "kill"]);
    assert_eq!(ended.code, 123, "{ended:?}");
    assert_eq!(grace(&sandbox), None);
}

#[test]
fn a_command_that_ignores_losses_runs_on_and_its_exit_code_is_passed_on() {
    let (sandbox, ended) = lost(&["--on-lost", "ignore"]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(!sandbox.path("told").exists(), "it got no signal");
    let told = ended.stderr.lines().filter(|line| line.starts_with("withlock: the lock \"n\""));
    assert_eq!(told.count(), 1, "{ended:?}");
}

/// The lease would end with nobody to tell of it.
#[test]
fn a_command_that_ignores_losses_is_ended_if_withlock_is_killed() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["--on-lost", "ignore", "n"], UNTIL_GO);
    let child = sandbox.child();
    holder.signal(Signal::KILL);
    holder.end().expect(137);
    eventually("it is ended", || !is_alive(child));
}

/// withlock was stopped, and the command has ended when it goes on.
#[test]
fn a_loss_that_is_ignored_is_told_though_the_command_has_ended() {
    for keeps in [&[][..], &["--min-hold", "1h"]] {
        let sandbox = Sandbox::new();
        let args = [keeps, &["--ttl", "1s", "--on-lost", "ignore", "n"]].concat();
        let holder =
            sandbox.hold(&sandbox.url(), &args, "until [ -e go ]; do sleep 0.05; done; exit 7");
        let guardian = parent(sandbox.child());
        holder.signal(Signal::STOP);
        // The lock is lost as soon as somebody else has it.
        sandbox.run(&sandbox.url(), &["--ttl", "1s", "n", "--", "touch", "go"]).expect(0);
        eventually("the command ends, and its guardian", || !is_alive(guardian));
        holder.signal(Signal::CONT);
        let ended = holder.end().expect(7);
        let [told] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert!(told.starts_with("withlock: the lock \"n\" was lost, "), "{ended:?}");
    }
}

// What is made from the definition.

#[test]
fn completions_and_a_manual_page_are_printed() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = sandbox.run("nonsense", &["--completions", shell]).expect(0);
        assert!(ended.stdout.contains("min-hold") && ended.stderr.is_empty(), "{shell}");
    }
    // A shell takes it, and completes.
    let script = "eval \"$(\"$W\" --completions bash)\"; COMP_WORDS=(withlock --min); COMP_CWORD=1; \
                  _withlock withlock --min withlock; echo \"${COMPREPLY[@]}\"";
    let bash = sandbox.start(sandbox.command("bash").args(["-c", script])).end().expect(0);
    assert_eq!(bash.stdout, "--min-hold\n", "{bash:?}");

    let page = sandbox.run("nonsense", &["--man"]).expect(0).stdout;
    for word in [".TH WITHLOCK", "min\\-hold", "EXIT STATUS", "WITHLOCK_FENCE"] {
        assert!(page.contains(word), "{word} is not in {page}");
    }
    assert!(!sandbox.path("state").exists(), "nothing is locked");
}

/// Where there is no groff, `.ci/run` says that this was not run.
#[test]
fn groff_has_nothing_to_say_about_the_manual_page() {
    let sandbox = Sandbox::new();
    let page = sandbox.run("nonsense", &["--man"]).expect(0).stdout;
    std::fs::write(sandbox.path("withlock.1"), page).expect("written");
    for width in [60, 80, 120] {
        let script = format!(
            "command -v groff || exit 42; groff -man -ww -Tutf8 -P-cbou -rLL={width}n withlock.1 >shown"
        );
        let ended = sandbox.start(sandbox.command("sh").args(["-c", &script])).end();
        if ended.code == 42 {
            println!("NOT RUN, since it is not installed: groff");
            return;
        }
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        let shown = sandbox.read("shown");
        assert!(shown.contains("EXIT STATUS") && !shown.contains("EXTRA"), "{shown}");
        // A word that people copy is in one piece.
        assert!(shown.contains("WITHLOCK_URL_FILE") && !shown.contains('\u{2010}'), "{shown}");
    }
}

/// The help is a page for people: it has examples, and every exit code.
#[test]
fn the_help_has_examples_and_every_exit_code() {
    let sandbox = Sandbox::new();
    let help = sandbox.run("", &["--help"]).expect(0).stdout;
    for word in ["Examples:", "75  --try", "123", "124", "125", "126", "127", "128+n", "-n, --try"]
    {
        assert!(help.contains(word), "{word} is not in {help}");
    }
    assert!(!help.contains('\x1b'), "no colours without a terminal");
    assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
}
