//! Late answers, stopped processes, and panics over an answer.

use super::*;
use crate::clock;
use crate::driver::pool::ConnectionPool;
use crate::driver::pump::Locked;
use crate::guard::HoldState;
use lock_core::{ConnectionId, LockName};
use std::sync::OnceLock;
use std::sync::mpsc::RecvTimeoutError;

const LATE: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);

/// Guards of this many locks. A request takes no time.
fn held<const N: usize>(ttl: Duration) -> ([crate::Guard; N], Arc<Driver>, Locks, Arc<Script>) {
    let (driver, locks, script) = start_with::<false>(Timing::new(ttl).expect("good"));
    let guards = std::array::from_fn(|n| locks.lock(n.to_string()).expect("free"));
    (guards, driver, locks, script)
}

/// Lets the leases of these guards pass while no thread of the driver runs, as in a process that is stopped. The threads
/// go on when the result is dropped.
fn stopped_past_the_lease<'a>(driver: &'a Driver, guards: &[crate::Guard]) -> Locked<'a> {
    let state = driver.shared.lock().expect("alive");
    let longest = guards.iter().map(crate::Guard::remaining).max();
    std::thread::sleep(longest.expect("some") + Duration::from_millis(1));
    state
}

#[test]
fn a_lease_counts_from_its_request() {
    let (driver, locks, script) = start_with::<false>(Timing::new(4 * SECOND).expect("good"));
    *script.pause.lock().expect("unpoisoned") = LATE;
    let guard = locks.lock("a").expect("free");
    let most = guard.valid_for() - LATE;
    assert!(guard.remaining() <= most, "{:?}", guard.remaining());
    let (mut left, mut renewals) = (guard.remaining(), 0);
    while renewals < 2 {
        assert!(guard.is_held());
        let now = guard.remaining();
        assert!(now <= most, "{now:?}");
        renewals += u32::from(now > left);
        left = now;
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(driver);
}

#[test]
fn the_first_call_after_a_stop_past_the_lease_says_that_it_is_over() {
    let (guards, driver, ..) = held::<4>(SECOND);
    let [held, lost, remaining, called] = &guards;
    let (tell, told_before) = channel();
    held.on_lost(move |reason| tell.send(reason).expect("heard"));
    let stopped = stopped_past_the_lease(&driver, &guards);
    assert!(!held.is_held());
    // It tells others who asked for that.
    assert!(matches!(told_before.recv_timeout(SOON), Ok(LostReason::Deadline { .. })));
    assert!(matches!(lost.lost_reason(), Some(LostReason::Deadline { .. })));
    assert_eq!(remaining.remaining(), Duration::ZERO);
    let (tell, told) = channel();
    called.on_lost(move |reason| tell.send(reason).expect("heard"));
    assert!(matches!(told.recv_timeout(SOON), Ok(LostReason::Deadline { .. })));
    drop(stopped);
}

#[test]
fn what_was_seen_to_be_lost_is_not_revived_by_a_late_renewal() {
    let ([guard], driver, ..) = held::<1>(30 * SECOND);
    let cell = driver.shared.lock().expect("alive").guards.values().next().cloned();
    let cell = cell.expect("held");
    let over = cell.deadline();
    assert!(cell.loss(over).is_some());
    cell.renew(over.after(60 * SECOND));
    assert!(cell.loss(over).is_some() && !guard.is_held());
}

#[test]
fn a_callback_for_a_loss_that_has_happened_runs_at_once() {
    let ([guard], driver, _locks, script) = held::<1>(SECOND);
    script.mute.store(true, SeqCst);
    assert!(guard.wait_lost(SOON).is_some());
    for _ in 0..2 {
        let (tell, told) = channel();
        guard.on_lost(move |reason| tell.send(reason).expect("heard"));
        assert_eq!(told.recv_timeout(SOON).ok(), guard.lost_reason());
    }
    drop(driver);
}

/// By another reason than the deadline, which a wait would find by itself. The least of several tries, for a busy
/// machine delays some.
#[test]
fn a_wait_for_the_loss_is_woken_by_it() {
    let (guards, driver, ..) = held::<5>(30 * SECOND);
    let cells: Vec<_> = driver.shared.lock().expect("alive").guards.values().cloned().collect();
    let woken_after = |(guard, cell): (crate::Guard, Arc<HoldState>)| {
        let waiter = std::thread::spawn(move || (guard.wait_lost(SOON), clock::now()));
        std::thread::sleep(Duration::from_millis(50));
        let lost = clock::now();
        cell.lose(LostReason::Taken);
        let (reason, woken) = waiter.join().expect("no panic");
        assert_eq!(reason, Some(LostReason::Taken));
        woken.since(lost)
    };
    let least = guards.into_iter().zip(cells).map(woken_after).min();
    assert!(least < Some(SECOND / 2), "{least:?}");
}

/// The server would confirm the release.
#[test]
fn the_release_of_a_lost_lock_tells_of_the_loss() {
    let ([guard], _driver, _locks, script) = held::<1>(SECOND);
    script.mute.store(true, SeqCst);
    let lost = guard.wait_lost(SOON).expect("lost");
    script.mute.store(false, SeqCst);
    assert_eq!(guard.release(), Err(ReleaseError::Lost(lost)));
    assert!(soon(|| script.has_done("release")), "what the server may still hold");
}

#[test]
fn a_release_without_an_answer_says_so() {
    let (_driver, locks, script) = start_with::<false>(hasty());
    let guard = locks.lock("a").expect("free");
    script.mute.store(true, SeqCst);
    let released = apart("a release", move || guard.release());
    assert!(matches!(released, Err(ReleaseError::Unconfirmed { .. })), "{released:?}");
}

/// An event in a subscriber's queue keeps the state of the hold, but not what callbacks own.
#[test]
fn after_a_release_no_callback_runs_and_nothing_of_it_is_left() {
    let ends: [fn(crate::Guard); 3] =
        [|guard| guard.release().expect("ours"), |guard| guard.release_in_background(), drop];
    for end in ends {
        let ([guard], driver, ..) = held::<1>(30 * SECOND);
        let cell = driver.shared.lock().expect("alive").guards.values().next().cloned();
        let cell = cell.expect("held");
        let (tell, told) = channel();
        guard.on_lost(move |reason| tell.send(reason).expect("heard"));
        end(guard);
        cell.lose(LostReason::Taken);
        assert_eq!(told.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
    }
}

/// Its lease may end before the server answers, which is no loss any more.
#[test]
fn callbacks_are_gone_before_the_release_is_asked_for() {
    let ends: [fn(crate::Guard); 3] =
        [|guard| guard.release().expect("ours"), |guard| guard.release_in_background(), drop];
    for end in ends {
        let ([guard], driver, _, script) = held::<1>(30 * SECOND);
        let (tell, told) = channel();
        let asked = AtDrop(Some(move || {
            let done = script.done.lock().expect("unpoisoned").clone();
            tell.send(done).expect("heard");
        }));
        guard.on_lost(move |_| drop(asked));
        end(guard);
        assert_eq!(told.recv_timeout(SOON), Ok(vec!["acquire"]));
        drop(driver);
    }
}

/// Calls this when it is dropped.
struct AtDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for AtDrop<F> {
    fn drop(&mut self) {
        self.0.take().expect("not dropped before")();
    }
}

/// The deadline of the grant passes meanwhile, and that of the renewals is what counts.
#[test]
fn a_wait_for_the_loss_outlasts_a_lease_that_is_renewed() {
    let ([guard], driver, ..) = held::<1>(SECOND);
    let cell = driver.shared.lock().expect("alive").guards.values().next().cloned();
    let cell = cell.expect("held");
    let until = clock::now().after(2 * SECOND);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| guard.wait_lost(3_600 * SECOND));
        while !waiter.is_finished() && clock::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        cell.lose(LostReason::Taken);
        let lost = waiter.join().expect("no panic");
        assert!(lost.is_some(), "it ended before the loss");
    });
}

