//! Where locks are kept, and what the table says.

use super::*;

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
        assert!(ended.stderr.contains(&format!("holding {name:?} with fence ")), "{ended:?}");
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
        (&[], "sh -c"),
    ] {
        let sandbox = Sandbox::new();
        let args = [options, &["n"]].concat();
        let holder = sandbox.hold(url, &args, "until [ -e go ]; do sleep 0.01; done; : secret");
        let text = format!("{host} pid {} ({label})", holder.pid());
        let (name, _, found) = rows().pop().expect("a row");
        assert_eq!((name.as_str(), found.as_str()), ("n", text.as_str()));
        // Those who wait are told.
        let ended = sandbox.run(url, &["-v", "--wait", "300ms", "n", "--", "true"]).expect(124);
        let told = format!("withlock: waiting for \"n\" (held by {text} for ");
        assert!(ended.stderr.contains(&told), "{ended:?}");
        // And those who do not, or no longer.
        for (args, code) in
            [(&["--try"][..], 75), (&["--wait", "10ms"], 124), (&["--skip", "-v"], 0)]
        {
            let ended = sandbox.run(url, &[args, &["n", "--", "true"]].concat()).expect(code);
            let told = format!("withlock: someone else holds \"n\": {text}");
            assert!(ended.stderr.lines().any(|line| line.starts_with(&told)), "{ended:?}");
            let waits = ended.stderr.contains("waiting for");
            assert!(!waits, "it does not wait, or not for long: {ended:?}");
        }
        // For how long: after a wait it is still right, though nobody looked meanwhile.
        for args in [&["--try"][..], &["--wait", "2s"]] {
            eventually("it is held for seconds", || {
                let ended = sandbox.run(url, &[args, &["n", "--", "true"]].concat());
                let held = ended.stderr.trim_end().rsplit_once(&format!("{text}, for "));
                let held = held.map(|(_, time)| time.trim_end_matches('s').parse::<u32>());
                held.is_some_and(|seconds| seconds.expect("seconds") >= 2)
            });
        }
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
