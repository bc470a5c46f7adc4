//! Late answers, stopped processes, and panics over an answer.

use super::*;
use crate::clock;
use crate::driver::pool::ConnectionPool;
use crate::driver::pump::Locked;
use lock_core::{ConnectionId, LockName};

const LATE: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);

/// Guards of this many locks. A request takes no time.
fn held<const N: usize>(ttl: Duration) -> ([crate::Guard; N], Arc<Driver>, Locks, Arc<Script>) {
    let (driver, locks, script) = start_with::<false>(Timing::new(ttl).expect("good"));
    let guards = std::array::from_fn(|n| locks.lock(n.to_string()).expect("free"));
    (guards, driver, locks, script)
}

/// Lets the leases of these guards pass while no thread of the driver runs, as in a process that is stopped. The threads
/// go on when the result is dropped.
fn stopped_past_the_lease<'a>(driver: &'a Driver, guards: &[crate::Guard]) -> Locked<'a> {
    let state = driver.shared.lock().expect("alive");
    let longest = guards.iter().map(crate::Guard::remaining).max();
    std::thread::sleep(longest.expect("some") + Duration::from_millis(1));
    state
}

#[test]
fn a_lease_counts_from_its_request() {
    let (driver, locks, script) = start_with::<false>(Timing::new(4 * SECOND).expect("good"));
    *script.pause.lock().expect("unpoisoned") = LATE;
    let guard = locks.lock("a").expect("free");
    let most = guard.valid_for() - LATE;
    assert!(guard.remaining() <= most, "{:?}", guard.remaining());
    let (mut left, mut renewals) = (guard.remaining(), 0);
    while renewals < 2 {
        assert!(guard.is_held());
        let now = guard.remaining();
        assert!(now <= most, "{now:?}");
        renewals += u32::from(now > left);
        left = now;
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(driver);
}

#[test]
fn the_first_call_after_a_stop_past_the_lease_says_that_it_is_over() {
    let (guards, driver, ..) = held::<4>(SECOND);
    let [held, lost, remaining, called] = &guards;
    let stopped = stopped_past_the_lease(&driver, &guards);
    assert!(!held.is_held());
    assert!(matches!(lost.lost_reason(), Some(LostReason::Deadline { .. })));
    assert_eq!(remaining.remaining(), Duration::ZERO);
    let (tell, told) = channel();
    called.on_lost(move |reason| tell.send(reason).expect("heard"));
    assert!(matches!(told.recv_timeout(SOON), Ok(LostReason::Deadline { .. })));
    drop(stopped);
}

#[test]
fn a_callback_for_a_loss_that_has_happened_runs_at_once() {
    let ([guard], driver, _locks, script) = held::<1>(SECOND);
    script.mute.store(true, SeqCst);
    assert!(guard.wait_lost(SOON).is_some());
    for _ in 0..2 {
        let (tell, told) = channel();
        guard.on_lost(move |reason| tell.send(reason).expect("heard"));
        assert_eq!(told.recv_timeout(SOON).ok(), guard.lost_reason());
    }
    drop(driver);
}

/// The server has executed the request, and nobody wants the lock any more by the time of the panic.
#[test]
fn a_panic_over_the_answer_leaves_no_lock_behind() {
    let (_driver, locks, script) = start::<false>();
    *script.pause.lock().expect("unpoisoned") = Duration::from_millis(200);
    script.panics_late.store(true, SeqCst);
    let waiting = locks.clone();
    let waiter = std::thread::spawn(move || waiting.lock("a").map(drop));
    assert!(soon(|| script.has_done("acquire")));
    locks.close();
    assert_eq!(apart("a waiter", move || waiter.join().expect("no panic")), Err(Error::Closed));
    assert!(soon(|| script.has_done("release")), "{:?}", script.done);
}

/// What its last request left behind is not for the next that opens the connection.
#[test]
fn a_backend_whose_connection_was_dropped_is_not_used_again() {
    let mut engine = Engine::new(
        table::capabilities("me", false),
        Config::new(Timing::new(SECOND).expect("good"), 1),
    );
    let now = clock::now();
    engine.acquire(now, LockName::new("a").expect("good"), false, None);
    let id = engine.poll_request(now).expect("a claim").id;
    let mut pool = ConnectionPool::new(Box::new(Fake::<true>(Arc::default())));
    let take = |pool: &mut ConnectionPool| {
        pool.take(ConnectionId::MAIN, id, false, false).expect("a backend")
    };
    let dropped = take(&mut pool);
    assert!(pool.drop_connection(ConnectionId::MAIN).is_none(), "it is under way");
    assert!(pool.give_back(ConnectionId::MAIN, id, dropped).is_some());
    let kept = take(&mut pool);
    assert!(pool.give_back(ConnectionId::MAIN, id, kept).is_none());
    assert!(pool.drop_connection(ConnectionId::MAIN).is_some(), "it is idle");
}
