//! The guardian ends the command by the deadline, whatever has become of `withlock`.

use lock_tests::place::Place;
use lock_tests::withlock::{
    Run, Sandbox, binary, children, copy_binary, eventually, is_alive, parent, pid, state, url,
};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, getpgid, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Notes TERM and does nothing else about it; so does one that it started.
const STUBBORN: &str = "trap 'echo told >>got' TERM; \
     sh -c 'trap \"\" TERM; echo $$ >inner.new; mv inner.new inner; \
            while :; do echo >>written; sleep 0.02; done' & \
     while :; do sleep 0.02; done";

fn family(sandbox: &Sandbox) -> [Pid; 2] {
    eventually("the inner one runs", || sandbox.path("inner").exists());
    [sandbox.child(), pid(&sandbox.read("inner"))]
}

/// When the lease is over, in µs since boot.
fn expires(sandbox: &Sandbox) -> i64 {
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file.query_row("SELECT expires_us FROM locks", [], |row| row.get(0)).expect("a row")
}

fn since_boot() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// Whether a pipe of a process has something to read. withlock has both ends of those between it and the guardian.
fn has_unread(process: Pid) -> bool {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("a folder");
    files.map(|file| file.expect("a file").path()).any(|file| {
        let is_pipe =
            std::fs::read_link(&file).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
        is_pipe
            && std::fs::File::open(&file)
                .is_ok_and(|pipe| ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0))
    })
}

fn stop(run: &Run) {
    run.signal(Signal::STOP);
    eventually("it is stopped", || state(run.pid()) == Some('T'));
}

/// What `kill -STOP`, a debugger or a swapped-out page does to withlock does not make its command
/// outlive the lease.
#[test]
fn a_stopped_withlock_does_not_keep_its_command_alive() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "3s", "n"], STUBBORN);
    let family = family(&sandbox);
    stop(&holder);
    let over = expires(&sandbox);
    eventually("it is told", || !sandbox.read("got").is_empty());
    assert!(is_alive(family[0]), "there is time to clean up");
    eventually("all are ended", || family.iter().all(|pid| !is_alive(*pid)));
    let left = over - since_boot();
    println!("ended {} ms before the lease was over", left / 1_000);
    assert!(left > 0, "the command outlived its lease by {} µs", -left);
    assert_eq!(sandbox.read("got"), "told\n", "once");
    assert_eq!(state(holder.pid()), Some('T'), "withlock is stopped still");

    sandbox.run(&sandbox.url(), &["--wait", "20s", "n", "--", "true"]).expect(0);
    holder.signal(Signal::CONT);
    let ended = holder.end().expect(123);
    assert!(ended.stderr.contains("so withlock stopped the command"), "{ended:?}");
}

/// Stopped for less than that, nothing happens.
#[test]
fn a_withlock_that_was_stopped_for_a_moment_goes_on() {
    let sandbox = Sandbox::new();
    let script = "while [ ! -e go ]; do sleep 0.02; done; exit 7";
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "3s", "n"], script);
    for _ in 0..3 {
        stop(&holder);
        sleep(Duration::from_millis(400));
        holder.signal(Signal::CONT);
        sleep(Duration::from_millis(800));
    }
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).expect(75);
    std::fs::write(sandbox.path("go"), "").expect("written");
    assert_eq!(holder.end().expect(7).stderr, "");
}

/// A terminal's stop key, or a job control shell, stops withlock's process group: the guardian is in
/// none of the groups.
#[test]
fn the_guardian_is_in_a_group_of_its_own() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], STUBBORN);
    let [child, inner] = family(&sandbox);
    let guardian = parent(child);
    let group = |pid| getpgid(Some(pid)).expect("there");
    assert_eq!(group(guardian), guardian);
    assert_eq!((group(child), group(inner)), (child, child), "the command leads another");
    assert_eq!(parent(guardian), holder.pid());
    // And has a name of its own, for who looks at a list of processes.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", guardian.as_raw_nonzero()));
    assert_eq!(name.expect("there"), "lock-guardian\n");
}

/// The kernel kills the command then, and withlock what the command has started, before somebody else gets the lock.
#[test]
fn nothing_of_the_command_outlives_a_guardian_that_is_killed() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], STUBBORN);
    let [child, inner] = family(&sandbox);
    let guardian = parent(child);
    kill_process(guardian, Signal::KILL).expect("killed");
    let ended = holder.end().expect(137);
    assert!(ended.stderr.contains("the guardian process was killed by signal 9"), "{ended:?}");
    assert!(!is_alive(child) && !is_alive(inner));
    sandbox.run(&sandbox.url(), &["-n", "n", "--", "true"]).expect(0);
}

