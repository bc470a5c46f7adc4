//! Looking at locks from scripts: it creates nothing, and JSON comes if it was asked for.

use lock_tests::withlock::{Ended, Sandbox};

const LOOKS: [&[&str]; 5] =
    [&["--list"], &["--status", "n"], &["--break", "n"], &["--break", "--yes", "n"], &["--purge"]];

fn look(sandbox: &Sandbox, url: &str, args: &[&str], more: &[&str]) -> Ended {
    sandbox.run(url, &[args, more].concat())
}

#[test]
fn the_status_of_a_name_with_permits_is_that_of_those_that_are_held() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    sandbox.run(&url, &["n", "--", "true"]).expect(0);
    let status = |code| sandbox.run(&url, &["--status", "c"]).expect(code).stdout;
    assert!(status(0).starts_with("\"c\" is free"));
    let holders = [0; 2].map(|_| {
        let holder = sandbox.hold(&url, &["--permits", "3", "c"], "sleep 600");
        std::fs::remove_file(sandbox.path("up")).expect("it was there");
        holder
    });
    let shown = status(75);
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.lines().all(|line| line.starts_with("\"c (permit ")), "{shown}");
    drop(holders);
}

#[test]
fn looking_creates_nothing() {
    // Nothing was ever locked by this user.
    let sandbox = Sandbox::new();
    let told = LOOKS.map(|args| {
        let ended = look(&sandbox, "", args, &[]).expect(0);
        ended.stdout + &ended.stderr
    });
    let free = "\"n\" is free, and there is no record of it\n";
    let by_withlock = format!("withlock: {free}");
    let expected =
        ["no lock is held\n", free, &by_withlock, &by_withlock, "withlock: removed 0 rows\n"];
    assert_eq!(told, expected);
    assert!(!sandbox.path("state").exists() && !sandbox.path("home").exists());

    // A file that was named.
    for (args, url) in LOOKS.into_iter().flat_map(|args| {
        [(args, sandbox.url()), (args, format!("sqlite:{}/none/x.db", sandbox.path("").display()))]
    }) {
        let ended = look(&sandbox, &url, args, &[]).expect(125);
        assert!(ended.stderr.contains(".db: it does not exist"), "{ended:?}");
        assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1));
    }
    assert!(!sandbox.path("locks.db").exists() && !sandbox.path("none").exists());

    // A table that was named, in a file that is there.
    for url in [String::new(), sandbox.url()] {
        sandbox.run(&url, &["n", "--", "true"]).expect(0);
        for args in LOOKS {
            let ended = look(&sandbox, &url, args, &["--table", "typo"]).expect(125);
            assert!(ended.stderr.contains("\"typo\" does not exist"), "{ended:?}");
        }
    }
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'";
    let tables: String = file.query_row(tables, [], |row| row.get(0)).expect("asked");
    assert_eq!(tables, "locks");

    // The default table, in a file that is there.
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    sandbox.run(&url, &["--table", "other", "n", "--", "true"]).expect(0);
    for args in LOOKS {
        look(&sandbox, &url, args, &[]).expect(0);
    }
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'";
    let tables: String = file.query_row(tables, [], |row| row.get(0)).expect("asked");
    assert_eq!(tables, "other");
}

#[test]
fn json_comes_only_if_it_was_asked_for() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let _holder = sandbox.hold(&url, &["n"], "exec sleep 600");
    let list = sandbox.run(&url, &["--list"]).expect(0).stdout;
    assert!(list.starts_with("NAME ") && list.lines().count() == 2, "{list}");
    // A lease is renewed every 10 s, and so has at least 20 s left; this hold is younger, or the machine stands still.
    let mut times =
        list.split_whitespace().rev().map(|time| time.trim_end_matches('s').parse::<u32>());
    let (left, held_for) = (times.next(), times.next());
    assert!(matches!((held_for, left), (Some(Ok(held)), Some(Ok(left))) if held < left), "{list}");
    let status = sandbox.run(&url, &["--status", "n"]).expect(75).stdout;
    assert!(status.starts_with("\"n\" is held by "), "{status}");
    let list = sandbox.run(&url, &["--list", "--json"]).expect(0).stdout;
    assert!(list.starts_with("[\n{\"name\":\"n\","), "{list}");
    let status = sandbox.run(&url, &["--status", "--json", "n"]).expect(75).stdout;
    assert!(status.starts_with("{\"name\":\"n\","), "{status}");
    // Of a TTL of 30 s, which begins with each renewal.
    let seconds = |field: &str| {
        let value = status.split(&format!("\"{field}\":")).nth(1).expect("a field");
        value.split([',', '}']).next().and_then(|value| value.parse::<f64>().ok())
    };
    let left = seconds("expires_in_seconds").expect("a number");
    assert!(0.1 < left && left <= 30.0, "{status}");
    assert!(seconds("held_for_seconds") < Some(600.0), "{status}");
}

#[test]
fn a_break_that_is_not_done_ends_with_the_code_that_was_chosen() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let _holder = sandbox.hold(&url, &["n"], "exec sleep 600");
    let refused = sandbox.run(&url, &["--break", "-E", "3", "n"]).expect(3);
    assert!(refused.stderr.contains("--break needs --yes"), "{refused:?}");
    sandbox.run(&url, &["--break", "--yes", "-E", "3", "n"]).expect(0);
}

/// The fence of a row in an SQLite file is the time of its last grant, in µs.
#[test]
fn a_purge_removes_what_was_not_used_for_as_long_as_was_said() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    sandbox.run(&url, &["n", "--", "true"]).expect(0);
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.execute_batch("UPDATE locks SET fence = fence - 2 * 3600 * 1000000").expect("set back");
    for (purge, rows) in [("--purge", "0 rows"), ("--purge=3h", "0 rows"), ("--purge=1h", "1 row")]
    {
        let ended = sandbox.run(&url, &[purge]).expect(0);
        let told = (ended.stdout, ended.stderr);
        assert_eq!(told, (String::new(), format!("withlock: removed {rows}\n")), "{purge}");
    }
}

#[test]
fn verbose_says_which_place_is_looked_at() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    sandbox.run(&url, &["n", "--", "true"]).expect(0);
    for args in LOOKS {
        let ended = look(&sandbox, &format!("{url}?label=x"), args, &["-v"]).expect(0);
        let told = format!("withlock: locks are kept at {url}\n");
        assert!(ended.stderr.starts_with(&told), "{ended:?}");
    }
}
