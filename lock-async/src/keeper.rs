//! A thread that reports losses by their deadline, whatever happens to the runtimes.
//!
//! The driver's task reports them, too, with the server's reasons. But the task can be held up, by a task
//! that blocks a current-thread runtime, by a waker, or by a subscriber, and it ends with its runtime. One
//! thread serves the process. It starts when a caller first waits for a loss.

use crate::clock;
use crate::guard::HoldState;
use crate::process::{PerProcess, Process};
use lock_core::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Longest sleep. Sleeping does not count suspended time, and a machine that was suspended past a lease must
/// report the loss soon after it resumes.
const LOOK: Duration = Duration::from_secs(1);
const NEVER: Instant = Instant::from_nanos(u64::MAX);
const LONG_AGO: Instant = Instant::from_nanos(0);

struct Keeper {
    process: Process,
    watched: Mutex<Watched>,
    changed: Condvar,
}

#[derive(Default)]
struct Watched {
    cells: BTreeMap<u64, (Instant, Arc<HoldState>)>,
    order: BTreeSet<(Instant, u64)>,
    last: u64,
    runs: bool,
    asleep_until: Instant,
}

/// While this exists, the thread reports the cell's loss by its deadline.
pub(crate) struct Watch {
    keeper: &'static Keeper,
    id: u64,
}

impl Watch {
    pub(crate) fn new(cell: &Arc<HoldState>) -> Self {
        Self::by(Keeper::here(), cell)
    }

    fn by(keeper: &'static Keeper, cell: &Arc<HoldState>) -> Self {
        let at = cell.deadline();
        let mut watched = keeper.lock();
        if !watched.runs {
            // If the system cannot start a thread, the driver's task still reports losses.
            let thread = std::thread::Builder::new().name("lock keeper".to_string());
            watched.runs = thread.spawn(|| keeper.keep()).is_ok();
        }
        watched.last += 1;
        let id = watched.last;
        watched.insert(id, at, cell.clone());
        if at < watched.asleep_until {
            keeper.changed.notify_one();
        }
        Self { keeper, id }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.keeper.process.is_current() {
            return;
        }
        let mut watched = self.keeper.lock();
        let cell = watched.remove(self.id);
        drop(watched);
        drop(cell);
    }
}

impl Watched {
    fn insert(&mut self, id: u64, at: Instant, cell: Arc<HoldState>) {
        self.cells.insert(id, (at, cell));
        self.order.insert((at, id));
    }

    fn remove(&mut self, id: u64) -> Option<Arc<HoldState>> {
        let (at, cell) = self.cells.remove(&id)?;
        self.order.remove(&(at, id));
        Some(cell)
    }

    /// The next cell whose deadline seems to have passed. It may have been renewed meanwhile.
    fn due(&self, now: Instant) -> Option<(u64, Arc<HoldState>)> {
        let (_, id) = self.order.first().filter(|(at, _)| *at <= now)?;
        let (_, cell) = self.cells.get(id)?;
        Some((*id, cell.clone()))
    }

    /// Removes a cell that is lost. Any other is due again at its new deadline.
    fn settle(&mut self, id: u64, is_lost: bool) -> Option<Arc<HoldState>> {
        let cell = self.remove(id)?;
        if is_lost {
            return Some(cell);
        }
        self.insert(id, cell.deadline(), cell);
        None
    }
}