#[test]
fn between_requests_none_is_in_flight() {
    let (_driver, locks, script) = start::<false>();
    *script.pause.lock().expect("unpoisoned") = Duration::from_millis(300);
    let asking = locks.clone();
    let asks = std::thread::spawn(move || asking.try_lock("a").map(drop));
    assert!(soon(|| script.in_flight.load(SeqCst) > 0));
    let mut in_flight = None;
    locks.between_requests(|| in_flight = Some(script.in_flight.load(SeqCst)));
    assert_eq!(in_flight, Some(0));
    assert_eq!(apart("a caller", move || asks.join().expect("no panic")), Ok(()));
}

/// Connects only once somebody lets no request begin.
struct Connecting {
    driver: Arc<OnceLock<Arc<Driver>>>,
    under_way: Arc<AtomicBool>,
}

impl Backends for Connecting {
    fn are_many(&self) -> bool {
        false
    }

    fn connect(&mut self) -> Result<Reached, ConnectError> {
        self.under_way.store(true, SeqCst);
        let driver = self.driver.wait();
        assert!(soon(|| driver.shared.lock().is_ok_and(|state| !state.paused.is_empty())));
        self.under_way.store(false, SeqCst);
        Err(Failure::refused("no".to_string()).into())
    }

    fn backend(&mut self, _waits: bool) -> Option<Box<dyn Backend>> {
        None
    }
}

