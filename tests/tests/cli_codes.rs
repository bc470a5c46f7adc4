//! What `withlock` promises to scripts: exit codes, output, environment, and where locks are kept.

use lock_tests::place::{Place, client};
use lock_tests::withlock::{Ended, Sandbox, binary, eventually, url};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, metadata, write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Outlives any test.
const STAY: &str = "exec sleep 600";

/// A row of an SQLite file: name, fence, holder.
type Row = (String, i64, String);

/// The rows in an SQLite file, looked at past withlock. Without a file or a table there are none.
fn rows(path: &Path) -> Vec<Row> {
    if !path.exists() {
        return Vec::new();
    }
    let file = rusqlite::Connection::open(path).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    let Ok(mut query) = file.prepare("SELECT name, fence, holder FROM locks ORDER BY name") else {
        return Vec::new();
    };
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.expect("asked").map(|row| row.expect("a row")).collect()
}

/// The rows in a PostgreSQL table; none if there is no table.
fn rows_at(place: &Place) -> Vec<Row> {
    let table = place.table();
    let query = format!("SELECT name, fence, holder FROM {table} ORDER BY name COLLATE \"C\"");
    let rows = client(place.url()).query(&query, &[]).unwrap_or_default();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn names(rows: Vec<Row>) -> Vec<String> {
    rows.into_iter().map(|(name, ..)| name).collect()
}

/// A complaint is one line that says whose it is, and nothing on standard output.
#[track_caller]
fn complains(ended: &Ended) {
    let line = ended.stderr.strip_suffix('\n').expect("a line");
    assert!(line.starts_with("withlock: ") && !line.contains('\n'), "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
}

/// Runs `withlock`, by a shell so that it can redirect.
fn redirected(sandbox: &Sandbox, args: &[&str], redirection: &str) -> Ended {
    let script = format!("exec \"$W\" \"$@\" {redirection}");
    let mut command = sandbox.command("sh");
    command.args(["-c", &script, "sh"]).args(args).env("WITHLOCK_URL", sandbox.url());
    sandbox.start(&mut command).end()
}

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
                assert!(ended.stderr.contains("holding \"n\", fence "), "{ended:?}");
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
            let script = format!("printf 'a\\nb'; kill -s {signal} $$; sleep 60");
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
        (&["--skip", "-E", "42"], 0),
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
        assert!(ended.stderr.contains("somebody else has \"n\""), "{ended:?}");
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
        eventually("it waits", || waiter.output()[1].contains("waiting for \"n\", held by"));
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

#[test]
fn what_cannot_be_run_is_126_or_127() {
    let sandbox = Sandbox::new();
    write(sandbox.path("plain"), "#!/bin/sh\n").expect("written");
    std::fs::create_dir(sandbox.path("folder")).expect("made");
    for (command, code) in [
        ("./plain", 126),
        ("./folder", 126),
        ("./plain/below", 126),
        ("./nowhere", 127),
        ("/nowhere/at/all", 127),
        ("no-such-program-anywhere", 127),
        ("", 127),
    ] {
        for option in ["-v", "-q"] {
            let ended = sandbox.run(&sandbox.url(), &[option, "n", "--", command]).expect(code);
            let last = ended.stderr.lines().last().unwrap_or_default();
            assert!(last.starts_with(&format!("withlock: {command}: ")), "{ended:?}");
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
        &["--wait", "5", "n"],
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
        &["--db", "mysql://localhost/locks", "n"],
        &["--db", "sqlite:", "n"],
        &["--db", "sqlite:nowhere/locks.db", "n"],
        &["--db", "sqlite:.", "n"],
        &["--db", "sqlite:locks.db?nope=1", "n"],
    ] {
        for option in [&[][..], &["--ttl=20s"]] {
            let ended = sandbox.run(&url, &[option, args, &run].concat());
            if args.contains(&"--ttl") && !option.is_empty() {
                continue;
            }
            assert_eq!(ended.code, 125, "{args:?}: {ended:?}");
            complains(&ended);
            assert!(!sandbox.path("ran").exists(), "{args:?} ran the command");
        }
    }
    for args in [&["n"][..], &["n", "--"], &["n", "true"], &["--", "true"]] {
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

/// Every byte, and no other.
#[test]
fn standard_input_and_output_are_the_commands() {
    let sandbox = Sandbox::new();
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251 + n / 251 % 7) as u8).collect();
    write(sandbox.path("in"), &bytes).expect("written");
    for option in ["-v", "-q"] {
        redirected(&sandbox, &[option, "n", "--", "cat"], "<in >out").expect(0);
        assert!(std::fs::read(sandbox.path("out")).expect("read") == bytes, "{option}");
        // By pipes.
        let script = format!("cat in | \"$W\" {option} n -- cat | cat >out");
        sandbox.start(sandbox.command("sh").args(["-c", &script])).end().expect(0);
        assert!(std::fs::read(sandbox.path("out")).expect("read") == bytes, "{option}");
    }
    // What the command leaves is for those that come after it.
    write(sandbox.path("in"), "one\ntwo\nthree\n").expect("written");
    let script = r#"{ "$W" n -- sh -c 'read line; echo "<$line>"'; cat; } <in"#;
    let ended = sandbox.start(sandbox.command("sh").args(["-c", script])).end().expect(0);
    assert_eq!(ended.stdout, "<one>\ntwo\nthree\n");
    // Somebody who types.
    let args = ["n", "--", "sh", "-c", "read a; echo $a; read b; echo $b; exit 3"];
    let mut run = sandbox.start(sandbox.withlock(&sandbox.url(), &args).stdin(Stdio::piped()));
    run.type_in("first\n");
    eventually("an answer", || run.output()[0] == "first\n");
    run.type_in("second\n");
    assert_eq!(run.end().expect(3).stdout, "first\nsecond\n");
}

#[test]
fn arguments_arrive_unchanged() {
    let sandbox = Sandbox::new();
    let arguments = [
        "",
        " ",
        "a b",
        "'",
        "\"",
        "\\",
        "\\n",
        "$HOME",
        "`id`",
        "*",
        "--",
        "-v",
        "--help",
        "--try",
        "n",
        "two\nlines",
        "\t",
        "é🔒",
        "--",
        "",
    ];
    let show = r#"printf '<%s>' "$#" "$@""#;
    for option in ["-v", "-q"] {
        let args = [&[option, "n", "--", "sh", "-c", show, "sh"][..], &arguments].concat();
        let ended = sandbox.run(&sandbox.url(), &args).expect(0);
        let expected: String = arguments.iter().map(|argument| format!("<{argument}>")).collect();
        assert_eq!(ended.stdout, format!("<{}>{expected}", arguments.len()));
    }
    // Bytes that are no text.
    let mut command = sandbox.withlock(&sandbox.url(), &["n", "--", "sh", "-c"]);
    command.args([r#"printf %s "$1" >bytes"#, "sh"]).arg(OsStr::from_bytes(b"\xff\xc3\x28"));
    sandbox.start(&mut command).end().expect(0);
    assert_eq!(std::fs::read(sandbox.path("bytes")).expect("read"), b"\xff\xc3\x28");
    // Options may follow the name; what follows -- is the command, whatever it looks like.
    sandbox.run(&sandbox.url(), &["n", "--try", "--", "true"]).expect(0);
    sandbox.run(&sandbox.url(), &["n", "--", "--try"]).expect(127);
    sandbox.run(&sandbox.url(), &["n", "--", "--", "true"]).expect(127);
}

/// The command's environment is withlock's, with the lock and without the URLs.
fn environment(sandbox: &Sandbox, url: &str, fence: impl Fn() -> i64) {
    let set = |command: &mut std::process::Command| {
        command
            .env("PG_CONNECTION_STRING", "postgres://me:secret@nowhere/db")
            .env("OTHER", "a b\nc=\"d\"")
            .env("EMPTY", "")
            .env("WITHLOCK_OTHER", "kept")
            .env("PGPASSWORD", "kept")
            .env("WITHLOCK_FENCE", "7")
            .env("WITHLOCK_NAME", "outer");
    };
    let variables = |ended: &Ended| -> BTreeSet<String> {
        ended.stdout.split_terminator('\0').map(str::to_string).collect()
    };
    let mut plain = sandbox.command("env");
    set(plain.arg("-0"));
    let mut expected = variables(&sandbox.start(&mut plain).end().expect(0));
    assert!(expected.remove("PG_CONNECTION_STRING=postgres://me:secret@nowhere/db"));
    assert!(expected.remove("WITHLOCK_FENCE=7") && expected.remove("WITHLOCK_NAME=outer"));
    let mut last = 0;
    for _ in 0..3 {
        let mut command = sandbox.withlock(url, &["a 'b' 🔒", "--", "env", "-0"]);
        set(&mut command);
        let found = variables(&sandbox.start(&mut command).end().expect(0));
        let fence = fence();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        let mut expected = expected.clone();
        expected.insert(format!("WITHLOCK_FENCE={fence}"));
        expected.insert("WITHLOCK_NAME=a 'b' 🔒".to_string());
        assert_eq!(found, expected);
    }
}

#[test]
fn the_commands_environment_has_the_lock_and_no_url_on_sqlite() {
    let sandbox = Sandbox::new();
    environment(&sandbox, &sandbox.url(), || rows(&sandbox.path("locks.db"))[0].1);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_commands_environment_has_the_lock_and_no_url_on_postgres() {
    let place = Place::postgres();
    environment(&Sandbox::new(), &url(&place), || rows_at(&place)[0].1);
}

/// Where a lock appears when these places are named; `None` in one is a variable that is not set.
fn place_of(db: Option<&str>, withlock: Option<&str>, pg: Option<&str>) -> Vec<String> {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(binary());
    if let Some(db) = db {
        command.args(["--db", db]);
    }
    for (name, value) in [("WITHLOCK_URL", withlock), ("PG_CONNECTION_STRING", pg)] {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    sandbox.start(command.args(["n", "--", "true"])).end().expect(0);
    let files = ["a.db", "b.db", "c.db", "state/withlock/locks.db"];
    let has_row = |file: &&&str| names(rows(&sandbox.path(file))) == ["n"];
    files.iter().filter(has_row).map(|file| file.to_string()).collect()
}

#[test]
fn the_option_beats_the_variables_and_withlocks_own_beats_the_other() {
    let [a, b, c] = ["sqlite:a.db", "sqlite:b.db", "sqlite:c.db"].map(Some);
    assert_eq!(place_of(a, b, c), ["a.db"]);
    assert_eq!(place_of(a, None, c), ["a.db"]);
    assert_eq!(place_of(a, Some("nonsense"), Some("nonsense")), ["a.db"]);
    assert_eq!(place_of(None, b, c), ["b.db"]);
    assert_eq!(place_of(None, b, Some("nonsense")), ["b.db"]);
    assert_eq!(place_of(None, None, c), ["c.db"]);
    assert_eq!(place_of(None, Some(""), c), ["c.db"], "empty is as not set");
    assert_eq!(place_of(None, Some(""), Some("")), ["state/withlock/locks.db"]);
    assert_eq!(place_of(None, None, None), ["state/withlock/locks.db"]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_variable_of_postgres_is_used_when_nothing_else_is_said() {
    let place = Place::postgres();
    let server = url(&place);
    assert_eq!(place_of(Some("sqlite:a.db"), None, Some(&server)), ["a.db"]);
    assert_eq!(place_of(None, Some("sqlite:b.db"), Some(&server)), ["b.db"]);
    assert_eq!(rows_at(&place), []);
    assert_eq!(place_of(None, None, Some(&server)), [""; 0]);
    assert_eq!(names(rows_at(&place)), ["n"]);
    let other = Place::postgres();
    assert_eq!(place_of(Some(&url(&other)), Some("sqlite:b.db"), None), [""; 0]);
    assert_eq!(names(rows_at(&other)), ["n"]);
}

#[test]
fn without_a_url_locks_are_in_a_file_of_this_users() {
    let sandbox = Sandbox::new();
    let args = ["n", "--", "true"];
    let mode = |name: &str| metadata(sandbox.path(name)).expect("there").permissions().mode();
    // A generous umask changes nothing.
    let script = r#"umask 0; exec "$W" "$@""#;
    let run = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = sandbox.command("sh");
        change(command.args(["-c", script, "sh"]).args(args));
        sandbox.start(&mut command).end()
    };
    run(&|_| {}).expect(0);
    assert_eq!(names(rows(&sandbox.path("state/withlock/locks.db"))), ["n"]);
    assert_eq!(mode("state/withlock") & 0o7777, 0o700);
    assert!(!sandbox.path("home").exists());

    let file = "home/.local/state/withlock";
    run(&|command| {
        command.env_remove("XDG_STATE_HOME");
    })
    .expect(0);
    assert_eq!(names(rows(&sandbox.path(file).join("locks.db"))), ["n"]);
    assert_eq!(mode(file) & 0o7777, 0o700);
    // Not an absolute path: to be ignored, says the XDG specification.
    for value in ["", "relative"] {
        std::fs::remove_dir_all(sandbox.path("home")).expect("removed");
        run(&|command| {
            command.env("XDG_STATE_HOME", value);
        })
        .expect(0);
        assert_eq!(names(rows(&sandbox.path(file).join("locks.db"))), ["n"]);
        assert!(!sandbox.path("relative").exists() && !sandbox.path("withlock").exists());
    }
    let ended = run(&|command| {
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    });
    complains(&ended.expect(125));
    // A path that cannot be a folder.
    let ended = run(&|command| {
        command.env("XDG_STATE_HOME", "/dev/null");
    });
    complains(&ended.expect(125));
}

/// It is one file for all who have that home, by whatever way.
#[test]
fn the_default_file_excludes_too() {
    let sandbox = Sandbox::new();
    symlink("state", sandbox.path("link")).expect("linked");
    let _holder = sandbox.hold("", &["n"], STAY);
    sandbox.run("", &["--try", "n", "--", "true"]).expect(75);
    sandbox.run("sqlite:state/withlock/locks.db", &["--try", "n", "--", "true"]).expect(75);
    let mut command = sandbox.command(binary());
    command.env("XDG_STATE_HOME", sandbox.path("link")).args(["--try", "n", "--", "true"]);
    sandbox.start(&mut command).end().expect(75);
}

#[test]
fn help_and_version_are_printed() {
    let sandbox = Sandbox::new();
    for args in [&["--help"][..], &["-h"], &["--help", "n", "--", "touch", "ran"]] {
        let ended = sandbox.run("nonsense", args).expect(0);
        assert_eq!(ended.stderr, "");
        for word in ["withlock", "--wait", "--conflict-exit-code", "WITHLOCK_URL", "124", "127"] {
            assert!(ended.stdout.contains(word), "{word} is not in {}", ended.stdout);
        }
        assert!(ended.stdout.ends_with('\n'));
    }
    for option in ["--version", "-V"] {
        let ended = sandbox.run("nonsense", &[option]).expect(0);
        let version = format!("withlock {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((ended.stdout, ended.stderr), (version, String::new()));
    }
    // It is the command's when it comes after --.
    let ended = sandbox.run(&sandbox.url(), &["n", "--", "printf", "%s\n", "--version"]).expect(0);
    assert_eq!(ended.stdout, "--version\n");
    assert!(!sandbox.path("ran").exists() && !sandbox.path("state").exists());
}

#[test]
fn output_that_cannot_be_written_changes_no_exit_code() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold(&sandbox.url(), &["held"], STAY);
    for redirection in
        [">/dev/full", "2>/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", ">&- 2>&- <&-"]
    {
        for (args, code) in [
            (&["-v", "n", "--", "true"][..], 0),
            (&["-v", "n", "--", "sh", "-c", "exit 7"], 7),
            (&["-v", "n", "--", "sh", "-c", "kill -KILL $$"], 137),
            (&["-v", "--try", "held", "--", "true"], 75),
            (&["-v", "--wait", "100ms", "held", "--", "true"], 124),
            (&["-v", "--skip", "held", "--", "true"], 0),
            (&["-v", "n", "--", "/"], 126),
            (&["-v", "n", "--", "/nowhere"], 127),
            (&["--nope"], 125),
            (&["--db", "nonsense", "n", "--", "true"], 125),
            (&["--help"], 0),
            (&["--version"], 0),
            (&["--ddl"], 0),
        ] {
            let ended = redirected(&sandbox, args, redirection);
            assert_eq!(ended.code, code, "{args:?} {redirection}: {ended:?}");
        }
        // What the command makes of it is its own business.
        let code = if redirection.starts_with('>') { 1 } else { 0 };
        let args = ["n", "--", "sh", "-c", "echo text || exit 1"];
        if !redirection.contains('-') {
            redirected(&sandbox, &args, redirection).expect(code);
        }
    }
}

#[test]
fn the_printed_statement_makes_a_table_that_is_used_on_sqlite() {
    for table in ["locks", "other_1"] {
        let sandbox = Sandbox::new();
        let url = sandbox.url();
        let ended = sandbox.run(&url, &["--ddl", "--table", table]).expect(0);
        assert_eq!(ended.stderr, "");
        assert!(ended.stdout.ends_with(";\n") && ended.stdout.contains(table), "{ended:?}");
        assert!(!sandbox.path("locks.db").exists(), "it prints only");
        let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
        file.execute_batch(&ended.stdout).expect("run");
        file.execute_batch(&format!("CREATE VIEW mark AS SELECT name, fence FROM {table}"))
            .expect("run");
        sandbox.run(&url, &["--table", table, "n", "--", "true"]).expect(0);
        let named =
            |sql: &str| -> String { file.query_row(sql, [], |row| row.get(0)).expect("one row") };
        assert_eq!(named("SELECT name FROM mark"), "n");
        let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'";
        assert_eq!(named(tables), table, "no other table was made");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_printed_statement_makes_a_table_that_is_used_on_postgres() {
    let (sandbox, place) = (Sandbox::new(), Place::postgres());
    let mut client = client(place.url());
    let statement = sandbox.run(&url(&place), &["--ddl"]).expect(0).stdout;
    let by_option = sandbox.run(place.url(), &["--ddl", "--table", place.table()]).expect(0);
    assert_eq!(statement, by_option.stdout);
    let oid = |client: &mut postgres::Client| -> Option<u32> {
        let row = client.query_one("SELECT to_regclass($1)::oid", &[&place.table()]);
        row.expect("one row").get(0)
    };
    assert_eq!(oid(&mut client), None, "it prints only");
    client.batch_execute(&statement).expect("run");
    let made = oid(&mut client);
    assert!(made.is_some());
    sandbox.run(&url(&place), &["n", "--", "true"]).expect(0);
    assert_eq!(names(rows_at(&place)), ["n"]);
    assert_eq!(oid(&mut client), made);
}

fn any_name_works(sandbox: &Sandbox, url: &str, rows: impl Fn() -> Vec<Row>) {
    let long = "é".repeat(127) + "x";
    let all = [
        "0",
        "007",
        "7",
        "7.0",
        "1e3",
        "9223372036854775808",
        "true",
        "null",
        "n",
        "a b",
        " ",
        " a",
        "a ",
        "'",
        "''",
        "\"",
        "\\",
        "\\n",
        "$1",
        "?1",
        "%",
        "_",
        "{table}",
        "[1]",
        "a;--",
        "a/b",
        "🔒",
        "👩‍👩‍👧",
        "é",
        "e\u{301}",
        "\u{200b}",
        &long,
    ];
    for name in all {
        let script =
            r#"printf '<%s>' "$WITHLOCK_NAME"; "$W" --db "$1" --try "$WITHLOCK_NAME" -- true"#;
        let ended = sandbox.run(url, &["-v", name, "--", "sh", "-c", script, "sh", url]).expect(75);
        assert_eq!(ended.stdout, format!("<{name}>"));
        assert!(ended.stderr.contains(&format!("holding {name:?}, fence ")), "{ended:?}");
    }
    let found = names(rows());
    let mut expected = all.map(str::to_string);
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn any_name_works_on_sqlite() {
    let sandbox = Sandbox::new();
    any_name_works(&sandbox, &sandbox.url(), || rows(&sandbox.path("locks.db")));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn any_name_works_on_postgres() {
    let place = Place::postgres();
    any_name_works(&Sandbox::new(), &url(&place), || rows_at(&place));
}

fn who_holds_it(url: &str, rows: impl Fn() -> Vec<Row>) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for (options, label) in [
        (&["--label", "it's \"nightly\" 🔒"][..], "it's \"nightly\" 🔒"),
        // The program, and not its arguments: they may be secret.
        (&[], "sh"),
    ] {
        let sandbox = Sandbox::new();
        let args = [options, &["n"]].concat();
        let holder = sandbox.hold(url, &args, "until [ -e go ]; do sleep 0.01; done; : secret");
        let text = format!("{host} pid {} ({label})", holder.pid());
        let (name, _, found) = rows().pop().expect("a row");
        assert_eq!((name.as_str(), found.as_str()), ("n", text.as_str()));
        // Those who wait are told.
        let ended = sandbox.run(url, &["-v", "--wait", "300ms", "n", "--", "true"]).expect(124);
        let told = format!("withlock: waiting for \"n\", held by {text} for ");
        assert!(ended.stderr.contains(&told), "{ended:?}");
        File::create(sandbox.path("go")).expect("made");
        holder.end().expect(0);
    }
}

#[test]
fn the_table_says_who_holds_a_lock_on_sqlite() {
    let place = Place::sqlite();
    let file = place.url().strip_prefix("sqlite:").expect("a file").to_string();
    who_holds_it(&url(&place), || rows(Path::new(&file)));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_table_says_who_holds_a_lock_on_postgres() {
    let place = Place::postgres();
    who_holds_it(&url(&place), || rows_at(&place));
}

#[test]
fn a_label_may_come_with_the_url() {
    let sandbox = Sandbox::new();
    let url = format!("{}?label=by-url", sandbox.url());
    for (args, label) in [(vec!["n"], "(by-url)"), (vec!["n", "--label", "by-flag"], "(by-flag)")] {
        sandbox.run(&url, &[&args[..], &["--", "true"]].concat()).expect(0);
        let holder: String = rusqlite::Connection::open(sandbox.path("locks.db"))
            .expect("opened")
            .query_row("SELECT holder FROM locks", [], |row| row.get(0))
            .expect("a row");
        assert!(holder.ends_with(label), "{holder}");
    }
}

#[test]
fn a_program_with_a_line_break_in_its_name_is_told_in_one_line() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(&sandbox.url(), &["n", "--", "./no\nsuch"]).expect(127);
    assert_eq!(ended.stderr, "withlock: ./no?such: not found\n");
}
