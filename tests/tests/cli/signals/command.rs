//! Signals to the command.

use super::*;

fn reaches_everybody(name: &str, signal: Signal) {
    let sandbox = Sandbox::new();
    let mut holder = sandbox.hold(&sandbox.url(), &["n"], &noting(name));
    eventually("the inner one runs", || sandbox.read("inner").ends_with('\n'));
    is_taken(&sandbox);
    let inner = pid(&sandbox.read("inner"));
    holder.signal(signal);
    eventually("the inner one is told", || !sandbox.read("got").is_empty());
    is_taken(&sandbox);
    assert!(!holder.has_ended(), "{name}: it was not awaited");
    go(&sandbox);
    let ended = holder.end().expect(7);
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

/// That of an alarm which was set before withlock was started.
#[test]
fn alrm_reaches_the_command_and_what_it_started() {
    reaches_everybody("ALRM", Signal::ALARM);
}

#[test]
fn winch_reaches_the_command_and_what_it_started() {
    reaches_everybody("WINCH", Signal::WINCH);
}

/// Some programs end at the second only.
#[test]
fn each_signal_of_several_reaches_the_command() {
    let sandbox = Sandbox::new();
    let script = format!("trap 'echo term >>got' TERM; touch traps; {UNTIL_GO}");
    let mut holder = sandbox.hold(&sandbox.url(), &["n"], &script);
    eventually("it catches the signal", || sandbox.path("traps").exists());
    for (number, got) in ["term\n", "term\nterm\n", "term\nterm\nterm\n"].into_iter().enumerate() {
        holder.signal(Signal::TERM);
        eventually("it is told", || sandbox.read("got") == got);
        assert!(!holder.has_ended(), "after {number}");
    }
    go(&sandbox);
    holder.end().expect(0);
}

/// It would have the signal only once it goes on.
#[test]
fn a_signal_ends_a_command_that_is_stopped() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["n"], "exec sleep 600");
    let child = sandbox.child();
    kill_process(child, Signal::STOP).expect("there");
    eventually("it is stopped", || is_stopped(child));
    holder.signal(Signal::TERM);
    holder.end_within(PROMPT).expect(143);
    assert!(!is_alive(child));
    is_free(&sandbox);
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
        let holder = sandbox.hold(&sandbox.url(), &["n"], "exec sleep 600");
        holder.signal(signal);
        let ended = holder.end_within(PROMPT).expect(code);
        assert_eq!(ended.stderr, "", "{signal:?}");
        is_free(&sandbox);
    }
}

// Signals while waiting.
