//! Late answers, stopped processes, and panics over an answer.

use super::*;

const LATE: Duration = Duration::from_millis(250);

/// Guards of this many locks. A request takes no time.
fn held<const N: usize>(ttl: Duration) -> ([crate::Guard; N], Arc<Driver>, Locks, Arc<Script>) {
    let (driver, locks, script) = start_with::<false>(Timing::new(ttl).expect("good"));
    let guards = std::array::from_fn(|n| locks.lock(n.to_string()).expect("free"));
    (guards, driver, locks, script)
}

/// Lets the leases of these guards pass while no thread of the driver runs, as in a process that is stopped.
fn stopped_past_the_lease(driver: &Driver, guards: &[crate::Guard]) {
    let state = driver.shared.lock().expect("alive");
    let longest = guards.iter().map(crate::Guard::remaining).max();
    std::thread::sleep(longest.expect("some") + Duration::from_millis(1));
    // The threads wake up late.
    std::mem::forget(state);
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

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_first_call_after_a_stop_past_the_lease_says_that_it_is_over() {
    let (guards, driver, ..) = held::<4>(SECOND);
    stopped_past_the_lease(&driver, &guards);
    let [held, lost, remaining, called] = guards;
    assert!(!held.is_held());
    assert!(matches!(lost.lost_reason(), Some(LostReason::Deadline { .. })));
    assert_eq!(remaining.remaining(), Duration::ZERO);
    let (tell, told) = channel();
    called.on_lost(move |reason| tell.send(reason).expect("heard"));
    assert!(matches!(told.recv_timeout(SOON), Ok(LostReason::Deadline { .. })));
    // Their release would wait for ever.
    for guard in [held, lost, remaining, called] {
        std::mem::forget(guard);
    }
    std::mem::forget(driver);
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
        assert!(told.recv_timeout(SOON).is_err(), "once");
    }
    drop(driver);
}

/// The server has executed the request. Its caller is gone by the time of the panic.
#[test]
fn a_panic_over_the_answer_leaves_no_lock_behind() {
    let (_driver, locks, script) = start::<false>();
    *script.pause.lock().expect("unpoisoned") = Duration::from_millis(20);
    script.panics_late.store(true, SeqCst);
    let wait = Duration::from_millis(1);
    if let Ok(guard) = locks.acquire("a").timeout(wait).wait() {
        guard.release().expect("released");
    }
    assert!(soon(|| script.has_done("release")), "{:?}", script.done);
}
