//! Ignored signals, and being stopped.

use super::*;

/// `withlock` started by somebody who ignores HUP, as `nohup` does.
fn without_hup(sandbox: &Sandbox, args: &str) -> Command {
    let mut command = sandbox.command("sh");
    command
        .args(["-c", &format!("trap '' HUP; exec \"$W\" {args}")])
        .env("WITHLOCK_URL", sandbox.url());
    command
}

fn ignores_hup(pid: Pid) -> bool {
    ignores(pid, Signal::HUP)
}

fn ignores(pid: Pid, signal: Signal) -> bool {
    let status = read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("status");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") & (1 << (signal.as_raw() - 1)) != 0
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let sandbox = Sandbox::new();
    // This one would end of it: it ignores nothing.
    let work = "echo $$ >pid; touch up; while [ ! -e go ]; do sleep 0.02; done; exit 6";
    write(sandbox.path("work"), work).expect("written");
    let args = "n -- env --default-signal=HUP sh work";
    let mut holder = sandbox.start(&mut without_hup(&sandbox, args));
    eventually("the command runs", || sandbox.path("up").exists());
    let child = sandbox.child();
    assert!(ignores_hup(holder.pid()) && !ignores_hup(child));

    let command = "sh -c 'touch ran; grep SigIgn /proc/self/status >mask; exit 3'";
    let mut waiting = sandbox.start(&mut without_hup(&sandbox, &format!("-v n -- {command}")));
    eventually("it waits", || waiting.waits());

    for _ in 0..3 {
        holder.signal(Signal::HUP);
        waiting.signal(Signal::HUP);
    }
    a_while();
    assert!(!holder.has_ended() && is_alive(child), "{:?}", holder.output());
    assert!(!waiting.has_ended() && !sandbox.path("ran").exists());
    go(&sandbox);
    holder.end().expect(6);
    waiting.end().expect(3);
    let mask = sandbox.read("mask");
    let mask = mask.trim().strip_prefix("SigIgn:").expect("a mask").trim();
    let mask = u64::from_str_radix(mask, 16).expect("a mask");
    assert_eq!(mask & 1, 1, "the command ignores it too");
    is_free(&sandbox);
}

/// A shell has INT and QUIT ignored by what a script runs in the background.
#[test]
fn each_signal_that_was_ignored_stays_ignored() {
    for (name, signal) in [
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("TERM", Signal::TERM),
        ("USR1", Signal::USR1),
        ("TSTP", Signal::TSTP),
    ] {
        let sandbox = Sandbox::new();
        let script = format!("trap '' {name}; exec \"$W\" n -- sh work");
        let work = format!("touch up; {UNTIL_GO}; exit 6");
        write(sandbox.path("work"), work).expect("written");
        let mut command = sandbox.command("sh");
        command.args(["-c", &script]).env("WITHLOCK_URL", sandbox.url());
        let holder = sandbox.start(&mut command);
        eventually("the command runs", || sandbox.path("up").exists());
        assert!(ignores(holder.pid(), signal), "{name}");
        holder.signal(signal);
        go(&sandbox);
        holder.end().expect(6);
    }
}

/// The other signals are as ever.
#[test]
fn who_ignores_one_signal_does_not_ignore_the_others() {
    let sandbox = Sandbox::new();
    let holder = sandbox.start(&mut without_hup(&sandbox, "n -- sh -c 'touch up; exec sleep 600'"));
    eventually("the command runs", || sandbox.path("up").exists());
    holder.signal(Signal::TERM);
    holder.end_within(PROMPT).expect(143);
    is_free(&sandbox);
}

// Stopped, and let go on.

#[test]
fn stop_and_continue_are_for_both() {
    let sandbox = Sandbox::new();
    let script = format!("sh -c 'echo $$ >inner; {WRITE_UNTIL_GO}'; exit 5");
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "60s", "n"], &script);
    eventually("the inner one runs", || !sandbox.read("written").is_empty());
    let (both, inner) = ([holder.pid(), sandbox.child()], pid(&sandbox.read("inner")));
    for _ in 0..2 {
        holder.signal(Signal::TSTP);
        eventually("all are stopped", || {
            both.iter().all(|pid| is_stopped(*pid)) && is_halted(inner)
        });
        sleep(Duration::from_millis(100));
        let written = sandbox.read("written").len();
        a_while();
        assert_eq!(sandbox.read("written").len(), written, "the command ran on");
        is_taken(&sandbox);
        holder.signal(Signal::CONT);
        eventually("all go on", || both.iter().all(|pid| !is_stopped(*pid)) && !is_stopped(inner));
        eventually("the command goes on", || sandbox.read("written").len() > written);
        is_taken(&sandbox);
    }
    go(&sandbox);
    let ended = holder.end().expect(5);
    assert_eq!(ended.stderr, "");
    is_free(&sandbox);
}

/// It is not forgotten, though the release takes its time.
#[test]
fn the_stop_key_stops_withlock_during_a_release() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], &format!("{UNTIL_GO}; exit 3"));
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(PROMPT).expect("set");
    file.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    go(&sandbox);
    eventually("it releases the lock", || has_thread(holder.pid(), "release"));
    holder.signal(Signal::TSTP);
    eventually("it is stopped", || is_stopped(holder.pid()));
    holder.signal(Signal::CONT);
    file.execute_batch("ROLLBACK").expect("ended");
    holder.end().expect(3);
    is_free(&sandbox);
}

