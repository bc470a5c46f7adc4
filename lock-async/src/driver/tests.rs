//! The task over a backend that does as it is told.

use super::*;
use crate::backend::One;
use crate::locks::Locks;
use lock_core::table::{Acquired, Command, Reply, Table};
use lock_core::{Config, Failure, Fence};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A table that is always free, and what was asked of it.
#[derive(Clone, Default)]
struct Fake(Arc<Script>);

#[derive(Default)]
struct Script {
    began: Mutex<Vec<&'static str>>,
    ended: Mutex<Vec<&'static str>>,
    /// How many answers may be given; without limit if there is none.
    answers: Option<Semaphore>,
    panics: std::sync::atomic::AtomicBool,
    closed: std::sync::atomic::AtomicBool,
}

impl Backend for Fake {
    type Protocol = Table;

    async fn execute(
        &mut self,
        command: &Command,
        _now: Instant,
        _budget: Duration,
    ) -> Result<Reply, Failure> {
        let (what, reply) = match command {
            Command::Acquire { claims, .. } => {
                let granted = |_| Acquired::Granted(Fence::new(1));
                ("acquire", Reply::Acquired(claims.iter().map(granted).collect()))
            }
            Command::Renew { leases, .. } => ("renew", Reply::Changed(vec![true; leases.len()])),
            Command::Release { leases } => ("release", Reply::Changed(vec![true; leases.len()])),
        };
        self.0.began.lock().expect("unpoisoned").push(what);
        if let Some(answers) = &self.0.answers {
            answers.acquire().await.expect("open").forget();
        }
        assert!(!self.0.panics.swap(false, Ordering::SeqCst), "on purpose");
        self.0.ended.lock().expect("unpoisoned").push(what);
        Ok(reply)
    }

    async fn close(self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }
}

fn start(ttl: u64, fake: &Fake) -> Locks {
    let timing = Timing::new(Duration::from_secs(ttl)).expect("good");
    let engine = Engine::new(Table::new(timing.ttl(), "me"), Config::new(timing, 1));
    Locks::with(Driver::start(engine, One(Some(fake.clone()))), Arc::new(|_, _| Ok(())))
}

fn mute() -> Fake {
    Fake(Arc::new(Script { answers: Some(Semaphore::new(0)), ..Script::default() }))
}

async fn until(so: impl Fn() -> bool) {
    let soon = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), soon).await.expect("soon");
}

#[tokio::test]
async fn a_panic_of_the_database_driver_costs_one_answer() {
    let fake = Fake::default();
    let locks = start(30, &fake);
    let guard = locks.lock("a").await.expect("taken");
    fake.0.panics.store(true, Ordering::SeqCst);
    let mut news = Vec::new();
    let other = locks.acquire("b", Wait::Forever, &mut |what| news.push(what.clone())).await;
    assert!(other.expect("asked").is_some(), "tried again");
    assert!(matches!(&news[..], [Progress::Trouble(why)] if why.contains("panicked")), "{news:?}");
    assert!(guard.is_held());
    guard.release().await.expect("released");
}

#[tokio::test]
async fn what_is_under_way_goes_on_when_its_caller_leaves() {
    let fake = mute();
    let locks = start(30, &fake);
    let taken = tokio::spawn({
        let locks = locks.clone();
        async move { locks.lock("a").await.map(drop) }
    });
    until(|| *fake.0.began.lock().expect("unpoisoned") == ["acquire"]).await;
    taken.abort();
    assert!(taken.await.is_err());
    assert!(fake.0.ended.lock().expect("unpoisoned").is_empty());
    fake.0.answers.as_ref().expect("some").add_permits(2);
    until(|| *fake.0.ended.lock().expect("unpoisoned") == ["acquire", "release"]).await;
}

#[tokio::test]
async fn a_backend_that_never_answers_delays_no_loss() {
    let fake = mute();
    let locks = start(1, &fake);
    fake.0.answers.as_ref().expect("some").add_permits(1);
    let guard = locks.lock("a").await.expect("taken");
    let remaining = guard.remaining();
    let lost = tokio::time::timeout(remaining + Duration::from_millis(100), guard.lost()).await;
    assert_eq!(lost, Ok(LostReason::Deadline));
    assert_eq!(*fake.0.began.lock().expect("unpoisoned"), ["acquire", "renew"]);
    assert_eq!(*fake.0.ended.lock().expect("unpoisoned"), ["acquire"], "it hangs to this moment");
}

#[tokio::test]
async fn the_task_says_goodbye_after_the_last_release() {
    let fake = Fake::default();
    let locks = start(30, &fake);
    let guard = locks.lock("a").await.expect("taken");
    drop(locks);
    drop(guard);
    until(|| fake.0.closed.load(Ordering::SeqCst)).await;
    assert_eq!(*fake.0.ended.lock().expect("unpoisoned"), ["acquire", "release"]);
}