/// A request may take for longer than a test.
#[test]
fn between_requests_nothing_that_has_ended_is_waited_for() {
    let timing = Timing::new(SOON * 1_000).and_then(|timing| timing.with_request(SOON * 3));
    let (_driver, locks, _) = start_with::<true>(timing.expect("good"));
    locks.lock("a").expect("free").release().expect("ours");
    apart("a pause", move || locks.between_requests(|| ()));
}

/// It writes to a file, too.
#[test]
fn between_requests_no_first_connect_is_under_way() {
    let timing = Timing::new(30 * SECOND).expect("good");
    let engine = Engine::unconnected(table::capabilities("me", false), Config::new(timing, 1));
    let (driver, under_way) = (Arc::default(), Arc::default());
    let connecting = Connecting { driver: Arc::clone(&driver), under_way: Arc::clone(&under_way) };
    let started = Driver::start(engine, Box::new(connecting), timing.ttl()).expect("threads");
    let started = driver.get_or_init(|| Arc::new(started)).clone();
    let locks = Locks::with(started, Check::default());
    let asking = locks.clone();
    std::thread::spawn(move || asking.lock("a").map(drop));
    assert!(soon(|| under_way.load(SeqCst)));
    let mut seen = None;
    locks.between_requests(|| seen = Some(under_way.load(SeqCst)));
    assert_eq!(seen, Some(false));
}

/// No request is made meanwhile, whose answer would wake the waiter.
#[test]
fn a_close_wakes_each_waiter() {
    let (driver, locks, script) = start::<false>();
    script.busy.store(true, SeqCst);
    let (tell, told) = channel();
    for name in ["a", "b"] {
        let (waiting, tell) = (locks.clone(), tell.clone());
        std::thread::spawn(move || tell.send(waiting.lock(name).map(drop)));
    }
    let waits =
        || script.done.lock().expect("unpoisoned").iter().filter(|what| **what == "denied").count();
    assert!(soon(|| waits() > 1));
    locks.between_requests(|| {
        assert!(soon(|| driver.shared.lock().is_ok_and(|state| {
            state.callers.values().filter(|caller| caller.asleep.is_some()).count() == 2
        })));
        locks.close();
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(SOON), Ok(Err(Error::Closed)));
        }
    });
}

/// A program may cancel waits again and again.
#[test]
fn nothing_of_a_wait_that_was_cancelled_is_left() {
    let (driver, locks, script) = start::<false>();
    script.busy.store(true, SeqCst);
    let cancel = crate::Cancel::new();
    let token = cancel.clone();
    let waiter =
        std::thread::spawn(move || locks.acquire("a").cancelled_by(&token).wait().map(drop));
    assert!(soon(|| script.has_done("denied")));
    cancel.cancel();
    let cancelled = apart("a waiter", move || waiter.join().expect("no panic"));
    assert_eq!(cancelled, Err(Error::Cancelled));
    let left = || {
        let state = driver.shared.lock().expect("alive");
        (state.guards.len(), state.callers.len(), state.engine.attempts())
    };
    assert!(soon(|| left() == (0, 0, 0)), "{:?}", left());
}

/// The server has executed the request, and nobody wants the lock any more by the time of the panic.
#[test]
fn a_panic_over_the_answer_leaves_no_lock_behind() {
    let (_driver, locks, script) = start::<false>();
    *script.pause.lock().expect("unpoisoned") = Duration::from_millis(200);
    script.panics_late.store(true, SeqCst);
    let waiting = locks.clone();
    let waiter = std::thread::spawn(move || waiting.lock("a").map(drop));
    assert!(soon(|| script.has_done("acquire")));
    locks.close();
    assert_eq!(apart("a waiter", move || waiter.join().expect("no panic")), Err(Error::Closed));
    assert!(soon(|| script.has_done("release")), "{:?}", script.done);
}

