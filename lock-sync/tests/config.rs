//! URLs and settings that cannot work are refused before anything is connected, in one line.
#![cfg(all(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "consul"))]

use lock_sync::{Admin, ClaimError, Config, ConfigError, Error, Key, Locks};
use std::time::Duration;

fn refused(url: &str) -> ConfigError {
    let error = url.parse::<Config>().expect_err(url);
    let line = error.to_string();
    assert!(!line.contains('\n') && !line.contains("hunter2"), "{line}");
    error
}

#[test]
fn urls_name_a_place_and_nothing_unknown() {
    for scheme in ["postgres", "postgresql", "mysql", "mariadb"] {
        let told = refused(&format!("{scheme}://u:hun#ter2@h/d")).to_string();
        assert!(told.contains("# as %23") && !told.contains("hun"), "{told}");
    }
    for url in ["", "/tmp/a.db", "mysqlx://h/d", "postgre://h/d", "SQLITE:/a", "sqlite"] {
        assert!(matches!(refused(url), ConfigError::Scheme(_)), "{url}");
    }
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "sqlite://",
        "sqlite:a%00b",
        "sqlite:%ff",
        "sqlite:%zz",
        "postgres://",
    ] {
        assert!(matches!(refused(url), ConfigError::Url(_)), "{url}");
    }
    for url in [
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?se?cret=1",
        "postgres://u:hunter2%@h/d",
        "mysql://u:hunter2@h:port/d",
        "mysql://u:hunter2@h",
        "mariadb://u:hunter2@h/",
        "mysql:///d",
        "mysql:d",
        "mysql://u:hunter2@h/d?se?cret=1",
        "consul:",
        "consul://",
        "consul:h",
        "consul://hunter2@h",
        "consul://u:hunter2@h/locks",
        "consul://h:port",
        "consul://h/a%ff",
        "consul://h/a#b",
        "consul://h?hunter%22&x",
    ] {
        assert!(matches!(refused(url), ConfigError::Url(_)), "{url}");
    }
    for url in [
        "mysql://u:hunter2@h/d?ssl-mode=REQUIRED", // that client's spelling
        "sqlite:a?nope=1",
        "sqlite:a?sslmode=require",
        "postgres://u:hunter2@h/d?nope=1",
        "mysql://u:hunter2@h/d?require_ssl=true",
        "mysql://u:hunter2@h/d?token=hunter2",
        "mysql://h/d?keys=int",
        "postgres://h/d?prefix=a",
        "sqlite:a?keys=int",
        "sqlite:a?waiting=1",
        "consul://h?table=a",
        "consul://h?keys=int",
        "consul://h?token=hunter2&nope=1",
    ] {
        assert!(matches!(refused(url), ConfigError::UnknownParameter { .. }), "{url}");
    }
    // What may be the rest of a password is not repeated.
    let long = format!("consul://h?{}=1", "hunter2".repeat(6));
    for url in ["postgres://h/d?password=ab&hunter2", "consul://h?token=ab&hunter2&ttl=9s", &long] {
        let told = refused(url);
        assert!(matches!(told, ConfigError::Url(_)), "{url}: {told}");
        assert!(told.to_string().contains("& as %26") && !told.to_string().contains("hunter2"));
    }
    for url in ["mysql:/\r/\r,3/d", "postgres://h/d\n", "\tsqlite:a", "consul://h?token=a\u{7}"] {
        assert!(refused(url).to_string().contains("a control character"), "{url:?}");
    }
    for url in [
        "sqlite:a?ttl=",
        "sqlite:a?ttl=5M",
        "sqlite:a?ttl=1000years",
        "sqlite:a?ttl=-1s",
        "postgres://h/d?sslmode=bogus",
        "mysql://h/d?sslmode=bogus",
        "mysql://h/d?sslmode=verify-ca",
        "mysql://h/d?sslmode=require&sslrootcert=/ca.pem",
        "sqlite:a?protocol=",
        "sqlite:a?protocol=hunter2",
        "postgres://h/d?protocol=advisory&keys=hunter2",
        "postgres://h/d?protocol=advisory&waiting=-1",
        "consul://h?sslmode=require",
        "consul://h?sslmode=disable&sslrootcert=/ca.pem",
    ] {
        assert!(matches!(refused(url), ConfigError::Parameter { .. }), "{url}");
    }
    for url in [
        "sqlite:a?table=",
        "sqlite:a?table=a\"b",
        "sqlite:a?table=a;b",
        "postgres://h/d?table=a.b.c",
    ] {
        assert!(matches!(refused(url), ConfigError::Table(_)), "{url}");
    }
    for url in [
        "sqlite:a?ttl=0s",
        "sqlite:a?ttl=25h",
        "sqlite:a?ttl=1000d",
        "sqlite:a?ttl=10s&request_timeout=9s",
        "sqlite:a?request_timeout=9s&ttl=10s",
        "consul://h?ttl=25h",
        // A lock counts for as long as the lock-delay, at most: a minute.
        "consul://h?ttl=1h&request_timeout=20s",
    ] {
        assert!(matches!(refused(url), ConfigError::Timing(_)), "{url}");
    }
    for url in ["consul://h/a//b", "consul://h/a..b", "consul://h/%C3%A9", "consul://h/a%3Db"] {
        assert!(matches!(refused(url), ConfigError::Key(_)), "{url}");
    }
    for url in
        ["mysql://h/d?protocol=advisory&prefix=A", "mysql://h/d?protocol=advisory&prefix=a%20b"]
    {
        assert!(matches!(refused(url), ConfigError::Prefix(_)), "{url}");
    }
}

