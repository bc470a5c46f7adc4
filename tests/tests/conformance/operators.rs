//! What an operator of a PostgreSQL server may do with the table and the settings.

use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::{Place, client};
use lock_tests::proxy::eventually;
use lock_tests::servers::Kind;
use std::time::{Duration, Instant};

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

/// A session keeps what it had when it was made.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn renewals_stay_durable_when_the_configuration_is_not_any_more() {
    let server = Kind::Postgres.server();
    let place = Place::at(server.url());
    drop(place.locks(Duration::from_secs(3)));
    place.log_commits();
    for driver in DRIVERS {
        let configured = |text: &str| {
            let mut client = client(server.url());
            let set = format!("ALTER SYSTEM SET synchronous_commit = {text}");
            client.batch_execute(&set).expect("set");
            client.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
            assert!(eventually(|| {
                let mut client = lock_tests::place::client(server.url());
                let shown = client.query_one("SHOW synchronous_commit", &[]).expect("shown");
                shown.get::<_, &str>(0) == text
            }));
        };
        configured("on");
        let locks = Driven::new(driver, place.through(server.url())).locks(Duration::from_secs(3));
        let guard = locks.lock("a").expect("free");
        configured("off");
        place.logged_commits();
        let mut found = Vec::new();
        assert!(eventually(|| {
            found.extend(place.logged_commits());
            found.len() >= 2
        }));
        assert!(found.iter().all(|commits| commits == "on"), "{found:?}");
        guard.release().expect("released");
    }
}

/// Its rows are in another table than that which waiters name.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn waiters_are_notified_of_locks_in_a_partitioned_table() {
    let ttl = Duration::from_secs(60);
    for driver in DRIVERS {
        let place = Place::postgres();
        drop(place.locks(ttl));
        place.tamper(
            "ALTER TABLE {table} RENAME TO {table}_plain;
             CREATE TABLE {table} (LIKE {table}_plain INCLUDING ALL EXCLUDING STORAGE) PARTITION BY HASH (name);
             CREATE TABLE {table}_0 PARTITION OF {table} FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE {table}_1 PARTITION OF {table} FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        );
        let place = Driven::new(driver, place);
        let (ours, theirs) = (place.locks(ttl), place.locks(ttl));
        for name in ["a", "b", "c"] {
            let guard = ours.lock(name).expect("free");
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| theirs.lock(name).expect("granted"));
                // It relies on notifications by then.
                std::thread::sleep(Duration::from_secs(2));
                assert!(!waiter.is_finished());
                let freed = Instant::now();
                guard.release().expect("released");
                waiter.join().expect("no panic").release().expect("released");
                assert!(freed.elapsed() < ttl / 4, "{name}: {:?}", freed.elapsed());
            });
        }
    }
}

/// One answer of the server's tells of both.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn waiters_are_notified_of_locks_that_are_freed_together() {
    let ttl = Duration::from_secs(60);
    for driver in DRIVERS {
        let place = Driven::new(driver, Place::postgres());
        let (ours, theirs) = (place.locks(ttl), place.locks(ttl));
        let both = ours.acquire("a").and("b").wait().expect("free");
        std::thread::scope(|scope| {
            let theirs = &theirs;
            let waiters =
                ["a", "b"].map(|name| scope.spawn(move || theirs.lock(name).expect("granted")));
            // They rely on notifications by then.
            std::thread::sleep(Duration::from_secs(2));
            assert!(!waiters.iter().any(|waiter| waiter.is_finished()));
            let freed = Instant::now();
            both.release().expect("released");
            for waiter in waiters {
                waiter.join().expect("no panic").release().expect("released");
            }
            assert!(freed.elapsed() < ttl / 4, "{driver:?}: {:?}", freed.elapsed());
        });
    }
}