/// `withlock OPTIONS n` with a program that becomes another user, as `sudo` does. It runs until there is a file `go`.
fn becomes_another_user(sandbox: &Sandbox, options: &str) -> Run {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    set_permissions(sandbox.path(""), Permissions::from_mode(0o777)).expect("set");
    copy_binary(&sandbox.path("withlock"));
    std::fs::copy("/usr/bin/setpriv", sandbox.path("become")).expect("util-linux");
    set_permissions(sandbox.path("become"), Permissions::from_mode(0o4755)).expect("set");
    let script = format!(
        "./withlock {options} n -- ./become --reuid 0 --regid 0 --clear-groups \
         sh -c 'echo up; while [ ! -e go ]; do sleep 0.02; done'"
    );
    let mut command = sandbox.command("setpriv");
    command.args(["--reuid", "64001", "--regid", "64001", "--clear-groups", "sh", "-c", &script]);
    command.env("WITHLOCK_URL", format!("{}?ttl=3s", sandbox.url()));
    let holder = sandbox.start(&mut command);
    eventually("it runs", || holder.output()[0].contains("up"));
    holder
}

/// The time is over, and the lock stays held as long as the command runs.
#[test]
fn a_command_that_is_another_users_is_not_said_to_be_stopped_by_max_hold() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can make such a program
    }
    let sandbox = Sandbox::new();
    let holder = becomes_another_user(&sandbox, "--max-hold 2s");
    let told = "--max-hold is over, but the command keeps \"n\", for it is another user's";
    eventually("it is told", || holder.output()[1].contains(told));
    sandbox.run(&sandbox.url(), &["-n", "n", "--", "true"]).expect(75);
    std::fs::write(sandbox.path("go"), "").expect("written");
    let ended = holder.end().expect(123);
    assert!(ended.stderr.contains("may not stop another user's command"), "{ended:?}");
    assert!(!ended.stderr.contains("so withlock stopped"), "{ended:?}");
}

/// It gets no signal of ours: the loss is told, and nothing else is claimed.
#[test]
fn a_command_that_is_another_users_is_not_said_to_be_stopped() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can make such a program
    }
    let sandbox = Sandbox::new();
    let holder = becomes_another_user(&sandbox, "");
    sandbox.run(&sandbox.url(), &["--break", "--yes", "n"]).expect(0);
    let told = "was lost, but the command keeps running, for it is another user's";
    eventually("it is told", || holder.output()[1].contains(told));
    std::fs::write(sandbox.path("go"), "").expect("written");
    let ended = holder.end().expect(123);
    assert!(ended.stderr.contains("may not stop another user's command"), "{ended:?}");
    assert!(!ended.stderr.contains("so withlock stopped"), "{ended:?}");
}

/// Somebody stops the guardian: withlock wakes it.
#[test]
fn a_stopped_guardian_is_woken_when_the_lock_is_lost() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "15s", "n"], STUBBORN);
    let family = family(&sandbox);
    let guardian = parent(family[0]);
    kill_process(guardian, Signal::STOP).expect("there");
    eventually("it is stopped", || state(guardian) == Some('T'));
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file.execute_batch("UPDATE locks SET owner = NULL").expect("taken away");
    let began = Instant::now();
    eventually("all are ended", || family.iter().all(|pid| !is_alive(*pid)));
    // A third of the TTL until the renewal finds out; the deadline would be after two thirds or more.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(holder.end().expect(123).stderr.contains("so withlock stopped the command"));
}

/// A guardian that is stopped passes no signal on, and tells of no end: whoever ends withlock wakes it.
#[test]
fn a_stopped_guardian_is_woken_by_a_signal_that_ends_withlock() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], "exec sleep 600");
    let command = sandbox.child();
    let guardian = parent(command);
    kill_process(guardian, Signal::STOP).expect("there");
    eventually("it is stopped", || state(guardian) == Some('T'));
    holder.signal(Signal::TERM);
    holder.end().expect(143);
    assert!(!is_alive(command));
}

/// The guardian and what is to become the command of a withlock that waits for the lock.
fn ready(waiter: &Run) -> [Pid; 2] {
    eventually("they are there", || {
        children(waiter.pid()).first().is_some_and(|guardian| !children(*guardian).is_empty())
    });
    let guardian = children(waiter.pid())[0];
    [guardian, children(guardian)[0]]
}

