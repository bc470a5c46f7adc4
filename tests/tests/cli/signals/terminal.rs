//! On a terminal.

use super::*;
use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, server_of};

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
pub(super) fn on_terminal(sandbox: &Sandbox, script: &str) -> Run {
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

pub(super) fn shown(run: &Run) -> String {
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
    eventually("the line shows the time", || shown(&waiting).contains("\"n\" for 2s"));
    go(&sandbox);
    holder.end().expect(0);
    let ended = waiting.end().expect(0);
    let line = format!("{WIPE}withlock: waiting for \"n\"");
    assert!(ended.stdout.starts_with(&line), "{ended:?}");
    assert!(ended.stdout.contains("(held by "), "{ended:?}");
    assert!(ended.stdout.ends_with(&format!("{WIPE}entered\r\n")), "{ended:?}");
    assert_eq!(ended.stdout.matches('\n').count(), 1, "one line, written anew: {ended:?}");
}

/// The report of an outage stays on the terminal, in a line of its own.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_line_is_wiped_before_an_outage_is_told() {
    let (sandbox, place) = (Sandbox::new(), Place::postgres());
    let proxy = Proxy::start(&server_of(place.url()));
    let through = place.through(&proxy.url(place.url())).whole_url();
    let holder = sandbox.hold(&place.whole_url(), &["n"], UNTIL_GO);
    let script = format!("exec \"$W\" --db '{through}' n -- echo entered");
    let waiting = on_terminal(&sandbox, &script);
    eventually("the line shows the holder", || shown(&waiting).contains("held by"));
    proxy.cut(true);
    eventually("the outage is told", || shown(&waiting).contains("; trying again\r\n"));
    proxy.cut(false);
    go(&sandbox);
    holder.end().expect(0);
    let ended = waiting.end().expect(0);
    let told = ended.stdout.split("; trying again\r\n").next().unwrap_or_default();
    let line = told.rsplit(WIPE).next().unwrap_or_default();
    assert!(line.starts_with("withlock: waiting for \"n\" at postgres:"), "{ended:?}");
}

/// A second line could not be wiped.
#[test]
fn the_line_is_no_wider_than_the_terminal() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let waiting = on_terminal(&sandbox, "stty cols 40; exec \"$W\" -w 2s n -- true");
    let ended = waiting.end().expect(124);
    let lines: Vec<_> = ended.stdout.split(WIPE).filter(|line| line.contains("waiting")).collect();
    assert!(!lines.is_empty(), "{ended:?}");
    assert!(lines.iter().all(|line| line.chars().count() < 40), "{ended:?}");
}

/// The terminal has a key that stops its output.
#[test]
fn a_terminal_whose_output_is_stopped_does_not_keep_a_command_from_running() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let mut waiting = on_terminal(&sandbox, "exec \"$W\" n -- touch ran");
    eventually("it waits", || shown(&waiting).contains("waiting for"));
    waiting.type_in("\x13");
    // It writes a line each second.
    sleep(Duration::from_millis(2_500));
    go(&sandbox);
    holder.end().expect(0);
    eventually("the command runs", || sandbox.path("ran").exists());
    waiting.type_in("\x11");
    waiting.end().expect(0);
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
    let script = "echo $$ >holder; exec \"$W\" n -- sh -c 'echo $$ >pid; touch up; exec sleep 600'";
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

/// The terminal tells both; the command must hear it once, and is awaited. A shell that waits for its child notes a
/// signal at once, and so a second one, too.
#[test]
fn the_interrupt_key_is_pressed_once() {
    let sandbox = Sandbox::new();
    let inner = "trap \"echo told >>got\" INT; touch up; \
                 while [ ! -e go ]; do sleep 0.02 & wait; done; exit 9";
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
    let _holder = sandbox.hold(&sandbox.url(), &["n"], "exec sleep 600");
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

/// As an editor does it, which puts the terminal in order first. withlock waits a second for that, which a busy machine may
/// need for less: one of a few attempts must do.
#[test]
fn a_command_stops_by_itself_at_the_stop_key() {
    let attempts = 5;
    assert!((0..attempts).any(|_| stops_by_itself()), "withlock stopped the command each time");
}

/// Whether the command did what it does at the stop key before it was stopped.
fn stops_by_itself() -> bool {
    let sandbox = Sandbox::new();
    let inner = "trap \"sleep 0.1; echo tidy >>got; kill -STOP \\$\\$\" TSTP; echo $$ >pid; touch up; \
                 while [ ! -e go ]; do sleep 0.02 & wait; done; exit 9";
    let script = format!("echo $$ >holder; exec \"$W\" n -- sh -c '{inner}'");
    let mut run = on_terminal(&sandbox, &script);
    eventually("the command runs", || sandbox.path("up").exists());
    let (holder, child) = (pid(&sandbox.read("holder")), sandbox.child());
    run.type_in("\x1a");
    eventually("it is stopped", || is_stopped(child) && is_stopped(holder));
    let got = sandbox.read("got");
    if got.is_empty() {
        kill_process_group(holder, Signal::KILL).expect("there");
        return false;
    }
    assert_eq!(got, "tidy\n");
    // As a shell does it.
    kill_process_group(holder, Signal::CONT).expect("there");
    go(&sandbox);
    run.end_within(PROMPT).expect(9);
    is_free(&sandbox);
    true
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

/// The terminal's groups know nothing of the guardian: it keeps the deadline while they are stopped.
#[test]
fn a_stopped_withlock_on_a_terminal_does_not_keep_its_command_alive() {
    let sandbox = Sandbox::new();
    let inner = format!("trap \"\" TERM; echo $$ >pid; touch up; {WRITE_UNTIL_GO}");
    let script = format!("echo $$ >holder; exec \"$W\" --ttl 2s n -- sh -c '{inner}'");
    let run = on_terminal(&sandbox, &script);
    eventually("the command writes", || !sandbox.read("written").is_empty());
    let (holder, child) = (pid(&sandbox.read("holder")), sandbox.child());
    kill_process(holder, Signal::STOP).expect("there");
    sandbox.run(&sandbox.url(), &["n", "--", "true"]).expect(0);
    assert!(!is_alive(child), "two at once");
    // Its group may have become an orphan just then, which the kernel lets go on.
    let _ = kill_process(holder, Signal::CONT);
    run.end_within(PROMPT).expect(123);
}

#[test]
fn help_is_coloured_on_a_terminal_and_only_there() {
    let sandbox = Sandbox::new();
    let shown = |script: &str| {
        let script = format!("TERM=xterm; export TERM; {script}");
        on_terminal(&sandbox, &script).end().expect(0).stdout
    };
    assert!(shown("\"$W\" --help").contains("\x1b["));
    assert!(!shown("NO_COLOR=1 \"$W\" --help").contains('\x1b'));
    assert!(!shown("\"$W\" --help | cat").contains('\x1b'));
}
