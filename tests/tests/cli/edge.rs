//! The edges of a hold: a guardian that nothing wakes, a lock that is gone as the command ends, a clock of one's own.

use lock_tests::place::Place;
use lock_tests::withlock::{Sandbox, eventually, is_alive, parent, state, url};
use rustix::process::{Signal, kill_process};
use std::io::BufRead;
use std::process::{Command, Stdio};
use std::time::Duration;

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
    holder.end().expect(123);
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
