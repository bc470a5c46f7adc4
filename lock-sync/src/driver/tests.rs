//! Tests of the driver over a scripted backend.

mod edge;
mod scale;

use super::*;
use crate::backend::Backend;
use crate::locks::Locks;
use lock_core::config::{Error, ShutdownError};
use lock_core::sql::ConnectError;
use lock_core::{Config, Failure, Fence, Outcome, Reached, Reply, Request, Timing, table};
use lock_shared::check::Check;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::channel;

const SOON: Duration = Duration::from_secs(20);

/// A table whose locks are free unless it is busy, and the commands that it got.
#[derive(Default)]
struct Script {
    done: Mutex<Vec<&'static str>>,
    /// True if someone else holds every lock.
    busy: AtomicBool,
    /// True if no request is answered.
    mute: AtomicBool,
    /// True if every release is refused.
    refuses: AtomicBool,
    /// True if the next request makes the client panic.
    panics: AtomicBool,
    /// True if the client panics over the answer to the next request.
    panics_late: AtomicBool,
    /// The time that an answer takes.
    pause: Mutex<Duration>,
    /// Requests whose answer is not there yet.
    in_flight: AtomicU32,
    /// True if the next call of `lasts`, under the driver's mutex, panics.
    breaks: AtomicBool,
}

#[derive(Clone)]
struct Fake<const LANES: bool>(Arc<Script>);

impl<const LANES: bool> Backends for Fake<LANES> {
    fn are_many(&self) -> bool {
        LANES
    }

    fn connect(&mut self) -> Result<Reached, ConnectError> {
        unreachable!("it was connected to before")
    }

    fn backend(&mut self, _waits: bool) -> Option<Box<dyn Backend>> {
        Some(Box::new(self.clone()))
    }
}

impl<const LANES: bool> Backend for Fake<LANES> {
    fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        _budget: Duration,
    ) -> Result<Reply, Failure> {
        assert!(!self.0.panics.swap(false, SeqCst), "on purpose");
        if self.0.mute.load(SeqCst) {
            return Err(Failure::Unknown("no answer in time".to_string()));
        }
        if matches!(request, Request::Release { .. }) && self.0.refuses.load(SeqCst) {
            return Err(Failure::refused("no".to_string()));
        }
        let busy = self.0.busy.load(SeqCst);
        let (what, reply) = match &request {
            Request::Acquire { claims, .. } if busy => {
                ("denied", Reply::Outcomes(vec![Outcome::Busy(None); claims.len()]))
            }
            Request::Acquire { claims, .. } => {
                ("acquire", Reply::Outcomes(vec![Outcome::Granted(Fence::new(1)); claims.len()]))
            }
            Request::Probe { claims } => {
                let seen = if busy { Outcome::Busy(None) } else { Outcome::Free };
                ("look", Reply::Outcomes(vec![seen; claims.len()]))
            }
            Request::Renew { claims, .. } => {
                ("renew", Reply::Outcomes(vec![Outcome::Done; claims.len()]))
            }
            Request::Release { claims, .. } => {
                ("release", Reply::Outcomes(vec![Outcome::Done; claims.len()]))
            }
            _ => {
                panic!("nobody listens here")
            }
        };
        self.0.done.lock().expect("unpoisoned").push(what);
        let pause = *self.0.pause.lock().expect("unpoisoned");
        self.0.in_flight.fetch_add(1, SeqCst);
        std::thread::sleep(pause);
        self.0.in_flight.fetch_sub(1, SeqCst);
        assert!(!self.0.panics_late.swap(false, SeqCst), "on purpose");
        Ok(reply)
    }

    fn lasts(&self) -> bool {
        assert!(!self.0.breaks.swap(false, SeqCst), "on purpose");
        true
    }
}

impl Script {
    fn has_done(&self, what: &str) -> bool {
        self.done.lock().expect("unpoisoned").contains(&what)
    }
}

