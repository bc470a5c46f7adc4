//! Futures dropped anywhere: no lock stays behind, and the connection stays in step.

use crate::{LONG, Place, SOON, is_freed};
use lock_async::{Admin, Config, Guard, Locks, ShutdownError};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Polls `work` so many times, each time after it was woken, then lets others run for `delay`
/// without polling it again, and drops it. What it came to, if it came to its end before.
async fn cut_off<T>(work: impl Future<Output = T>, polls: usize, delay: Duration) -> Option<T> {
    let mut work = pin!(work);
    for poll in 0..polls {
        if poll > 0 {
            woken().await;
        }
        let polled = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
    }
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    None
}

/// Until this task is woken by what it has polled, but not for long.
async fn woken() {
    let mut again = false;
    let woken =
        poll_fn(
            |_| if std::mem::replace(&mut again, true) { Poll::Ready(()) } else { Poll::Pending },
        );
    let _ = tokio::time::timeout(Duration::from_millis(20), woken).await;
}

/// All the moments at which futures are cut off: how many polls, and how long after the last.
fn moments() -> impl Iterator<Item = (usize, Duration)> {
    let delays = [0, 1, 2, 5, 10].map(Duration::from_millis);
    (0..4).flat_map(move |polls| delays.map(|delay| (polls, delay)))
}

async fn two(place: &Place) -> (Locks, Locks) {
    (place.locks(LONG).await, place.locks(LONG).await)
}

