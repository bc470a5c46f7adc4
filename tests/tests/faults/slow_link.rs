//! Links that are slow: locks are kept over them, or it is said which TTL that takes.

use lock_core::TimingError;
use lock_sync::{ConfigError, Error};
use lock_tests::drivers::{Driven, Driver, Guard, Locks, wait};
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use std::time::Duration;

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

/// The place behind a proxy, over TLS where the tests' server has it.
fn behind(place: &Place, driver: Driver) -> (Driven, Proxy) {
    let proxy = Proxy::start(&server_of(place.url()));
    let tls = if place.keeps() == Keeps::Keys { "" } else { "?sslmode=require" };
    let url = proxy.url(place.url()) + tls;
    (Driven::new(driver, place.through(&url)), proxy)
}

/// Connects with a TTL that is too short, and then with the one that is named: again with the next one that is
/// named, where the machine was busy.
fn connect(place: &Driven, mut ttl: Duration) -> (Locks, Duration) {
    for _ in 0..4 {
        match place.try_labelled(ttl, "") {
            Ok(locks) => return (locks, ttl),
            Err(Error::Config(ConfigError::Timing(error))) => {
                let text = error.to_string();
                let TimingError::TooSlow { ttl: named, .. } = error else { panic!("{text}") };
                assert!(text.ends_with(&format!("use a TTL of {named:?} or more")), "{text}");
                assert!(named > ttl, "{text}");
                ttl = named;
            }
            Err(error) => panic!("with a TTL of {ttl:?}: {error}"),
        }
    }
    panic!("refused again and again, at last with {ttl:?}")
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

/// One answer comes within a request's time, which is 4.2 s, and two do not: nothing may be prepared. A connection
/// that was given up could not be made again in that time.
fn a_link_that_becomes_slow_loses_no_lock(place: fn() -> Place) {
    const TTL: Duration = Duration::from_secs(20);
    const EACH_WAY: Duration = Duration::from_millis(1_300);
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
                (driver, is_renewed(&guard, 2), guard.lost_reason())
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

/// Answers take 600 ms. A lock of the TTL that is named outlives its connection, if it is a row or a key.
fn a_slow_link_is_refused_with_the_ttl_that_works(place: fn() -> Place, ttl: Duration) {
    std::thread::scope(|scope| {
        let held = DRIVERS.map(|driver| {
            scope.spawn(move || {
                let direct = place();
                // Before it grants its own locks, the server must have run for as long as a lease lasts; and the
                // table is there.
                drop(direct.locks(ttl.max(Duration::from_secs(6))));
                let (place, proxy) = behind(&direct, driver);
                proxy.delay(Duration::from_millis(300));
                let (locks, named) = connect(&place, ttl);
                assert!(named > ttl, "{driver:?}: it was not refused");
                let guard = locks.lock("a").expect("taken");
                if direct.keeps() != Keeps::Advisory {
                    proxy.cut(false);
                }
                assert!(is_renewed(&guard, 1), "{driver:?}, {named:?}: {:?}", guard.lost_reason());
            })
        });
        for one in held {
            one.join().expect("no panic");
        }
    });
}

macro_rules! refused {
    ($($name:ident: $place:ident, $seconds:literal, $server:literal;)*) => {$(
        #[test]
        #[ignore = $server]
        fn $name() {
            let ttl = Duration::from_secs($seconds);
            a_slow_link_is_refused_with_the_ttl_that_works(Place::$place, ttl);
        }
    )*};
}

refused! {
    a_slow_link_is_refused_to_postgres: postgres, 6, "needs a PostgreSQL server: tests/run starts one";
    a_slow_link_is_refused_to_mysql: mysql, 6, "needs a MySQL server: tests/run starts one";
    a_slow_link_is_refused_to_mariadb: mariadb, 2, "needs a MariaDB server: tests/run starts one";
    a_slow_link_is_refused_to_postgres_advisory: postgres_advisory, 6, "needs a PostgreSQL server: tests/run starts one";
    a_slow_link_is_refused_to_mariadb_advisory: mariadb_advisory, 6, "needs a MariaDB server: tests/run starts one";
    a_slow_link_is_refused_to_consul: consul, 3, "needs a Consul server: tests/run starts one";
}

/// Its client would wait for each answer as long as for the first connect. Only that of lock-sync has limits which stay.
#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_connection_that_came_late_is_not_kept_for_requests() {
    let direct = Place::mysql();
    let (place, proxy) = behind(&direct, Driver::Blocking);
    proxy.set(Mode::Hole);
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| place.locks(Duration::from_secs(6)));
        assert!(eventually(|| proxy.connections() == 1));
        // The first attempt hears nothing, and the second one all.
        proxy.mute();
        proxy.set(Mode::Pass);
        let locks = connecting.join().expect("connected");
        drop(locks.lock("a").expect("free"));
    });
    assert!(proxy.connections() > 2, "{} connections", proxy.connections());
}

/// Nobody waits for it any more when the server has answered.
#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_connection_that_came_too_late_is_closed() {
    let (place, proxy) = behind(&Place::mysql(), Driver::Blocking);
    let locks = place.locks(Duration::from_secs(12));
    locks.lock("a").expect("free").release().expect("released");
    proxy.cut(true);
    let before = proxy.connections();
    proxy.cut(false);
    // Each answer comes within a request's time, which is 2.5 s. All those of a handshake do not.
    proxy.delay(Duration::from_millis(800));
    let tried = locks.try_lock("a").map(drop);
    assert!(matches!(tried, Err(Error::Unavailable(_))), "{tried:?}");
    let made = before..proxy.connections();
    assert!(!made.is_empty());
    assert!(eventually(|| made.clone().all(|late| proxy.has_ended(late))));
}

/// Whoever only looks has no lease to lose.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn locks_can_be_looked_at_over_a_slow_link() {
    let ttl = Duration::from_secs(2);
    let direct = Place::postgres();
    let _guard = direct.locks(ttl * 30).lock("a").expect("taken");
    let (place, proxy) = behind(&direct, Driver::Blocking);
    proxy.delay(Duration::from_millis(300));
    let list = lock_sync::Admin::open(place.config(ttl)).and_then(|mut admin| admin.list());
    assert_eq!(list.map(|all| all.len()), Ok(1));
    let list = wait(async { lock_async::Admin::open(place.config(ttl)).await?.list().await });
    assert_eq!(list.map(|all| all.len()), Ok(1));
}
