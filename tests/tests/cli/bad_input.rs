//! Bad input: one line on standard error that says what to do, exit code 125, and nothing else.

use lock_tests::place::{Place, client, postgres_url};
use lock_tests::proxy::server_of;
use lock_tests::withlock::{Ended, Sandbox, binary, copy_binary, url};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Runs withlock and expects it to refuse, without having run the command.
#[track_caller]
fn refused(sandbox: &Sandbox, command: &mut Command, says: &str) -> Ended {
    let ended = sandbox.start(command.env("RUST_BACKTRACE", "1")).end();
    assert_eq!(ended.code, 125, "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.starts_with("withlock: "), "{ended:?}");
    assert!(ended.stderr.contains(says), "{says:?} is not said: {ended:?}");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    assert!(!sandbox.path("ran").exists(), "it ran: {ended:?}");
    ended
}

/// The arguments, then a command that leaves a trace.
fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--", "touch", "ran"]].concat()
}

#[test]
fn names_that_are_none() {
    let sandbox = Sandbox::new();
    let [long, longer] = [255, 10_000].map(|bytes| "x".repeat(bytes));
    for (name, says) in [
        ("", "empty"),
        (&longer, "10000 bytes"),
        ("a\nb", "control character"),
        ("a\u{7f}", "control"),
    ] {
        for args in [&[name][..], &["a", "--and", name]] {
            refused(&sandbox, &mut sandbox.withlock(&sandbox.url(), &with(args)), says);
        }
    }
    assert!(!sandbox.path("locks.db").exists(), "nothing is made for them");
    for name in ["🔒", "it's \"quoted\"; --", "%00", "\\", "123", "1e3", " ", &long] {
        sandbox.run(&sandbox.url(), &[name, "--", "true"]).expect(0);
    }
}

/// A path may have any bytes in it, and orders for the terminal.
#[test]
fn a_file_that_does_not_exist_is_named_on_one_line() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("no\nurl"), "nothing").expect("written");
    for (path, says) in [
        (&b"no\n\x1b[31m\xff"[..], "names no??[31m\u{fffd}, which does not exist"),
        (b"no\nurl", "no?url: "),
    ] {
        let mut command = sandbox.withlock("", &with(&["n"]));
        refused(&sandbox, command.env("WITHLOCK_URL_FILE", OsStr::from_bytes(path)), says);
    }
}

#[test]
fn times_in_an_error_are_short() {
    let sandbox = Sandbox::new();
    let url = format!("{}?ttl=1s&request_timeout=20s", sandbox.url());
    let says = "a lease counts as held for 832ms only";
    refused(&sandbox, &mut sandbox.withlock(&url, &with(&["n"])), says);
}

#[test]
fn ttls_that_cannot_be() {
    let sandbox = Sandbox::new();
    let cases = [
        ("0", "between 1s and 24h"),
        ("0s", "between 1s and 24h"),
        ("999ms", "between 1s and 24h"),
        ("24h 1s", "between 1s and 24h"),
        ("0.9", "between 1s and 24h"),
        ("1000d", "between 1s and 24h"),
        ("1000y", "30s"),
        ("5M", "30s"),
        ("-5s", "30s"),
        ("abc", "30s"),
        ("", "30s"),
        ("99999999999999999999s", "30s"),
    ];
    for (ttl, says) in cases {
        let flag = format!("--ttl={ttl}");
        refused(&sandbox, &mut sandbox.withlock(&sandbox.url(), &with(&["a", &flag])), says);
        let url = format!("{}?ttl={ttl}", sandbox.url());
        refused(&sandbox, &mut sandbox.withlock(&url, &with(&["a"])), says);
        if !ttl.is_empty() {
            refused(
                &sandbox,
                &mut sandbox.withlock(&sandbox.url(), &with(&["a", "--ttl", ttl])),
                says,
            );
        }
    }
    assert!(!sandbox.path("locks.db").exists());
    // One rule for the command line and for URLs.
    for ttl in ["4", "4s", "4.5", "4500ms", "1h30m"] {
        let url = format!("{}?ttl={ttl}&request_timeout=.5", sandbox.url());
        sandbox.run(&url, &["a", "--", "true"]).expect(0);
        sandbox.run(&sandbox.url(), &["a", "--ttl", ttl, "--", "true"]).expect(0);
    }
}