#[test]
fn a_protocol_is_had_or_refused_with_those_that_are() {
    for (url, has) in [
        ("sqlite:a?protocol=advisory", "SQLite has no advisory locks (there are: table)"),
        ("sqlite:a?protocol=session", "SQLite has no session locks (there are: table)"),
        (
            "postgres://h/d?protocol=session",
            "PostgreSQL has no session locks (there are: table, advisory, node-distributed-lock)",
        ),
        (
            "mysql://h/d?protocol=session",
            "MySQL or MariaDB has no session locks (there are: table, advisory, sql-lock)",
        ),
        ("consul://h?protocol=table", "Consul has no table locks (there are: session)"),
    ] {
        let error = refused(url);
        assert!(matches!(error, ConfigError::Protocol { .. }), "{url}");
        assert_eq!(error.to_string(), has);
    }
    for url in [
        "postgres://h/d?keys=int",
        "postgres://h/d?waiting=3",
        "postgres://h/d?protocol=advisory&table=a",
        "mysql://h/d?prefix=a",
        "mysql://h/d?protocol=advisory&table=a",
    ] {
        assert!(matches!(refused(url), ConfigError::Setting { .. }), "{url}");
    }
    let no_table =
        Config::from_url("postgres://h/d?protocol=advisory").expect("good").create_table();
    assert!(matches!(no_table, Err(ConfigError::Setting { .. })), "{no_table:?}");
    let tables = ["mysql://h/d?protocol=sql-lock", "postgres://h/d?protocol=node-distributed-lock"];
    for url in tables {
        let made = Config::from_url(url).expect("good").create_table().expect(url);
        assert!(made.starts_with("CREATE TABLE"), "{url}: {made}");
    }
    let sqlite = || Config::sqlite("a.db");
    for config in [sqlite().token("hunter2"), sqlite().keys(Key::Int), sqlite().prefix("p")] {
        let error = Locks::open(config).expect_err("refused");
        assert!(matches!(error, Error::Config(ConfigError::Setting { .. })), "{error:?}");
    }
}

#[test]
fn what_is_fine_is_taken() {
    for url in [
        "sqlite:a.db",
        "sqlite:///var/lib/a%20b.db?ttl=10s&table=ops_locks&label=x%20y&request_timeout=1s",
        "postgresql://u:p%3F@h:5432/d?sslmode=verify-full&sslrootcert=/ca.pem&application_name=a+b",
        "postgres://u@%2Frun%2Fpostgresql/d",
        "postgres:///d?host=/run/postgresql",
        "mysql://u:p%3F@h:3307/d?sslmode=verify-full&sslrootcert=/ca.pem&ttl=10s",
        "mariadb://u@[::1]/d?socket=/run/mysqld/mysqld.sock",
        "mysql://u@h/d?protocol=advisory&prefix=app_1:&waiting=0",
        "postgres://u@h/d?protocol=advisory&keys=pair&waiting=100&ttl=5s&label=x",
        "postgres://u@h/d?protocol=table",
        "sqlite:a?protocol=table",
        "consul://localhost",
        "consul://[::1]:8500/ops/locks/?ttl=30s&token=hunter2&protocol=session",
        "consul://consul.example:8501/a%20b?sslmode=verify-full&sslrootcert=/ca.pem&label=x&request_timeout=2s",
    ] {
        assert_eq!(url.parse::<Config>().map(drop), Ok(()), "{url}");
    }
}

