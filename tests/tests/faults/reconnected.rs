//! What a new connection says before its first request: each time that it is made.

use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::{Proxy, eventually, server_of};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_millis(4321);

macro_rules! reconnected {
    ($($name:ident: $place:ident, $needs:literal;)*) => {
        mod blocking {
            $(#[test]
            #[ignore = $needs]
            fn $name() { super::each_connection_is_set_up(super::Driver::Blocking, super::Place::$place()) })*
        }
        mod asynchronous {
            $(#[test]
            #[ignore = $needs]
            fn $name() { super::each_connection_is_set_up(super::Driver::Tokio, super::Place::$place()) })*
        }
    };
}

reconnected! {
    each_connection_to_postgres_is_set_up: postgres, "needs a PostgreSQL server: tests/run starts one";
    each_connection_to_postgres_advisory_is_set_up: postgres_advisory, "needs a PostgreSQL server: tests/run starts one";
    each_connection_to_mysql_is_set_up: mysql, "needs a MySQL server: tests/run starts one";
    each_connection_to_mysql_advisory_is_set_up: mysql_advisory, "needs a MySQL server: tests/run starts one";
    each_connection_to_mysql_sql_lock_is_set_up: mysql_sql_lock, "needs a MySQL server: tests/run starts one";
    each_connection_to_mariadb_is_set_up: mariadb, "needs a MariaDB server: tests/run starts one";
    each_connection_to_mariadb_advisory_is_set_up: mariadb_advisory, "needs a MariaDB server: tests/run starts one";
    each_connection_to_mariadb_sql_lock_is_set_up: mariadb_sql_lock, "needs a MariaDB server: tests/run starts one";
}

/// Settings and checks of a connection, as they are sent.
fn marks(place: &Place) -> &'static [&'static str] {
    match (place.url().starts_with("postgres"), place.keeps()) {
        (true, Keeps::Rows) => {
            &["statement_timeout=4321 ", "lock_timeout=", "pg_is_in_recovery()", "withlock.own=on"]
        }
        (true, _) => &["statement_timeout=4321 ", "idle_session_timeout", "pg_is_in_recovery()"],
        (false, Keeps::Rows) => &["innodb_lock_wait_timeout = 1", "autocommit = 1", "read_only"],
        (false, _) => &["wait_timeout =", "autocommit = 1", "@withlock_session"],
    }
}

fn each_connection_is_set_up(driver: Driver, direct: Place) {
    // A login without TLS is possible after one with TLS.
    direct.locks(TTL).lock("a").expect("taken").release().expect("released");
    let proxy = Proxy::start(&server_of(direct.url()));
    let sent = Arc::new(Mutex::new(String::new()));
    let log = sent.clone();
    proxy.answer(move |bytes| {
        log.lock().expect("unpoisoned").push_str(&String::from_utf8_lossy(bytes));
        None
    });
    let marks = marks(&direct);
    let url = proxy.url(direct.url()) + "?sslmode=disable";
    let through = Driven::new(driver, direct.through(&url));
    let locks = through.set(TTL, |config| config.request_timeout(REQUEST));
    for time in ["first", "second", "third"] {
        let taken = || {
            let guard = locks.try_lock_for("a", TTL).expect("asked").expect("free");
            guard.release().is_ok()
        };
        // A release over a connection that was cut may be the first to notice.
        assert!(eventually(taken));
        let said = std::mem::take(&mut *sent.lock().expect("unpoisoned"));
        for mark in marks {
            assert!(said.contains(mark), "{time} connection: no {mark} in {said}");
        }
        proxy.cut(false);
    }
}
