//! Servers whose clock is set back while they run, or was before.

use lock_sync::{Config, Locks};
use lock_tests::place::Place;
use lock_tests::servers::{Kind, Server};
use std::time::Duration;

const HOUR: i64 = 3_600;

/// A server that starts with a clock of its own answers slowly on a busy machine.
const TTL: Duration = Duration::from_secs(8);

/// For how long a lock is waited for that is free in a moment: seconds, not an hour.
const PATIENCE: Duration = Duration::from_secs(60);

fn advisory(server: &Server, ttl: Duration) -> Locks {
    let config: Config =
        format!("{}?protocol=advisory&longest_ttl=1s", server.url()).parse().expect("good");
    Locks::open(config.ttl(ttl)).expect("connected")
}

/// It has started in the future, by its own clock. Whether that was long ago is not known, so nothing
/// is granted for a TTL; and then it is.
fn started_in_the_future(kind: Kind) {
    let server = Server::with_clock(kind, HOUR);
    let early = advisory(&server, TTL);
    let guard = early.try_lock_for("early", PATIENCE).expect("no error").expect("granted");
    server.set_clock(0);
    let locks = advisory(&server, TTL);
    let granted = locks.try_lock_for("a", PATIENCE).expect("no error");
    assert!(granted.is_some(), "{kind:?}: nothing is granted");
    // Nor does a connection need it that was there before.
    let granted = early.try_lock_for("b", PATIENCE).expect("no error");
    assert!(granted.is_some(), "{kind:?}: nothing is granted to a connection of before");
    assert!(guard.is_held(), "{kind:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn advisory_locks_are_granted_by_a_postgres_that_started_in_the_future() {
    started_in_the_future(Kind::Postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn advisory_locks_are_granted_by_a_mysql_that_started_in_the_future() {
    started_in_the_future(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn advisory_locks_are_granted_by_a_mariadb_that_started_in_the_future() {
    started_in_the_future(Kind::Mariadb);
}

/// What was granted before seems to last for an hour. A holder that lives keeps it; one that is gone does
/// not, and neither has to be told apart by a clock that was set.
fn leases_of_before(kind: Kind) {
    // On a busy machine, a renewal may come too late.
    assert!((0..3).any(|_| living_holder_keeps(kind)), "{kind:?}: taken from one that renews it");
}

fn living_holder_keeps(kind: Kind) -> bool {
    let server = Server::with_clock(kind, HOUR);
    let place = Place::at(server.url());
    let (gone, _proxy) = place.abandon("gone", TTL);
    let alive = place.locks(TTL);
    let held = alive.lock("alive").expect("free");
    server.set_clock(0);
    let waiter = place.locks(TTL);
    let granted = waiter.try_lock_for("gone", PATIENCE).expect("no error");
    let granted = granted.unwrap_or_else(|| panic!("{kind:?}: a dead holder has it for the hour"));
    assert!(!gone.is_held() && granted.fence() > gone.fence(), "{kind:?}");
    let stolen = waiter.try_lock_for("alive", TTL * 2).expect("no error");
    assert!(stolen.is_none() || !held.is_held(), "{kind:?}: two hold it");
    stolen.is_none() && held.is_held()
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_dead_holders_lease_ends_in_time_on_a_postgres_whose_clock_is_set_back() {
    leases_of_before(Kind::Postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_dead_holders_lease_ends_in_time_on_a_mysql_whose_clock_is_set_back() {
    leases_of_before(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_dead_holders_lease_ends_in_time_on_a_mariadb_whose_clock_is_set_back() {
    leases_of_before(Kind::Mariadb);
}
