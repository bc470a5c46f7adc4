//! `withlock` under signals and on a terminal: what reaches the command, and what people see.

use lock_tests::withlock::{Run, Sandbox, eventually, is_alive, pid, state};
use rustix::process::{Pid, Signal};
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
    eventually("it waits", || run.output()[1].contains("waiting for \"n\""));
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

/// A command that notes the signal, and runs one in its group that notes it too, takes its time
/// and has a last word. (Not in the background: there shells ignore some signals.)
fn noting(signal: &str) -> String {
    let inner = format!(
        "trap \"echo inner >>got; told=1\" {signal}; echo $$ >inner; \
         while [ ! $told ]; do sleep 0.02; done; sleep 0.5; echo late >>got"
    );
    format!("trap 'echo outer >>got' {signal}; sh -c '{inner}'; exit 7")
}

fn reaches_everybody(name: &str, signal: Signal) {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], &noting(name));
    eventually("the inner one runs", || sandbox.read("inner").ends_with('\n'));
    is_taken(&sandbox);
    let inner = pid(&sandbox.read("inner"));
    let sent = Instant::now();
    holder.signal(signal);
    eventually("the inner one is told", || !sandbox.read("got").is_empty());
    is_taken(&sandbox);
    let ended = holder.end().expect(7);
    let took = sent.elapsed();
    assert!(took >= Duration::from_millis(500), "{name}: it was not awaited: {took:?}");
    let got = sandbox.read("got");
    assert_eq!(got, "inner\nlate\nouter\n", "{name}: each is told once");
    assert!(!ended.stderr.contains("withlock:"), "{name}: {ended:?}");
    assert!(!is_alive(inner));
    is_free(&sandbox);
}

#[test]
fn term_reaches_the_command_and_what_it_started() {
    reaches_everybody("TERM", Signal::TERM);
}

#[test]
fn int_reaches_the_command_and_what_it_started() {
    reaches_everybody("INT", Signal::INT);
}

#[test]
fn hup_reaches_the_command_and_what_it_started() {
    reaches_everybody("HUP", Signal::HUP);
}

#[test]
fn quit_reaches_the_command_and_what_it_started() {
    reaches_everybody("QUIT", Signal::QUIT);
}

#[test]
fn usr1_reaches_the_command_and_what_it_started() {
    reaches_everybody("USR1", Signal::USR1);
}

#[test]
fn usr2_reaches_the_command_and_what_it_started() {
    reaches_everybody("USR2", Signal::USR2);
}

/// A command that has nothing to say to a signal ends of it, and that is what is told.
#[test]
fn a_command_that_a_signal_ends_is_reported_as_shells_do() {
    for (signal, code) in [
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::USR1, 138),
        (Signal::USR2, 140),
    ] {
        let sandbox = Sandbox::new();
        let holder = sandbox.hold(&sandbox.url(), &["n"], "exec sleep 60");
        holder.signal(signal);
        let ended = holder.end_within(PROMPT).expect(code);
        assert_eq!(ended.stderr, "", "{signal:?}");
        is_free(&sandbox);
    }
}

// Signals while waiting.

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

// Signals that it was started to ignore.

/// `withlock` started by somebody who ignores HUP, as `nohup` does.
fn without_hup(sandbox: &Sandbox, args: &str) -> Command {
    let mut command = sandbox.command("sh");
    command
        .args(["-c", &format!("trap '' HUP; exec \"$W\" {args}")])
        .env("WITHLOCK_URL", sandbox.url());
    command
}

