//! What waiting for a lock in a PostgreSQL table costs the server, counted there.

use lock_tests::drivers::{Driven, Driver};
use lock_tests::observer::Observer;
use lock_tests::place::Place;
use lock_tests::servers::{Kind, Server};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(60);

fn calls(observer: &mut Observer) -> i64 {
    let counted = observer.counted();
    println!("{counted:?}");
    counted.iter().map(|(_, calls)| *calls).sum()
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn waiters_send_nothing_until_they_are_told() {
    const WAITERS: i64 = 8;
    let server = Kind::Postgres.server();
    let mut observer = Observer::new(&server);
    // One connection is lock-sync's, the next lock-async's.
    let place = Driven::new(Driver::Mixed, Place::at(server.url()));
    let guard = place.locks(TTL).lock("a").expect("free");
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..WAITERS)
            .map(|_| {
                let locks = place.locks(TTL);
                scope.spawn(move || {
                    let guard = locks.lock("a").expect("granted");
                    let at = Instant::now();
                    guard.release().expect("freed");
                    at
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(3));
        observer.reset();
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(calls(&mut observer), 0, "nothing for 5 s");
        let freed = Instant::now();
        guard.release().expect("freed");
        let granted = waiters.into_iter().map(|waiter| waiter.join().expect("no panic"));
        let last = granted.max().expect("some").duration_since(freed);
        // Each release is told to all who still wait: they claim, and ask who was faster.
        let most = 1 + (1..=WAITERS).map(|left| 2 * left + 1).sum::<i64>() + 4 * WAITERS;
        let calls = calls(&mut observer);
        println!("{WAITERS} hand-offs in {last:?}: {calls} statements, at most {most}");
        assert!(calls <= most);
        assert!(last < TTL / 4, "long before the lease would have ended: {last:?}");
    });
}

/// Eight connections with several waiters each: no more than one probe each in a quarter of a TTL, and at
/// least one of them all.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn waiters_see_whether_they_are_heard_once_in_a_quarter_of_a_ttl() {
    const CONNECTIONS: usize = 8;
    const QUARTERS: u32 = 4;
    let ttl = Duration::from_secs(8);
    let server = Kind::Postgres.server();
    let mut observer = Observer::new(&server);
    let place = Driven::new(Driver::Mixed, Place::at(server.url()));
    let holder = place.locks(ttl);
    let guards = ["a", "b", "c"].map(|name| holder.lock(name).expect("free"));
    let all: Vec<_> = (0..CONNECTIONS).map(|_| place.locks(ttl)).collect();
    std::thread::scope(|scope| {
        for locks in &all {
            for name in ["a", "b", "c"] {
                scope.spawn(move || locks.lock(name).expect("granted").release().expect("freed"));
            }
        }
        std::thread::sleep(ttl / 2);
        observer.reset();
        let began = Instant::now();
        std::thread::sleep(ttl / 4 * QUARTERS);
        let counted = observer.counted();
        let quarters = began.elapsed().div_duration_f64(ttl / 4).ceil() as i64;
        let is_probe = |text: &str| text.contains("pg_notify") && !text.contains("UPDATE");
        let probes: i64 =
            counted.iter().filter(|(text, _)| is_probe(text)).map(|(_, calls)| *calls).sum();
        println!("{CONNECTIONS} connections, {quarters} quarters of a TTL: {probes} probes");
        assert!((1..=CONNECTIONS as i64 * (quarters + 1)).contains(&probes), "{counted:?}");
        for guard in guards {
            guard.release().expect("freed");
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_thousand_waiters_of_a_process_cost_as_much_as_one() {
    const WAITERS: usize = 1000;
    let server: Server = Kind::Postgres.server();
    let mut observer = Observer::new(&server);
    let place = Place::at(server.url());
    let mut guard = Some(place.locks(TTL).lock("a").expect("free"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("made");
    let locks = runtime.block_on(lock_async::Locks::open(place.config(TTL))).expect("connected");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WAITERS {
        let locks = locks.clone();
        let task = async move { locks.lock("a").await.expect("granted").release().await };
        tasks.spawn_on(task, runtime.handle());
    }
    std::thread::sleep(Duration::from_secs(3));
    observer.reset();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(calls(&mut observer), 0, "nothing while they wait");
    guard.take().expect("held").release().expect("freed");
    runtime.block_on(async { while tasks.join_next().await.is_some() {} });
    let calls = calls(&mut observer);
    println!("{WAITERS} hand-offs: {calls} statements");
    assert!(calls <= 2 * WAITERS as i64 + 10, "a claim and a release each: {calls}");
}