/// What its last request left behind is not for the next that opens the connection.
#[test]
fn a_backend_whose_connection_was_dropped_is_not_used_again() {
    let mut engine = Engine::new(
        table::capabilities("me", false),
        Config::new(Timing::new(SECOND).expect("good"), 1),
    );
    let now = clock::now();
    engine.acquire(now, LockName::new("a").expect("good"), false, None);
    let id = engine.poll_request(now).expect("a claim").id;
    let mut pool = ConnectionPool::new(Box::new(Fake::<true>(Arc::default())));
    let take = |pool: &mut ConnectionPool| {
        pool.take(ConnectionId::MAIN, id, false, false).expect("a backend")
    };
    let dropped = take(&mut pool);
    assert!(pool.drop_connection(ConnectionId::MAIN).is_none(), "it is under way");
    assert!(pool.give_back(ConnectionId::MAIN, id, dropped).is_some());
    let kept = take(&mut pool);
    assert!(pool.give_back(ConnectionId::MAIN, id, kept).is_none());
    assert!(pool.drop_connection(ConnectionId::MAIN).is_some(), "it is idle");
}

/// Whoever was told of them.
#[test]
fn releases_that_failed_before_are_told_by_the_shutdown() {
    let ([background, dropped, told], driver, locks, script) = held::<3>(30 * SECOND);
    script.refuses.store(true, SeqCst);
    background.release_in_background();
    drop(dropped);
    let within = 30 * SECOND;
    assert_eq!(told.release(), Err(ReleaseError::Unconfirmed { reason: "no".into(), within }));
    let left = || Err(ShutdownError::Unconfirmed { locks: 3, within });
    assert!(soon(|| driver.shared.drained().is_ok_and(|end| end == left())));
    script.refuses.store(false, SeqCst);
    locks.lock("a").expect("free").release().expect("released");
    assert_eq!(apart("a shutdown", move || locks.shutdown()), left());
}

#[test]
fn a_renewal_that_failed_is_told_until_one_succeeds() {
    let ([guard], _driver, _locks, script) = held::<1>(9 * SECOND);
    assert_eq!(guard.last_failure(), None);
    script.mute.store(true, SeqCst);
    assert!(soon(|| guard.last_failure().is_some()));
    script.mute.store(false, SeqCst);
    assert!(soon(|| guard.last_failure().is_none()));
    assert!(guard.is_held());
}

#[test]
fn a_grant_counts_for_a_little_less_than_five_sixths_of_the_ttl() {
    let ([guard], _driver, locks, _script) = held::<1>(30 * SECOND);
    let less = Duration::from_millis(1);
    assert_eq!([guard.valid_for(), locks.valid_for()], [25 * SECOND - less; 2]);
}

/// Also after one with a shorter TTL.
#[test]
fn a_shutdown_tells_by_when_a_lock_with_its_own_ttl_ends() {
    let (_driver, locks, script) = start::<false>();
    let guards =
        [90, 60].map(|ttl| locks.acquire(ttl.to_string()).ttl(ttl * SECOND).wait().expect("free"));
    script.refuses.store(true, SeqCst);
    guards.into_iter().for_each(crate::Guard::release_in_background);
    let end = apart("a shutdown", move || locks.shutdown());
    assert_eq!(end, Err(ShutdownError::Unconfirmed { locks: 2, within: 90 * SECOND }));
}

/// The second comes while the first is not over. A request's time is long, for a stop ends after that.
#[test]
fn two_that_stop_requests_come_one_after_the_other() {
    let timing = Timing::new(3_600 * SECOND).and_then(|timing| timing.with_request(60 * SECOND));
    let (driver, locks, _script) = start_with::<false>(timing.expect("good"));
    let (tell, told) = channel();
    locks.between_requests(|| {
        let (other, tell) = (locks.clone(), tell.clone());
        std::thread::spawn(move || {
            tell.send("begun").expect("heard");
            other.between_requests(|| tell.send("called").expect("heard"));
        });
        assert_eq!(told.recv_timeout(SOON), Ok("begun"));
        assert!(told.recv_timeout(SECOND / 5).is_err(), "it waits");
    });
    assert_eq!(told.recv_timeout(SOON), Ok("called"));
    assert!(soon(|| driver.shared.lock().is_ok_and(|state| state.paused.is_empty())));
}

#[test]
fn an_unconfirmed_release_tells_by_when_the_lock_ends_by_itself() {
    let (_driver, locks, script) = start::<false>();
    let own = Duration::from_secs(90);
    let (one, other) = (locks.acquire("a").ttl(own).wait(), locks.lock("b"));
    script.refuses.store(true, SeqCst);
    for (guard, ttl) in [(one, own), (other, Duration::from_secs(30))] {
        match guard.expect("free").release() {
            Err(ReleaseError::Unconfirmed { within, .. }) => assert_eq!(within, ttl),
            other => panic!("{other:?}"),
        }
    }
}
