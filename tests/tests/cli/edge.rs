//! The edges of a hold: a guardian that nothing wakes, a lock that is gone as the command ends, a clock of one's own.

use crate::blocked::{fill, full_pipe, is_writing};
use lock_tests::place::Place;
use lock_tests::proxy::{Mode, Proxy, server_of};
use lock_tests::withlock::{HANG, Sandbox, eventually, is_alive, parent, state, url};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, PipeReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A debugger has stopped the guardian: CONT does not wake it. withlock kills it, and the kernel the command.
#[test]
fn a_guardian_that_a_debugger_has_stopped_is_killed_when_the_lock_is_lost() {
    let sandbox = Sandbox::new();
    let script = "while :; do sleep 0.05; done";
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "6s", "n"], script);
    let command = sandbox.child();
    let guardian = parent(command);
    let number = if cfg!(target_arch = "x86_64") { 101 } else { 117 };
    // PTRACE_ATTACH.
    let attach = format!(
        "my $got = syscall({number}, 16, $ARGV[0] + 0, 0, 0); $| = 1; print \"$got\\n\"; sleep 600"
    );
    let mut debugger = Command::new("perl")
        .args(["-e", &attach, &guardian.as_raw_nonzero().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("perl");
    let mut told = String::new();
    let output = debugger.stdout.take().expect("piped");
    std::io::BufReader::new(output).read_line(&mut told).expect("read");
    assert_eq!(told, "0\n", "this user may trace its own processes");
    eventually("it is stopped", || state(guardian) == Some('t'));
    kill_process(guardian, Signal::CONT).expect("there");
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file.execute_batch("UPDATE locks SET owner = NULL").expect("taken away");
    eventually("the command is ended", || !is_alive(command));
    // The kernel tells the debugger first that the guardian has ended.
    debugger.kill().expect("there");
    debugger.wait().expect("ended");
    let ended = holder.end().expect(123);
    assert!(ended.stderr.contains("so withlock stopped the command: "), "{ended:?}");
}

/// Nobody reads the orders for so long that the pipe has no room for another.
#[test]
fn a_guardian_with_more_orders_than_the_pipe_holds_is_woken_when_the_lock_is_lost() {
    let sandbox = Sandbox::new();
    let script = "while :; do sleep 0.05; done";
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "6s", "n"], script);
    let command = sandbox.child();
    let guardian = parent(command);
    kill_process(guardian, Signal::STOP).expect("there");
    eventually("it is stopped", || state(guardian) == Some('T'));
    // Empty lines are no orders.
    fill(&mut orders(guardian), b'\n');
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file.execute_batch("UPDATE locks SET owner = NULL").expect("taken away");
    eventually("the command is ended", || !is_alive(command));
    let ended = holder.end().expect(123);
    assert!(ended.stderr.contains("so withlock stopped the command: "), "{ended:?}");
}

/// The pipe of a guardian's orders, to write to: of its pipes, the one that withlock has, too, and that it only reads.
fn orders(guardian: Pid) -> File {
    let pipes = |of: Pid| {
        let files = std::fs::read_dir(format!("/proc/{of}/fd")).expect("a folder");
        let files = files.map(|file| file.expect("a file").path());
        let pipe = |file: PathBuf| Some((std::fs::read_link(&file).ok()?, file));
        files.filter_map(pipe).filter(|(to, _)| to.to_string_lossy().starts_with("pipe:"))
    };
    let shared: Vec<_> = pipes(parent(guardian)).map(|(to, _)| to).collect();
    let is_read = |file: &PathBuf| {
        let mode = std::fs::symlink_metadata(file).expect("there").permissions().mode();
        mode & 0o700 == 0o500
    };
    let mut all = pipes(guardian).filter(|(to, file)| shared.contains(to) && is_read(file));
    let (_, file) = all.next().expect("it has one");
    File::options().write(true).open(file).expect("opened")
}