fn has_thread(pid: Pid, name: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    threads.into_iter().flatten().flatten().any(|thread| {
        read_to_string(thread.path().join("comm")).unwrap_or_default().trim_end() == name
    })
}

/// In the middle of one, a renewal would keep the file from everybody else for as long as it is stopped.
#[test]
fn a_hold_is_stopped_between_two_requests() {
    let sandbox = Sandbox::new();
    // A stop waits for a request's time at most, which a slow renewal on a busy machine must not exceed.
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "20s", "n"], UNTIL_GO);
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(PROMPT).expect("set");
    let count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700000)";
    let slow = format!(
        "CREATE TRIGGER slow BEFORE UPDATE ON locks BEGIN {count} SELECT max(i) FROM n; END"
    );
    file.execute_batch(&slow).expect("a trigger that takes its time");
    let is_kept = |patience| {
        file.busy_timeout(patience).expect("set");
        file.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
    };
    eventually("a renewal keeps the file", || {
        (0..3).all(|_| (is_kept(Duration::ZERO), sleep(Duration::from_millis(5))).0)
    });
    holder.signal(Signal::TSTP);
    eventually("it is stopped", || is_stopped(holder.pid()));
    assert!(!is_kept(PROMPT / 2), "it was stopped in the middle of a renewal");
}

/// `fg` may come before the end of the request for which the stop waits. It undoes the stop.
#[test]
fn a_stop_that_is_taken_back_in_the_middle_of_a_request_stops_nothing() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "15s", "n"], WRITE_UNTIL_GO);
    let command = sandbox.child();
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(PROMPT).expect("set");
    file.execute_batch("BEGIN IMMEDIATE").expect("a renewal would wait now");
    eventually("a renewal waits", || {
        holder.signal(Signal::TSTP);
        sleep(Duration::from_millis(300));
        let waits = !is_stopped(holder.pid());
        holder.signal(Signal::CONT);
        waits
    });
    file.execute_batch("ROLLBACK").expect("it goes on");
    let written = sandbox.read("written").len();
    eventually("the command goes on", || sandbox.read("written").len() > written);
    assert!(!is_stopped(holder.pid()) && !is_stopped(command));
    go(&sandbox);
    holder.end().expect(0);
}

#[test]
fn who_is_stopped_past_the_lease_has_lost_it() {
    let sandbox = Sandbox::new();
    let script = format!("sh -c 'echo $$ >inner; {WRITE_UNTIL_GO}'; exit 5");
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "6s", "n"], &script);
    eventually("the inner one runs", || !sandbox.read("written").is_empty());
    let family = [sandbox.child(), pid(&sandbox.read("inner"))];
    let sent = Instant::now();
    holder.signal(Signal::TSTP);
    eventually("all are stopped", || {
        is_stopped(holder.pid()) && family.iter().all(|pid| is_halted(*pid))
    });
    sleep(Duration::from_millis(100));
    let written = sandbox.read("written").len();

    let script = "touch entered; while [ ! -e leave ]; do sleep 0.02; done; exit 8";
    let args = ["n", "--", "sh", "-c", script];
    let rival = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args));
    eventually("somebody else gets the lock", || sandbox.path("entered").exists());
    // Renewed a third of the TTL before at most, unless the machine was in trouble.
    let took = sent.elapsed();
    assert!(took >= Duration::from_secs(3), "the lease was over after {took:?} already");
    assert!(is_stopped(holder.pid()) && family.iter().all(|pid| !is_alive(*pid)));

    holder.signal(Signal::CONT);
    let ended = holder.end_within(PROMPT).expect(123);
    assert_eq!(sandbox.read("written").len(), written, "the command came back to life");
    assert!(ended.stderr.contains("withlock: the lock \"n\" was lost"), "{ended:?}");
    assert!(ended.stderr.contains("so withlock stopped the command"), "{ended:?}");
    is_taken(&sandbox);
    write(sandbox.path("leave"), "").expect("written");
    rival.end().expect(8);
    is_free(&sandbox);
}

// What is told without a terminal.

#[test]
fn without_a_terminal_a_wait_is_silent_unless_asked() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let holder = sandbox.hold(&url, &["n"], UNTIL_GO);
    let start = |args: &[&str]| {
        sandbox.start(&mut sandbox.withlock(&url, &[args, &["n", "--", "echo", "done"]].concat()))
    };
    let (silent, quiet, verbose) = (start(&[]), start(&["-q"]), start(&["-v"]));
    eventually("-v tells", || verbose.output()[1].ends_with('\n'));
    // Long enough for a line to come again, if it did.
    sleep(Duration::from_millis(2_500));
    let [_, told] = verbose.output();
    assert_eq!(told.lines().count(), 1, "{told:?}");
    assert!(told.starts_with("withlock: waiting for \"n\" (held by "), "{told:?}");
    let holder_pid = format!(" pid {} ", holder.pid().as_raw_nonzero());
    assert!(told.contains(&holder_pid), "{told:?} does not name {holder_pid:?}");
    go(&sandbox);
    holder.end().expect(0);
    for run in [silent, quiet] {
        let ended = run.end().expect(0);
        assert!(ended.took >= Duration::from_millis(2_500), "it did not wait: {ended:?}");
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("done\n", ""));
    }
    let ended = verbose.end().expect(0);
    assert_eq!(ended.stdout, "done\n");
    assert!(ended.stderr.contains("withlock: holding \"n\" with fence "), "{ended:?}");
    assert!(!ended.stderr.contains('\x1b') && !ended.stderr.contains('\r'), "{ended:?}");
}

// On a terminal.
