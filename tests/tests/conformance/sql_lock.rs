//! The row locks of the npm package `sql-lock`: what ours do there beside the package's own statements. `tests/fleets` runs the
//! package itself beside ours.

use lock_sync::{Config, ConfigError, Error, NotPinnable, Protocol, Refusal};
use lock_tests::drivers::{Driver, Guard, Locks, connect, wait};
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::eventually;
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(6);
const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

on_mysql_and_mariadb! {
    the_package_and_ours_exclude_each_other
    a_waiter_gets_the_lock_from_a_peer_that_deletes_the_row
    a_released_connection_is_used_again_and_has_nothing
    names_that_the_column_calls_equal_are_one_lock
    a_silent_holder_frees_its_row_within_a_ttl
    a_holder_that_is_told_of_nothing_keeps_its_connection_alive
    no_transaction_is_left_after_denials
    another_table_is_refused
    locks_are_neither_pinned_nor_shown_nor_on_a_connection_of_yours
}

fn place(kind: Kind) -> Place {
    Place::sql_lock_at(kind.place().url())
}

fn locks(driver: Driver, place: &Place) -> Locks {
    connect(driver, &format!("{}&ttl=6s", place.whole_url())).expect("connected")
}

/// As the package takes a lock, which it holds until [`frees`].
fn takes(place: &Place, name: &str) -> mysql::Conn {
    let mut peer = mysql_client(place.url());
    peer.query_drop("START TRANSACTION").expect("begun");
    let values = format!("('{name}', '2026-01-01 00:00:00', '2026-01-01 00:00:00')");
    let insert = "INSERT INTO `lockings` (`id`,`createdAt`,`updatedAt`) VALUES";
    peer.query_drop(format!("{insert} {values} ON DUPLICATE KEY UPDATE `id`=VALUES(`id`)"))
        .expect("locked");
    peer
}

/// As the package frees it.
fn frees(peer: &mut mysql::Conn, name: &str) {
    peer.query_drop("COMMIT").expect("ended");
    peer.query_drop(format!("DELETE FROM `lockings` WHERE `id` = '{name}'")).expect("deleted");
}

/// How many connections to the place's database there are, and how many of them are in a transaction.
fn connections(place: &Place) -> (usize, usize) {
    let (all, active) = place.connections();
    (all.len(), active.len())
}

fn the_package_and_ours_exclude_each_other(kind: Kind) {
    for driver in DRIVERS {
        let place = place(kind);
        let ours = locks(driver, &place);
        let mut peer = takes(&place, "a");
        assert!(ours.try_lock("a").expect("asked").is_none());
        assert!(ours.try_lock("b").expect("asked").is_some(), "another row");
        frees(&mut peer, "a");
        let guard = ours.try_lock("a").expect("asked").expect("free");
        let mut client = mysql_client(place.url());
        client.query_drop("SET innodb_lock_wait_timeout = 1").expect("set");
        let update = "INSERT INTO lockings VALUES ('a', NOW(), NOW()) ON DUPLICATE KEY UPDATE id = VALUES(id)";
        assert!(client.query_drop(update).is_err(), "a peer waits");
        guard.release().expect("released");
        client.query_drop(update).expect("no more");
    }
}

fn a_waiter_gets_the_lock_from_a_peer_that_deletes_the_row(kind: Kind) {
    for driver in DRIVERS {
        let place = place(kind);
        let ours = locks(driver, &place);
        let mut fence = None;
        for _ in 0..5 {
            let mut peer = takes(&place, "a");
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| ours.try_lock_for("a", TTL * 5).expect("asked"));
                assert!(
                    eventually(|| connections(&place).1 == 2),
                    "it waits in the server's queue"
                );
                // Its `DELETE` waits until we let go.
                scope.spawn(|| frees(&mut peer, "a"));
                let guard = waits.join().expect("no panic").expect("in time");
                assert!(Some(guard.fence()) > fence, "fences rise over holders");
                fence = Some(guard.fence());
                guard.release().expect("released");
            });
        }
    }
}

fn a_released_connection_is_used_again_and_has_nothing(kind: Kind) {
    for driver in DRIVERS {
        let place = place(kind);
        let ours = locks(driver, &place);
        for _ in 0..10 {
            let [a, b] = ["a", "b"].map(|name| ours.lock(name).expect("taken"));
            assert!(eventually(|| connections(&place) == (2, 2)), "one for each lock");
            a.release().expect("released");
            assert!(
                eventually(|| connections(&place).1 == 1),
                "the other's is another transaction"
            );
            assert!(b.is_held());
            b.release().expect("released");
            assert!(eventually(|| connections(&place) == (1, 0)), "{:?}", connections(&place));
        }
        drop(ours);
        assert!(eventually(|| connections(&place) == (0, 0)));
    }
}

