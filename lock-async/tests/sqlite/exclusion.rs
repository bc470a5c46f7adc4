//! One guard of a name at a time.

use crate::{LONG, Place, SOON};
use lock_async::{Busy, Config, Error, Locks, Progress};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_taken_lock_is_not_taken_again() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let guard = ours.lock("a").await.expect("taken");
    assert!(theirs.try_lock("a").await.expect("asked").is_none(), "by another connection");
    assert!(ours.try_lock("a").await.expect("asked").is_none(), "nothing is re-entrant");
    assert!(theirs.try_lock("b").await.expect("asked").is_some(), "another lock");
    let fence = guard.fence();
    guard.release().await.expect("released");
    assert!(theirs.lock("a").await.expect("taken").fence() > fence);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_on_many_connections_exclude_each_other() {
    let place = Place::new();
    let inside = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let locks = place.locks(LONG).await;
        for _ in 0..4 {
            let (locks, inside) = (locks.clone(), inside.clone());
            tasks.spawn(async move {
                for _ in 0..10 {
                    let guard = locks.lock("a").await.expect("taken");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    tokio::task::yield_now().await;
                    assert!(guard.is_held());
                    inside.fetch_sub(1, Ordering::SeqCst);
                    guard.release().await.expect("released");
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
}

#[tokio::test]
async fn a_thousand_locks_on_one_connection() {
    let place = Place::new();
    let (locks, others) = (place.locks(LONG).await, place.locks(LONG).await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let locks = locks.clone();
        tasks.spawn(async move { locks.lock(&format!("n{n}")).await.expect("taken") });
    }
    let guards = tasks.join_all().await;
    assert!(guards.iter().all(lock_async::Guard::is_held));
    assert!(others.try_lock("n500").await.expect("asked").is_none());
    drop(guards);
    for n in [0, 500, 999] {
        let freed = others.try_lock_for(&format!("n{n}"), SOON).await;
        assert!(freed.expect("asked").is_some());
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_lock_or_in_time() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let guard = ours.lock("a").await.expect("taken");
    let (began, limit) = (Instant::now(), Duration::from_millis(200));
    assert!(theirs.try_lock_for("a", limit).await.expect("asked").is_none());
    assert!(began.elapsed() >= limit);
    let waiter = tokio::spawn(async move { theirs.lock("a").await.expect("taken") });
    tokio::time::sleep(limit).await;
    assert!(!waiter.is_finished());
    drop(guard);
    assert!(waiter.await.expect("no panic").is_held());
}

#[tokio::test]
async fn who_waits_is_told_who_is_in_the_way() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let _guard = ours.lock("a").await.expect("taken");
    let mut told = Vec::new();
    let waiting = theirs.acquire("a").timeout(Duration::from_millis(200));
    let error = waiting.on_waiting(|news| told.push(news.clone())).await.map(drop);
    // At the first denial, and once more by the error.
    let Err(Error::Busy(busy)) = error else { panic!("{error:?}") };
    assert!(busy.to_string().starts_with("someone else holds \"a\": "), "{busy}");
    told.push(Progress::Busy(*busy));
    let pid = format!("pid {}", std::process::id());
    assert_eq!(told.len(), 2, "{told:?}");
    for news in &told {
        let Progress::Busy(Busy { holder: Some(holder), .. }) = news else { panic!("{told:?}") };
        assert!(holder.label.contains(&pid), "{holder:?}");
    }
}

#[tokio::test]
async fn with_lock_holds_the_lock_as_long_as_the_work_takes() {
    let place = Place::new();
    let locks = place.locks(LONG).await;
    let seen = locks
        .with_lock("a", async |guard| {
            tokio::task::yield_now().await;
            (guard.is_held(), locks.try_with_lock("a", async |_| ()).await)
        })
        .await;
    assert_eq!(seen, Ok((true, Ok(None))));
    assert_eq!(locks.try_with_lock("a", async |_| 7).await, Ok(Some(7)));
    assert!(locks.try_lock("a").await.expect("asked").is_some(), "free right after");
}

#[tokio::test]
async fn closing_ends_waits_and_leaves_guards() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let guard = ours.lock("a").await.expect("taken");
    let other = theirs.lock("b").await.expect("taken");
    let waiting = theirs.clone();
    let waiter = tokio::spawn(async move { waiting.lock("a").await.map(drop) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    theirs.close();
    assert_eq!(waiter.await.expect("no panic"), Err(Error::Closed));
    assert_eq!(theirs.try_lock("c").await.map(drop), Err(Error::Closed));
    assert!(other.is_held());
    other.release().await.expect("a guard can be released all the same");
    guard.release().await.expect("released");
    assert!(place.locks(LONG).await.try_lock("a").await.expect("asked").is_some());
}

#[tokio::test]
async fn a_connection_of_the_callers_is_used() {
    let place = Place::new();
    let opening = Locks::with_sqlite(place.raw(), Config::new().label("own"));
    let locks = opening.await.expect("connected");
    let guard = locks.lock("a").await.expect("taken");
    assert!(place.locks(LONG).await.try_lock("a").await.expect("asked").is_none());
    guard.release().await.expect("released");
}

/// A holder may keep the lock for longer than a waiter's lease would last.
#[tokio::test]
async fn a_wait_without_a_limit_outlasts_the_leases() {
    const TTL: Duration = Duration::from_secs(1);
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(TTL).await);
    let guard = ours.lock("a").await.expect("taken");
    let free = async {
        tokio::time::sleep(TTL * 5 / 2).await;
        guard.release().await
    };
    let (freed, waited) = tokio::join!(free, theirs.lock("a"));
    assert!(freed.is_ok() && waited.is_ok(), "{waited:?}");
}
