//! How a run ended.

use super::*;

#[test]
fn the_commands_exit_code_is_passed_on() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    for code in [0, 1, 7, 75, 123, 124, 125, 126, 127, 128, 137, 255] {
        for option in ["-v", "-q", "--try", "--skip", "--wait=1s", "-E=9"] {
            let script = format!("printf out; printf err >&2; exit {code}");
            let ended = sandbox.run(&url, &[option, "n", "--", "sh", "-c", &script]).expect(code);
            assert_eq!(ended.stdout, "out", "{option}");
            if option == "-v" {
                assert!(ended.stderr.contains("holding \"n\" with fence "), "{ended:?}");
            } else {
                assert_eq!(ended.stderr, "err", "{option}");
            }
        }
    }
}

#[test]
fn after_a_signal_the_exit_code_is_128_and_the_signals_number() {
    let sandbox = Sandbox::new();
    for (signal, number) in [("HUP", 1), ("INT", 2), ("KILL", 9), ("USR1", 10), ("TERM", 15)] {
        for option in ["-v", "-q"] {
            let script = format!("printf 'a\\nb'; kill -s {signal} $$; sleep 600");
            let args = [option, "n", "--", "sh", "-c", &script];
            let ended = sandbox.run(&sandbox.url(), &args).expect(128 + number);
            assert!(ended.status.code().is_some(), "it exits, and is not killed: {ended:?}");
            assert_eq!(ended.stdout, "a\nb");
            // It is free again.
            sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).expect(0);
        }
    }
}

/// Nobody reads on: as without withlock.
#[test]
fn a_closed_pipe_ends_the_command() {
    let sandbox = Sandbox::new();
    let script = r#"{ "$W" n -- yes; echo $? >code; } | head -n 1"#;
    let mut command = sandbox.command("sh");
    let ended = sandbox.start(command.args(["-c", script])).end().expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("y\n", ""));
    eventually("an exit code", || sandbox.read("code") == "141\n");
}

/// Somebody has the lock; what others are told.
fn somebody_else_has_it(sandbox: &Sandbox, url: &str) {
    let holder = sandbox.hold(url, &["n"], STAY);
    let run = |options: &[&str]| {
        let args = [options, &["n", "--", "touch", "ran"]].concat();
        let ended = sandbox.run(url, &args);
        assert!(!sandbox.path("ran").exists(), "{options:?} ran the command");
        assert_eq!(ended.stdout, "", "{options:?}");
        ended
    };
    complains(&run(&["--try"]).expect(75));
    complains(&run(&["--try", "-E", "42"]).expect(42));
    complains(&run(&["--try", "--conflict-exit-code", "0"]).expect(0));
    complains(&run(&["--try", "-E", "255"]).expect(255));
    complains(&run(&["--wait", "0s"]).expect(124));
    complains(&run(&["--wait", "50ms", "-E", "42"]).expect(42));
    for (options, code) in [
        (&["--try", "-q"][..], 75),
        (&["--wait", "50ms", "-q"], 124),
        (&["--skip"], 0),
        (&["--skip", "-q"], 0),
        (&["--skip", "--try"], 0),
        (&["--skip", "--wait", "50ms"], 0),
    ] {
        assert_eq!(run(options).expect(code).stderr, "", "{options:?}");
    }
    for (options, code) in [
        (&["--try", "-v"][..], 75),
        (&["--wait", "50ms", "-v"], 124),
        (&["--skip", "-v"], 0),
        (&["--skip", "--wait", "50ms", "-v"], 0),
    ] {
        let ended = run(options).expect(code);
        assert!(ended.stderr.contains("someone else holds \"n\""), "{ended:?}");
    }

    for options in [&["--wait", "1500ms"][..], &["--wait", "1s 500ms", "--skip"]] {
        let asked = Duration::from_millis(1500);
        // From before its start: on a busy machine it runs a while before we know that it does.
        let began = Instant::now();
        run(options).expect(if options.len() == 2 { 124 } else { 0 });
        let took = began.elapsed();
        assert!(took >= asked && took < asked + Duration::from_secs(10), "{took:?}");
    }
    drop(holder);
}