#[test]
fn command_lines_that_make_no_sense() {
    let sandbox = Sandbox::new();
    let cases: [(&[&str], &str); 8] = [
        (&["a", "--nope", "--", "touch", "ran"], "--nope"),
        (&["a", "--timeout", "5", "--", "touch", "ran"], "--timeout"),
        (&["a"], "COMMAND"),
        (&["a", "--"], "COMMAND"),
        (&["a", "touch", "ran", "--"], "put -- before"),
        (&[], "NAME"),
        (&["a", "--try", "--wait", "1s", "--", "touch", "ran"], "--wait"),
        (&["a", "-E", "256", "--", "touch", "ran"], "256"),
    ];
    for (args, says) in cases {
        let ended = refused(&sandbox, &mut sandbox.withlock(&sandbox.url(), args), says);
        assert!(ended.stderr.contains("--help"), "it says where to look: {ended:?}");
    }
}

#[test]
fn urls_that_lead_nowhere() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("folder");
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(
        sandbox.path("text"),
        "some text that is long enough to be taken for a database's head",
    )
    .expect("written");
    let at = |name: &str| format!("sqlite:{}", sandbox.path(name).display());
    let cases = [
        ("nonsense".to_string(), "must begin with"),
        ("mongodb://app:hunter2@h/d".into(), "must begin with"),
        ("mysql://app:hunter2@127.0.0.1:port/d".into(), "URL"),
        ("mysql://app:hunter2@127.0.0.1".into(), "names no database"),
        ("mysql://app:hunter2@127.0.0.1:1/d".into(), "refused"),
        ("mariadb://app:hunter2@no-such-host.invalid/d?sslmode=disable".into(), "server"),
        ("sqlite:".into(), "names no file"),
        ("sqlite::memory:".into(), "in memory"),
        ("sqlite:%zz".into(), "%25"),
        (format!("{}?nope=1", sandbox.url()), "nope"),
        (format!("{}?table=a\"b", sandbox.url()), "table name"),
        (format!("{}?table=a%00", sandbox.url()), "table name"),
        ("postgres://app:hunter2@127.0.0.1/d?nope=1".into(), "nope"),
        ("postgres://app:hunter2@127.0.0.1/d?sslmode=bogus".into(), "verify-full"),
        ("postgres://app:hunter2@127.0.0.1:port/d".into(), "URL"),
        ("postgres://app:hunt?hunter2@127.0.0.1/d".into(), "%3F"),
        ("postgres://app:hunt?hunter2=1@127.0.0.1/d".into(), "%3F"),
        ("postgres://app:@hunter2@127.0.0.1/d".into(), "%40"),
        ("postgres://app:/hunter2@127.0.0.1/d".into(), "%2F"),
        ("postgres://app:#hunter2@127.0.0.1/d".into(), "%23"),
        ("postgres://app: hunter2@127.0.0.1/d".into(), "%20"),
        ("mysql://app:hunt?hunter2=1@127.0.0.1/d".into(), "%3F"),
        ("mysql://app:@hunter2@127.0.0.1/d".into(), "%40"),
        ("mysql://app:/hunter2@127.0.0.1/d".into(), "%2F"),
        ("mariadb://app:#hunter2@127.0.0.1/d".into(), "%23"),
        ("mysql://app: hunter2@127.0.0.1/d".into(), "%20"),
        ("mysql://app:%hunter2@127.0.0.1/d".into(), "%25"),
        ("postgres://app:hunter2@127.0.0.1:1/d".into(), "refused"),
        ("postgres://app:hunter2@no-such-host.invalid/d?sslmode=disable".into(), "server"),
        (at("none/locks.db"), "folder does not exist"),
        (at("text/locks.db"), "folder does not exist"),
        (at("folder"), "it is a folder"),
        (at("text"), "no SQLite database"),
        ("sqlite:/proc/locks.db".into(), "/proc/locks.db"),
    ];
    for (url, says) in &cases {
        refused(&sandbox, &mut sandbox.withlock(url, &with(&["-n", "a"])), says);
        refused(&sandbox, sandbox.command(binary()).args(with(&["-n", "a", "--db", url])), says);
    }
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0);
}

