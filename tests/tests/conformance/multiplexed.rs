//! MySQL and MariaDB through a proxy that hands each statement to another connection.

use crate::places::{TTL, many_threads_on_many_connections_exclude_each_other};
use lock_sync::{Config, Error, Locks, Refusal};
use lock_tests::drivers::{Driven, Driver, wait};
use lock_tests::multiplexer::Multiplexer;
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::server_of;
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use std::time::Duration;

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

on_mysql_and_mariadb! {
    locks_exclude_each_other_and_nothing_is_set_or_prepared
    a_connection_that_does_not_commit_grants_nothing
    advisory_locks_are_refused
}

/// A proxy, and the URL of an account without a password through it.
fn through_a_proxy(kind: Kind) -> (Multiplexer, Place) {
    let place = kind.place();
    let account = place.table().replace("locks", "open");
    for sql in [
        format!("CREATE USER {account}@'%' IDENTIFIED BY ''"),
        format!("GRANT ALL ON test.* TO {account}@'%'"),
    ] {
        mysql_client(place.url()).query_drop(sql).expect("made");
    }
    let proxy = Multiplexer::start(&server_of(place.url()));
    let url = proxy.url(&account, "test");
    (proxy, place.through(&url))
}

fn locks_exclude_each_other_and_nothing_is_set_or_prepared(kind: Kind) {
    let (proxy, place) = through_a_proxy(kind);
    let driven = Driven::new(Driver::Mixed, place);
    drop(driven.locks(TTL));
    drop(driven.locks(TTL));
    proxy.sent();
    many_threads_on_many_connections_exclude_each_other(&driven);
    let locks = driven.locks(TTL);
    let guards: Vec<_> = ["a", "b"].map(|name| locks.lock(name).expect("taken")).into();
    assert!(locks.try_lock_for("a", Duration::from_millis(200)).expect("asked").is_none());
    for guard in guards {
        guard.release().expect("released");
    }
    let sent = proxy.sent();
    let left = |text: &&String| text.starts_with("SET") || *text == "PREPARE";
    let left: Vec<_> = sent.iter().filter(left).collect();
    assert!(sent.len() > 200 && left.is_empty(), "{left:?}");
}

fn a_connection_that_does_not_commit_grants_nothing(kind: Kind) {
    let (proxy, place) = through_a_proxy(kind);
    for driver in DRIVERS {
        let driven = Driven::new(driver, place.through(place.url()));
        let locks = driven.locks(TTL);
        proxy.set_autocommit(false);
        assert!(locks.try_lock("a").is_ok_and(|guard| guard.is_none()), "{driver:?}");
        proxy.set_autocommit(true);
        assert!(locks.try_lock("a").expect("asked").is_some(), "{driver:?}");
    }
}

fn advisory_locks_are_refused(kind: Kind) {
    let (_proxy, place) = through_a_proxy(kind);
    for driver in DRIVERS {
        let url = format!("{}&protocol=advisory", place.url());
        let config: Config = url.parse().expect("good");
        let refused = match driver {
            Driver::Tokio => wait(lock_async::Locks::open(config)).map(drop),
            _ => Locks::open(config).map(drop),
        };
        assert_eq!(refused, Err(Error::UnsafeServer(Refusal::Pooled)));
    }
}
