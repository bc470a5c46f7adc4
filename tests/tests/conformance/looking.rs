//! Looking creates nothing: a default table that is missing means that nothing was ever locked,
//! one that was named is an error.

use lock_core::sql::Refusal;
use lock_sync::{Admin, Config, ConfigError, Error, Fence, Locks, TableName};
use lock_tests::drivers::{Admin as EitherAdmin, Driver, wait};
use lock_tests::place::{Place, client, mysql_client};
use mysql::prelude::Queryable;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// The table's name as the error of both drivers tells it.
#[track_caller]
fn missing(config: Config) -> String {
    let tokio = wait(lock_async::Admin::open(config.clone())).map(drop);
    let told = Admin::open(config).map(drop);
    assert_eq!(tokio, told);
    match told {
        Err(Error::UnsafeServer(Refusal::NothingThere(table))) => table,
        other => panic!("{other:?}"),
    }
}

/// At a URL where there is no table yet.
fn default_table(url: &str) {
    let config = || url.parse::<Config>().expect("a good URL");
    let mut admin = Admin::connect(url).expect("connected");
    for _ in 0..2 {
        assert_eq!(admin.list().expect("listed"), []);
        assert_eq!(admin.status("n").expect("asked"), None);
        assert_eq!(admin.break_hold("n", Fence::new(1)).expect("asked"), None);
        assert_eq!(admin.purge(DAY).expect("purged"), 0);
    }
    let named = || config().table(TableName::new("locks").expect("good"));
    assert!(missing(named()).contains("locks"), "it was not created");
    // The same admin sees it as soon as it is there.
    let guard = Locks::open(config()).expect("connected").lock("n").expect("got");
    let names: Vec<_> = admin.list().expect("listed").into_iter().map(|lock| lock.name).collect();
    assert_eq!(names, ["n"]);
    assert!(admin.break_hold("n", guard.fence()).expect("asked").is_some());
    Admin::open(named()).expect("now it is there");
}

fn named_table(place: &Place) {
    let config = || place.config(Duration::from_secs(9));
    for _ in 0..2 {
        assert!(missing(config()).contains(place.table()), "it is not created");
    }
    let elsewhere = TableName::new("no_such_schema.locks").expect("good");
    assert!(missing(config().table(elsewhere)).contains("no_such_schema"));
    drop(Locks::open(config()).expect("connected"));
    Admin::open(config()).expect("now it is there");
}

#[test]
fn a_missing_table_is_not_created_on_sqlite() {
    let place = Place::sqlite();
    let path = place.url().strip_prefix("sqlite:").expect("a file");
    let config = || place.url().parse::<Config>().expect("a good URL");
    let missing_file = Admin::open(config()).expect_err("there is no file");
    assert!(missing_file.to_string().contains("does not exist"), "{missing_file}");
    assert!(!std::path::Path::new(path).exists());
    place.tamper("CREATE TABLE of_another (id INTEGER)");
    let before = std::fs::read(path).expect("there");
    assert_eq!(missing(config().table(TableName::new("typo").expect("good"))), "\"typo\"");
    assert_eq!(Admin::connect(place.url()).expect("connected").list().expect("listed"), []);
    assert_eq!(std::fs::read(path).expect("there"), before);
    default_table(place.url());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_missing_table_is_not_created_on_postgres() {
    let place = Place::postgres();
    named_table(&Place::postgres());
    let schema = place.table();
    client(place.url()).batch_execute(&format!("CREATE SCHEMA {schema}")).expect("made");
    default_table(&format!("{}?options=-c%20search_path%3D{schema}", place.url()));
    place.tamper("DROP SCHEMA {table} CASCADE");
}

/// Also if it was there when the look began. The next file of that name is looked at.
#[test]
fn a_file_that_was_deleted_is_not_created_by_a_look() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let place = Place::sqlite();
        let path = place.url().strip_prefix("sqlite:").expect("a file");
        drop(Locks::connect(place.url()).expect("connected").lock("n").expect("got"));
        let mut admin = EitherAdmin::connect(driver, place.url(), DAY);
        assert_eq!(admin.list().expect("listed"), []);
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{path}{end}"));
        }
        for _ in 0..3 {
            admin.list().expect_err("there is no file");
            assert!(!std::path::Path::new(path).exists(), "{driver:?}");
        }
        let _held = Locks::connect(place.url()).expect("connected").lock("n").expect("got");
        let names: Vec<_> = admin.list().expect("listed").into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["n"], "{driver:?}");
    }
}

/// A bad file on this machine is not a server's fault.
#[test]
fn a_certificate_that_cannot_be_read_is_told_before_anybody_is_asked() {
    for scheme in ["postgres", "mysql", "mariadb", "consul"] {
        let tls = "sslmode=verify-full&sslrootcert=/nonexistent.pem";
        let config: Config = format!("{scheme}://127.0.0.1:1/d?{tls}").parse().expect("good");
        let tokio = wait(lock_async::Admin::open(config.clone())).map(drop);
        let told = Admin::open(config).map(drop);
        assert!(matches!(told, Err(Error::Config(ConfigError::Tls(_)))), "{scheme}: {told:?}");
        assert_eq!(tokio, told);
    }
}

fn on_mysql(place: &Place) {
    named_table(place);
    let (server, database) = place.url().rsplit_once('/').expect("a database");
    let name = format!("{}_looking", place.table());
    place.tamper(&format!("CREATE DATABASE {name}"));
    default_table(&format!("{server}/{name}"));
    // The catalogue hides a table from an account without rights on it. The table may be there all the same.
    let user = format!("u{}", place.table().trim_start_matches("locks"));
    let mut root = mysql_client(place.url());
    root.query_drop(format!("CREATE USER {user}@'%' IDENTIFIED BY 'secret'")).expect("made");
    root.query_drop(format!("CREATE TABLE {name}.other (id INT)")).expect("made");
    root.query_drop(format!("GRANT SELECT ON {name}.other TO {user}@'%'")).expect("granted");
    let host = server
        .rsplit_once('@')
        .map_or_else(|| server.rsplit_once("//").expect("a scheme").1, |(_, host)| host);
    let hidden = Admin::connect(&format!("mysql://{user}:secret@{host}/{name}"));
    assert!(matches!(hidden, Err(Error::Refused(_))), "{hidden:?}");
    root.query_drop(format!("DROP USER {user}@'%'")).expect("dropped");
    root.query_drop(format!("DROP DATABASE {name}")).expect("dropped");
    assert!(!database.is_empty());
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_missing_table_is_not_created_on_mysql() {
    on_mysql(&Place::mysql());
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_missing_table_is_not_created_on_mariadb() {
    on_mysql(&Place::mariadb());
}
