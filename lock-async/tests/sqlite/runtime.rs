//! Runtimes that end, and calls from outside of any.

use crate::{LONG, Place, is_freed};
use lock_async::{Config, ConfigError, Error, Locks, LostReason, ReleaseError};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build().expect("a runtime"),
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"),
    ]
}

#[test]
fn a_runtime_that_ends_loses_the_guards_and_nobody_panics() {
    for first in runtimes() {
        let place = Place::new();
        let locks = first.block_on(place.locks(LONG));
        let guards = first.block_on(async {
            [locks.lock("a").await.expect("taken"), locks.lock("b").await.expect("taken")]
        });
        // Somebody waits while it ends, and a request may be under way.
        let waiting = locks.clone();
        first.spawn(async move { waiting.lock("a").await.map(drop) });
        first.block_on(tokio::task::yield_now());
        drop(first);

        let [a, b] = guards;
        assert!(!a.is_held(), "nobody renews it any more");
        drop(b);
        let [second, _] = runtimes();
        second.block_on(async {
            let reason = a.lost().await;
            assert_eq!(reason, LostReason::Unattended, "no deadline has passed");
            assert!(reason.to_string().contains("runtime"), "{reason}");
            assert_eq!(a.release().await, Err(ReleaseError::Lost(reason)));
            assert_eq!(locks.lock("a").await.map(drop), Err(Error::Closed));
        });
        locks.close();
    }
}

#[test]
fn guards_and_locks_may_be_dropped_outside_of_any_runtime() {
    for runtime in runtimes() {
        let place = Place::new();
        let (locks, others) =
            runtime.block_on(async { (place.locks(LONG).await, place.locks(LONG).await) });
        let guard = runtime.block_on(locks.lock("a")).expect("taken");
        std::thread::spawn(move || drop(guard)).join().expect("no panic");
        runtime.block_on(is_freed(&locks, &others, "a"));
        std::thread::spawn(move || drop(locks)).join().expect("no panic");
    }
}

#[test]
fn locks_may_be_used_on_another_runtime() {
    let [first, _] = runtimes();
    let place = Place::new();
    // The first one's thread must run for the task to run.
    let (locks, others) =
        first.block_on(async { (place.locks(LONG).await, place.locks(LONG).await) });
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || first.block_on(async { drop(ended.await) }));
    for second in runtimes() {
        second.block_on(is_freed(&locks, &others, "a"));
    }
    drop(end);
    thread.join().expect("no panic");
}

#[test]
fn without_a_runtime_connecting_is_an_error() {
    let place = Place::new();
    let connecting = pin!(Locks::open(Config::sqlite(place.path())));
    let mut cx = Context::from_waker(Waker::noop());
    let std::task::Poll::Ready(result) = connecting.poll(&mut cx) else { panic!("pending") };
    assert_eq!(result.map(drop), Err(Error::Config(ConfigError::NoRuntime)));
}

#[tokio::test]
async fn a_last_guard_is_released_though_the_locks_are_gone() {
    let place = Place::new();
    let (locks, others) = (place.locks(LONG).await, place.locks(LONG).await);
    let guard = locks.lock("a").await.expect("taken");
    drop(locks);
    assert!(others.try_lock("a").await.expect("asked").is_none(), "a guard keeps its task");
    drop(guard);
    let freed = others.try_lock_for("a", crate::SOON).await.expect("asked");
    assert!(freed.is_some(), "the task ends after the release, not before");
}

#[tokio::test]
async fn the_task_and_its_thread_end_with_the_last_handle() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("tasks").flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "lock sqlite").count()
    };
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let place = Place::new();
    // Other tests of this process have such threads too: these are more than they ever have.
    let before = tasks();
    let mut all = Vec::new();
    for _ in 0..100 {
        let locks = place.locks(LONG).await;
        let guard = locks.lock(&format!("n{}", all.len())).await.expect("taken");
        all.push((locks.clone(), locks, guard));
    }
    assert!(threads() >= 100 && tasks() == before + 100);
    drop(all);
    let began = Instant::now();
    while threads() >= 90 || tasks() > before {
        assert!(began.elapsed() < crate::SOON, "{} threads, {} tasks", threads(), tasks());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn shutdown_at_the_end_of_main_frees_what_was_dropped_before() {
    for orderly in [false, true] {
        let place = Place::new();
        let [main, elsewhere] = runtimes();
        let others = elsewhere.block_on(place.locks(LONG));
        let end = main.block_on(async {
            let locks = place.locks(LONG).await;
            drop(locks.lock("a").await.expect("taken"));
            if orderly { locks.shutdown().await } else { Ok(()) }
        });
        assert_eq!(end, Ok(()));
        drop(main);
        let freed = elsewhere.block_on(others.try_lock("a")).expect("asked").is_some();
        assert_eq!(freed, orderly, "else it stays taken for an hour");
    }
}

#[test]
fn shutdown_works_on_every_runtime_and_closes_the_file() {
    let files = || {
        let files = std::fs::read_dir("/proc/self/fd").expect("files").flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect::<Vec<_>>()
    };
    for runtime in runtimes() {
        let place = Place::new();
        let locks = runtime.block_on(place.locks(LONG));
        let guard = runtime.block_on(locks.lock("a")).expect("taken");
        assert!(files().contains(&place.path()));
        // Guards and clones may be elsewhere.
        std::thread::spawn(move || drop(guard)).join().expect("no panic");
        assert_eq!(runtime.block_on(locks.shutdown()), Ok(()));
        assert!(!files().contains(&place.path()), "closed");
        assert_eq!(runtime.block_on(locks.lock("a")).map(drop), Err(Error::Closed));
        let others = runtime.block_on(place.locks(LONG));
        assert!(runtime.block_on(others.try_lock("a")).expect("asked").is_some());
    }
}