/// They are started while the lock is being taken; without it they end with withlock.
#[test]
fn who_gets_no_lock_leaves_nobody_behind() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], "sleep 600");
    let waiter = |args: &[&str]| {
        let args = [args, &["n", "--", "sh", "-c", "echo >>ran"]].concat();
        let run = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args));
        let started = ready(&run);
        (run, started)
    };
    let gone = |started: [Pid; 2]| started.iter().all(|pid| !is_alive(*pid));

    let (run, started) = waiter(&["--wait", "2s"]);
    run.end().expect(124);
    assert!(gone(started), "at the end of the wait");
    let (run, started) = waiter(&[]);
    run.signal(Signal::TERM);
    run.end().expect(143);
    eventually("they end with it", || gone(started));
    let (run, started) = waiter(&[]);
    kill_process(started[0], Signal::STOP).expect("there");
    eventually("it is stopped", || state(started[0]) == Some('T'));
    run.signal(Signal::INT);
    run.end().expect(130);
    eventually("they end with it, though the guardian was stopped", || gone(started));
    let (run, started) = waiter(&["--wait", "2s"]);
    kill_process(started[0], Signal::STOP).expect("there");
    eventually("it is stopped", || state(started[0]) == Some('T'));
    run.end().expect(124);
    assert!(gone(started), "at the end of the wait, though the guardian was stopped");
    let (run, started) = waiter(&[]);
    run.signal(Signal::KILL);
    run.end();
    eventually("they are ended by the kernel", || gone(started));

    drop(holder);
    assert!(!sandbox.path("ran").exists());
}

/// A guardian that learns of the grant when the lease is over has nothing begin.
#[test]
fn a_late_guardian_begins_nothing() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], "while [ ! -e go ]; do sleep 0.02; done");
    let command = ["--ttl", "3s", "--verbose", "n", "--", "sh", "-c", "echo >>ran"];
    let waiter = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &command));
    let [guardian, child] = ready(&waiter);
    kill_process(guardian, Signal::STOP).expect("there");
    std::fs::write(sandbox.path("go"), "").expect("written");
    holder.end().expect(0);
    eventually("it has the lock", || waiter.output()[1].contains("holding"));
    eventually("the guardian was told so", || has_unread(waiter.pid()));
    stop(&waiter);
    let over = expires(&sandbox);
    eventually("its lease is over", || since_boot() > over);
    kill_process(guardian, Signal::CONT).expect("there");
    eventually("the command is ended", || !is_alive(child));
    waiter.signal(Signal::CONT);
    let ended = waiter.end().expect(123);
    assert!(ended.stderr.contains("so withlock did not start the command: "), "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// So it is at the end of `--max-hold`, of which the command had nothing.
#[test]
fn a_late_guardian_begins_nothing_after_max_hold() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], "while [ ! -e go ]; do sleep 0.02; done");
    let command = ["--max-hold", "1s", "--verbose", "n", "--", "sh", "-c", "echo >>ran"];
    let waiter = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &command));
    let [guardian, _] = ready(&waiter);
    kill_process(guardian, Signal::STOP).expect("there");
    std::fs::write(sandbox.path("go"), "").expect("written");
    holder.end().expect(0);
    eventually("it has the lock", || waiter.output()[1].contains("holding"));
    eventually("the guardian was told so", || has_unread(waiter.pid()));
    sleep(Duration::from_millis(1_100));
    kill_process(guardian, Signal::CONT).expect("there");
    let ended = waiter.end().expect(123);
    let told = "withlock: \"n\": --max-hold was over before the command could start";
    assert_eq!(ended.stderr.lines().last(), Some(told), "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// Without them, a lock would be taken for nothing.
#[test]
fn the_end_of_a_process_that_gets_ready_ends_the_wait() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold(&sandbox.url(), &["n"], "sleep 600");
    for (which, told) in
        ["the guardian process", "the process that becomes the command"].iter().enumerate()
    {
        for options in [&["-v"][..], &["--wait", "1h", "-v"], &["--leader", "-v"]] {
            let args = [options, &["n", "--", "touch", "ran"]].concat();
            let waiter = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args));
            let started = ready(&waiter);
            eventually("it waits", || waiter.waits());
            kill_process(started[which], Signal::KILL).expect("there");
            let ended = waiter.end().expect(125);
            let told = format!("withlock: {told} was killed by signal 9 before the command began");
            assert_eq!(ended.stderr.lines().last(), Some(told.as_str()), "{ended:?}");
            eventually("both are ended", || started.iter().all(|pid| !is_alive(*pid)));
        }
    }
    assert!(!sandbox.path("ran").exists());
}