fn names_that_the_column_calls_equal_are_one_lock(kind: Kind) {
    let place = place(kind);
    let database = format!("ALTER DATABASE {} COLLATE utf8mb4_general_ci", place.table());
    mysql_client(place.url()).query_drop(database).expect("set");
    for driver in DRIVERS {
        let ours = locks(driver, &place);
        let guard = ours.lock("Foo").expect("taken");
        assert!(ours.try_lock("foo").expect("asked").is_none(), "in the same process");
        assert!(locks(driver, &place).try_lock("FOO").expect("asked").is_none());
        assert!(ours.try_lock("foe").expect("asked").is_some());
        guard.release().expect("released");
        assert!(ours.try_lock("foo").expect("asked").is_some());
    }
}

/// MariaDB has another limit for connections in a transaction, which the server's administrator may have set.
fn a_silent_holder_frees_its_row_within_a_ttl(kind: Kind) {
    let server = kind.server();
    if kind == Kind::Mariadb {
        let long = "SET GLOBAL idle_transaction_timeout = 3600";
        mysql_client(server.url()).query_drop(long).expect("set");
    }
    let place = Place::sql_lock_at(server.url());
    let (guard, _proxy) = place.abandon("a", TTL);
    let began = Instant::now();
    let next = place.locks(TTL).try_lock_for("a", TTL * 10).expect("asked");
    assert!(next.is_some_and(|next| next.fence() > guard.fence()));
    assert!(!guard.is_held(), "its deadline came first");
    assert!(began.elapsed() < TTL * 5, "{:?}", began.elapsed());
}

fn a_holder_that_is_told_of_nothing_keeps_its_connection_alive(kind: Kind) {
    let place = place(kind);
    let guards = DRIVERS.map(|driver| {
        let name = format!("{driver:?}");
        (locks(driver, &place).lock(&name).expect("taken"), name)
    });
    std::thread::sleep(TTL * 2);
    for (guard, name) in guards {
        assert!(guard.is_held());
        assert!(place.locks(TTL).try_lock(&name).expect("asked").is_none());
        guard.release().expect("released");
    }
}

fn no_transaction_is_left_after_denials(kind: Kind) {
    for driver in DRIVERS {
        let place = place(kind);
        let ours = locks(driver, &place);
        drop(ours.lock("a").expect("the table is made"));
        assert!(eventually(|| connections(&place).1 == 0));
        let mut peer = takes(&place, "a");
        for _ in 0..3 {
            assert!(ours.try_lock("a").expect("asked").is_none());
            assert!(ours.try_lock_for("a", Duration::from_millis(1500)).expect("asked").is_none());
        }
        assert!(
            eventually(|| connections(&place).1 == 1),
            "only the peer's: {:?}",
            connections(&place)
        );
        frees(&mut peer, "a");
        assert!(ours.try_lock("a").expect("asked").is_some());
    }
}

fn another_table_is_refused(kind: Kind) {
    let with = |table: &str| {
        let place = place(kind);
        mysql_client(place.url()).query_drop(table).expect("made");
        let told = DRIVERS.map(|driver| connect(driver, &place.whole_url()).map(drop));
        assert_eq!(told[0], told[1]);
        let [Err(Error::UnsafeServer(refusal)), _] = told else { panic!("{told:?}") };
        refusal
    };
    let rest = "createdAt DATETIME NOT NULL, updatedAt DATETIME NOT NULL";
    let unlocked = with(&format!(
        "CREATE TABLE lockings (id VARCHAR(200) PRIMARY KEY, {rest}) ENGINE = MyISAM"
    ));
    assert!(matches!(unlocked, Refusal::NotInnoDb { .. }), "{unlocked}");
    for wrong in [
        format!("CREATE TABLE lockings (id VARCHAR(255), {rest}, PRIMARY KEY (id, createdAt))"),
        format!("CREATE TABLE lockings (id VARCHAR(255), {rest}, PRIMARY KEY (id(5)))"),
        format!("CREATE TABLE lockings (id VARCHAR(255), {rest})"),
        "CREATE TABLE lockings (id VARCHAR(255) PRIMARY KEY)".to_string(),
    ] {
        let refusal = with(&wrong);
        assert!(matches!(refusal, Refusal::WrongShape { .. }), "{wrong}: {refusal}");
    }
}

fn locks_are_neither_pinned_nor_shown_nor_on_a_connection_of_yours(kind: Kind) {
    let place = place(kind);
    for driver in DRIVERS {
        let guard = locks(driver, &place).lock("a").expect("taken");
        let pinned = match &guard {
            Guard::Blocking(guard) => guard.pin_statement(),
            Guard::Tokio(guard) => guard.pin_statement(),
        };
        assert_eq!(pinned.map(drop), Err(NotPinnable::InPeersTable));
        let shown = match driver {
            Driver::Tokio => wait(lock_async::Admin::open(place.config(TTL))).map(drop),
            _ => lock_sync::Admin::open(place.config(TTL)).map(drop),
        };
        assert!(matches!(shown, Err(Error::Config(ConfigError::NotShown(_)))), "{shown:?}");
    }
    let config = || Config::new().protocol(Protocol::SqlLock);
    let none = || Err::<mysql::Conn, _>("not called");
    let refused = [
        lock_sync::Locks::with_mysql(mysql_client(place.url()), config()).map(drop),
        lock_sync::Locks::from_mysql(none, config()).map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::Config(ConfigError::Protocol { .. }))), "{refused:?}");
    }
}
