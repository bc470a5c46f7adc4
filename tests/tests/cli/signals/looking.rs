//! Looking at locks on a terminal: a table, and a question before a lock is taken away.

use super::terminal::{on_terminal, shown};
use super::*;

#[test]
fn a_terminal_gets_a_table() {
    let sandbox = Sandbox::new();
    sandbox.run(&sandbox.url(), &["another", "--", "true"]).expect(0);
    let ended = on_terminal(&sandbox, "exec \"$W\" --list").end().expect(0);
    assert_eq!(ended.stdout, "no lock is held\r\n");

    let holder = sandbox.hold(&sandbox.url(), &["--label", "the 🔒", "n"], UNTIL_GO);
    let ended = on_terminal(&sandbox, "stty cols 120; exec \"$W\" --list").end().expect(0);
    let lines: Vec<_> = ended.stdout.lines().map(str::trim_end).collect();
    let words: Vec<_> = lines[0].split_whitespace().collect();
    let header = ["NAME", "HOST", "PID", "LABEL", "FENCE", "HELD", "FOR", "EXPIRES", "IN"];
    assert_eq!(words, header, "{ended:?}");
    let words: Vec<_> = lines[1].split_whitespace().collect();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let who = ["n", &host, &holder.pid().to_string(), "the", "🔒"];
    assert_eq!(words[..5], who, "{ended:?}");
    assert!(words[7].ends_with('s'), "{ended:?}");
    assert_eq!(lines.len(), 2, "{ended:?}");

    let ended = on_terminal(&sandbox, "exec \"$W\" --list --json").end().expect(0);
    assert!(ended.stdout.starts_with("[\r\n{\"name\":\"n\","), "{ended:?}");
    let ended = on_terminal(&sandbox, "exec \"$W\" --status n").end().expect(75);
    assert!(ended.stdout.starts_with("\"n\" is held by "), "{ended:?}");
    go(&sandbox);
    holder.end().expect(0);
    let ended = on_terminal(&sandbox, "exec \"$W\" --status n").end().expect(0);
    assert!(ended.stdout.starts_with("\"n\" is free; its fence is "), "{ended:?}");
}

/// What others wrote into the table gives no orders to the terminal.
#[test]
fn what_a_table_says_is_shown_and_not_obeyed() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    let sql =
        "UPDATE locks SET holder = 'h' || char(27) || '[31m pid 7 (' || char(10, 13, 7) || ')'";
    file.execute_batch(sql).expect("run");
    for script in ["--list", "--status n", "--break n </dev/null"] {
        let run = on_terminal(&sandbox, &format!("\"$W\" {script}; exit 0"));
        let ended = run.end().expect(0);
        assert!(ended.stdout.contains("h?[31m"), "{ended:?}");
        assert!(!ended.stdout.contains(['\x1b', '\x07']), "{ended:?}");
    }
}

/// Names and labels of another program's rows, and of a lock that nobody has any more.
#[test]
fn what_a_row_of_another_program_says_is_shown_and_not_obeyed() {
    let sandbox = Sandbox::new();
    let args = ["--min-hold", "1h", "n", "--", "true"];
    sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args)).end().expect(0);
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file.execute_batch("UPDATE locks SET holder = 'job' || char(27) || '[31m'").expect("set");
    let ended = on_terminal(&sandbox, "\"$W\" --status n; exit 0").end().expect(0);
    assert!(ended.stdout.contains("\"n\" was released by job?[31m, and is kept"), "{ended:?}");
    file.execute_batch("UPDATE locks SET name = 'n' || char(27) || '[32m'").expect("set");
    let listed = on_terminal(&sandbox, "stty cols 200; exec \"$W\" --list").end().expect(0);
    let row = listed.stdout.lines().nth(1).unwrap_or_default();
    // A holder's text of another form is shown whole.
    let words: Vec<_> = row.split_whitespace().take(2).collect();
    assert_eq!(words, ["n?[32m", "job?[31m"], "{listed:?}");
    assert!(!listed.stdout.contains('\x1b'), "{listed:?}");
}

/// Nobody would see the question.
#[test]
fn a_person_is_asked_only_where_the_question_is_seen() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let run = on_terminal(&sandbox, "exec \"$W\" --break n 2>log");
    run.end_within(PROMPT).expect(75);
    let log = sandbox.read("log");
    assert!(log.contains("without a terminal, --break needs --yes"), "{log}");
}

/// While the person thinks, the holder ends, and somebody else gets the lock.
#[test]
fn only_the_hold_that_was_shown_is_broken() {
    let sandbox = Sandbox::new();
    let first = sandbox.hold(&sandbox.url(), &["n"], UNTIL_GO);
    let mut run = on_terminal(&sandbox, "exec \"$W\" --break -E 3 n");
    eventually("it asks", || shown(&run).contains("take the lock from its holder?"));
    go(&sandbox);
    first.end().expect(0);
    for file in ["go", "up"] {
        std::fs::remove_file(sandbox.path(file)).expect("there");
    }
    let second = sandbox.hold(&sandbox.url(), &["n"], &format!("{UNTIL_GO}; exit 7"));
    run.type_in("y\n");
    let ended = run.end_within(PROMPT).expect(3);
    assert!(ended.stdout.contains(" had already ended; \"n\" is held by "), "{ended:?}");
    go(&sandbox);
    second.end().expect(7);
}

#[test]
fn a_lock_is_taken_away_only_if_the_answer_is_yes() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "6s", "n"], UNTIL_GO);
    for (answer, code) in [("\n", 75), ("n\n", 75), ("yesterday\n", 75), ("\x04", 75), ("y\n", 0)] {
        let mut run = on_terminal(&sandbox, "exec \"$W\" --break n");
        eventually("it asks", || shown(&run).contains("take the lock from its holder?"));
        assert!(shown(&run).contains("\"n\" is held by "), "who has it is told first");
        run.type_in(answer);
        let ended = run.end_within(PROMPT).expect(code);
        let took = ended.stdout.contains("took \"n\" from its holder");
        assert_eq!(took, code == 0, "{answer:?}: {ended:?}");
    }
    holder.end_within(PROMPT).expect(123);
    is_free(&sandbox);
}

/// Nobody has it, so nothing is taken from anybody.
#[test]
fn a_lock_that_is_kept_is_freed_only_if_the_answer_is_yes() {
    let sandbox = Sandbox::new();
    let args = ["--min-hold", "10m", "n", "--", "true"];
    sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args)).end().expect(0);
    for (answer, code) in [("n\n", 75), (" YES\n", 0)] {
        let mut run = on_terminal(&sandbox, "exec \"$W\" --break n");
        eventually("it asks", || shown(&run).contains("free the lock?"));
        assert!(shown(&run).contains("\"n\" was released by "), "who had it is told first");
        assert!(!shown(&run).contains("from its holder"), "{:?}", shown(&run));
        run.type_in(answer);
        let ended = run.end_within(PROMPT).expect(code);
        let freed = ended.stdout.contains("\"n\" is kept no longer");
        assert_eq!(freed, code == 0, "{answer:?}: {ended:?}");
    }
    is_free(&sandbox);
}