fn ignores_hup(pid: Pid) -> bool {
    let status = read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("status");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") & 1 == 1
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
    eventually("it waits", || waiting.output()[1].contains("waiting for \"n\""));

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

/// The other signals are as ever.
#[test]
fn who_ignores_one_signal_does_not_ignore_the_others() {
    let sandbox = Sandbox::new();
    let holder = sandbox.start(&mut without_hup(&sandbox, "n -- sh -c 'touch up; exec sleep 60'"));
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

#[test]
fn who_is_stopped_past_the_lease_has_lost_it() {
    let sandbox = Sandbox::new();
    let script = format!("sh -c 'echo $$ >inner; {WRITE_UNTIL_GO}'; exit 5");
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "1s", "n"], &script);
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
    assert!(took >= Duration::from_millis(500), "the lease was over after {took:?} already");
    assert!(is_stopped(holder.pid()) && family.iter().all(|pid| is_halted(*pid)));

    holder.signal(Signal::CONT);
    let ended = holder.end_within(PROMPT).expect(123);
    assert_eq!(sandbox.read("written").len(), written, "the command came back to life");
    eventually("the family has ended", || family.iter().all(|pid| !is_alive(*pid)));
    assert!(ended.stderr.contains("withlock: the lock \"n\" was lost"), "{ended:?}");
    assert!(ended.stderr.contains("the command was stopped"), "{ended:?}");
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
    assert!(told.starts_with("withlock: waiting for \"n\", held by "), "{told:?}");
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
    assert!(ended.stderr.contains("withlock: holding \"n\", fence "), "{ended:?}");
    assert!(!ended.stderr.contains('\x1b') && !ended.stderr.contains('\r'), "{ended:?}");
}

// On a terminal.

/// Runs a shell script on a terminal of its own: types what it reads, prints what is shown, and
/// ends with the script's code.
const TERMINAL: &str = r#"
import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", sys.argv[1]])
sources = [0, terminal]
while True:
    ready = select.select(sources, [], [])[0]
    if terminal in ready:
        try:
            shown = os.read(terminal, 65536)
        except OSError:
            shown = b""
        if not shown:
            break
        os.write(1, shown)
    if 0 in ready:
        typed = os.read(0, 65536)
        if typed:
            os.write(terminal, typed)
        else:
            sources.remove(0)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
"#;

/// Starts a shell script on a terminal. What the terminal shows is the run's standard output.
fn on_terminal(sandbox: &Sandbox, script: &str) -> Run {
    static PYTHON: OnceLock<bool> = OnceLock::new();
    let has_python = *PYTHON.get_or_init(|| {
        let look = "import pty, os; os.waitstatus_to_exitcode";
        let mut python = Command::new("python3");
        let found = python.args(["-c", look]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    });
    let mut command = if has_python {
        let mut command = sandbox.command("python3");
        command.args(["-c", TERMINAL, script]);
        command
    } else {
        let mut command = sandbox.command("script");
        command.args(["-qec", script, "/dev/null"]).env("SHELL", "/bin/sh");
        command
    };
    sandbox.start(command.env("WITHLOCK_URL", sandbox.url()).stdin(Stdio::piped()))
}

fn shown(run: &Run) -> String {
    let [shown, _] = run.output();
    shown
}

#[test]
fn a_terminal_shows_who_holds_the_lock_and_the_line_is_wiped() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let waiting = on_terminal(&sandbox, "exec \"$W\" n -- echo entered");
    let holder_pid = format!(" pid {} ", holder.pid().as_raw_nonzero());
    eventually("the line shows the holder", || shown(&waiting).contains(&holder_pid));
    eventually("the line shows the time", || shown(&waiting).contains("since 2s"));
    go(&sandbox);
    holder.end().expect(0);
    let ended = waiting.end().expect(0);
    let line = format!("{WIPE}withlock: waiting for \"n\" since ");
    assert!(ended.stdout.starts_with(&line), "{ended:?}");
    assert!(ended.stdout.contains(", held by "), "{ended:?}");
    assert!(ended.stdout.ends_with(&format!("{WIPE}entered\r\n")), "{ended:?}");
    assert_eq!(ended.stdout.matches('\n').count(), 1, "one line, written anew: {ended:?}");
}

#[test]
fn a_terminal_shows_nothing_without_a_wait_or_if_asked_to_be_quiet() {
    let sandbox = Sandbox::new();
    let ended = on_terminal(&sandbox, "exec \"$W\" n -- echo entered").end().expect(0);
    assert_eq!(ended.stdout, "entered\r\n");

    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let mut waiting = on_terminal(&sandbox, "touch begun; exec \"$W\" -q n -- echo entered");
    eventually("it begins", || sandbox.path("begun").exists());
    sleep(Duration::from_millis(1_500));
    assert!(!waiting.has_ended());
    go(&sandbox);
    holder.end().expect(0);
    assert_eq!(waiting.end().expect(0).stdout, "entered\r\n");
}

