//! Tests of the task over a scripted backend.

mod death;
mod edge;
mod scale;
mod shutdown;

use super::*;
use crate::backend::Backend;
use crate::locks::Locks;
use lock_core::sql::ConnectError;
use lock_core::{Config, Failure, Fence, Outcome, Reply, Request, SessionName, advisory, table};
use lock_core::{Reached, Timing};
use lock_shared::check::Check;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A table whose locks are always free, and the commands that it got.
#[derive(Clone, Default)]
struct Fake(Arc<Script>);

#[derive(Default)]
struct Script {
    began: Mutex<Vec<&'static str>>,
    ended: Mutex<Vec<&'static str>>,
    /// Number of answers that may be given. `None` means no limit.
    answers: Option<Semaphore>,
    panics: std::sync::atomic::AtomicBool,
    /// The time that an answer takes.
    pause: Mutex<Duration>,
    refuses: std::sync::atomic::AtomicBool,
    /// Somebody else has all locks.
    taken: std::sync::atomic::AtomicBool,
    closed: std::sync::atomic::AtomicBool,
}

impl Backend for Fake {
    async fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        _budget: Duration,
    ) -> Result<Reply, Failure> {
        let (what, reply) = match &request {
            Request::Acquire { claims, .. } => {
                let taken = self.0.taken.load(Ordering::SeqCst);
                let granted = Outcome::Granted(Fence::new(1));
                let outcome = if taken { Outcome::Busy(None) } else { granted };
                ("acquire", Reply::Outcomes(vec![outcome; claims.len()]))
            }
            Request::Renew { claims, .. } => {
                ("renew", Reply::Outcomes(vec![Outcome::Done; claims.len()]))
            }
            Request::Release { claims, .. } => {
                ("release", Reply::Outcomes(vec![Outcome::Done; claims.len()]))
            }
            _ => {
                panic!("nobody waits here")
            }
        };
        self.0.began.lock().expect("unpoisoned").push(what);
        if let Some(answers) = &self.0.answers {
            answers.acquire().await.expect("open").forget();
        }
        let pause = *self.0.pause.lock().expect("unpoisoned");
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        assert!(!self.0.panics.swap(false, Ordering::SeqCst), "on purpose");
        self.0.ended.lock().expect("unpoisoned").push(what);
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Failure::refused("no".to_string()));
        }
        Ok(reply)
    }

    async fn close(self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }
}

/// A source of one backend.
struct One(Option<Fake>);

impl Backends for One {
    type Backend = Fake;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        unreachable!("it was connected to before")
    }

    fn backend(&mut self) -> Option<Fake> {
        self.0.take()
    }
}

fn start(ttl: u64, fake: &Fake) -> Locks {
    let timing = Timing::new(Duration::from_secs(ttl)).expect("good");
    let engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
    Locks::with(Driver::start(engine, One(Some(fake.clone())), timing.ttl()), Check::default())
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
    let other = locks.acquire("b").on_waiting(|what| news.push(what.clone())).await;
    assert!(other.is_ok(), "tried again");
    assert!(matches!(&news[..], [Progress::Trouble(why)] if why.contains("panicked")), "{news:?}");
    assert!(guard.is_held());
    guard.release().await.expect("released");
}

#[tokio::test]
async fn a_release_is_asked_for_once_also_if_nobody_waits_for_its_end() {
    let (calls, mut heard) = mpsc::unbounded_channel();
    let timing = Timing::new(Duration::from_secs(30)).expect("good");
    let (process, end, within) = (Process::current(), Arc::default(), timing.ttl());
    let driver = Driver(Arc::new(Shared { process, calls, valid: timing.valid(), within, end }));
    let wish = Arc::new(Wish::new("a").expect("a name"));
    let mut engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
    let id = wish.begin(&mut engine, clock::now(), None);
    let held = Held::of(&engine, id, &wish.name, Fence::new(1));
    let mut release = Box::pin(driver.acquire(&wish).release(&held));
    let first = std::future::poll_fn(|cx| Poll::Ready(release.as_mut().poll(cx).is_pending()));
    assert!(first.await, "nobody answers");
    drop(release);
    drop(driver.acquire(&wish));
    let (mut begun, mut releases) = (Vec::new(), Vec::new());
    while let Ok(call) = heard.try_recv() {
        match call {
            Call::Acquire { wish, news, .. } => {
                begun.push(wish.begin(&mut engine, clock::now(), None));
                news.begun(begun[begun.len() - 1]);
            }
            Call::Release { target, tell, .. } => releases.push((target.id(), tell.is_some())),
            _ => {}
        }
    }
    assert_eq!(releases, [(Some(begun[0]), true), (Some(begun[1]), false)]);
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
    let lost = tokio::time::timeout(remaining + Duration::from_secs(30), guard.lost()).await;
    assert_eq!(lost, Ok(LostReason::Deadline { last_failure: None }));
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

/// Connections to a server with advisory locks. Someone else holds all of them except "free".
#[derive(Clone, Default)]
struct Server(Arc<Seen>);

#[derive(Default)]
struct Seen {
    /// The commands of each connection, in the order in which the connections were made.
    asked: Mutex<Vec<Vec<&'static str>>>,
    /// The connections that were dropped without a goodbye, and with one.
    cut: Mutex<Vec<usize>>,
    left: Mutex<Vec<usize>>,
    /// True if the client panics when a connection is cut off.
    breaks: std::sync::atomic::AtomicBool,
    /// True if tries get no answer either.
    hangs: std::sync::atomic::AtomicBool,
}

struct Line {
    seen: Arc<Seen>,
    number: usize,
    said_goodbye: bool,
}

impl crate::backend::Backends for Server {
    type Backend = Line;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        unreachable!("it was connected to before")
    }

    fn backend(&mut self) -> Option<Line> {
        let mut asked = self.0.asked.lock().expect("unpoisoned");
        asked.push(Vec::new());
        Some(Line { seen: self.0.clone(), number: asked.len() - 1, said_goodbye: false })
    }
}