#[tokio::test]
async fn an_acquire_dropped_anywhere_leaves_nothing() {
    let place = Place::new();
    let (locks, others) = two(&place).await;
    let mut ended = 0;
    for (polls, delay) in moments() {
        ended += usize::from(cut_off(locks.lock("a"), polls, delay).await.is_some());
        is_freed(&locks, &others, "a").await;
        ended += usize::from(cut_off(locks.try_lock("a"), polls, delay).await.is_some());
        is_freed(&locks, &others, "a").await;
    }
    assert!((1..40).contains(&ended), "some are cut off, some are not: {ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_races_the_drop_is_released() {
    let place = Place::new();
    let (locks, others) = two(&place).await;
    let (mut granted, mut dropped, mut delay) = (0, 0, Duration::ZERO);
    // From far too early to far too late, however busy the machine is.
    while granted < 300 {
        let wanted = locks.clone();
        let task = tokio::spawn(async move {
            wanted.try_lock_for("a", SOON).await.expect("asked").expect("freed by the last round")
        });
        std::thread::sleep(delay);
        delay += Duration::from_micros(10);
        assert!(delay < SOON, "{granted} granted, {dropped} dropped");
        task.abort();
        match task.await {
            Ok(guard) => {
                granted += 1;
                drop(guard);
            }
            Err(error) if error.is_cancelled() => dropped += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(dropped > 0, "the first came too early");
    is_freed(&locks, &others, "a").await;
}

#[tokio::test]
async fn a_wait_dropped_anywhere_leaves_nothing() {
    let place = Place::new();
    let (locks, others) = two(&place).await;
    let guard = others.lock("a").await.expect("taken");
    for (polls, delay) in moments() {
        let waited = cut_off(locks.lock("a"), polls, delay).await;
        assert!(waited.is_none(), "it is theirs");
        // Behind a rival of the same process.
        let rivals = async { tokio::join!(locks.lock("a"), locks.lock("a")) };
        assert!(cut_off(rivals, polls, delay).await.is_none());
    }
    assert!(guard.is_held());
    guard.release().await.expect("released");
    is_freed(&locks, &others, "a").await;
}

#[tokio::test]
async fn a_waiter_dropped_lets_the_next_one_through() {
    let place = Place::new();
    let (locks, others) = two(&place).await;
    let guard = others.lock("a").await.expect("taken");
    let mut first = Box::pin(locks.lock("a"));
    assert!(cut_off(&mut first, 1, Duration::from_millis(20)).await.is_none());
    let behind = locks.clone();
    let second = tokio::spawn(async move { behind.lock("a").await.expect("taken") });
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(first);
    guard.release().await.expect("released");
    assert!(tokio::time::timeout(SOON, second).await.expect("soon").expect("no panic").is_held());
}

#[tokio::test]
async fn a_release_dropped_anywhere_is_done_all_the_same() {
    let place = Place::new();
    let (locks, others) = two(&place).await;
    let mut confirmed = 0;
    for (polls, delay) in moments() {
        let guard = locks.lock("a").await.expect("taken");
        if let Some(result) = cut_off(guard.release(), polls, delay).await {
            result.expect("released");
            confirmed += 1;
        }
        is_freed(&locks, &others, "a").await;
    }
    assert!((1..20).contains(&confirmed), "{confirmed}");
}

#[tokio::test]
async fn work_under_a_lock_dropped_anywhere_frees_it_afterwards() {
    struct Work<'a>(&'a Guard);
    impl Drop for Work<'_> {
        fn drop(&mut self) {
            assert!(self.0.is_held(), "the work ends before the lock");
        }
    }
    let place = Place::new();
    let (locks, others) = two(&place).await;
    for (polls, delay) in moments() {
        let work = async |guard: &Guard| {
            let _work = Work(guard);
            std::future::pending::<()>().await
        };
        assert!(cut_off(locks.with_lock("a", work), polls, delay).await.is_none());
        is_freed(&locks, &others, "a").await;
    }
}

#[tokio::test]
async fn connecting_dropped_anywhere_harms_nothing() {
    let place = Place::new();
    for (polls, delay) in moments() {
        let config = lock_async::Config::sqlite(place.path());
        drop(cut_off(Locks::open(config), polls, delay).await);
    }
    let (locks, others) = two(&place).await;
    is_freed(&locks, &others, "a").await;
}

#[tokio::test]
async fn a_panic_while_waiting_or_holding_leaves_nothing() {
    let place = Place::new();
    let (locks, others) = two(&place).await;
    let guard = others.lock("a").await.expect("taken");
    let (waiting, holding) = (locks.clone(), locks.clone());
    // It borrows nothing of the locks.
    let waiter = waiting.acquire("a").on_waiting(|_| panic!("on purpose")).into_future();
    drop(waiting);
    let waiter = tokio::spawn(async { waiter.await.map(drop) });
    assert!(waiter.await.expect_err("a panic").is_panic());
    let holder = tokio::spawn(async move {
        let _guard = holding.lock("b").await.expect("taken");
        panic!("on purpose");
    });
    assert!(holder.await.expect_err("a panic").is_panic());
    guard.release().await.expect("released");
    is_freed(&locks, &others, "a").await;
    is_freed(&locks, &others, "b").await;
}

/// As after a `select!` on `&mut future`.
#[tokio::test]
async fn an_acquire_that_is_kept_unpolled_holds_its_lock_until_it_is_dropped() {
    let place = Place::new();
    let config = Config::sqlite(place.path()).ttl(LONG).request_timeout(Duration::from_secs(1));
    let locks = Locks::open(config.clone()).await.expect("opened");
    let (others, mut admin) = (place.locks(LONG).await, Admin::open(config).await.expect("opened"));
    let first = others.lock("a").await.expect("acquired");
    let mut kept = Box::pin(locks.lock("a"));
    let polled = poll_fn(|cx| Poll::Ready(kept.as_mut().poll(cx).is_pending())).await;
    assert!(polled, "another has it");
    first.release().await.expect("released");
    let granted = async {
        while admin.status("a").await.expect("asked").and_then(|lock| lock.hold).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, granted).await.expect("soon");
    // The task asks for this one after it has the answer about the other.
    locks.lock("b").await.expect("acquired").release().await.expect("released");
    assert_eq!(locks.shutdown().await, Err(ShutdownError::Held { guards: 1 }));
    drop(kept);
    assert!(others.try_lock_for("a", SOON).await.expect("asked").is_some());
}
