//! The foreground of a terminal: who gets signals, and who may read.

use super::terminal::on_terminal;
use super::*;

/// The terminal sends the signals of its keys. Others come from somewhere else, to withlock alone.
#[test]
fn term_to_withlock_on_a_terminal_reaches_the_command() {
    let sandbox = Sandbox::new();
    let inner = format!("trap \"echo told >>got; exit 6\" TERM; touch up; {UNTIL_GO}");
    let script = format!("echo $$ >holder; exec \"$W\" n -- sh -c '{inner}'");
    let run = on_terminal(&sandbox, &script);
    eventually("the command runs", || sandbox.path("up").exists());
    kill_process(pid(&sandbox.read("holder")), Signal::TERM).expect("there");
    run.end_within(PROMPT).expect(6);
    assert_eq!(sandbox.read("got"), "told\n");
    is_free(&sandbox);
}

/// withlock passes it on to nobody, and yet it is a wish to end.
#[test]
fn after_the_interrupt_key_nothing_is_kept() {
    let sandbox = Sandbox::new();
    let inner = format!("trap \"touch told\" INT; touch up; {UNTIL_GO}; exit 6");
    let inner = inner.replace("sleep 0.02", "sleep 0.02 || :");
    let mut run = on_terminal(&sandbox, &format!("exec \"$W\" --min-hold 1h n -- sh -c '{inner}'"));
    eventually("the command runs", || sandbox.path("up").exists());
    run.type_in("\x03");
    eventually("it is told", || sandbox.path("told").exists());
    a_while();
    go(&sandbox);
    run.end_within(PROMPT).expect(6);
    is_free(&sandbox);
}

/// So do programs that ask for a password, whatever their standard input is.
#[test]
fn a_command_with_another_input_reads_from_the_terminal() {
    let sandbox = Sandbox::new();
    let inner = "touch up; read -r line </dev/tty; echo \"got $line\"; exit 3";
    let script = format!("exec \"$W\" n -- sh -c '{inner}' </dev/null");
    is_read(&sandbox, &script);
}

/// As people do it: started with &, and fetched later.
#[test]
fn a_command_that_is_fetched_from_the_background_reads_from_the_terminal() {
    let sandbox = Sandbox::new();
    let inner = "touch up; read -r line; echo \"got $line\"; exit 3";
    let script = format!(
        "set -m; \"$W\" n -- sh -c '{inner}' & while [ ! -e up ]; do sleep 0.02; done; fg; exit"
    );
    is_read(&sandbox, &script);
}

/// A person's input reaches the command of this script, which says so and exits with 3.
fn is_read(sandbox: &Sandbox, script: &str) {
    let mut run = on_terminal(sandbox, script);
    eventually("the command runs", || sandbox.path("up").exists());
    run.type_in("some words\n");
    let ended = run.end_within(PROMPT).expect(3);
    assert!(ended.stdout.ends_with("got some words\r\n"), "{ended:?}");
}

/// The command is in the terminal's group, and not in one that the guardian could kill.
#[test]
fn kill_on_a_terminal_takes_the_command_along() {
    let sandbox = Sandbox::new();
    let inner = format!("echo $$ >pid; touch up; {UNTIL_GO}");
    let script = format!("\"$W\" n -- sh -c '{inner}' & echo $! >holder; wait; {UNTIL_GO}");
    let _terminal = on_terminal(&sandbox, &script);
    eventually("the command runs", || sandbox.path("up").exists());
    let child = sandbox.child();
    kill_process(pid(&sandbox.read("holder")), Signal::KILL).expect("there");
    eventually("the command is ended", || !is_alive(child));
    go(&sandbox);
}
