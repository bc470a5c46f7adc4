//! lock-async on servers that vanish, freeze and come back; futures dropped in the middle of it.

use lock_async::{Config, Error, Guard, Locks, LostReason, ReleaseError, TableName};
use lock_tests::place::{Place, client};
use lock_tests::proxy::{Mode, Proxy, server_of};
use lock_tests::servers::Server;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

const TTL: Duration = Duration::from_secs(6);
/// For which a lease of that TTL counts.
const VALID: Duration = Duration::from_millis(4999);
const LONG: Duration = Duration::from_secs(30);
/// Soon: nobody waited for a lease of [`LONG`] to run out.
const SOON: Duration = Duration::from_secs(10);
/// Timers are late, and the machine is shared: as late as the next holder may enter. A hung request would be later.
const LATE: Duration = Duration::from_secs(1);

async fn connect(place: &Place, ttl: Duration) -> Locks {
    Locks::open(place.config(ttl)).await.expect("connected")
}

/// A place, the same behind a proxy, and the proxy.
fn proxied() -> (Place, Place, Proxy) {
    let direct = Place::postgres();
    let proxy = Proxy::start(&server_of(direct.url()));
    let through = direct.through(&proxy.url(direct.url()));
    (direct, through, proxy)
}

/// Lets the connection prepare its statements, so that the next acquire is one message.
async fn warm_up(locks: &Locks) {
    for _ in 0..3 {
        locks.lock("a").await.expect("taken").release().await.expect("released");
    }
}

