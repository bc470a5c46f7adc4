//! `withlock` under signals and on a terminal: what reaches the command, and what people see.

mod command;
mod foreground;
mod looking;
mod stopping;
mod terminal;
mod waiting;

use lock_tests::withlock::{Run, Sandbox, eventually, is_alive, pid, state};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{read_to_string, write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// "At once" on a slow machine; every timer that could be mistaken for it takes longer.
const PROMPT: Duration = Duration::from_secs(10);
/// Until the test says so.
const UNTIL_GO: &str = "while [ ! -e go ]; do sleep 0.02; done";
/// A command that writes on and on, until the test says so.
const WRITE_UNTIL_GO: &str = "while [ ! -e go ]; do echo >>written; sleep 0.02; done";
const WIPE: &str = "\r\x1b[K";

fn go(sandbox: &Sandbox) {
    write(sandbox.path("go"), "").expect("written");
}

fn is_free(sandbox: &Sandbox) {
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).expect(0);
}

fn is_taken(sandbox: &Sandbox) {
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "touch", "rival"]).expect(75);
    assert!(!sandbox.path("rival").exists());
}

/// One that waits for the lock, and is known to.
fn waiter(sandbox: &Sandbox, command: &[&str]) -> Run {
    let args = [&["-v", "n", "--"], command].concat();
    let run = sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args));
    eventually("it waits", || run.waits());
    run
}

/// Some time in which what must not happen could.
fn a_while() {
    sleep(Duration::from_millis(400));
}

fn is_stopped(pid: Pid) -> bool {
    state(pid) == Some('T')
}

/// The same of a shell that starts programs: one that was stopped before it became its program
/// keeps the shell in the kernel (`vfork`).
fn is_halted(pid: Pid) -> bool {
    matches!(state(pid), Some('T' | 'D'))
}

// Signals while the command runs.

/// A command that notes the signal, and runs one in its group that notes it too, goes on until the test says so
/// and has a last word. (Not in the background: there shells ignore some signals.)
fn noting(signal: &str) -> String {
    let inner =
        format!("trap \"echo inner >>got\" {signal}; echo $$ >inner; {UNTIL_GO}; echo late >>got");
    format!("trap 'echo outer >>got' {signal}; sh -c '{inner}'; exit 7")
}
