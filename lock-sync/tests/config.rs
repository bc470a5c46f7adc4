//! URLs and settings that cannot work are refused before anything is connected, in one line.
#![cfg(all(feature = "sqlite", feature = "postgres", feature = "mysql"))]

use lock_sync::{Config, ConfigError, Error, Locks};

fn refused(url: &str) -> ConfigError {
    let error = url.parse::<Config>().expect_err(url);
    let line = error.to_string();
    assert!(!line.contains('\n') && !line.contains("hunter2"), "{line}");
    error
}

#[test]
fn urls_name_a_place_and_nothing_unknown() {
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
    ] {
        assert!(matches!(refused(url), ConfigError::Url(_)), "{url}");
    }
    for url in [
        "sqlite:a?nope=1",
        "sqlite:a?sslmode=require",
        "postgres://u:hunter2@h/d?nope=1",
        "mysql://u:hunter2@h/d?require_ssl=true",
    ] {
        assert!(matches!(refused(url), ConfigError::UnknownParameter { .. }), "{url}");
    }
    for url in [
        "sqlite:a?ttl=",
        "sqlite:a?ttl=30",
        "sqlite:a?ttl=-1s",
        "postgres://h/d?sslmode=bogus",
        "mysql://h/d?sslmode=bogus",
        "mysql://h/d?sslmode=verify-ca",
        "mysql://h/d?sslmode=require&sslrootcert=/ca.pem",
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
        "sqlite:a?ttl=1000years",
        "sqlite:a?ttl=10s&request_timeout=9s",
    ] {
        assert!(matches!(refused(url), ConfigError::Timing(_)), "{url}");
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
    ] {
        assert_eq!(url.parse::<Config>().map(drop), Ok(()), "{url}");
    }
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
        ("sub", "unable to open"),
        ("text", "not a database"),
    ] {
        let error = Locks::connect(&path(name)).expect_err(name);
        let line = error.to_string();
        assert!(line.contains(why) && !line.contains('\n'), "{name}: {line}");
    }
    assert!(!folder.path().join("none").exists(), "nothing is made on the way");
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
    assert!(matches!(error, Error::Unfit(_)), "{error:?}");
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
    let locks = Config::sqlite_connection(connection).connect().expect("connected");
    locks.lock("a").expect("taken").release().expect("released");
}

#[test]
fn blocking_in_an_async_context_is_an_error_not_a_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let result = runtime.block_on(async { Locks::connect("postgres://u@127.0.0.1:1/d") });
    assert!(matches!(result, Err(Error::Config(ConfigError::AsyncContext))), "{result:?}");
}
