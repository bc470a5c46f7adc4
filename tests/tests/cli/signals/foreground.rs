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

/// The signals of keys, too, if no key was pressed.
#[test]
fn int_and_quit_of_a_process_reach_a_command_on_a_terminal() {
    for (name, signal) in [("INT", Signal::INT), ("QUIT", Signal::QUIT)] {
        let sandbox = Sandbox::new();
        let inner = format!("trap \"echo told >>got; exit 6\" {name}; touch up; {UNTIL_GO}");
        let script = format!("echo $$ >holder; exec \"$W\" n -- sh -c '{inner}'");
        let run = on_terminal(&sandbox, &script);
        eventually("the command runs", || sandbox.path("up").exists());
        kill_process(pid(&sandbox.read("holder")), signal).expect("there");
        run.end_within(PROMPT).expect(6);
        assert_eq!(sandbox.read("got"), "told\n");
        is_free(&sandbox);
    }
}

/// Standard input is a terminal there, whose keys mean others. At a loss, what the command has started ends with it.
#[test]
fn the_terminal_of_another_session_is_not_shared() {
    let sandbox = Sandbox::new();
    let inner = format!("cut -d\" \" -f5 /proc/$$/stat >group; echo $$ >pid; touch up; {UNTIL_GO}");
    let script = format!("setsid \"$W\" n -- sh -c '{inner}'; exit $?");
    let run = on_terminal(&sandbox, &script);
    eventually("the command runs", || sandbox.path("up").exists());
    assert_eq!(pid(&sandbox.read("group")), sandbox.child(), "a group of its own");
    go(&sandbox);
    run.end_within(PROMPT).expect(0);
}

#[test]
#[ignore = "needs a PID namespace of its own, as root or in a user's namespace: tests/run"]
fn a_session_outside_of_the_pid_namespace_is_told() {
    let sandbox = Sandbox::new();
    let inside = "unshare --user --map-root-user --mount --pid --fork --mount-proc";
    let script = format!("{inside} \"$W\" n -- sh -c 'touch up; exit 4'; exit $?");
    let ended = on_terminal(&sandbox, &script).end_within(PROMPT).expect(4);
    assert!(ended.stdout.contains("setsid --ctty"), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
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
