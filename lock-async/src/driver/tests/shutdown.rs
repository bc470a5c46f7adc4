//! Tests of `shutdown`.

use super::*;
use lock_core::Timing;
use lock_core::config::ShutdownError;
use lock_shared::check::Check;
use std::future::{Future, poll_fn};
use std::task::Poll;

/// A day: no test waits for the end of a lease.
const TTL: Duration = Duration::from_secs(86_400);
/// Two of these bound a shutdown.
const REQUEST: Duration = Duration::from_millis(200);
/// A test that takes longer hangs.
const LATE: Duration = Duration::from_secs(20);

fn timing() -> Timing {
    Timing::new(TTL).and_then(|timing| timing.with_request(REQUEST)).expect("good")
}

fn table(fake: &Fake) -> Locks {
    let engine = Engine::new(table::capabilities("me", false), Config::new(timing(), 1));
    let driver = Driver::start(engine, One(Some(fake.clone())), TTL);
    Locks::with(driver, Check::default())
}

async fn shut_down(locks: &Locks) -> Result<(), ShutdownError> {
    tokio::time::timeout(LATE, locks.shutdown()).await.expect("bounded in time")
}

fn ended(fake: &Fake) -> Vec<&'static str> {
    fake.0.ended.lock().expect("unpoisoned").clone()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn shutdown_sends_what_was_dropped_and_ends_the_task() {
    let fake = Fake::default();
    let locks = table(&fake);
    assert_eq!(tasks(), 1);
    let clone = locks.clone();
    drop([locks.lock("a").await.expect("taken"), locks.lock("b").await.expect("taken")]);
    assert_eq!(shut_down(&locks).await, Ok(()));
    assert_eq!(ended(&fake).last(), Some(&"release"));
    assert!(fake.0.closed.load(Ordering::SeqCst), "the connection, too");
    until(|| tasks() == 0).await;
    assert_eq!(clone.lock("a").await.map(drop), Err(crate::Error::Closed));
    assert_eq!(shut_down(&clone).await, Ok(()), "again");
}

/// Nothing wakes the task any more, and its timer is for requests that hang.
#[tokio::test]
async fn a_shutdown_with_nothing_to_free_ends_at_once() {
    let timing = Timing::new(TTL).and_then(|timing| timing.with_request(LATE * 3)).expect("good");
    for is_used in [false, true] {
        let engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
        let driver = Driver::start(engine, One(Some(Fake::default())), TTL);
        let locks = Locks::with(driver, Check::default());
        if is_used {
            let guard = locks.lock("a").await.expect("taken");
            guard.release().await.expect("confirmed");
        }
        assert_eq!(shut_down(&locks).await, Ok(()), "used: {is_used}");
    }
}

#[tokio::test]
async fn shutdown_ends_waits() {
    let server = Server::default();
    let locks = server.locks(30);
    let wait = tokio::spawn({
        let locks = locks.clone();
        async move { locks.lock("a").await.map(drop) }
    });
    until(|| server.waiting() == 1).await;
    assert_eq!(shut_down(&locks).await, Ok(()));
    assert_eq!(wait.await.expect("no panic"), Err(crate::Error::Closed));
    assert_eq!(*server.0.left.lock().expect("unpoisoned"), [0], "the home said goodbye");
}

/// The task hears of both at once. A denied attempt is not released, for no answer would come to that.
#[tokio::test]
async fn who_was_denied_when_the_locks_are_closed_is_told_so() {
    let fake = mute();
    fake.0.taken.store(true, Ordering::SeqCst);
    let locks = table(&fake);
    let wait = tokio::spawn({
        let locks = locks.clone();
        async move { locks.try_lock("a").await.map(drop) }
    });
    until(|| !fake.0.began.lock().expect("unpoisoned").is_empty()).await;
    fake.0.answers.as_ref().expect("counted").add_permits(1);
    locks.close();
    assert_eq!(wait.await.expect("no panic"), Ok(()));
    assert_eq!(ended(&fake), ["acquire"]);
}

