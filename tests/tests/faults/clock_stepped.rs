//! Servers whose clock steps forward while locks are held, with leases that are watched (`expiry=observed`).

use lock_sync::{Config, Expiry, Locks};
use lock_tests::drivers::{Driver, wait};
use lock_tests::place::Place;
use lock_tests::servers::{Kind, Server};
use std::time::{Duration, Instant};

const HOUR: i64 = 3_600;
const TTL: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(60);

fn config(place: &Place) -> Config {
    place.config(TTL).expiry(Expiry::Observed)
}

/// Whether someone else gets the lock within `limit`.
fn gets(place: &Place, driver: Driver, name: &str, limit: Duration) -> bool {
    match driver {
        Driver::Tokio => wait(async {
            let locks = lock_async::Locks::open(config(place)).await.expect("connected");
            locks.try_lock_for(name, limit).await.expect("asked").is_some()
        }),
        _ => {
            let locks = Locks::open(config(place)).expect("connected");
            locks.try_lock_for(name, limit).expect("asked").is_some()
        }
    }
}

/// A holder that lives keeps its lock however the clock is set, and the lock of one that is dead becomes free in time.
fn no_step_ends_a_lease(kind: Kind) {
    let server = Server::with_clock(kind, 0);
    let place = Place::at(server.url());
    // A machine with much else to do may be late to answer even the first time.
    let holder = Locks::open(config(&place).lazy()).expect("good");
    for (driver, step) in [(Driver::Blocking, HOUR), (Driver::Tokio, -HOUR)] {
        let held = holder.lock("held").expect("free");
        server.set_clock(step);
        let hour = Duration::from_secs(HOUR.unsigned_abs());
        let mut admin = lock_sync::Admin::open(config(&place)).expect("connected");
        assert_eq!(admin.purge(hour), Ok(0), "{kind:?}: of a lease that is renewed");
        let stolen = gets(&place, driver, "held", TTL * 3 / 2);
        assert!(!stolen && held.is_held(), "{kind:?}: taken from one that renews it");
        held.release().expect("still ours");
        assert!(gets(&place, driver, "held", PATIENCE), "{kind:?}: free");
    }
    let proxy = lock_tests::proxy::Proxy::start(&lock_tests::proxy::server_of(place.url()));
    let dead = Locks::open(config(&place.through(&proxy.url(place.url())))).expect("connected");
    let gone = dead.lock("gone").expect("free");
    proxy.set(lock_tests::proxy::Mode::Unplugged);
    server.set_clock(HOUR);
    let began = Instant::now();
    let locks = Locks::open(config(&place)).expect("connected");
    assert!(locks.try_lock("gone").expect("asked").is_none(), "{kind:?}: not watched yet");
    let taken = locks.try_lock_for("gone", PATIENCE).expect("asked").expect("in time");
    assert!(began.elapsed() >= TTL && !gone.is_held(), "{kind:?}");
    assert!(taken.fence() > gone.fence(), "{kind:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn no_step_of_postgres_ends_a_watched_lease() {
    no_step_ends_a_lease(Kind::Postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn no_step_of_mysql_ends_a_watched_lease() {
    no_step_ends_a_lease(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn no_step_of_mariadb_ends_a_watched_lease() {
    no_step_ends_a_lease(Kind::Mariadb);
}