/// How many of our connections the server has, by their name.
async fn connections(place: &Place, name: &str) -> i64 {
    let (url, name) = (place.url().to_string(), name.to_string());
    let count = move || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        client(&url).query_one(sql, &[&name]).expect("counted").get(0)
    };
    spawn_blocking(count).await.expect("no panic")
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_silent_network_means_lost_by_the_deadline() {
    let (direct, through, proxy) = proxied();
    let (locks, others) = (connect(&through, TTL).await, connect(&direct, TTL).await);
    let guard = locks.lock("a").await.expect("taken");
    let silent = Instant::now();
    proxy.set(Mode::Hole);
    let next = tokio::spawn(async move {
        let next = others.try_lock_for("a", TTL * 4).await.expect("asked").expect("taken over");
        (next, silent.elapsed())
    });
    let reason = tokio::select! {
        reason = guard.lost() => reason,
        () = sleep(TTL * 4) => panic!("not told"),
    };
    let lost_after = silent.elapsed();
    assert!(matches!(reason, LostReason::Deadline { .. }), "{reason:?}");
    assert!(lost_after <= VALID + LATE, "told {lost_after:?} after the last sign of life");
    assert!(!guard.is_held());
    let (next, taken_over) = next.await.expect("no panic");
    assert!(taken_over >= TTL / 2, "not before it expired: {taken_over:?}");
    let began = Instant::now();
    assert_eq!(guard.release().await, Err(ReleaseError::Lost(reason)));
    assert!(began.elapsed() < LATE, "that is known without asking");
    assert!(next.is_held());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_frozen_server_hangs_nobody() {
    let server = std::sync::Arc::new(spawn_blocking(Server::postgres).await.expect("no panic"));
    let place = Place::at(server.url());
    let locks = connect(&place, TTL).await;
    let (guard, kept) = tokio::join!(locks.lock("a"), locks.lock("d"));
    let (guard, kept) = (guard.expect("taken"), kept.expect("taken"));
    let freeze = server.clone();
    spawn_blocking(move || freeze.pause()).await.expect("no panic");
    let frozen = Instant::now();
    let hung = async { (locks.try_lock("b").await.map(drop), frozen.elapsed()) };
    let limit = Duration::from_millis(500);
    let bounded = async { (locks.try_lock_for("c", limit).await.map(drop), frozen.elapsed()) };
    let released = async { (kept.release().await, frozen.elapsed()) };
    let lost = async { (guard.lost().await, frozen.elapsed()) };
    let (hung, bounded, released, lost) = tokio::join!(hung, bounded, released, lost);
    assert!(matches!(lost.0, LostReason::Deadline { .. }), "{:?}", lost.0);
    assert!(lost.1 <= VALID + LATE, "a hung request delays no loss: {:?}", lost.1);
    for (result, after) in [hung, bounded] {
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
        assert!(after < VALID + LATE, "two request budgets at most: {after:?}");
    }
    assert!(matches!(released.0, Err(ReleaseError::Unconfirmed { .. })), "{released:?}");
    assert!(released.1 <= VALID / 2 + LATE, "two request budgets at most: {released:?}");
    let thaw = server.clone();
    spawn_blocking(move || thaw.resume()).await.expect("no panic");
    let freed = locks.try_lock_for("a", SOON * 2).await.expect("asked");
    assert!(freed.expect("it works again").is_held());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn an_acquire_whose_answer_is_lost_is_settled_at_once() {
    let (_, through, proxy) = proxied();
    let locks = connect(&through, LONG).await;
    warm_up(&locks).await;
    proxy.set(Mode::NoReplies);
    let wanted = locks.clone();
    let taken = tokio::spawn(async move { wanted.lock("a").await.expect("taken") });
    sleep(Duration::from_millis(300)).await;
    assert!(!taken.is_finished());
    proxy.cut(false);
    proxy.set(Mode::Pass);
    // The server had granted it: the same owner gets it again, without waiting for the TTL.
    let guard = timeout(SOON, taken).await.expect("soon").expect("no panic");
    guard.release().await.expect("released");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_dropped_acquire_whose_answer_is_lost_leaks_nothing() {
    let (direct, through, proxy) = proxied();
    let (locks, others) = (connect(&through, LONG).await, connect(&direct, LONG).await);
    warm_up(&locks).await;
    proxy.set(Mode::NoReplies);
    let dropped = timeout(Duration::from_secs(2), locks.lock("a")).await;
    assert!(dropped.is_err());
    assert!(others.try_lock("a").await.expect("asked").is_none(), "the server had granted it");
    proxy.cut(false);
    proxy.set(Mode::Pass);
    let freed = others.try_lock_for("a", SOON).await.expect("asked");
    assert!(freed.is_some(), "freed, not run out");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn futures_dropped_at_any_time_leave_nothing() {
    let direct = Place::postgres();
    let (locks, others) = (connect(&direct, LONG).await, connect(&direct, LONG).await);
    let began = Instant::now();
    warm_up(&locks).await;
    let step = began.elapsed() / 150;
    let (mut dropped, mut granted) = (0, 0);
    for round in 0..300 {
        let limit = step * round;
        let wanted = locks.clone();
        // tokio's timers are too coarse.
        let task = tokio::spawn(async move { wanted.lock("a").await });
        let began = Instant::now();
        while began.elapsed() < limit && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        task.abort();
        match task.await {
            Err(_) => dropped += 1,
            Ok(guard) => {
                granted += 1;
                let release = guard.expect("taken").release();
                let _ = timeout(limit / 4, release).await;
            }
        }
    }
    assert!(dropped > 0 && granted > 0, "{dropped} dropped, {granted} granted");
    for locks in [&others, &locks] {
        let freed = locks.try_lock_for("a", SOON).await.expect("asked").expect("freed");
        freed.release().await.expect("released");
    }
    println!("{dropped} dropped, {granted} granted");
}

/// Bytes are missing on the old connection: whatever came over it would be the wrong answer.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_connection_that_missed_an_answer_is_not_used_again() {
    let (direct, through, proxy) = proxied();
    // TLS would notice that bytes are missing.
    let through = direct.through(&format!("{}?sslmode=disable", through.url()));
    let locks = connect(&through, TTL).await;
    warm_up(&locks).await;
    for mode in [Mode::Hole, Mode::NoReplies] {
        let before = proxy.connections();
        proxy.set(mode);
        let hung = locks.try_lock("a").await;
        assert!(matches!(hung, Err(Error::Unavailable(_))), "{mode:?}: {hung:?}");
        proxy.set(Mode::Pass);
        let guard = locks.try_lock_for("a", SOON).await.expect("asked").expect("free");
        guard.release().await.expect("released");
        assert!(proxy.connections() > before);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_cut_connection_loses_nothing() {
    let (_, through, proxy) = proxied();
    let locks = connect(&through, TTL).await;
    let guard = locks.lock("a").await.expect("taken");
    for _ in 0..3 {
        proxy.cut(false);
        sleep(TTL / 2).await;
        assert!(guard.is_held());
    }
    guard.release().await.expect("still ours");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_connection_that_ended_while_idle_is_replaced_before_it_is_used() {
    let place = Place::postgres();
    let name = format!("idle_{}", place.table());
    let url = format!("{}?application_name={name}&table={}", place.url(), place.table());
    let locks = Locks::connect(&url).await.expect("connected");
    warm_up(&locks).await;
    let (server, named) = (place.url().to_string(), name.clone());
    spawn_blocking(move || {
        let sql =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        assert_eq!(client(&server).execute(sql, &[&named]).expect("ended"), 1);
    })
    .await
    .expect("no panic");
    sleep(Duration::from_millis(100)).await;
    let mut news = Vec::new();
    let guard = locks.acquire("a").on_waiting(|what| news.push(what.clone())).await;
    assert!(guard.is_ok() && news.is_empty(), "no trouble on the way: {news:?}");
    assert_eq!(connections(&place, &name).await, 1);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn an_outage_is_waited_out_without_spinning() {
    let (_, through, proxy) = proxied();
    let locks = connect(&through, LONG).await;
    let guard = locks.lock("held").await.expect("taken");
    let before = proxy.connections();
    proxy.cut(true);
    let wanted = locks.clone();
    let waiter = tokio::spawn(async move { wanted.lock("a").await.expect("taken") });
    assert!(matches!(locks.try_lock("b").await, Err(Error::Unavailable(_))));
    sleep(Duration::from_secs(5)).await;
    // A waiter and a holder, each backing off up to a second, over some fifteen seconds.
    let tries = proxy.connections() - before;
    assert!((5..=100).contains(&tries), "{tries} connections were tried");
    proxy.cut(false);
    waiter.await.expect("no panic").release().await.expect("released");
    assert!(guard.is_held());
    guard.release().await.expect("released");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn dropping_the_locks_ends_the_connection_and_the_task() {
    let (direct, through, proxy) = proxied();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let name = format!("drop_{}", direct.table());
    for hung in [false, true] {
        let url =
            format!("{}?application_name={name}&ttl=6s&table={}", through.url(), direct.table());
        let locks = Locks::connect(&url).await.expect("connected");
        warm_up(&locks).await;
        assert_eq!(connections(&direct, &name).await, 1);
        let guard = locks.lock("a").await.expect("taken");
        if hung {
            proxy.set(Mode::Hole);
            let dropped = timeout(Duration::from_millis(50), locks.lock("b")).await;
            assert!(dropped.is_err());
        }
        drop(locks);
        assert!(guard.is_held(), "a guard keeps it");
        drop(guard);
        let began = Instant::now();
        while tasks() > before || connections(&direct, &name).await > 0 {
            assert!(began.elapsed() < SOON, "{} tasks", tasks() - before);
            sleep(Duration::from_millis(20)).await;
        }
        println!("hung: {hung}; ended after {:?}", began.elapsed());
        // Two requests' patience, and what is under way then.
        let limit = if hung { VALID / 4 * 3 } else { Duration::ZERO };
        assert!(began.elapsed() <= limit + LATE * 2, "{:?}", began.elapsed());
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_client_of_the_callers_works_until_it_is_closed() {
    let place = Place::postgres();
    let table = TableName::new(place.table()).expect("good");
    let connecting = tokio_postgres::connect(place.url(), tokio_postgres::NoTls);
    let (own, connection) = connecting.await.expect("connected");
    let connection = tokio::spawn(connection);
    let pid: i32 = own.query_one("SELECT pg_backend_pid()", &[]).await.expect("asked").get(0);
    let opening = Locks::with_postgres(own, Config::new().table(table));
    let locks = opening.await.expect("connected");
    locks.lock("a").await.expect("taken").release().await.expect("released");
    let url = place.url().to_string();
    let end = move || client(&url).execute("SELECT pg_terminate_backend($1)", &[&pid]);
    spawn_blocking(end).await.expect("no panic").expect("ended");
    assert!(connection.await.expect("no panic").is_err());
    let error = locks.try_lock("a").await.expect_err("there is no way back");
    assert!(matches!(error, Error::NoConnection(_)), "{error:?}");
}

/// Hundreds of tasks on one connection, on a runtime with several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn hundreds_of_tasks_share_a_connection() {
    let place = Place::postgres();
    let locks = connect(&place, LONG).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..400 {
        let locks = locks.clone();
        tasks.spawn(async move {
            let name = format!("n{}", n % 40);
            for _ in 0..5 {
                let guard: Guard = locks.lock(&name).await.expect("taken");
                assert!(guard.is_held());
                guard.release().await.expect("released");
            }
        });
    }
    let began = Instant::now();
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    println!("2000 locks taken and released in {:?}", began.elapsed());
}
