//! What the command gets and gives.

use super::*;

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

/// The command's environment is withlock's, with the lock and without withlock's URL. What the
/// application is told about its database is the application's.
fn environment(sandbox: &Sandbox, url: &str, place: &str, fence: impl Fn() -> i64) {
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
        let handed = |variable: &&String| variable.starts_with("WITHLOCK_URL_FILE=/proc/");
        expected.insert(found.iter().find(handed).expect("named").clone());
        expected.insert(format!("WITHLOCK_PLACE={place}"));
        expected.insert(format!("WITHLOCK_FENCE={fence}"));
        expected.insert("WITHLOCK_NAME=a 'b' 🔒".to_string());
        assert_eq!(found, expected);
    }
}

#[test]
fn the_commands_environment_has_the_lock_and_no_url_on_sqlite() {
    let sandbox = Sandbox::new();
    environment(&sandbox, &sandbox.url(), &sandbox.url(), || rows(&sandbox.path("locks.db"))[0].1);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_commands_environment_has_the_lock_and_no_url_on_postgres() {
    let place = Place::postgres();
    let url = url(&place);
    environment(&Sandbox::new(), &url, &url, || rows_at(&place)[0].1);
}
