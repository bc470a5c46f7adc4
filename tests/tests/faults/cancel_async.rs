//! lock-async's futures dropped at many points, wherever locks are kept: nothing stays behind, and
//! every connection stays in step.

use lock_async::{Error, Guard, Locks};
use lock_tests::place::Place;
use lock_tests::proxy::{Mode, Proxy, server_of};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(30);
/// Soon: nobody waited for a lease of [`LONG`] to run out, nor for a lock-delay.
const SOON: Duration = Duration::from_secs(10);

macro_rules! cancel {
    ($($name:ident)*) => {
        at! { postgres "needs a PostgreSQL server: tests/run starts one": $($name)* }
        at! { mysql "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mariadb "needs a MariaDB server: tests/run starts one": $($name)* }
        at! { postgres_advisory "needs a PostgreSQL server: tests/run starts one": $($name)* }
        at! { mysql_advisory "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mariadb_advisory "needs a MariaDB server: tests/run starts one": $($name)* }
        at! { consul "needs a Consul server: tests/run starts one": $($name)* }
    };
}

macro_rules! at {
    ($place:ident $needs:literal: $($name:ident)*) => {
        mod $place {
            $(#[tokio::test]
            #[ignore = $needs]
            async fn $name() {
                let place = tokio::task::spawn_blocking(crate::cancel_async::Place::$place);
                let place = place.await.expect("a place");
                crate::cancel_async::$name(&place).await;
                tokio::task::spawn_blocking(move || drop(place)).await.expect("no panic");
            })*
        }
    };
}

cancel! {
    acquires_and_releases_dropped_at_any_time_leave_nothing
    waits_dropped_at_any_time_leave_nothing
    many_waits_dropped_at_once_leave_nothing
    connecting_may_be_dropped_at_any_time
    tasks_and_connections_end_with_the_last_handle
    a_connection_that_missed_an_answer_is_not_used_again
}

async fn connect(place: &Place) -> Locks {
    Locks::open(place.config(LONG)).await.expect("connected")
}

/// Lets a task run for that long, and drops it where it is; its result if it was faster.
async fn cut<T>(task: JoinHandle<T>, after: Duration) -> Option<T> {
    let began = Instant::now();
    // tokio's timers are too coarse.
    while began.elapsed() < after && !task.is_finished() {
        tokio::task::yield_now().await;
    }
    task.abort();
    task.await.ok()
}

/// Shows that soon nobody has the name, and that the connections work.
async fn is_freed(name: &str, all: [&Locks; 2]) {
    for locks in all {
        let began = Instant::now();
        let guard = timeout(SOON, locks.lock(name)).await.expect("freed").expect("asked");
        assert!(guard.is_held());
        guard.release().await.expect("released");
        println!("{name} was free after {:?}", began.elapsed());
    }
}

async fn acquires_and_releases_dropped_at_any_time_leave_nothing(place: &Place) {
    let (locks, others) = (connect(place).await, connect(place).await);
    // A session that is opened for nobody any more is closed; this one is there.
    locks.lock("a").await.expect("taken").release().await.expect("released");
    let began = Instant::now();
    locks.lock("a").await.expect("taken").release().await.expect("released");
    // Cut at moments up to four times as long after the beginning, however slow the machine is.
    let step = began.elapsed() / 50;
    let (mut dropped, mut granted) = (0, 0);
    for round in 0..200 {
        let wanted = locks.clone();
        match cut(tokio::spawn(async move { wanted.lock("a").await }), step * round).await {
            None => dropped += 1,
            Some(guard) => {
                granted += 1;
                let release = tokio::spawn(guard.expect("taken").release());
                cut(release, step * round / 4).await;
            }
        }
    }
    assert!(dropped > 0 && granted > 0, "{dropped} dropped, {granted} granted");
    is_freed("a", [&others, &locks]).await;
}

async fn waits_dropped_at_any_time_leave_nothing(place: &Place) {
    let (locks, others) = (connect(place).await, connect(place).await);
    let guard = others.lock("a").await.expect("taken");
    for round in 0..60 {
        let wanted = locks.clone();
        let wait = tokio::spawn(async move { wanted.lock("a").await.map(drop) });
        assert!(cut(wait, Duration::from_micros(round * 500)).await.is_none(), "it is taken");
    }
    assert!(guard.is_held());
    // One is dropped while the lock is being handed over.
    for round in 0..20 {
        let guard = match round {
            0 => None,
            _ => Some(timeout(SOON, others.lock("b")).await.expect("freed").expect("asked")),
        };
        let wanted = locks.clone();
        let wait = tokio::spawn(async move { wanted.lock("b").await.map(drop) });
        sleep(Duration::from_millis(30)).await;
        drop(guard);
        cut(wait, Duration::from_micros(round * 200)).await;
    }
    guard.release().await.expect("released");
    is_freed("a", [&locks, &others]).await;
    is_freed("b", [&locks, &others]).await;
}

async fn many_waits_dropped_at_once_leave_nothing(place: &Place) {
    let (locks, others) = (connect(place).await, connect(place).await);
    let guard = others.lock("a").await.expect("taken");
    let waits: Vec<_> = (0..40)
        .map(|_| {
            let wanted = locks.clone();
            tokio::spawn(async move { wanted.lock("a").await })
        })
        .chain((0..20).map(|n| {
            let wanted = locks.clone();
            tokio::spawn(async move { wanted.lock(&format!("n{n}")).await })
        }))
        .collect();
    sleep(Duration::from_millis(300)).await;
    for wait in waits {
        wait.abort();
        if let Ok(guard) = wait.await {
            // Those that nobody else wants were granted, and are dropped here.
            assert!(guard.expect("taken").is_held());
        }
    }
    let other = timeout(SOON, locks.lock("other")).await.expect("not held up").expect("asked");
    other.release().await.expect("released");
    assert!(guard.is_held());
    guard.release().await.expect("released");
    is_freed("a", [&locks, &others]).await;
    is_freed("n7", [&others, &locks]).await;
}

async fn connecting_may_be_dropped_at_any_time(place: &Place) {
    let others = connect(place).await;
    // A server gives no advisory lock away in its first TTL.
    others.lock("b").await.expect("taken").release().await.expect("released");
    let before = Handle::current().metrics().num_alive_tasks();
    let (mut dropped, mut connected) = (0, 0);
    for round in 0..60 {
        let config = place.config(LONG);
        match cut(tokio::spawn(Locks::open(config)), Duration::from_micros(round * 500)).await {
            None => dropped += 1,
            Some(locks) => {
                connected += 1;
                drop(locks.expect("connected"));
            }
        }
    }
    assert!(dropped > 0, "{dropped} dropped, {connected} connected");
    ended(before).await;
    is_freed("a", [&others, &others]).await;
}

async fn tasks_and_connections_end_with_the_last_handle(place: &Place) {
    let before = Handle::current().metrics().num_alive_tasks();
    let (locks, others) = (connect(place).await, connect(place).await);
    let guard: Guard = others.lock("a").await.expect("taken");
    let wanted = locks.clone();
    let wait = tokio::spawn(async move { wanted.lock("a").await.map(drop) });
    sleep(Duration::from_millis(200)).await;
    wait.abort();
    assert!(wait.await.is_err());
    drop(locks);
    drop(others);
    assert!(guard.is_held(), "a guard keeps it");
    drop(guard);
    ended(before).await;
    let locks = connect(place).await;
    is_freed("a", [&locks, &locks]).await;
}

/// Bytes are missing on the old connection: whatever came over it would be the wrong answer.
async fn a_connection_that_missed_an_answer_is_not_used_again(place: &Place) {
    let proxy = Proxy::start(&server_of(place.url()));
    // TLS would notice that bytes are missing.
    let through = place.through(&format!("{}?sslmode=disable", proxy.url(place.url())));
    let config = through.config(Duration::from_secs(3));
    let locks = Locks::open(config).await.expect("connected");
    for mode in [Mode::Hole, Mode::NoReplies] {
        for _ in 0..3 {
            locks.lock("a").await.expect("taken").release().await.expect("released");
        }
        let before = proxy.connections();
        proxy.set(mode);
        let hung = locks.try_lock("a").await.map(drop);
        assert!(matches!(hung, Err(Error::Unavailable(_))), "{mode:?}: {hung:?}");
        proxy.set(Mode::Pass);
        for _ in 0..3 {
            let guard = timeout(SOON, locks.lock("a")).await.expect("soon").expect("taken");
            guard.release().await.expect("released");
        }
        assert!(proxy.connections() > before);
    }
}

/// Waits until no more tasks are alive than there were, which must be soon.
async fn ended(before: usize) {
    let began = Instant::now();
    while Handle::current().metrics().num_alive_tasks() > before {
        assert!(began.elapsed() < SOON, "a task goes on");
        sleep(Duration::from_millis(5)).await;
    }
}