/// One that learns of it when TERM would be due waits for a renewal.
#[test]
fn a_command_with_too_little_time_left_begins_after_the_renewal() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], "while [ ! -e go ]; do sleep 0.02; done");
    let command = ["--ttl", "12s", "--grace", "4900ms", "-v", "n", "--", "sh", "-c", "echo >>ran"];
    let waiter = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &command));
    let [guardian, _] = ready(&waiter);
    kill_process(guardian, Signal::STOP).expect("there");
    std::fs::write(sandbox.path("go"), "").expect("written");
    holder.end().expect(0);
    eventually("it has the lock", || waiter.output()[1].contains("holding"));
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file.execute_batch("BEGIN IMMEDIATE").expect("no renewal gets through");
    // It counts for five sixths of the TTL: the grace begins 6.9 s before the server's end.
    let over = expires(&sandbox);
    eventually("TERM would be due", || since_boot() > over - 6_500_000);
    kill_process(guardian, Signal::CONT).expect("there");
    sleep(Duration::from_millis(300));
    assert!(!sandbox.path("ran").exists(), "it would be told to end at once");
    file.execute_batch("ROLLBACK").expect("renewals get through");
    let ended = waiter.end().expect(0);
    assert_eq!(sandbox.read("ran"), "\n", "{ended:?}");
    assert!(!ended.stderr.contains("lost"), "{ended:?}");
}

/// If the guardian is killed, the kernel kills the command.
#[test]
fn the_command_dies_with_its_guardian() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], "exec sleep 600");
    let child = sandbox.child();
    kill_process(parent(child), Signal::KILL).expect("there");
    holder.end().expect(137);
    eventually("it is ended", || !is_alive(child));
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).expect(0);
}

/// withlock, or the guardian, may die in the moment in which it starts the next. Of that, the kernel tells nobody.
#[test]
fn who_has_no_parent_any_more_begins_nothing() {
    let sandbox = Sandbox::new();
    for (role, files) in
        [("--guard-the-command-of", &["99", "99"][..]), ("--become-the-command-of", &["99"])]
    {
        // A process that did not start this one.
        let parent = sandbox.start(&mut sandbox.command("true")).pid().to_string();
        let args = [&[role, parent.as_str()], files, &["touch", "ran"]].concat();
        let ended = sandbox.start(sandbox.command(binary()).args(args)).end().expect(137);
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(137), ""), "{role}");
    }
    assert!(!sandbox.path("ran").exists());
}

/// What signals ask of the guardian itself is not done: it would take the command along.
#[test]
fn signals_do_not_end_the_guardian() {
    let sandbox = Sandbox::new();
    let script = "while [ ! -e go ]; do sleep 0.02; done; exit 7";
    let holder = sandbox.hold(&sandbox.url(), &["n"], script);
    let guardian = parent(sandbox.child());
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1] {
        kill_process(guardian, signal).expect("there");
    }
    kill_process(guardian, Signal::TSTP).expect("there");
    sleep(Duration::from_millis(300));
    assert!(is_alive(sandbox.child()) && state(guardian) != Some('T'));
    std::fs::write(sandbox.path("go"), "").expect("written");
    holder.end().expect(7);
}

/// The same on servers: killed, withlock takes along all that it started; stopped, not beyond the
/// lease.
fn dead_or_stopped(place: &Place) {
    let url = url(place);
    for signal in [Signal::KILL, Signal::STOP] {
        let sandbox = Sandbox::new();
        let holder = sandbox.hold(&url, &["--ttl", "6s", "n"], STUBBORN);
        let family = family(&sandbox);
        holder.signal(signal);
        // Exit code 0 only when the lease is over: nobody may be left by then.
        sandbox.run(&url, &["n", "--", "true"]).expect(0);
        assert!(family.iter().all(|pid| !is_alive(*pid)), "{signal:?}: two at once");
    }
}

#[test]
fn nobody_is_left_when_the_next_gets_in_on_sqlite() {
    dead_or_stopped(&Place::sqlite());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn nobody_is_left_when_the_next_gets_in_on_postgres() {
    dead_or_stopped(&Place::postgres());
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn nobody_is_left_when_the_next_gets_in_on_mysql() {
    dead_or_stopped(&Place::mysql());
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn nobody_is_left_when_the_next_gets_in_on_mariadb() {
    dead_or_stopped(&Place::mariadb());
}