#[test]
fn the_interrupt_key_ends_the_command() {
    let sandbox = Sandbox::new();
    let script = "echo $$ >holder; exec \"$W\" n -- sh -c 'echo $$ >pid; touch up; exec sleep 60'";
    let mut run = on_terminal(&sandbox, script);
    eventually("the command runs", || sandbox.path("up").exists());
    is_taken(&sandbox);
    let both = [pid(&sandbox.read("holder")), sandbox.child()];
    assert!(both.iter().all(|pid| is_alive(*pid)));
    run.type_in("\x03");
    let ended = run.end_within(PROMPT).expect(130);
    assert!(both.iter().all(|pid| !is_alive(*pid)));
    assert!(!ended.stdout.contains("withlock:"), "{ended:?}");
    is_free(&sandbox);
}

/// The terminal tells both; the command must hear it once, and is awaited.
#[test]
fn the_interrupt_key_is_pressed_once() {
    let sandbox = Sandbox::new();
    let inner = "trap \"echo told >>got\" INT; touch up; \
                 while [ ! -e go ]; do sleep 0.02 || :; done; exit 9";
    let mut run = on_terminal(&sandbox, &format!("exec \"$W\" n -- sh -c '{inner}'"));
    eventually("the command runs", || sandbox.path("up").exists());
    run.type_in("\x03");
    eventually("it is told", || !sandbox.read("got").is_empty());
    a_while();
    assert_eq!(sandbox.read("got"), "told\n");
    assert!(!run.has_ended());
    is_taken(&sandbox);
    go(&sandbox);
    run.end().expect(9);
    is_free(&sandbox);
}

#[test]
fn the_interrupt_key_ends_a_wait() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold(&sandbox.url(), &["n"], "exec sleep 60");
    let mut waiting = on_terminal(&sandbox, "exec \"$W\" n -- touch ran");
    eventually("it waits", || shown(&waiting).contains("held by"));
    waiting.type_in("\x03");
    let ended = waiting.end_within(PROMPT).expect(130);
    assert!(ended.stdout.ends_with(WIPE), "the line stays: {ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// With a shell that has job control, as people use it.
#[test]
fn the_stop_key_stops_both_and_the_shell_lets_them_go_on() {
    let sandbox = Sandbox::new();
    let inner = format!("echo $$ >pid; touch up; {WRITE_UNTIL_GO}; exit 5");
    let script = format!(
        "set -m; \"$W\" --ttl 60s n -- sh -c '{inner}'; echo stopped; touch shell; \
         while [ ! -e again ]; do sleep 0.02; done; fg; exit"
    );
    let mut run = on_terminal(&sandbox, &script);
    eventually("the command writes", || !sandbox.read("written").is_empty());
    let child = sandbox.child();
    run.type_in("\x1a");
    eventually("the shell is back", || sandbox.path("shell").exists());
    eventually("the command is stopped", || is_halted(child));
    sleep(Duration::from_millis(100));
    let written = sandbox.read("written").len();
    a_while();
    assert_eq!(sandbox.read("written").len(), written, "the command ran on");
    is_taken(&sandbox);
    write(sandbox.path("again"), "").expect("written");
    eventually("the command goes on", || sandbox.read("written").len() > written);
    go(&sandbox);
    run.end().expect(5);
    is_free(&sandbox);
}

#[test]
fn a_command_reads_from_the_terminal() {
    let sandbox = Sandbox::new();
    let inner = "echo $$ >pid; touch up; read -r line; echo \"got $line\"; exit 3";
    let mut run = on_terminal(&sandbox, &format!("exec \"$W\" n -- sh -c '{inner}'"));
    eventually("the command runs", || sandbox.path("up").exists());
    a_while();
    let child = sandbox.child();
    assert_eq!(state(child), Some('S'), "it waits for input, and is not stopped");
    run.type_in("some words\n");
    let ended = run.end_within(PROMPT).expect(3);
    assert!(ended.stdout.ends_with("got some words\r\n"), "{ended:?}");
    is_free(&sandbox);
}