impl Keeper {
    /// The keeper of this process.
    fn here() -> &'static Self {
        static FIRST: OnceLock<PerProcess<Keeper>> = OnceLock::new();
        PerProcess::here(&FIRST, Self::new)
    }

    fn new() -> Self {
        Self { process: Process::current(), watched: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's loop.
    fn keep(&self) {
        let mut watched = self.lock();
        loop {
            let now = clock::now();
            if let Some((id, cell)) = watched.due(now) {
                drop(watched);
                // This wakes tasks, and a waker is foreign code.
                let loss = catch_unwind(AssertUnwindSafe(|| cell.loss(now)));
                let settled = self.lock().settle(id, !matches!(loss, Ok(None)));
                drop((cell, settled));
                watched = self.lock();
                continue;
            }
            let next = watched.order.first().map(|(at, _)| (*at).min(now.after(LOOK)));
            watched.asleep_until = next.unwrap_or(NEVER);
            watched = match next {
                None => self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let slept = self.changed.wait_timeout(watched, at.since(now));
                    slept.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            watched.asleep_until = LONG_AGO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lost::Lost;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Context, Wake, Waker};

    /// A program may wait for the losses of one long hold again and again.
    #[test]
    fn nothing_is_left_of_a_watch_that_has_ended() {
        let keeper: &'static Keeper = Box::leak(Box::new(Keeper::new()));
        let deadline = clock::now().after(LOOK * 600);
        let cell = Arc::new(HoldState::new(deadline, Duration::ZERO));
        let [first, second] = [0; 2].map(|_| Watch::by(keeper, &cell));
        drop(first);
        let left = || {
            let watched = keeper.lock();
            (watched.cells.len(), watched.order.len())
        };
        assert_eq!((left(), Arc::strong_count(&cell)), ((1, 1), 2));
        drop(second);
        assert_eq!((left(), Arc::strong_count(&cell)), ((0, 0), 1));
    }

    /// One try of several is enough, for a busy machine delays some.
    #[test]
    fn a_deadline_is_met_that_comes_before_those_that_are_known() {
        let keeper: &'static Keeper = Box::leak(Box::new(Keeper::new()));
        let watch = |left| {
            let deadline = clock::now().after(left);
            Watch::by(keeper, &Arc::new(HoldState::new(deadline, Duration::ZERO)))
        };
        let _later = watch(LOOK * 600);
        let is_met = || {
            let wakes_up = loop {
                let until = keeper.lock().asleep_until;
                // It has just fallen asleep.
                if until.since(clock::now()) > LOOK / 10 * 9 {
                    break until;
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            let _sooner = watch(LOOK / 20);
            while keeper.lock().cells.len() > 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
            clock::now() < wakes_up
        };
        assert!((0..10).any(|_| is_met()), "it slept on");
    }

    /// A sleep does not count suspended time, so it is short, however late the next deadline is.
    #[test]
    fn nobody_sleeps_until_a_deadline_that_is_far_away() {
        let keeper: &'static Keeper = Box::leak(Box::new(Keeper::new()));
        let deadline = clock::now().after(LOOK * 600);
        let _watch = Watch::by(keeper, &Arc::new(HoldState::new(deadline, Duration::ZERO)));
        let asleep_until = loop {
            let until = keeper.lock().asleep_until;
            if until > LONG_AGO {
                break until;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(asleep_until <= clock::now().after(LOOK), "{asleep_until:?}");
    }

    /// Watches another lock when it is woken.
    struct Watches(Sender<Watch>);

    impl Wake for Watches {
        fn wake(self: Arc<Self>) {
            let deadline = clock::now().after(LOOK * 600);
            let cell = Arc::new(HoldState::new(deadline, Duration::ZERO));
            let _ = self.0.send(Watch::new(&cell));
        }
    }

    #[test]
    fn a_waker_that_is_told_of_a_loss_may_watch_another_lock() {
        let (tell, told) = channel();
        let waker = Waker::from(Arc::new(Watches(tell)));
        let cell = Arc::new(HoldState::new(clock::now().after(LOOK), Duration::ZERO));
        let mut lost = Lost::of(cell);
        let polled = Pin::new(&mut lost).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        told.recv_timeout(LOOK * 60).expect("the keeper does not wait for itself");
    }

    /// Panics when it is woken, or says so.
    struct Tells(Option<Sender<()>>);

    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            let _ = self.0.as_ref().expect("a waker's bug").send(());
        }
    }

    #[test]
    fn a_waker_that_panics_costs_nobody_else_a_loss() {
        let (tell, told) = channel();
        let wait = |waker, left| {
            let cell = HoldState::new(clock::now().after(left), Duration::ZERO);
            let mut lost = Lost::of(Arc::new(cell));
            let waker = Waker::from(Arc::new(Tells(waker)));
            assert!(Pin::new(&mut lost).poll(&mut Context::from_waker(&waker)).is_pending());
            lost
        };
        let _waits = [wait(None, LOOK / 2), wait(Some(tell), LOOK)];
        told.recv_timeout(LOOK * 60).expect("the keeper goes on");
    }
}
