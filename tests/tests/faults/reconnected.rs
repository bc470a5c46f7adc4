//! What a new connection says before its first request, each time that it is made; and that it does not count on what the one before it had
//! prepared.

use lock_sync::{Config, TableName};
use lock_tests::drivers::{Driven, Driver, Locks, wait};
use lock_tests::place::{Keeps, Place, with_settings};
use lock_tests::proxy::{Proxy, eventually, server_of};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_postgres::NoTls;

const TTL: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_millis(4321);

macro_rules! reconnected {
    ($($name:ident: $check:ident, $place:ident, $needs:literal;)*) => {
        mod blocking {
            $(#[test]
            #[ignore = $needs]
            fn $name() { super::$check(super::Driver::Blocking, super::Place::$place()) })*
        }
        mod asynchronous {
            $(#[test]
            #[ignore = $needs]
            fn $name() { super::$check(super::Driver::Tokio, super::Place::$place()) })*
        }
    };
}

reconnected! {
    each_connection_to_postgres_is_set_up: each_connection_is_set_up, postgres, "needs a PostgreSQL server: tests/run starts one";
    each_connection_to_postgres_advisory_is_set_up: each_connection_is_set_up, postgres_advisory, "needs a PostgreSQL server: tests/run starts one";
    each_connection_to_mysql_is_set_up: each_connection_is_set_up, mysql, "needs a MySQL server: tests/run starts one";
    each_connection_to_mysql_advisory_is_set_up: each_connection_is_set_up, mysql_advisory, "needs a MySQL server: tests/run starts one";
    each_connection_to_mysql_sql_lock_is_set_up: each_connection_is_set_up, mysql_sql_lock, "needs a MySQL server: tests/run starts one";
    each_connection_to_mariadb_is_set_up: each_connection_is_set_up, mariadb, "needs a MariaDB server: tests/run starts one";
    each_connection_to_mariadb_advisory_is_set_up: each_connection_is_set_up, mariadb_advisory, "needs a MariaDB server: tests/run starts one";
    each_connection_to_mariadb_sql_lock_is_set_up: each_connection_is_set_up, mariadb_sql_lock, "needs a MariaDB server: tests/run starts one";
    each_client_that_is_made_prepares_anew: each_client_that_is_made_prepares_anew, postgres, "needs a PostgreSQL server: tests/run starts one";
    each_connection_to_postgres_prepares_anew: each_connection_prepares_anew, postgres, "needs a PostgreSQL server: tests/run starts one";
    each_connection_to_postgres_advisory_prepares_anew: each_connection_prepares_anew, postgres_advisory, "needs a PostgreSQL server: tests/run starts one";
    each_connection_to_mysql_prepares_anew: each_connection_prepares_anew, mysql, "needs a MySQL server: tests/run starts one";
    each_connection_to_mysql_advisory_prepares_anew: each_connection_prepares_anew, mysql_advisory, "needs a MySQL server: tests/run starts one";
    each_connection_to_mariadb_prepares_anew: each_connection_prepares_anew, mariadb, "needs a MariaDB server: tests/run starts one";
    each_connection_to_mariadb_advisory_prepares_anew: each_connection_prepares_anew, mariadb_advisory, "needs a MariaDB server: tests/run starts one";
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

/// The prepared statements that a client's bytes speak of, since the last cut.
#[derive(Default)]
struct Spoken {
    prepared: BTreeSet<Vec<u8>>,
    executed: usize,
    /// Executed, though not prepared on a connection of now.
    unknown: usize,
}

impl Spoken {
    fn executes(&mut self, known: bool) {
        self.executed += 1;
        self.unknown += usize::from(!known);
    }

    /// Messages of PostgreSQL: a letter, a length, and texts that end with a zero byte.
    fn postgres(&mut self, mut bytes: &[u8]) {
        while let [kind @ (b'A'..=b'z'), length @ ..] = bytes
            && let Some((length, rest)) = length.split_first_chunk::<4>()
            && let Some((body, rest)) =
                rest.split_at_checked(u32::from_be_bytes(*length) as usize - 4)
        {
            let mut texts = body.split(|byte| *byte == 0).map(<[u8]>::to_vec);
            match (kind, texts.next(), texts.next()) {
                (b'P', Some(name), _) => drop(self.prepared.insert(name)),
                (b'B', _, Some(name)) if !name.is_empty() => {
                    self.executes(self.prepared.contains(&name));
                }
                _ => {}
            }
            bytes = rest;
        }
    }

    /// A command of MySQL: its length, a zero, and its kind.
    fn mysql(&mut self, bytes: &[u8]) {
        match bytes {
            [_, _, _, 0, 0x16, ..] => drop(self.prepared.insert(Vec::new())),
            [_, _, _, 0, 0x17, ..] => self.executes(!self.prepared.is_empty()),
            _ => {}
        }
    }
}

fn each_connection_prepares_anew(driver: Driver, direct: Place) {
    prepares_anew(&direct, |url| Driven::new(driver, direct.through(url)).locks(TTL));
}

fn each_client_that_is_made_prepares_anew(driver: Driver, direct: Place) {
    prepares_anew(&direct, |url| made(driver, url, &direct));
}

/// Locks over clients that a function makes.
fn made(driver: Driver, url: &str, place: &Place) -> Locks {
    let table = TableName::new(place.table()).expect("good");
    let config = Config::new().table(table).ttl(TTL);
    let url = with_settings(url.split('?').next().unwrap_or(url));
    match driver {
        Driver::Tokio => {
            let make = move || {
                let url = url.clone();
                async move {
                    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                    tokio::spawn(connection);
                    Ok::<_, tokio_postgres::Error>(Box::new(client))
                }
            };
            Locks::Tokio(wait(lock_async::Locks::from_postgres(make, config)).expect("connected"))
        }
        _ => {
            let make = move || postgres::Client::connect(&url, NoTls).map(Box::new);
            Locks::Blocking(lock_sync::Locks::from_postgres(make, config).expect("connected"))
        }
    }
}

fn prepares_anew(direct: &Place, connect: impl FnOnce(&str) -> Locks) {
    direct.locks(TTL).lock("a").expect("taken").release().expect("released");
    let proxy = Proxy::start(&server_of(direct.url()));
    let spoken = Arc::new(Mutex::new(Spoken::default()));
    let (heard, is_postgres) = (spoken.clone(), direct.url().starts_with("postgres"));
    proxy.answer(move |bytes| {
        let mut spoken = heard.lock().expect("unpoisoned");
        if is_postgres {
            spoken.postgres(bytes)
        } else {
            spoken.mysql(bytes)
        }
        None
    });
    let locks = connect(&(proxy.url(direct.url()) + "?sslmode=disable"));
    for time in ["first", "second", "third"] {
        for _ in 0..4 {
            let taken = || locks.try_lock_for("a", TTL).ok().flatten();
            // What was cut may be noticed by the next request only.
            assert!(eventually(|| taken().is_some_and(|guard| guard.release().is_ok())));
        }
        let Spoken { executed, unknown, .. } =
            std::mem::take(&mut *spoken.lock().expect("unpoisoned"));
        assert!(executed > 0, "{time} connection: nothing was prepared");
        assert_eq!(unknown, 0, "{time} connection");
        proxy.cut(false);
    }
}