fn start<const LANES: bool>() -> (Arc<Driver>, Locks, Arc<Script>) {
    start_with::<LANES>(Timing::new(Duration::from_secs(30)).expect("good"))
}

/// Callers are patient for two fifths of a second.
fn hasty() -> Timing {
    let timing = Timing::new(Duration::from_secs(30)).expect("good");
    timing.with_request(Duration::from_millis(200)).expect("good")
}

fn start_with<const LANES: bool>(timing: Timing) -> (Arc<Driver>, Locks, Arc<Script>) {
    let script = Arc::new(Script::default());
    let engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
    let driver = Driver::start(engine, Box::new(Fake::<LANES>(script.clone())), timing.ttl());
    let driver = Arc::new(driver.expect("threads"));
    (driver.clone(), Locks::with(driver, Check::default()), script)
}

/// Does `work` on a thread of its own, for it may hang.
fn apart<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(SOON).unwrap_or_else(|_| panic!("{what} hangs"))
}

fn soon(so: impl Fn() -> bool) -> bool {
    let until = std::time::Instant::now() + SOON;
    while !so() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    so()
}

/// Lets a thread panic under the mutex at `end`, and checks that all guards and callers are told.
fn all_are_told<const LANES: bool>(end: impl FnOnce(&Locks, &Script)) {
    let (driver, locks, script) = start::<LANES>();
    let (guard, other) = (locks.lock("a").expect("free"), locks.lock("b").expect("free"));
    let last = locks.lock("z").expect("free");
    let (tell, told) = channel();
    guard.on_lost(move |reason| tell.send(reason).expect("heard"));
    let waiting = locks.clone();
    let waiter = std::thread::spawn(move || waiting.lock("a").map(drop));
    assert!(soon(|| driver
        .shared
        .lock()
        .is_ok_and(|state| state.callers.values().any(|c| c.asleep.is_some()))));
    script.breaks.store(true, SeqCst);
    other.release_in_background();
    end(&locks, &script);
    assert_eq!(told.recv_timeout(SOON), Ok(LostReason::Unattended));
    assert_eq!(apart("a waiter", move || waiter.join().expect("no panic")), Err(Error::Closed));
    let later = locks.clone();
    let later = apart("an acquire", move || later.try_lock("c").map(|got| got.is_some()));
    assert_eq!(later, Err(Error::Closed));
    assert!(!guard.is_held());
    assert_eq!(last.wait_lost(SOON), Some(LostReason::Unattended));
    let released = apart("a release", move || guard.release());
    assert_eq!(released, Err(ReleaseError::Lost(LostReason::Unattended)));
    apart("the end", move || drop((locks, driver)));
}

#[test]
fn after_a_panic_of_the_pump_everybody_is_told() {
    all_are_told::<false>(|_, _| {});
}

#[test]
fn after_a_panic_of_a_thread_everybody_is_told() {
    all_are_told::<true>(|_, _| {});
}

/// Its state is whole, and cannot be trusted all the same.
#[test]
fn after_a_panic_without_the_mutex_nothing_is_asked() {
    let (driver, locks, script) = start::<false>();
    let guard = locks.lock("a").expect("free");
    assert!(driver.shared.alive::<()>(|| panic!("on purpose")).is_err());
    assert_eq!(guard.lost_reason(), Some(LostReason::Unattended));
    assert_eq!(locks.try_lock("b").map(drop), Err(Error::Closed));
    assert_eq!(*script.done.lock().expect("unpoisoned"), ["acquire"]);
}

#[test]
fn after_a_panic_on_a_callers_thread_everybody_is_told() {
    let (driver, locks, script) = start::<false>();
    let guard = locks.lock("a").expect("free");
    let waiting = locks.clone();
    let waiter = std::thread::spawn(move || waiting.lock("a").map(drop));
    assert!(soon(|| driver
        .shared
        .lock()
        .is_ok_and(|state| state.callers.values().any(|c| c.asleep.is_some()))));
    script.breaks.store(true, SeqCst);
    assert_eq!(locks.try_lock("b").map(drop), Err(Error::Closed));
    assert_eq!(guard.lost_reason(), Some(LostReason::Unattended));
    assert_eq!(apart("a waiter", move || waiter.join().expect("no panic")), Err(Error::Closed));
}