/// The command breaks its own lock, and ends at once: before any renewal, its release finds out.
fn a_lock_that_is_gone_when_the_command_ends_is_a_loss(place: &Place) {
    let sandbox = Sandbox::new();
    let whole = url(place);
    let breaks = ["--ttl", "10m", "n", "--", "sh", "-c", "\"$W\" --break --yes n >/dev/null"];
    let ended = sandbox.run(&whole, &breaks).expect(123);
    assert!(ended.stderr.contains("the lock \"n\" was lost"), "{ended:?}");
    assert!(ended.stderr.contains("the command had ended before"), "{ended:?}");
    let ignores = [&["--on-lost", "ignore"], &breaks[..]].concat();
    let ended = sandbox.run(&whole, &ignores).expect(0);
    assert!(ended.stderr.contains("the lock \"n\" was lost"), "{ended:?}");
    // Then it is no error.
    let ended = sandbox.run(&whole, &[&["-q"], &ignores[..]].concat()).expect(0);
    assert!(!ended.stderr.contains("was lost"), "{ended:?}");
}

macro_rules! broken {
    ($($name:ident: $place:ident, $needs:literal;)*) => {$(
        #[test]
        #[ignore = $needs]
        fn $name() { a_lock_that_is_gone_when_the_command_ends_is_a_loss(&Place::$place()) }
    )*};
}

broken! {
    a_lock_on_postgres_that_is_gone_when_the_command_ends_is_a_loss: postgres, "needs a PostgreSQL server: tests/run starts one";
    a_lock_on_mysql_that_is_gone_when_the_command_ends_is_a_loss: mysql, "needs a MySQL server: tests/run starts one";
    a_lock_on_mariadb_that_is_gone_when_the_command_ends_is_a_loss: mariadb, "needs a MariaDB server: tests/run starts one";
}

#[test]
fn a_lock_in_a_file_that_is_gone_when_the_command_ends_is_a_loss() {
    a_lock_that_is_gone_when_the_command_ends_is_a_loss(&Place::sqlite());
}

#[test]
fn a_loss_is_told_also_to_those_who_want_errors_only() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let breaks = "\"$W\" --break --yes -q n; [ ! -e stay ] || exec sleep 600";
    for (ttl, says) in
        [("10m", "the command had ended before"), ("6s", "so withlock stopped the command")]
    {
        let ended = sandbox.run(&url, &["-q", "--ttl", ttl, "n", "--", "sh", "-c", breaks]);
        let ended = ended.expect(123);
        assert!(ended.stderr.starts_with("withlock: the lock \"n\" was lost"), "{ended:?}");
        assert!(ended.stderr.contains(says), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        std::fs::write(sandbox.path("stay"), "").expect("written");
    }
}

/// The command ends while the server is out of reach. Its exit code stays, and people are told that the lock stays taken for a while.
fn a_release_that_is_not_confirmed_is_told(place: &Place) {
    let told = |quiet: &[&str]| {
        let sandbox = Sandbox::new();
        let proxy = Proxy::start(&server_of(place.url()));
        let through = place.through(&proxy.url(place.url())).whole_url();
        let args = [quiet, &["--ttl", "6s", "n"]].concat();
        let wait = "while [ ! -e go ]; do sleep 0.02; done; exit 3";
        let holder = sandbox.hold(&through, &args, wait);
        proxy.set(Mode::Hole);
        std::fs::write(sandbox.path("go"), "").expect("written");
        holder.end().expect(3).stderr
    };
    let stderr = told(&[]);
    assert!(stderr.contains("\"n\": the release was not confirmed"), "{stderr}");
    assert!(stderr.contains("ends by itself within") && !stderr.contains(" 0ns"), "{stderr}");
    assert_eq!(told(&["-q"]), "");
}

