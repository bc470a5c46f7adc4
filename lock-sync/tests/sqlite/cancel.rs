//! Waits that are cancelled.

use crate::{LONG, Place, SOON, soon};
use lock_sync::{Cancel, Error};
use std::time::{Duration, Instant};

#[test]
fn a_cancelled_wait_ends_at_once_and_leaves_nothing() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG), place.locks(LONG));
    let guard = ours.lock("a").expect("free");
    let (cancel, other) = (Cancel::new(), Cancel::new());
    let wait = |cancel: &Cancel| theirs.acquire("a").cancelled_by(cancel).wait().map(drop);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| wait(&cancel))).collect();
        let stays = scope.spawn(|| wait(&other));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiting.iter().any(|waiter| waiter.is_finished()));
        let began = Instant::now();
        cancel.cancel();
        for waiter in waiting {
            assert_eq!(waiter.join().expect("no panic"), Err(Error::Cancelled));
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(!stays.is_finished(), "another token's wait goes on");
        guard.release().expect("released");
        assert_eq!(stays.join().expect("no panic"), Ok(()));
    });
    assert!(ours.try_lock_for("a", SOON).expect("asked").is_some(), "nothing was left behind");
}

#[test]
fn a_wait_that_was_cancelled_before_it_began_asks_for_nothing() {
    let place = Place::new();
    let locks = place.locks(LONG);
    let cancel = Cancel::new();
    let guard = locks.acquire("a").cancelled_by(&cancel).wait().expect("free");
    assert!(!cancel.is_cancelled());
    cancel.clone().cancel();
    assert!(cancel.is_cancelled() && guard.is_held(), "what is held stays held");
    let free = locks.acquire("b").cancelled_by(&cancel);
    assert_eq!(free.wait().map(drop), Err(Error::Cancelled));
    let rows = place.raw().query_row("SELECT count(*) FROM locks", [], |row| row.get(0));
    assert_eq!(rows, Ok(1), "only the other lock");
    guard.release().expect("released");
}

#[test]
fn a_wait_cancels_itself() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG), place.locks(LONG));
    let guard = ours.lock("a").expect("free");
    let cancel = Cancel::new();
    let waiting = theirs.acquire("a").cancelled_by(&cancel).on_waiting(|_| cancel.cancel());
    assert_eq!(waiting.wait().map(drop), Err(Error::Cancelled));
    drop(guard);
    assert!(soon(|| ours.try_lock("a").expect("asked").is_some()), "nothing was left behind");
}

/// A holder may keep the lock for longer than a waiter's lease would last.
#[test]
fn a_wait_without_a_limit_outlasts_the_leases() {
    const TTL: Duration = Duration::from_secs(1);
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG), place.locks(TTL));
    let guard = ours.lock("a").expect("taken");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| theirs.lock("a").map(drop));
        std::thread::sleep(TTL * 5 / 2);
        guard.release().expect("released");
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
    });
}
