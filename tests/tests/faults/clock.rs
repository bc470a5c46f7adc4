//! Servers whose clock is set back while they run, or was before.

use lock_sync::{Config, Locks};
use lock_tests::servers::{Kind, Server};
use std::time::Duration;

const HOUR: i64 = 3_600;

/// For how long a lock is waited for that is free in a moment: seconds, not an hour.
const PATIENCE: Duration = Duration::from_secs(60);

fn advisory(server: &Server, ttl: Duration) -> Locks {
    let config: Config = format!("{}?protocol=advisory", server.url()).parse().expect("good");
    config.ttl(ttl).connect().expect("connected")
}

/// It has started in the future, by its own clock. Whether that was long ago is not known, so nothing
/// is granted for a TTL; and then it is.
fn started_in_the_future(kind: Kind) {
    let server = Server::with_clock(kind, HOUR);
    let early = advisory(&server, Duration::from_secs(2));
    let guard = early.try_lock_for("early", PATIENCE).expect("no error").expect("granted");
    server.set_clock(0);
    let locks = advisory(&server, Duration::from_secs(2));
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