#[test]
fn a_held_lock_is_told_by_the_exit_code_on_sqlite() {
    let sandbox = Sandbox::new();
    somebody_else_has_it(&sandbox, &sandbox.url());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_held_lock_is_told_by_the_exit_code_on_postgres() {
    somebody_else_has_it(&Sandbox::new(), &url(&Place::postgres()));
}

fn it_becomes_free_in_time(url: &str) {
    for skip in [false, true] {
        let sandbox = Sandbox::new();
        let script = "until [ -e go ]; do sleep 0.01; done";
        let holder = sandbox.hold(url, &["n"], script);
        let mut args = vec!["-v", "--wait", "50s", "n", "--", "sh", "-c", "printf in; exit 7"];
        if skip {
            args.insert(0, "--skip");
        }
        let waiter = sandbox.start(&mut sandbox.withlock(url, &args));
        eventually("it waits", || waiter.output()[1].contains("waiting for \"n\" (held by"));
        write(sandbox.path("go"), "").expect("written");
        holder.end().expect(0);
        let ended = waiter.end().expect(7);
        assert_eq!(ended.stdout, "in");
        assert!(ended.took < Duration::from_secs(30), "it waited on: {ended:?}");
    }
}

#[test]
fn a_wait_ends_when_the_lock_is_free_on_sqlite() {
    let place = Place::sqlite();
    it_becomes_free_in_time(&url(&place));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_wait_ends_when_the_lock_is_free_on_postgres() {
    it_becomes_free_in_time(&url(&Place::postgres()));
}

fn script(sandbox: &Sandbox, file: &str, text: &str) {
    write(sandbox.path(file), text).expect("written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.path(file), executable).expect("set");
}

/// Text without a first line that says who reads it is the shell's, as everywhere.
#[test]
fn a_script_without_an_interpreter_is_the_shells() {
    let sandbox = Sandbox::new();
    script(&sandbox, "plain", "echo $1; exit 7\n");
    let ended = sandbox.run(&sandbox.url(), &["n", "--", "./plain", "one"]).expect(7);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("one\n", ""));
}

#[test]
fn a_file_that_is_being_written_cannot_be_run() {
    let sandbox = Sandbox::new();
    std::fs::copy("/bin/true", sandbox.path("busy")).expect("copied");
    let _writes = std::fs::File::options().write(true).open(sandbox.path("busy")).expect("opened");
    let ended = sandbox.run(&sandbox.url(), &["n", "--", "./busy"]).expect(126);
    assert!(ended.stderr.starts_with("withlock: ./busy: Text file busy"), "{ended:?}");
}

/// It is not the command that is at fault. How many it takes depends on how fast the threads come and go.
#[test]
fn without_processes_and_threads_withlock_fails_itself() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can become a user who has no other processes
    }
    let sandbox = Sandbox::new();
    set_permissions(sandbox.path(""), Permissions::from_mode(0o777)).expect("set");
    copy_binary(&sandbox.path("withlock"));
    let script = "ulimit -u $0; exec ./withlock -q n -- ./withlock --ddl";
    let mut failed = 0;
    for most in 1..12 {
        let mut command = sandbox.command("setpriv");
        command.args(["--reuid", "64009", "--regid", "64009", "--clear-groups"]);
        command.args(["bash", "-c", script, &most.to_string()]);
        let ended = sandbox.start(command.env("WITHLOCK_URL", sandbox.url())).end();
        println!("{most}: {} {}", ended.code, ended.stderr);
        assert!(matches!(ended.code, 0 | 125), "{most}: {ended:?}");
        assert!(ended.code == 0 || ended.stderr.contains("unavailable"), "{most}: {ended:?}");
        failed += usize::from(ended.code == 125);
    }
    assert!(failed > 0, "it never lacked any");
}

#[test]
fn what_cannot_be_run_is_126_or_127() {
    let sandbox = Sandbox::new();
    write(sandbox.path("plain"), "#!/bin/sh\n").expect("written");
    std::fs::create_dir(sandbox.path("folder")).expect("made");
    for (file, text) in [
        ("lost", "#!/no/such/shell -e\n"),
        ("windows", "#!/bin/sh\r\necho\r\n"),
        ("plain-shell", "#! ./plain\n"),
        ("in-path", "#!/no/such/shell\n"),
        ("orders", "#!/no/such\x1b[31m\n"),
    ] {
        script(&sandbox, file, text);
    }
    for (command, code, reason) in [
        ("./plain", 126, "not executable"),
        ("./folder", 126, "is a directory"),
        ("./plain/below", 126, "Not a directory"),
        ("./nowhere", 127, "not found"),
        ("/nowhere/at/all", 127, "not found"),
        ("no-such-program-anywhere", 127, "not found"),
        ("", 127, "not found"),
        ("./lost", 126, "the interpreter /no/such/shell in its first line does not exist"),
        ("./orders", 126, "the interpreter /no/such?[31m in its first line does not exist"),
        ("./windows", 126, "Windows"),
        ("./plain-shell", 126, "the interpreter ./plain in its first line cannot be executed"),
        ("in-path", 126, "the interpreter /no/such/shell in its first line does not exist"),
    ] {
        for option in ["-v", "-q"] {
            let path = std::env::var("PATH").unwrap_or_default();
            let path = format!("{}:{path}", sandbox.path("").display());
            let mut run = sandbox.withlock(&sandbox.url(), &[option, "--try", "n", "--", command]);
            let ended = sandbox.start(run.env("PATH", path)).end().expect(code);
            let last = ended.stderr.lines().last().unwrap_or_default();
            let shown = if command.is_empty() { "\"\"" } else { command };
            assert!(last.starts_with(&format!("withlock: {shown}: ")), "{ended:?}");
            assert!(last.contains(reason), "{ended:?}");
            if option == "-q" {
                complains(&ended);
            }
            assert_eq!(ended.stdout, "");
        }
    }
    sandbox.run(&sandbox.url(), &["--try", "n", "--", "true"]).expect(0);
}

