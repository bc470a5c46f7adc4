//! The connection over which a client ends its wait at the server is encrypted like all others.

use lock_sync::Error;
use lock_tests::advisory::waiting_at;
use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, eventually, server_of};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(30);

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn postgres_is_told_nothing_in_plain_text_when_a_wait_ends() {
    // The code of the protocol's request to cancel.
    a_wait_ends_in_secret(Place::postgres_advisory, &[4, 210, 22, 46]);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn mysql_is_told_nothing_in_plain_text_when_a_wait_ends() {
    a_wait_ends_in_secret(Place::mysql_advisory, b"KILL ");
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn mariadb_is_told_nothing_in_plain_text_when_a_wait_ends() {
    a_wait_ends_in_secret(Place::mariadb_advisory, b"KILL ");
}

/// The bytes of a request that ends a wait pass the network for nobody to read.
fn a_wait_ends_in_secret(place: fn() -> Place, request: &[u8]) {
    for (mode, is_secret) in [("require", true), ("prefer", true), ("disable", false)] {
        for driver in [Driver::Blocking, Driver::Tokio] {
            let direct = place();
            let mut waiting = waiting_at(&direct);
            let _held = direct.locks(TTL).lock("a").expect("taken");
            let proxy = Proxy::start(&server_of(direct.url()));
            let said = Arc::new(Mutex::new(Vec::new()));
            let hears = said.clone();
            proxy.answer(move |bytes| {
                hears.lock().expect("unpoisoned").extend_from_slice(bytes);
                None
            });
            let url = format!("{}?sslmode={mode}", proxy.url(direct.url()));
            let through = Driven::new(driver, direct.through(&url));
            let locks = through.locks(TTL);
            let waits = locks.clone();
            let waiter = std::thread::spawn(move || waits.lock("a").map(drop));
            assert!(eventually(|| proxy.connections() >= 2), "the wait has one of its own");
            assert!(eventually(|| waiting() == 1), "{driver:?}: nobody waits at the server");
            let before = proxy.connections();
            locks.close();
            assert_eq!(waiter.join().expect("no panic"), Err(Error::Closed));
            assert!(eventually(|| proxy.connections() > before), "{driver:?}: nothing ends it");
            let is_told = || {
                let said = said.lock().expect("unpoisoned");
                said.windows(request.len()).any(|bytes| bytes == request)
            };
            if is_secret {
                std::thread::sleep(Duration::from_millis(500));
                assert!(!is_told(), "{driver:?}: anybody can read it");
            } else {
                assert!(eventually(is_told), "{driver:?}");
            }
        }
    }
}