/// Root may write anything, so this is tried as somebody else.
#[test]
fn a_file_that_may_only_be_read() {
    let sandbox = Sandbox::new();
    sandbox.run(&sandbox.url(), &["a", "--", "true"]).expect(0);
    let before = std::fs::read(sandbox.path("locks.db")).expect("there");
    let mode = |path: &str, mode| {
        std::fs::set_permissions(sandbox.path(path), std::fs::Permissions::from_mode(mode))
            .expect("set");
    };
    mode("locks.db", 0o444);
    mode("", 0o555);
    let copy = sandbox
        .path("")
        .parent()
        .expect("a folder")
        .join(format!("withlock-{}", std::process::id()));
    copy_binary(&copy);
    let as_somebody = |url: &str| {
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = sandbox.command("setpriv");
            command.args(["--reuid", "65534", "--clear-groups", "--"]).arg(&copy);
            command
        } else {
            sandbox.command(&copy)
        };
        command.env("WITHLOCK_URL", url).args(with(&["a"]));
        command
    };
    refused(&sandbox, &mut as_somebody(&sandbox.url()), "may not be written");
    let new = format!("sqlite:{}", sandbox.path("new.db").display());
    refused(&sandbox, &mut as_somebody(&new), "may not be written to");
    mode("", 0o755);
    std::fs::remove_file(copy).expect("removed");
    assert_eq!(std::fs::read(sandbox.path("locks.db")).expect("there"), before);
}

