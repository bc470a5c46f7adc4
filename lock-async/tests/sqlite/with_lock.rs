//! What work returns comes as `Ok` only if the lock was held to the end and released.

use crate::{LONG, Place, is_freed};
use lock_async::{Config, Error, Guard, Locks, LostReason, WithLockError};
use std::time::Duration;

/// Makes all leases somebody else's.
fn rob(place: &Place) {
    let raw = place.raw();
    raw.busy_timeout(crate::SOON).expect("set");
    assert_ne!(raw.execute("UPDATE locks SET owner = 'thief'", []).expect("robbed"), 0);
}

#[tokio::test]
async fn a_lock_lost_inside_is_an_error_with_the_value() {
    let place = Place::new();
    let locks = place.locks(LONG).await;
    let work = async |_: &Guard| {
        rob(&place);
        7
    };
    let done = locks.with_lock("a", work).await;
    assert_eq!(done, Err(WithLockError::Lost { value: 7, reason: LostReason::Taken }));
    let error = locks.try_with_lock("b", work).await.expect_err("lost");
    let line = error.to_string();
    assert!(line.contains("lost while it was used") && !line.contains('\n'), "{line}");
    assert_eq!(error.into_value(), Some(7));
}

#[tokio::test]
async fn a_release_that_is_not_confirmed_is_an_error_with_the_value() {
    let place = Place::new();
    let config = Config::sqlite(place.path()).ttl(LONG).request_timeout(Duration::from_secs(1));
    let locks = Locks::open(config).await.expect("connected");
    let blocker = place.raw();
    let done = locks
        .with_lock("a", async |_| {
            blocker.execute_batch("BEGIN IMMEDIATE").expect("blocked");
            7
        })
        .await;
    blocker.execute_batch("COMMIT").expect("unblocked");
    let Err(WithLockError::Unconfirmed { value: 7, within, .. }) = done else {
        panic!("{done:?}");
    };
    assert_eq!(within, LONG);
}

#[tokio::test]
async fn without_the_lock_there_is_no_value() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let _held = theirs.lock("a").await.expect("free");
    assert_eq!(ours.try_with_lock("a", async |_| 7).await, Ok(None));
    ours.close();
    let done = ours.with_lock("b", async |_| 7).await;
    assert_eq!(done, Err(WithLockError::Acquire(Error::Closed)));
    assert_eq!(done.expect_err("closed").into_value(), None);
}

/// A value need not be shown to be handed back, also by `?`.
#[tokio::test]
async fn any_value_is_handed_back() {
    struct Plain;
    let place = Place::new();
    let locks = place.locks(LONG).await;
    let work = async || -> Result<Plain, Box<dyn std::error::Error>> {
        Ok(locks.with_lock("a", async |_| Plain).await?)
    };
    assert!(work().await.is_ok());
}

#[tokio::test]
async fn work_that_panics_frees_the_lock() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let worker = ours.clone();
    let work =
        tokio::spawn(
            async move { worker.with_lock("a", async |_| panic!("on purpose")).await.is_ok() },
        );
    assert!(work.await.expect_err("a panic").is_panic());
    is_freed(&ours, &theirs, "a").await;
}