#[test]
fn a_panic_of_the_client_costs_one_answer() {
    let (_driver, locks, script) = start::<false>();
    let guard = locks.lock("a").expect("free");
    script.panics.store(true, SeqCst);
    let mut news = Vec::new();
    let other = locks.acquire("b").on_waiting(|what| news.push(what.clone())).wait();
    assert!(other.is_ok(), "tried again");
    assert!(matches!(&news[..], [Progress::Trouble(why)] if why.contains("panicked")), "{news:?}");
    assert!(guard.is_held());
    guard.release().expect("released");
}

#[test]
fn a_callback_that_panics_at_the_moment_of_the_grant_leaves_nothing() {
    let (driver, locks, script) = start::<false>();
    script.busy.store(true, SeqCst);
    let granted = || {
        script.busy.store(false, SeqCst);
        assert!(soon(|| script.has_done("acquire")), "granted meanwhile");
        // By then, the driver has handled the grant.
        assert!(soon(|| !driver.shared.lock().expect("alive").guards.is_empty()));
        panic!("on purpose");
    };
    let wait = || locks.acquire("a").on_waiting(|_| granted()).wait().map(drop);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
    assert!(ended.is_err(), "{ended:?}");
    assert!(script.has_done("release"));
    let state = driver.shared.lock().expect("alive");
    assert_eq!((state.guards.len(), state.callers.len(), state.engine.attempts()), (0, 0, 0));
}

/// The first try fails: the pump waits for a while before the next.
fn release_in_background_fails_once(locks: &Locks, script: &Script) {
    let guard = locks.lock("a").expect("free");
    script.panics.store(true, SeqCst);
    guard.release_in_background();
}

#[test]
fn what_is_released_in_the_background_is_released_before_the_end() {
    let (driver, locks, script) = start::<false>();
    release_in_background_fails_once(&locks, &script);
    drop((locks, driver));
    assert!(script.has_done("release"));
}

#[test]
fn between_requests_only_the_caller_makes_any() {
    let (_driver, locks, script) = start::<false>();
    let guard = locks.lock("a").expect("free");
    let mut other = None;
    locks.between_requests(|| {
        let waiting = locks.clone();
        let (tell, told) = channel();
        std::thread::spawn(move || tell.send(waiting.try_lock("b").map(drop)));
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "it waits");
        assert!(guard.is_held());
        assert!(locks.try_lock("c").expect("asked").is_some(), "by the one thread that may");
        other = Some(told);
    });
    assert_eq!(other.expect("called").recv_timeout(SOON), Ok(Ok(())));
    assert!(script.has_done("release"));
}

/// Such calls may be made inside one, and by several threads at a time: the pause lasts until all have ended.
#[test]
fn the_last_call_between_requests_ends_the_pause() {
    let timing = Timing::new(Duration::from_secs(30)).expect("good");
    let short = timing.with_request(Duration::from_millis(200)).expect("good");
    let (_driver, locks, _script) = start_with::<false>(short);
    let (tell, told) = channel();
    let waits = |while_what: &str| {
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "it waits {while_what}");
    };
    locks.between_requests(|| {
        // Also while another thread waits for the end of this one.
        let (other, begun) = (locks.clone(), channel());
        std::thread::spawn(move || {
            begun.0.send(()).expect("heard");
            other.between_requests(|| {});
        });
        begun.1.recv_timeout(SOON).expect("begun");
        std::thread::sleep(Duration::from_millis(20));
        locks.between_requests(|| {});
        let (waiting, tell) = (locks.clone(), tell.clone());
        std::thread::spawn(move || tell.send(waiting.try_lock("b").map(drop)));
        waits("inside the outer call");
    });
    assert_eq!(told.recv_timeout(SOON), Ok(Ok(())));
    let (inside, is_inside) = channel();
    let (end, ended) = channel::<()>();
    let other = locks.clone();
    let outlives = std::thread::spawn(move || {
        other.between_requests(|| {
            inside.send(()).expect("heard");
            ended.recv().expect("told");
        });
    });
    is_inside.recv_timeout(SOON).expect("nobody else is");
    // This one comes after a request's time.
    locks.between_requests(|| {});
    let waiting = locks.clone();
    std::thread::spawn(move || tell.send(waiting.try_lock("b").map(drop)));
    waits("for the other thread's call");
    end.send(()).expect("heard");
    assert_eq!(told.recv_timeout(SOON), Ok(Ok(())));
    outlives.join().expect("no panic");
}

