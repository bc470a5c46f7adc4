//! A closure's value comes as `Ok` only if the lock was held to the end and released.

use crate::{LONG, Place};
use lock_sync::{Config, Error, Locks, LostReason, WithLockError};
use std::time::Duration;

#[test]
fn a_lock_lost_inside_is_an_error_with_the_value() {
    let place = Place::new();
    let locks = place.locks(LONG);
    let done = locks.with_lock("a", |_| {
        place.rob();
        7
    });
    assert_eq!(done, Err(WithLockError::Lost { value: 7, reason: LostReason::Taken }));
    let done = locks.try_with_lock("b", |_| {
        place.rob();
        8
    });
    let error = done.expect_err("lost");
    let line = error.to_string();
    assert!(line.contains("lost while it was used") && !line.contains('\n'), "{line}");
    assert_eq!(error.into_value(), Some(8));
}

#[test]
fn a_release_that_is_not_confirmed_is_an_error_with_the_value() {
    let place = Place::new();
    let config = Config::sqlite(place.path()).ttl(LONG).request_timeout(Duration::from_secs(1));
    let locks = Locks::open(config).expect("connected");
    let blocker = place.raw();
    let done = locks.with_lock("a", |_| {
        blocker.execute_batch("BEGIN IMMEDIATE").expect("blocked");
        7
    });
    blocker.execute_batch("COMMIT").expect("unblocked");
    let Err(WithLockError::Unconfirmed { value: 7, within, .. }) = done else {
        panic!("{done:?}");
    };
    assert_eq!(within, LONG);
}

#[test]
fn without_the_lock_there_is_no_value() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG), place.locks(LONG));
    let _held = theirs.lock("a").expect("free");
    assert_eq!(ours.try_with_lock("a", |_| 7), Ok(None));
    ours.close();
    let done = ours.with_lock("b", |_| 7);
    assert_eq!(done, Err(WithLockError::Acquire(Error::Closed)));
    assert_eq!(done.expect_err("closed").into_value(), None);
}

/// A value need not be shown to be handed back, also by `?`.
#[test]
fn any_value_is_handed_back() {
    struct Plain;
    let place = Place::new();
    let locks = place.locks(LONG);
    let work =
        || -> Result<Plain, Box<dyn std::error::Error>> { Ok(locks.with_lock("a", |_| Plain)?) };
    assert!(work().is_ok());
}