#[tokio::test]
async fn guards_keep_their_locks_through_a_shutdown() {
    let fake = Fake::default();
    let locks = table(&fake);
    let [kept, dropped] =
        [locks.lock("a").await.expect("taken"), locks.lock("b").await.expect("taken")];
    drop(dropped);
    assert_eq!(shut_down(&locks).await, Err(ShutdownError::Held { guards: 1 }));
    assert!(kept.is_held());
    assert_eq!(ended(&fake), ["acquire", "acquire", "release"]);
    assert_eq!(locks.lock("c").await.map(drop), Err(crate::Error::Closed));
    // The last guard to go ends the task, although there is a `Locks`.
    kept.release().await.expect("confirmed");
    until(|| tasks() == 0).await;
    assert_eq!(shut_down(&locks).await, Ok(()));
    assert!(fake.0.closed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_guard_dropped_during_a_shutdown_is_waited_for() {
    let fake = Fake::default();
    let engine = Engine::new(
        table::capabilities("me", false),
        Config::new(timing().with_request(LATE).expect("good"), 1),
    );
    let driver = Driver::start(engine, One(Some(fake.clone())), TTL);
    let locks = Locks::with(driver, Check::default());
    let guard = locks.lock("a").await.expect("taken");
    let shutdown = tokio::spawn({
        let locks = locks.clone();
        async move { locks.shutdown().await }
    });
    // The task has received the call.
    until(|| shutdown.is_finished() || tasks() == 2).await;
    assert_eq!(locks.lock("b").await.map(drop), Err(crate::Error::Closed));
    drop(guard);
    let end = tokio::time::timeout(LATE, shutdown).await.expect("no waiting for the limit");
    assert_eq!(end.expect("no panic"), Ok(()));
    assert_eq!(ended(&fake), ["acquire", "release"]);
}

#[tokio::test]
async fn every_caller_of_a_shutdown_is_told_its_end() {
    let fake = Fake::default();
    let locks = table(&fake);
    *fake.0.pause.lock().expect("unpoisoned") = Duration::from_millis(20);
    drop(locks.lock("a").await.expect("taken"));
    let ends = tokio::join!(shut_down(&locks), shut_down(&locks), shut_down(&locks));
    assert_eq!(ends, (Ok(()), Ok(()), Ok(())));
    assert_eq!(ended(&fake), ["acquire", "release"]);
}

/// Its answer is the last that the task gets.
#[tokio::test]
async fn a_release_during_a_shutdown_is_confirmed() {
    let fake = Fake::default();
    let locks = table(&fake);
    let guard = locks.lock("a").await.expect("taken");
    *fake.0.pause.lock().expect("unpoisoned") = Duration::from_millis(20);
    let (end, released) = tokio::join!(shut_down(&locks), guard.release());
    assert_eq!((end, released), (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_release_without_an_answer_is_told_in_time() {
    let fake = mute();
    let locks = table(&fake);
    fake.0.answers.as_ref().expect("some").add_permits(1);
    drop(locks.lock("a").await.expect("taken"));
    let end = shut_down(&locks).await;
    assert_eq!(end, Err(ShutdownError::Unconfirmed { locks: 1, within: TTL }));
    until(|| tasks() == 0).await;
    assert_eq!(shut_down(&locks).await, end, "told again");
}

/// Whoever was told of them.
#[tokio::test]
async fn releases_that_failed_before_are_told() {
    let fake = Fake::default();
    let locks = table(&fake);
    for (at, name) in ["dropped", "told", "asked"].into_iter().enumerate() {
        let guard = locks.lock(name).await.expect("taken");
        fake.0.refuses.store(true, Ordering::SeqCst);
        match name {
            "dropped" => drop(guard),
            "told" => drop(guard.release().await.expect_err("refused")),
            _ => {
                let mut release = Box::pin(guard.release());
                poll_fn(|cx| Poll::Ready(release.as_mut().poll(cx).is_pending())).await;
            }
        }
        until(|| ended(&fake).len() == 2 * at + 2).await;
        fake.0.refuses.store(false, Ordering::SeqCst);
    }
    // This answer comes after the refusals.
    locks.lock("c").await.expect("taken").release().await.expect("released");
    let end = shut_down(&locks).await;
    assert_eq!(end, Err(ShutdownError::Unconfirmed { locks: 3, within: TTL }));
}

#[test]
fn shutdown_after_the_runtime_is_told() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let first = runtime().expect("a runtime");
    let fake = Fake::default();
    let (locks, guard) = first.block_on(async {
        let locks = table(&fake);
        let guard = locks.lock("a").await.expect("taken");
        (locks, guard)
    });
    drop(first);
    drop(guard);
    let second = runtime().expect("a runtime");
    let end = second.block_on(locks.shutdown());
    assert_eq!(end, Err(ShutdownError::Ended { within: TTL }));
}

/// Dropping the future does not take back what it asked for.
#[tokio::test]
async fn a_shutdown_nobody_waits_for_goes_on() {
    let fake = Fake::default();
    let locks = table(&fake);
    drop(locks.lock("a").await.expect("taken"));
    let mut shutdown = Box::pin(locks.shutdown());
    let polled = poll_fn(|cx| Poll::Ready(shutdown.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(shutdown);
    until(|| tasks() == 0).await;
    assert_eq!(ended(&fake), ["acquire", "release"]);
    assert_eq!(shut_down(&locks).await, Ok(()));
}

#[tokio::test]
async fn a_shutdown_tells_by_when_a_lock_with_its_own_ttl_ends() {
    let fake = Fake::default();
    let locks = start(30, &fake);
    fake.0.refuses.store(false, Ordering::SeqCst);
    let mut guards = Vec::new();
    for ttl in [90, 60] {
        let acquire = locks.acquire(ttl.to_string()).ttl(Duration::from_secs(ttl));
        guards.push(acquire.await.expect("taken"));
    }
    fake.0.refuses.store(true, Ordering::SeqCst);
    drop(guards);
    let within = Duration::from_secs(90);
    assert_eq!(shut_down(&locks).await, Err(ShutdownError::Unconfirmed { locks: 2, within }));
}

/// The server may have granted it, and its release, of which nobody is told, was refused.
#[tokio::test]
async fn an_acquire_that_was_dropped_counts_if_it_may_have_left_a_lock() {
    let fake = Fake::default();
    let locks = table(&fake);
    *fake.0.pause.lock().expect("unpoisoned") = Duration::from_millis(100);
    fake.0.panics.store(true, Ordering::SeqCst);
    fake.0.refuses.store(true, Ordering::SeqCst);
    let waiting = locks.clone();
    let waiter = tokio::spawn(async move { waiting.lock("a").await.map(drop) });
    until(|| fake.0.began.lock().expect("unpoisoned").contains(&"acquire")).await;
    waiter.abort();
    until(|| ended(&fake).contains(&"release")).await;
    let unconfirmed = ShutdownError::Unconfirmed { locks: 1, within: TTL };
    assert_eq!(shut_down(&locks).await, Err(unconfirmed));
}