#[test]
fn secrets_are_not_shown() {
    for url in
        ["consul://h/locks?token=hunter2", "postgres://u:hunter2@h/d", "mysql://u:hunter2@h/d"]
    {
        let config: Config = url.parse().expect("good");
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    // Nobody listens there.
    let error = Locks::connect("consul://127.0.0.1:1/locks?token=hunter2").expect_err("refused");
    assert!(error.is_transient() && !error.to_string().contains("hunter2"), "{error:?}");
    let error = Locks::connect("consul://127.0.0.1:1?token=hunter2%0a").expect_err("refused");
    assert!(!error.to_string().contains("hunter2"), "{error:?}");
}

#[test]
fn a_mode_that_there_is_not_is_refused_without_asking() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}/a.db", folder.path().display());
    let locks = Locks::connect(&url).expect("connected");
    let refused = Error::Claim(ClaimError::NoShared);
    assert_eq!(locks.lock_shared("a").map(drop), Err(refused.clone()));
    assert_eq!(locks.try_lock_shared("a").map(drop), Err(refused.clone()));
    let limit = std::time::Duration::from_secs(1);
    assert_eq!(locks.try_lock_shared_for("a", limit).map(drop), Err(refused));
    assert!(locks.try_lock("a").expect("asked").is_some());
}

#[test]
fn files_that_cannot_be_used_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| format!("sqlite:{}/{name}", folder.path().display());
    let text = "this is no database, but some text that is long enough to be one";
    std::fs::write(folder.path().join("text"), text).expect("written");
    std::fs::create_dir(folder.path().join("sub")).expect("made");
    for (name, why) in [
        ("none/a.db", "folder"),
        ("text/a.db", "folder"),
        ("sub", "it is a folder"),
        ("text", "no SQLite database"),
    ] {
        let error = Locks::connect(&path(name)).expect_err(name);
        let line = error.to_string();
        assert!(line.contains(why) && !line.contains('\n'), "{name}: {line}");
    }
    assert!(!folder.path().join("none").exists(), "nothing is made on the way");
}

/// SQLite would read another file than the one of this name, or a database in memory that excludes nobody.
#[test]
fn a_name_that_sqlite_reads_otherwise_is_no_files() {
    for (name, why) in [
        (":memory:", "in memory"),
        ("file:x.db?mode=ro", "URIs"),
        ("", "names no file"),
        ("folder/", "name of a folder"),
    ] {
        for refused in [
            Locks::open(Config::sqlite(name)).map(drop),
            Admin::open(Config::sqlite(name)).map(drop),
        ] {
            let error = refused.expect_err(name);
            assert!(matches!(error, Error::Config(_)), "{name:?}: {error:?}");
            assert!(error.to_string().contains(why), "{name:?}: {error}");
        }
    }
}

#[test]
fn tables_of_another_shape_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let connection = rusqlite::Connection::open(&path).expect("opened");
    connection
        .execute_batch("CREATE TABLE locks (id INTEGER PRIMARY KEY, name TEXT)")
        .expect("made");
    let url = format!("sqlite:{}", path.display());
    let error = Locks::connect(&url).expect_err("refused");
    assert!(matches!(error, Error::UnsafeServer(_)), "{error:?}");
    assert!(error.to_string().contains("not a lock table"), "{error}");
    let other = Locks::connect(&format!("{url}?table=other")).expect("another table");
    drop(other.lock("a").expect("taken"));
    let columns: i64 = connection
        .query_row("SELECT count(*) FROM pragma_table_info('locks')", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(columns, 2);
}

#[test]
fn a_connection_of_the_callers_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let connection = rusqlite::Connection::open(folder.path().join("a.db")).expect("opened");
    let locks = Locks::with_sqlite(connection, Config::new()).expect("connected");
    locks.lock("a").expect("taken").release().expect("released");
}