#[test]
fn its_own_failures_are_125_and_one_line() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let long = "x".repeat(256);
    let run = ["--", "touch", "ran"];
    for args in [
        &["--nope", "n"][..],
        &["-x", "n"],
        &["--tr", "n"],
        &[],
        &[""],
        &["two\nlines"],
        &[&long],
        &["n", "m"],
        &["--try", "--wait", "1s", "n"],
        &["-q", "-v", "n"],
        &["--try", "--try", "n"],
        &["--wait", "soon", "n"],
        &["--wait", "-1s", "n"],
        &["--wait", "5x", "n"],
        &["--wait", "1e3", "n"],
        &["--min-hold", "soon", "n"],
        &["--grace", "-1s", "n"],
        &["--grace", "13s", "n"],
        &["--on-lost", "pray", "n"],
        &["--name", "", ""],
        &["--name", "m", "n"],
        &["--completions", "csh"],
        &["--man", "n"],
        &["--wait", "", "n"],
        &["--ttl", "0s", "n"],
        &["--ttl", "-1s", "n"],
        &["-E", "256", "n"],
        &["-E", "-1", "n"],
        &["-E", "x", "n"],
        &["--table", "", "n"],
        &["--table", "a b", "n"],
        &["--table", "a\"b", "n"],
        &["--db", "", "n"],
        &["--db", "nonsense", "n"],
        &["--db", "mongodb://localhost/locks", "n"],
        &["--db", "sqlite:", "n"],
        &["--db", "sqlite:nowhere/locks.db", "n"],
        &["--db", "sqlite:.", "n"],
        &["--db", "sqlite:locks.db?nope=1", "n"],
    ] {
        for option in [&[][..], &["--ttl=20s"]] {
            if args.contains(&"--ttl") && !option.is_empty() {
                continue;
            }
            let ended = sandbox.run(&url, &[option, args, &run].concat());
            assert_eq!(ended.code, 125, "{args:?}: {ended:?}");
            complains(&ended);
            assert!(!sandbox.path("ran").exists(), "{args:?} ran the command");
        }
    }
    for args in [&["n"][..], &["n", "--"], &["--", "true"]] {
        complains(&sandbox.run(&url, args).expect(125));
    }
    write(sandbox.path("text.db"), "This is no database. ".repeat(100)).expect("written");
    complains(&sandbox.run("sqlite:text.db", &["n", "--", "touch", "ran"]).expect(125));
    assert!(!sandbox.path("ran").exists());
    assert_eq!(rows(&sandbox.path("locks.db")), [], "nothing was locked");
}

#[test]
fn a_url_or_a_name_that_is_not_utf_8_is_refused() {
    let sandbox = Sandbox::new();
    let bytes = OsStr::from_bytes(b"sqlite:locks\xff.db");
    for variable in ["WITHLOCK_URL", "PG_CONNECTION_STRING"] {
        let mut command = sandbox.command(binary());
        command.env(variable, bytes).args(["n", "--", "touch", "ran"]);
        let ended = sandbox.start(&mut command).end().expect(125);
        complains(&ended);
        assert!(ended.stderr.contains(variable), "{ended:?}");
    }
    let mut command = sandbox.withlock(&sandbox.url(), &[]);
    command.arg(bytes).args(["--", "touch", "ran"]);
    complains(&sandbox.start(&mut command).end().expect(125));
    let mut command = sandbox.command(binary());
    command.arg("--db").arg(bytes).args(["n", "--", "touch", "ran"]);
    complains(&sandbox.start(&mut command).end().expect(125));
    assert!(!sandbox.path("ran").exists(), "nothing runs");
    assert!(!sandbox.path("state").exists(), "nor is another place used");
}

/// An operator has the table for himself: that somebody runs the command is not known, so it is not skipped without a word.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_lock_that_nobody_is_known_to_hold_is_told_as_that() {
    let (place, sandbox) = (Place::postgres(), Sandbox::new());
    let url = url(&place);
    sandbox.run(&url, &["n", "--", "true"]).expect(0);
    let mut operator = client(place.url());
    operator.batch_execute("BEGIN").expect("begun");
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", place.table());
    operator.batch_execute(&lock).expect("locked");
    for (options, code) in [
        (&["-n"][..], 75),
        (&["--skip"], 75),
        (&["--wait=3s"], 124),
        (&["--skip", "--wait=3s"], 75),
    ] {
        let args = [options, &["n", "--", "touch", "ran"]].concat();
        let ended = sandbox.run(&url, &args).expect(code);
        let told =
            "withlock: nobody is known to hold \"n\", but the server does not give it away yet\n";
        assert!(ended.stderr.ends_with(told), "{options:?}: {ended:?}");
    }
    assert!(!sandbox.path("ran").exists());
    operator.batch_execute("COMMIT").expect("ended");
    let holder = sandbox.hold(&url, &["n"], STAY);
    let skipped = sandbox.run(&url, &["--skip", "n", "--", "touch", "ran"]).expect(0);
    assert_eq!(skipped.stderr, "", "somebody has it");
    holder.signal(rustix::process::Signal::TERM);
    holder.end().expect(143);
}