#[test]
fn tables_of_another_shape() {
    let sandbox = Sandbox::new();
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.execute_batch("CREATE TABLE locks (id INTEGER); CREATE VIEW seen AS SELECT 1 AS name")
        .expect("made");
    refused(&sandbox, &mut sandbox.withlock(&sandbox.url(), &with(&["a"])), "not a lock table");
    refused(
        &sandbox,
        &mut sandbox.withlock(&sandbox.url(), &with(&["a", "--table", "seen"])),
        "not a lock table",
    );
    refused(
        &sandbox,
        &mut sandbox.withlock(&sandbox.url(), &with(&["a", "--table", "a\"b"])),
        "table name",
    );
    refused(
        &sandbox,
        &mut sandbox.withlock(&sandbox.url(), &with(&["a", "--table", &"x".repeat(64)])),
        "table name",
    );
    sandbox.run(&sandbox.url(), &["a", "--table", "other", "--", "true"]).expect(0);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn servers_that_will_not_have_us() {
    let sandbox = Sandbox::new();
    let server = server_of(&postgres_url());
    let cases = [
        (format!("postgres://app:hunter2@{server}/test"), "password authentication failed"),
        (format!("postgres://app:hunter2@{server}/none"), "password authentication failed"),
        (format!("postgres://postgres@{server}/none"), "does not exist"),
        (format!("postgres://nobody-here@{server}/test"), "does not exist"),
        (format!("postgres://app:secret@{server}/test?sslmode=verify-full"), "sslrootcert=FILE"),
        (
            format!(
                "postgres://app:secret@{server}/test?sslmode=verify-full&sslrootcert=/none.pem"
            ),
            "/none.pem",
        ),
        (format!("postgres://app:secret@{server}/test?options=-c%20nope%3D1"), "nope"),
    ];
    for (url, says) in &cases {
        let ended = refused(&sandbox, &mut sandbox.withlock(url, &with(&["a"])), says);
        assert!(!ended.stderr.contains("secret"), "{ended:?}");
    }
    let authority = std::env::var("LOCK_TEST_POSTGRES_CA")
        .expect("LOCK_TEST_POSTGRES_CA: tests/run makes an authority and sets it");
    let good = format!(
        "postgres://app:secret@{server}/test?sslmode=verify-full&sslrootcert={authority}&table=tls_cli"
    );
    sandbox.run(&good, &["a", "--", "true"]).expect(0);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn servers_of_mysql_that_will_not_have_us() {
    let (sandbox, place) = (Sandbox::new(), Place::mysql());
    let server = server_of(place.url());
    let cases = [
        (format!("mysql://app:hunter2@{server}/test"), "Access denied"),
        (format!("mysql://app:secret@{server}/none"), "Access denied"),
        (format!("mysql://root:hunter2@{server}/none"), "Unknown database"),
        (format!("mysql://root:hunter2@{server}"), "names no database"),
        (format!("mysql://app:secret@{server}/test?sslmode=verify-full"), "sslrootcert=FILE"),
        (format!("mysql://app:secret@{server}/test?sslrootcert=/none.pem"), "/none.pem"),
        (format!("mysql://app:secret@{server}/test?pool_min=1"), "pool_min"),
    ];
    for (url, says) in &cases {
        let ended = refused(&sandbox, &mut sandbox.withlock(url, &with(&["a"])), says);
        assert!(!ended.stderr.contains("secret"), "{ended:?}");
    }
    let ddl = sandbox.run(&url(&place), &["--ddl"]).expect(0);
    assert!(ddl.stdout.contains("CREATE TABLE IF NOT EXISTS `locks_"), "{ddl:?}");
    place.tamper("CREATE TABLE {table} (id int)");
    refused(&sandbox, &mut sandbox.withlock(&url(&place), &with(&["a"])), "not a lock table");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn names_and_tables_on_a_server() {
    let sandbox = Sandbox::new();
    let place = Place::postgres();
    for name in ["", "a\nb", &"x".repeat(10_000)] {
        refused(&sandbox, &mut sandbox.withlock(&url(&place), &with(&[name])), "lock name");
    }
    let made: bool = client(place.url())
        .query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&place.table()])
        .expect("asked")
        .get(0);
    assert!(!made, "nothing is made for them");
    for name in ["🔒", "it's \"quoted\"; --", "%00", "\\", "$1", " "] {
        sandbox.run(&url(&place), &[name, "--", "true"]).expect(0);
    }
    let rows: i64 = client(place.url())
        .query_one(&format!("SELECT count(*) FROM \"{}\"", place.table()), &[])
        .expect("asked")
        .get(0);
    assert_eq!(rows, 6);
    let other = Place::postgres();
    other.tamper("CREATE TABLE {table} (id int)");
    refused(&sandbox, &mut sandbox.withlock(&url(&other), &with(&["a"])), "not a lock table");
    refused(
        &sandbox,
        &mut sandbox.withlock(place.url(), &with(&["a", "--table", "a\"b"])),
        "table name",
    );
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_password_is_shown_to_nobody() {
    let sandbox = Sandbox::new();
    let place = Place::postgres();
    let url =
        format!("postgres://app:secret@{}/test?table={}", server_of(place.url()), place.table());
    let script = "env >env; tr '\\0' '\\n' </proc/$PPID/cmdline >line; tr '\\0' '\\n' </proc/$$/cmdline >>line";
    let ended = sandbox.run(&url, &["-v", "a", "--", "sh", "-c", script]).expect(0);
    let holder: String = client(&format!("postgres://postgres@{}/test", server_of(place.url())))
        .query_one(&format!("SELECT holder FROM \"{}\"", place.table()), &[])
        .expect("asked")
        .get(0);
    assert!(sandbox.read("env").contains("WITHLOCK_FENCE="));
    for shown in [sandbox.read("env"), sandbox.read("line"), ended.stderr, ended.stdout, holder] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}