/// It is dropped with the callback, as the guard is released.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the test's own");
        }
    }
}

#[test]
fn a_callback_whose_end_panics_keeps_no_lock() {
    for way in 0..3 {
        let (_driver, locks, script) = start::<false>();
        let guard = locks.lock("a").expect("free");
        let panics = PanicsWhenDropped;
        guard.on_lost(move |_| drop(panics));
        match way {
            0 => assert_eq!(guard.release(), Ok(())),
            1 => drop(guard),
            _ => guard.release_in_background(),
        }
        assert!(soon(|| script.has_done("release")), "{way}");
        assert_eq!(locks.shutdown(), Ok(()), "{way}");
    }
}

#[test]
fn shutdown_waits_for_what_is_released_in_the_background() {
    let (_driver, locks, script) = start::<false>();
    release_in_background_fails_once(&locks, &script);
    assert_eq!(locks.shutdown(), Ok(()));
    assert!(script.has_done("release"));
    assert_eq!(locks.try_lock("b").map(drop), Err(Error::Closed));
    assert_eq!(locks.clone().shutdown(), Ok(()), "again");
}

#[test]
fn shutdown_ends_waits() {
    let (driver, locks, script) = start::<false>();
    script.busy.store(true, SeqCst);
    let waiting = locks.clone();
    let waiter = std::thread::spawn(move || waiting.lock("a").map(drop));
    assert!(soon(|| driver
        .shared
        .lock()
        .is_ok_and(|state| state.callers.values().any(|c| c.asleep.is_some()))));
    assert_eq!(locks.shutdown(), Ok(()));
    assert_eq!(apart("a waiter", move || waiter.join().expect("no panic")), Err(Error::Closed));
}

#[test]
fn guards_keep_their_locks_through_a_shutdown() {
    let (_driver, locks, script) = start_with::<false>(hasty());
    let guard = locks.lock("a").expect("free");
    assert_eq!(locks.shutdown(), Err(ShutdownError::Held { guards: 1 }));
    assert!(guard.is_held() && !script.has_done("release"));
    guard.release().expect("ours");
    assert_eq!(locks.shutdown(), Ok(()));
}

#[test]
fn a_guard_dropped_during_a_shutdown_is_waited_for() {
    let (_driver, locks, script) = start::<false>();
    let guard = locks.lock("a").expect("free");
    let (tell, told) = channel();
    let clone = locks.clone();
    std::thread::spawn(move || tell.send(clone.shutdown()));
    assert!(soon(|| locks.try_lock("b").map(drop) == Err(Error::Closed)), "it has begun");
    assert!(told.try_recv().is_err(), "it waits");
    drop(guard);
    assert_eq!(told.recv_timeout(SOON), Ok(Ok(())));
    assert!(script.has_done("release"));
}

#[test]
fn a_release_without_an_answer_is_told_by_the_shutdown() {
    let (_driver, locks, script) = start_with::<false>(hasty());
    let guard = locks.lock("a").expect("free");
    script.mute.store(true, SeqCst);
    guard.release_in_background();
    let within = Duration::from_secs(30);
    assert_eq!(locks.shutdown(), Err(ShutdownError::Unconfirmed { locks: 1, within }));
}
