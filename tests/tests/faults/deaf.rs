//! Notifications of PostgreSQL that are lost without a word: a waiter gets a free lock all the same, long
//! before the lease that it saw would have ended.

use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::Place;
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use lock_tests::servers::Kind;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(60);
/// Longer than any step of these tests takes.
const LONG: Duration = Duration::from_secs(300);

/// How long a waiter of each driver goes on waiting after the holder has freed the lock. Notifications on the
/// listening connections are lost by `lost`, which is called before they are opened or when they are known
/// to work.
fn waits_after_a_release(lost: impl Fn(&Proxy, bool) + Sync) -> Vec<Duration> {
    let server = Kind::Postgres.server();
    let waits = |driver: Driver| {
        let proxy = Proxy::start(&server_of(server.url()));
        lost(&proxy, false);
        let direct = Place::at(server.url());
        let url = format!("{}?sslmode=disable", proxy.url(server.url()));
        let behind = Driven::new(driver, direct.through(&url));
        let holder = Driven::new(Driver::Blocking, direct).locks(TTL);
        let guard = holder.lock("a").expect("free");
        let locks = behind.locks(TTL);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let guard = locks.try_lock_for("a", LONG).expect("no error").expect("granted");
                let at = Instant::now();
                guard.release().expect("freed");
                at
            });
            assert!(eventually(|| proxy.listening() > 0), "it listens");
            // By now it has been denied, and told that it will be told.
            std::thread::sleep(Duration::from_secs(4));
            lost(&proxy, true);
            let freed = Instant::now();
            guard.release().expect("freed");
            waiter.join().expect("no panic").duration_since(freed)
        })
    };
    std::thread::scope(|scope| {
        let all =
            [Driver::Blocking, Driver::Tokio].map(|driver| scope.spawn(move || waits(driver)));
        all.map(|one| one.join().expect("no panic")).into()
    })
}

/// A network that has forgotten a connection: the next probe, a quarter of a TTL later at most, is overdue
/// after a request's time.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_listening_connection_that_falls_silent() {
    let waits = waits_after_a_release(|proxy, works| {
        if works {
            proxy.mute_listening();
        }
    });
    println!("{waits:?} of {TTL:?}");
    assert!(waits.iter().all(|wait| *wait < TTL * 2 / 3), "{waits:?}");
}

/// A pooler that takes LISTEN, and never tells: no waiter relies on it.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_listening_connection_that_was_never_told_anything() {
    let waits = waits_after_a_release(|proxy, _| proxy.set(Mode::NoNotifications));
    println!("{waits:?} of {TTL:?}");
    assert!(waits.iter().all(|wait| *wait < TTL / 3), "{waits:?}");
}
