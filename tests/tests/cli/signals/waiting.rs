//! Signals to a wait.

use super::*;

fn ends_the_wait(signal: Signal, code: i32) {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let interrupted = waiter(&sandbox, &["touch", "ran"]);
    let third = waiter(&sandbox, &["touch", "third"]);
    a_while();
    interrupted.signal(signal);
    let ended = interrupted.end_within(PROMPT).expect(code);
    assert_eq!(ended.status.code(), Some(code), "it ended by itself: {ended:?}");
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr.lines().count(), 1, "nothing but what -v tells: {ended:?}");
    is_taken(&sandbox);
    assert!(!sandbox.path("third").exists(), "the holder has not ended yet");
    go(&sandbox);
    holder.end().expect(0);
    // Far less than a lease (30s) of somebody who has gone.
    third.end_within(PROMPT).expect(0);
    assert!(sandbox.path("third").exists());
    is_free(&sandbox);
    assert!(!sandbox.path("ran").exists(), "the command ran though the wait was ended");
}

#[test]
fn term_ends_a_wait() {
    ends_the_wait(Signal::TERM, 143);
}

#[test]
fn int_ends_a_wait() {
    ends_the_wait(Signal::INT, 130);
}

#[test]
fn hup_ends_a_wait() {
    ends_the_wait(Signal::HUP, 129);
}

#[test]
fn quit_ends_a_wait() {
    ends_the_wait(Signal::QUIT, 131);
}

#[test]
fn alrm_ends_a_wait() {
    ends_the_wait(Signal::ALARM, 142);
}

/// Signals that a process catches, as a bit mask.
fn caught(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let status = status.unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Another process has the file for itself, so that withlock has not even looked at it.
#[test]
fn a_signal_ends_a_wait_that_has_not_reached_its_file() {
    for (signal, code) in
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)]
    {
        let sandbox = Sandbox::new();
        let file = sandbox.keep_the_file();
        let args = ["n", "--", "touch", "ran"];
        let waiting = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args));
        let bit = 1 << (signal.as_raw() - 1);
        eventually("it hears signals", || caught(waiting.pid()) & bit != 0);
        waiting.signal(signal);
        let ended = waiting.end_within(PROMPT).expect(code);
        assert_eq!(ended.status.code(), Some(code), "it ended by itself: {ended:?}");
        drop(file);
        assert!(!sandbox.path("ran").exists());
    }
}

/// Its main thread is told of the signal, and so need not wait for the end of the request, which takes longer than this
/// test may.
#[test]
fn a_signal_ends_a_wait_in_the_middle_of_a_request() {
    let sandbox = Sandbox::new();
    let url = format!("{}?ttl=10m&request_timeout=100s", sandbox.url());
    sandbox.run(&url, &["n", "--", "true"]).expect(0);
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let waiting = sandbox.start(&mut sandbox.withlock(&url, &["n", "--", "touch", "ran"]));
    eventually("it has asked", || waiting.output()[1].contains("has not answered yet"));
    waiting.signal(Signal::TERM);
    let ended = waiting.end().expect(143);
    assert_eq!(ended.status.code(), Some(143), "it ended by itself: {ended:?}");
    drop(file);
    assert!(!sandbox.path("ran").exists());
}

/// More time is for a server that does not answer. The least of several times, for a busy machine delays some.
#[test]
fn a_signal_ends_a_wait_at_once() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let ended_after = |_| {
        let waiting = waiter(&sandbox, &["true"]);
        a_while();
        let told = Instant::now();
        waiting.signal(Signal::TERM);
        waiting.end_within(PROMPT).expect(143);
        told.elapsed()
    };
    let least = (0..3).map(ended_after).min();
    assert!(least < Some(Duration::from_secs(1)), "{least:?}");
    go(&sandbox);
    holder.end().expect(0);
}

