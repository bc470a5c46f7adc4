//! Links that are slow: locks are kept over them.

use lock_tests::drivers::{Driven, Driver, Guard};
use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, server_of};
use std::time::Duration;

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

/// The place behind a proxy, over TLS.
fn behind(place: &Place, driver: Driver) -> (Driven, Proxy) {
    let proxy = Proxy::start(&server_of(place.url()));
    let url = format!("{}?sslmode=require", proxy.url(place.url()));
    (Driven::new(driver, place.through(&url)), proxy)
}

/// Whether the lock is renewed so often before it is lost.
fn is_renewed(guard: &Guard, times: u32) -> bool {
    let (mut left, mut renewals) = (guard.remaining(), 0);
    while renewals < times && guard.is_held() {
        std::thread::sleep(Duration::from_millis(20));
        let now = guard.remaining();
        renewals += u32::from(now > left);
        left = now;
    }
    renewals == times
}

/// One answer comes within a request's time, which is 2.5 s, and two do not: nothing may be prepared. A connection
/// that was given up could not be made again in that time.
fn a_link_that_becomes_slow_loses_no_lock(place: fn() -> Place) {
    const TTL: Duration = Duration::from_secs(12);
    const EACH_WAY: Duration = Duration::from_millis(800);
    std::thread::scope(|scope| {
        let held = DRIVERS.map(|driver| {
            scope.spawn(move || {
                let (place, proxy) = behind(&place(), driver);
                let locks = place.locks(TTL);
                let guard = locks.lock("a").expect("taken");
                proxy.delay(EACH_WAY);
                // On PostgreSQL renewals would be prepared, and everywhere claims and releases.
                for _ in 0..3 {
                    let other = locks.try_lock_for("b", TTL * 2).expect("no error").expect("taken");
                    other.release().expect("released");
                }
                (driver, is_renewed(&guard, 2), guard.lost())
            })
        });
        for one in held {
            let (driver, held, lost) = one.join().expect("no panic");
            assert!(held, "{driver:?}: {lost:?}");
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_link_that_becomes_slow_loses_no_lock_in_postgres() {
    a_link_that_becomes_slow_loses_no_lock(Place::postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_link_that_becomes_slow_loses_no_lock_in_mysql() {
    a_link_that_becomes_slow_loses_no_lock(Place::mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_link_that_becomes_slow_loses_no_lock_in_mariadb() {
    a_link_that_becomes_slow_loses_no_lock(Place::mariadb);
}