/// Whoever writes to the file is done soon.
#[test]
fn a_connection_of_the_callers_waits_for_another_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let connection = || rusqlite::Connection::open(folder.path().join("a.db")).expect("opened");
    let (ours, writer) = (connection(), connection());
    writer.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    let connects = std::thread::spawn(|| Locks::with_sqlite(ours, Config::new()).map(drop));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!connects.is_finished());
    writer.execute_batch("COMMIT").expect("done");
    assert_eq!(connects.join().expect("no panic"), Ok(()));
}

/// A program's own settings replace those of the URL.
#[test]
fn the_setting_that_came_last_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = |parameters: &str| {
        let url = format!("sqlite:{}/a.db?{parameters}", folder.path().display());
        url.parse::<Config>().expect("a good URL")
    };
    let second = Duration::from_secs(1);
    let good = url("ttl=60s&request_timeout=9s").request_timeout(second).ttl(second * 10);
    assert_eq!(Locks::open(good).map(drop), Ok(()));
    for wrong in [
        url("ttl=10s&request_timeout=1s").request_timeout(second * 9),
        url("ttl=60s&request_timeout=9s").ttl(second * 10),
        url("ttl=10s").request_timeout(second).request_timeout(second * 9),
    ] {
        let error = Locks::open(wrong).expect_err("refused");
        assert!(matches!(error, Error::Config(ConfigError::Timing(_))), "{error:?}");
    }
}

#[test]
fn a_place_is_named_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let connection = || rusqlite::Connection::open(&path).expect("opened");
    let two = Error::Config(ConfigError::TwoPlaces);
    assert_eq!(Locks::with_sqlite(connection(), Config::sqlite(&path)).map(drop), Err(two.clone()));
    assert_eq!(Admin::with_sqlite(connection(), Config::sqlite(&path)).map(drop), Err(two));
    let none = Error::Config(ConfigError::NoPlace);
    assert_eq!(Locks::open(Config::new()).map(drop), Err(none.clone()));
    assert_eq!(Admin::open(Config::new()).map(drop), Err(none));
    assert_eq!(Config::new().create_table(), Err(ConfigError::NoPlace));
    assert_eq!(Config::new().place(), "");
    let stray = Locks::with_sqlite(connection(), Config::new().token("hunter2")).map(drop);
    assert!(matches!(stray, Err(Error::Config(ConfigError::Setting { .. }))), "{stray:?}");
}

/// A library does not read its process's environment unless it is told to.
#[test]
fn a_url_alone_is_completed_by_no_variable() {
    const INSIDE: &str = "LOCK_TEST_VARIABLES";
    let variables = [("PGUSER", "me"), ("MYSQL_TCP_PORT", "7"), ("CONSUL_NAMESPACE", "team")];
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("there is one");
        let ran = std::process::Command::new(own)
            .args(["--exact", "a_url_alone_is_completed_by_no_variable"])
            .envs(variables)
            .env(INSIDE, "1")
            .output()
            .expect("it runs");
        assert!(ran.status.success(), "{ran:?}");
        return;
    }
    for (url, completed) in [
        ("postgres://h/d", "postgres://me@h/d"),
        ("mysql://h/d", "mysql://h:7/d"),
        ("consul://h:8501/locks", "consul://h:8501/locks?ns=team"),
    ] {
        for config in [url.parse(), Config::try_from(url), Config::from_url(url)] {
            assert_eq!(config.map(|config: Config| config.place()).as_deref(), Ok(url));
        }
        let asked = Config::from_url_and_env(url).map(|config| config.place());
        assert_eq!(asked.as_deref(), Ok(completed));
    }
}

/// The test runs itself in a process that has variables of its own.
#[test]
fn a_url_is_completed_by_the_callers_variables_alone() {
    const OTHER: &str = "other.example";
    if std::env::var_os("PGHOST").is_none_or(|host| host != OTHER) {
        let itself = std::env::current_exe().expect("known");
        let again = std::process::Command::new(itself)
            .args(["--exact", "a_url_is_completed_by_the_callers_variables_alone"])
            .envs([("PGHOST", OTHER), ("PGUSER", "other"), ("PGPORT", "7")])
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&again.stdout);
        return assert!(again.status.success() && told.contains("1 passed"), "{told}");
    }
    let variable = |name: &str| (name == "PGHOST").then(|| "db.example".into());
    let config = Config::from_url_with("postgres://me@/jobs", variable).expect("good");
    assert_eq!(config.place(), "postgres://me@db.example/jobs");
}
