//! How many requests those that wait for a lock in Consul send.

use lock_tests::drivers::{Driven, Driver, Locks};
use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, server_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CONTENDERS: u64 = 12;
const EACH: u64 = 20;

/// All want one lock so many times, as soon as they have freed it. The time that this takes, and by how many grants a waiter
/// was overtaken at most.
fn contest(all: &[Locks]) -> (Duration, u64) {
    let (grants, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for locks in all {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let wanted = grants.load(Ordering::SeqCst);
                    let guard = locks.lock("a").expect("granted");
                    let granted = grants.fetch_add(1, Ordering::SeqCst);
                    most.fetch_max(granted - wanted, Ordering::SeqCst);
                    guard.release().expect("freed");
                }
            });
        }
    });
    (began.elapsed(), most.into_inner())
}

/// One joins the line, waits for the one ahead, looks, claims and frees; the others are asleep. Once in a quarter of a TTL each
/// looks whether those ahead are. Were all woken at each release, the requests would be more than twice the contenders.
fn a_hand_off_takes_five_requests_however_many_wait(driver: Driver) {
    let place = Place::consul();
    let proxy = Proxy::start(&server_of(place.url()));
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    proxy.answer(move |bytes| {
        let begins = bytes.starts_with(b"GET /") || bytes.starts_with(b"PUT /");
        counted.fetch_add(u64::from(begins), Ordering::SeqCst);
        None
    });
    let place = Driven::new(driver, place.through(&proxy.url(place.url())));
    let all: Vec<_> = (0..CONTENDERS).map(|_| place.locks(Duration::from_secs(12))).collect();
    // Each opens its connections and its session.
    contest(&all);
    let before = asked.load(Ordering::SeqCst);
    let (took, overtaken) = contest(&all);
    let requests = asked.load(Ordering::SeqCst) - before;
    let (handoffs, looks) = (CONTENDERS * EACH, CONTENDERS * (took.as_secs() + 6));
    println!(
        "{requests} requests for {handoffs} hand-offs in {took:?}; overtaken {overtaken} times at most"
    );
    assert!(requests >= 2 * handoffs, "{requests}");
    assert!(requests <= 6 * handoffs + looks, "{requests} in {took:?}");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_hand_off_takes_five_requests_however_many_wait_blocking() {
    a_hand_off_takes_five_requests_however_many_wait(Driver::Blocking);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_hand_off_takes_five_requests_however_many_wait_with_tokio() {
    a_hand_off_takes_five_requests_however_many_wait(Driver::Tokio);
}