/// Nobody is there yet to whom they could mean anything, and the command does not get them later.
#[test]
fn signals_for_the_command_are_ignored_while_waiting() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let mut waiting = waiter(&sandbox, &["sh", "-c", "touch ran; sleep 0.3; exit 4"]);
    for signal in [Signal::USR1, Signal::USR2, Signal::WINCH, Signal::CONT] {
        waiting.signal(signal);
    }
    a_while();
    assert!(!waiting.has_ended() && !sandbox.path("ran").exists());
    go(&sandbox);
    holder.end().expect(0);
    waiting.end().expect(4);
    assert!(sandbox.path("ran").exists());
    is_free(&sandbox);
}

#[test]
fn a_wait_can_be_stopped_and_goes_on() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let waiting = waiter(&sandbox, &["touch", "ran"]);
    waiting.signal(Signal::TSTP);
    eventually("it is stopped", || is_stopped(waiting.pid()));
    go(&sandbox);
    holder.end().expect(0);
    a_while();
    assert!(!sandbox.path("ran").exists());
    is_free(&sandbox);
    waiting.signal(Signal::CONT);
    waiting.end_within(PROMPT).expect(0);
    assert!(sandbox.path("ran").exists());
}

/// Another process has the file for itself meanwhile.
#[test]
fn a_wait_that_has_not_reached_its_file_can_be_stopped_and_goes_on() {
    let sandbox = Sandbox::new();
    let file = sandbox.keep_the_file();
    let args = ["n", "--", "touch", "ran"];
    let waiting = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args));
    let bit = 1 << (Signal::TSTP.as_raw() - 1);
    eventually("it hears signals", || caught(waiting.pid()) & bit != 0);
    waiting.signal(Signal::TSTP);
    eventually("it is stopped", || is_stopped(waiting.pid()));
    drop(file);
    a_while();
    assert!(!sandbox.path("ran").exists());
    waiting.signal(Signal::CONT);
    waiting.end().expect(0);
    assert!(sandbox.path("ran").exists());
}

/// Between two steps of its start, too, so it is pressed several times at the first moment.
#[test]
fn the_stop_key_is_heeded_as_soon_as_it_is_caught() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let bit = 1 << (Signal::TSTP.as_raw() - 1);
    for _ in 0..20 {
        let mut waiting =
            sandbox.start(&mut sandbox.withlock(&sandbox.url(), &["n", "--", "true"]));
        while caught(waiting.pid()) & bit == 0 {
            assert!(!waiting.has_ended());
        }
        waiting.signal(Signal::TSTP);
        eventually("it is stopped", || is_stopped(waiting.pid()));
    }
    go(&sandbox);
    holder.end().expect(0);
}

/// In the middle of one, it would keep the file from everybody else for as long as it is stopped.
#[test]
fn a_wait_is_stopped_between_two_requests() {
    let sandbox = Sandbox::new();
    let url = format!("{}?ttl=10m&request_timeout=1m", sandbox.url());
    sandbox.run(&url, &["other", "--", "true"]).expect(0);
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    let count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)";
    let slow = format!(
        "CREATE TRIGGER slow BEFORE INSERT ON locks BEGIN {count} SELECT max(i) FROM n; END"
    );
    file.execute_batch(&slow).expect("a trigger that takes its time");
    let waiting = sandbox.start(&mut sandbox.withlock(&url, &["n", "--", "touch", "ran"]));
    let is_kept = |patience| {
        file.busy_timeout(patience).expect("set");
        file.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
    };
    eventually("a request keeps the file", || {
        (0..5).all(|_| (is_kept(Duration::ZERO), sleep(Duration::from_millis(5))).0)
    });
    waiting.signal(Signal::TSTP);
    eventually("it is stopped", || is_stopped(waiting.pid()));
    assert!(!is_kept(PROMPT), "it was stopped in the middle of a request");
    file.execute_batch("DROP TRIGGER slow").expect("removed");
    waiting.signal(Signal::CONT);
    waiting.end().expect(0);
    assert!(sandbox.path("ran").exists());
}

// Signals that it was started to ignore.