/// Whoever presses Ctrl-C then does not wait for what cannot be confirmed.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_signal_ends_a_release_that_has_no_answer() {
    let (place, sandbox) = (Place::postgres(), Sandbox::new());
    let proxy = Proxy::start(&server_of(place.url()));
    let through = place.through(&proxy.url(place.url())).whole_url();
    let mut holder = sandbox.hold(&through, &["n"], "until [ -e go ]; do sleep 0.02; done; exit 3");
    let command = sandbox.child();
    proxy.set(Mode::Hole);
    std::fs::write(sandbox.path("go"), "").expect("written");
    eventually("the command ends", || !is_alive(command));
    eventually("withlock ends", || {
        holder.signal(Signal::INT);
        holder.has_ended()
    });
    let ended = holder.end().expect(3);
    assert!(ended.stderr.contains("a signal ended withlock before the server had"), "{ended:?}");
}

/// It was told once, while the release of its term had no answer.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_signal_during_a_release_ends_a_leader() {
    let (place, sandbox) = (Place::postgres(), Sandbox::new());
    let proxy = Proxy::start(&server_of(place.url()));
    let through = place.through(&proxy.url(place.url())).whole_url();
    let args = ["--leader", "--max-hold", "1s", "n"];
    let leader = sandbox.hold(&through, &args, "exec sleep 600");
    proxy.set(Mode::Hole);
    let command = sandbox.child();
    eventually("its term ends", || !is_alive(command));
    std::thread::sleep(Duration::from_millis(300));
    leader.signal(Signal::TERM);
    leader.end().expect(143);
}

macro_rules! unconfirmed {
    ($($name:ident: $place:ident, $needs:literal;)*) => {$(
        #[test]
        #[ignore = $needs]
        fn $name() { a_release_that_is_not_confirmed_is_told(&Place::$place()) }
    )*};
}

unconfirmed! {
    a_release_that_postgres_does_not_confirm_is_told: postgres, "needs a PostgreSQL server: tests/run starts one";
    a_release_that_mysql_does_not_confirm_is_told: mysql, "needs a MySQL server: tests/run starts one";
    a_release_that_mariadb_does_not_confirm_is_told: mariadb, "needs a MariaDB server: tests/run starts one";
    a_release_that_consul_does_not_confirm_is_told: consul, "needs a Consul server: tests/run starts one";
}

/// Stops the first thread of a process, and no other, until the debugger that does so is killed.
fn first_thread_stopped(of: Pid) -> Child {
    let number = if cfg!(target_arch = "x86_64") { 101 } else { 117 };
    // PTRACE_SEIZE and PTRACE_INTERRUPT: it leaves no signal behind.
    let stop = format!(
        "syscall({number}, 0x4206, $ARGV[0] + 0, 0, 0) == 0 or die; \
         syscall({number}, 0x4207, $ARGV[0] + 0, 0, 0) == 0 or die; sleep 600"
    );
    let mut debugger = Command::new("perl");
    debugger.args(["-e", &stop, &of.as_raw_nonzero().to_string()]);
    let debugger = debugger.spawn().expect("perl");
    eventually("it is stopped", || state(of) == Some('t'));
    debugger
}

/// True if every thread of a process waits, or is stopped, and has no signal to take.
fn is_at_rest(pid: Pid) -> bool {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    threads.expect("it is there").flatten().all(|thread| {
        let status = read(format!("{}/status", thread.path().display())).replace('\t', " ");
        let pends = status.lines().any(|line| {
            (line.starts_with("ShdPnd:") || line.starts_with("SigPnd:"))
                && !line.ends_with(" 0000000000000000")
        });
        (status.contains("State: S") || status.contains("State: t")) && !pends
    })
}

/// Reads all that comes out of a pipe, and what was in it.
fn drained(mut reads: PipeReader) -> JoinHandle<std::io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut told = Vec::new();
        reads.read_to_end(&mut told).map(|_| told)
    })
}

/// Sends TERM, and waits until the threads of the signals and of the driver have done what they do about it.
fn ends_while_it_is_stopped(pid: Pid) {
    kill_process(pid, Signal::TERM).expect("there");
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(50));
        eventually("it rests", || is_at_rest(pid));
    }
}

