//! A task that ends by a panic.

use super::*;
use lock_core::Timing;
use lock_core::config::ReleaseError;
use lock_shared::check::Check;
use lock_shared::settings::Codec;

/// A source of one connection. Asking for another panics in the middle of the task.
struct Trap(Server, bool);

impl Backends for Trap {
    type Backend = Line;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        unreachable!("it was connected to before")
    }

    fn backend(&mut self) -> Option<Line> {
        assert!(!std::mem::replace(&mut self.1, true), "on purpose");
        self.0.backend()
    }
}

#[tokio::test]
async fn a_dead_task_loses_every_guard_and_ends_every_wait() {
    let timing = Timing::new(Duration::from_secs(60)).expect("good");
    let engine =
        Engine::new(advisory::capabilities(advisory::WAITING, None), Config::new(timing, 1));
    let trap = Trap(Server::default(), false);
    let codec = Codec::Advisory(lock_core::sql::advisory::postgres::codec(Default::default()));
    let check = Check::new(codec, timing, String::new());
    let locks = Locks::with(Driver::start(engine, trap, timing.ttl()), check);
    let [guard, other] = [
        locks.lock("free").await.expect("taken"),
        locks.lock_shared("free 2").await.expect("taken"),
    ];
    let waiter = guard.lost();
    let held_elsewhere = locks.lock("a");
    let soon = Duration::from_secs(20);
    let (lost, ended) = tokio::time::timeout(soon, async { tokio::join!(waiter, held_elsewhere) })
        .await
        .expect("told");
    assert_eq!(lost, LostReason::Unattended);
    assert_eq!(ended.map(drop), Err(crate::Error::Closed));
    assert!(!guard.is_held() && !other.is_held());
    assert_eq!(guard.release().await, Err(ReleaseError::Lost(lost)));
    drop(other);
    assert_eq!(locks.try_lock("free").await.map(drop), Err(crate::Error::Closed));
    let within = timing.ttl();
    assert_eq!(locks.shutdown().await, Err(crate::ShutdownError::Ended { within }));
}

#[tokio::test]
async fn a_connection_that_panics_when_it_is_cut_off_ends_nothing_else() {
    let server = Server::default();
    let locks = server.locks(60);
    let guard = locks.lock("free").await.expect("taken");
    let waits = tokio::spawn({
        let locks = locks.clone();
        async move { locks.lock("a").await.map(drop) }
    });
    until(|| server.waiting() == 1).await;
    server.0.breaks.store(true, std::sync::atomic::Ordering::SeqCst);
    waits.abort();
    until(|| !server.0.cut.lock().expect("unpoisoned").is_empty()).await;
    assert!(locks.try_lock("free 2").await.expect("asked").is_some());
    assert!(guard.is_held());
}

/// A client that panics when it connects for the first time.
struct Clumsy(Fake, bool);

impl Backends for Clumsy {
    type Backend = Fake;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        assert!(std::mem::replace(&mut self.1, true), "on purpose");
        Ok(Reached::new(Timing::default(), false))
    }

    fn backend(&mut self) -> Option<Fake> {
        Some(self.0.clone())
    }
}

#[tokio::test]
async fn a_panic_of_the_first_connect_is_told_and_it_is_tried_again() {
    let timing = Timing::default();
    let engine = Engine::unconnected(table::capabilities("me", false), Config::new(timing, 1));
    let clumsy = Clumsy(Fake::default(), false);
    let locks = Locks::with(Driver::start(engine, clumsy, timing.ttl()), Check::default());
    let mut news = Vec::new();
    let acquire = locks.acquire("a").on_waiting(|what| news.push(what.clone()));
    let taken = tokio::time::timeout(Duration::from_secs(60), acquire.into_future()).await;
    assert!(taken.expect("tried again").is_ok(), "{news:?}");
    assert!(matches!(&news[..], [Progress::Trouble(why)] if why.contains("panicked")), "{news:?}");
}