impl Backend for Line {
    async fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        _budget: Duration,
    ) -> Result<Reply, Failure> {
        let (what, reply) = match &request {
            Request::Open { .. } => ("open", Some(Reply::Opened(SessionName::default()))),
            Request::KeepAlive { .. } => ("keep", Some(Reply::one(Outcome::Done))),
            Request::Acquire { claims, .. } => {
                let tried = claims.iter().map(|claim| match claim.name.as_str() {
                    "free" | "free 2" => Outcome::Granted(Fence::new(1)),
                    _ => Outcome::Busy(None),
                });
                let hangs = self.seen.hangs.load(Ordering::SeqCst);
                ("try", (!hangs).then(|| Reply::Outcomes(tried.collect())))
            }
            Request::Release { claims, .. } => {
                ("unlock", Some(Reply::Outcomes(vec![Outcome::Done; claims.len()])))
            }
            // Its answer never comes.
            _ => ("wait", None),
        };
        self.seen.asked.lock().expect("unpoisoned")[self.number].push(what);
        match reply {
            Some(reply) => Ok(reply),
            None => std::future::pending().await,
        }
    }

    async fn close(mut self) {
        self.said_goodbye = true;
        self.seen.left.lock().expect("unpoisoned").push(self.number);
    }

    async fn cut(self) {
        assert!(!self.seen.breaks.load(Ordering::SeqCst), "on purpose");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.said_goodbye {
            self.seen.cut.lock().expect("unpoisoned").push(self.number);
        }
    }
}

impl Server {
    fn locks(&self, ttl: u64) -> Locks {
        let timing = Timing::new(Duration::from_secs(ttl)).expect("good");
        let engine =
            Engine::new(advisory::capabilities(advisory::WAITING, None), Config::new(timing, 1));
        Locks::with(Driver::start(engine, self.clone(), timing.ttl()), Check::default())
    }

    fn asked(&self) -> Vec<Vec<&'static str>> {
        self.0.asked.lock().expect("unpoisoned").clone()
    }

    fn waiting(&self) -> usize {
        self.asked().iter().filter(|asked| asked.last() == Some(&"wait")).count()
    }
}

#[tokio::test]
async fn waits_at_the_server_hold_up_nobody() {
    let server = Server::default();
    let locks = server.locks(30);
    let waits: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let locks = locks.clone();
            tokio::spawn(async move { locks.lock(name).await.map(drop) })
        })
        .into();
    until(|| server.waiting() == 3).await;
    let guard = locks.lock("free").await.expect("taken");
    guard.release().await.expect("released");
    assert!(locks.try_lock("d").await.expect("asked").is_none());
    let asked = server.asked();
    assert_eq!(asked.len(), 4, "a home, and one for each that waits: {asked:?}");
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    // Dropping one ends its connection where it is, and no other.
    waits[1].abort();
    until(|| server.0.cut.lock().expect("unpoisoned").len() == 1).await;
    assert_eq!(server.waiting(), 3, "nothing more was asked on it");
    locks.lock("free").await.expect("taken").release().await.expect("released");
    for wait in waits {
        wait.abort();
    }
    until(|| server.0.cut.lock().expect("unpoisoned").len() == 3).await;
    assert!(server.0.left.lock().expect("unpoisoned").is_empty(), "the home stays");
    drop(locks);
    until(|| *server.0.left.lock().expect("unpoisoned") == [0]).await;
}

#[tokio::test]
async fn an_end_of_a_wait_in_time_is_an_end_of_its_connection() {
    let server = Server::default();
    let locks = server.locks(30);
    let limit = Duration::from_millis(50);
    // The server is told to answer in time, and a request's time is added.
    let waited = tokio::time::timeout(limit * 4, locks.try_lock_for("a", limit)).await;
    assert!(waited.is_err(), "it is still hoped for an answer");
    until(|| !server.0.cut.lock().expect("unpoisoned").is_empty()).await;
    locks.lock("free").await.expect("taken").release().await.expect("released");
}

#[tokio::test]
async fn closing_ends_waits_at_the_server() {
    let server = Server::default();
    let locks = server.locks(30);
    let waits = ["a", "b"].map(|name| {
        let locks = locks.clone();
        tokio::spawn(async move { locks.lock(name).await.map(drop) })
    });
    until(|| server.waiting() == 2).await;
    locks.close();
    for wait in waits {
        let ended = tokio::time::timeout(Duration::from_secs(10), wait).await.expect("soon");
        assert_eq!(ended.expect("no panic"), Err(crate::Error::Closed));
    }
    until(|| server.0.cut.lock().expect("unpoisoned").len() == 2).await;
}

#[tokio::test]
async fn the_task_ends_in_time_though_a_request_hangs() {
    let server = Server::default();
    let locks = server.locks(1);
    let guard = locks.lock("free").await.expect("taken");
    server.0.hangs.store(true, Ordering::SeqCst);
    let hung = tokio::time::timeout(Duration::from_millis(50), locks.lock("b")).await;
    assert!(hung.is_err());
    let patience = guard.valid_for() / 2;
    drop(guard);
    drop(locks);
    let began = std::time::Instant::now();
    until(|| !server.0.cut.lock().expect("unpoisoned").is_empty()).await;
    let took = began.elapsed();
    assert!(took <= patience + Duration::from_secs(5), "two requests' time: {took:?}");
    assert_eq!(server.asked().len(), 1, "no other connection was made for that");
}