/// While a leader says that it has lost the lock, it gets a signal, and somebody else leads, or nobody.
#[test]
fn a_signal_between_two_terms_ends_a_leader() {
    for others in [&["n"][..], &[]] {
        a_signal_meets_the_end_of_a_term(others);
    }
}

fn a_signal_meets_the_end_of_a_term(others: &[&str]) {
    let sandbox = Sandbox::new();
    let (reads, full) = full_pipe();
    let args = ["--leader", "--ttl", "6s", "n", "--", "sh", "-c", "touch led; exec sleep 600"];
    let mut command = sandbox.withlock(&sandbox.url(), &args);
    let mut leader = command.stderr(full).spawn().expect("started");
    drop(command);
    let pid = Pid::from_child(&leader);
    eventually("it leads", || sandbox.path("led").exists());
    sandbox.run(&sandbox.url(), &["--break", "--yes", "n"]).expect(0);
    eventually("it says that it stands by", || is_writing(pid));
    let mut debugger = first_thread_stopped(pid);
    let rivals = others.iter().map(|name| sandbox.hold(&sandbox.url(), &[*name], "exec sleep 600"));
    let rivals: Vec<_> = rivals.collect();
    // This one would be for the command, and comes before.
    kill_process(pid, Signal::USR1).expect("there");
    ends_while_it_is_stopped(pid);
    debugger.kill().and_then(|()| debugger.wait()).expect("ended");
    let reader = drained(reads);
    let until = Instant::now() + HANG;
    while leader.try_wait().expect("known").is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = leader.kill();
    assert_eq!(leader.wait().expect("ended").code(), Some(143));
    // It left nothing behind that would have to end by itself.
    let free = if rivals.is_empty() { 0 } else { 75 };
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).expect(free);
    drop(reader.join().expect("read"));
}

/// While its first thread has not heard of the grant, withlock gets a signal.
#[test]
fn a_signal_at_the_moment_of_the_grant_ends_the_wait() {
    for options in [&[][..], &["--min-hold", "1h"]] {
        a_signal_meets_the_grant(options);
    }
}

fn a_signal_meets_the_grant(options: &[&str]) {
    let sandbox = Sandbox::new();
    let file = sandbox.keep_the_file();
    let args = [options, &["n", "--", "touch", "ran"]].concat();
    let waiting = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args));
    eventually("it says that it waits", || waiting.output()[1].contains("; trying again\n"));
    let mut debugger = first_thread_stopped(waiting.pid());
    file.execute_batch("COMMIT").expect("unlocked");
    let held = || {
        let held = "SELECT owner IS NOT NULL FROM locks WHERE name = 'n'";
        file.query_row(held, [], |row| row.get::<_, bool>(0)).unwrap_or(false)
    };
    eventually("it has the lock", held);
    ends_while_it_is_stopped(waiting.pid());
    debugger.kill().and_then(|()| debugger.wait()).expect("ended");
    waiting.end().expect(143);
    assert!(!sandbox.path("ran").exists(), "the command ran");
    assert!(!held(), "it is released");
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).expect(0);
}

/// Its lease times would be of another clock than those of all others who use the file.
#[test]
fn a_file_is_not_used_under_another_boot_clock() {
    let sandbox = Sandbox::new();
    let elsewhere = |offset: &str, args: &[&str]| {
        let mut command = sandbox.command("unshare");
        command.args(["--user", "--map-root-user", "--time", "--boottime", offset, "--"]);
        command.arg(lock_tests::withlock::binary()).args(args);
        command.env("WITHLOCK_URL", sandbox.url());
        sandbox.start(&mut command).end()
    };
    for args in [&["-n", "n", "--", "touch", "ran"][..], &["--list"], &["--status", "n"]] {
        let ended = elsewhere("1000", args).expect(125);
        assert!(ended.stderr.contains("time namespace"), "{ended:?}");
        assert!(!sandbox.path("ran").exists());
    }
    elsewhere("0", &["-n", "n", "--", "touch", "ran"]).expect(0);
    assert!(sandbox.path("ran").exists(), "the same clock");
}
