//! Threads of a scheduler that tries one order of steps after the other, and a clock that it moves: from one timer to the next, at
//! any moment, also while other threads have work to do. So a thread may be as slow as it likes.

use lock_core::Instant;
pub use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::{LockResult, PoisonError};
pub use shuttle::sync::{Mutex, MutexGuard, atomic};
pub use shuttle::thread::{Builder, ThreadId, current, spawn, yield_now};
use shuttle::thread::{Thread, park};
use shuttle::{Config, Runner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A run that takes longer, by its own clock, is one that does not end.
const LONGEST: Duration = Duration::from_secs(3600);
/// The size of a thread's stack.
const STACK: usize = 1 << 18;
/// The clock moves in one of so many of its turns.
const PACE: u32 = 3;

thread_local! {
    /// All threads of a run are coroutines of one thread of the system.
    static TIME: RefCell<Time> = RefCell::default();
}

#[derive(Default)]
struct Time {
    now: Instant,
    timers: BTreeMap<u64, Timer>,
    last: u64,
    /// The thread that moves the clock. It is parked while there is no timer.
    clock: Option<Thread>,
    stands: bool,
    ended: bool,
}

struct Timer {
    until: Instant,
    wakes: Arc<shuttle::sync::Condvar>,
}

/// Runs `work` in so many schedules, or in as many times more as `LOCK_SCHEDULES` says. They come from a seed, `LOCK_SCHEDULES_SEED`.
///
/// # Panics
/// If `work` does, or if threads wait for each other. The schedule is shown then.
pub fn in_schedules(many: usize, work: impl Fn() + Send + Sync + 'static) {
    let variable = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let times: usize = variable("LOCK_SCHEDULES").and_then(|n| n.try_into().ok()).unwrap_or(1);
    let scheduler =
        RandomScheduler::new_from_seed(variable("LOCK_SCHEDULES_SEED").unwrap_or(1), many * times);
    let mut config = Config::new();
    config.stack_size = STACK;
    let ran = Runner::new(scheduler, config).run(move || with_clock(&work));
    println!("{ran} schedules");
}

fn with_clock(work: &impl Fn()) {
    TIME.set(Time { now: Instant::from_nanos(1_000_000_000), ..Time::default() });
    let clock = spawn(moves_the_clock);
    TIME.with_borrow_mut(|time| time.clock = Some(clock.thread().clone()));
    work();
    TIME.with_borrow_mut(|time| time.ended = true);
    clock.thread().unpark();
    clock.join().expect("the clock ran");
}

/// Lets the clock of this run stand, or go on. While it stands, nobody who sleeps is woken by time: who is not woken by a thread
/// sleeps for ever, which ends the run as a fault.
pub fn clock_stands(stands: bool) {
    let clock = TIME.with_borrow_mut(|time| {
        time.stands = stands;
        time.clock.clone()
    });
    clock.expect("a run").unpark();
}

/// The clock of this run.
pub fn now() -> Instant {
    TIME.with_borrow(|time| time.now)
}

fn moves_the_clock() {
    loop {
        let moves = thread_rng().gen_ratio(1, PACE);
        let (ended, due) = TIME.with_borrow_mut(|time| (time.ended, time.turn(moves)));
        match due {
            _ if ended => return,
            Some(due) => due.iter().for_each(|wakes| wakes.notify_all()),
            None => park(),
        }
        yield_now();
    }
}

impl Time {
    /// Whom to wake. [`None`] if nobody waits for the clock, or it stands.
    fn turn(&mut self, moves: bool) -> Option<Vec<Arc<shuttle::sync::Condvar>>> {
        if self.timers.is_empty() || self.stands {
            return None;
        }
        let next = self.timers.values().map(|timer| timer.until).filter(|until| *until > self.now);
        if let (Some(next), true) = (next.min(), moves) {
            assert!(next.since(Instant::default()) < LONGEST, "nothing ends this run but time");
            self.now = next;
        }
        // A sleeper takes its timer away itself. Until then, it may not have begun to sleep.
        let due = self.timers.values().filter(|timer| timer.until <= self.now);
        Some(due.map(|timer| timer.wakes.clone()).collect())
    }
}

/// Sleeps for so long by the clock of the run.
pub fn sleep(time: Duration) {
    let (nobody_else, never) = (Mutex::new(()), Condvar::new());
    let until = now().after(time);
    let mut alone = nobody_else.lock().expect("nobody panics");
    while now() < until {
        (alone, ()) = never.wait_timeout(alone, until.since(now())).expect("nobody panics");
    }
}

/// A condition variable whose waits end by the clock of the run.
#[derive(Default)]
pub struct Condvar(Arc<shuttle::sync::Condvar>);

impl Condvar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// May end early.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        let timer = (limit < LONGEST).then(|| {
            TIME.with_borrow_mut(|time| {
                let until = time.now.after(limit);
                time.last += 1;
                time.timers.insert(time.last, Timer { until, wakes: self.0.clone() });
                (time.last, time.clock.clone())
            })
        });
        if let Some((_, Some(clock))) = &timer {
            clock.unpark();
        }
        let woken = self.0.wait(guard);
        if let Some((number, _)) = timer {
            TIME.with_borrow_mut(|time| time.timers.remove(&number));
        }
        woken.map(|guard| (guard, ())).map_err(|error| PoisonError::new((error.into_inner(), ())))
    }
}
