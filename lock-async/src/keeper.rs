//! A thread that tells losses by their deadline, whatever becomes of the runtimes.
//!
//! The driver's task tells them too, with the server's reasons. But it may be held up: by a task that blocks
//! a current-thread runtime, by a waker, by a log; and it ends with its runtime. One thread serves the
//! process. It starts when somebody first waits for a loss.

use crate::clock;
use crate::guard::Cell;
use lock_core::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sleeping does not count suspended time: a machine that slept through a lease is to tell so soon after
/// waking up.
const LOOK: Duration = Duration::from_secs(1);
const NEVER: Instant = Instant::from_nanos(u64::MAX);
const LONG_AGO: Instant = Instant::from_nanos(0);

static WATCHED: Mutex<Watched> = Mutex::new(Watched {
    cells: BTreeMap::new(),
    order: BTreeSet::new(),
    last: 0,
    runs: false,
    asleep_until: LONG_AGO,
});
static CHANGED: Condvar = Condvar::new();

struct Watched {
    cells: BTreeMap<u64, (Instant, Arc<Cell>)>,
    order: BTreeSet<(Instant, u64)>,
    last: u64,
    runs: bool,
    asleep_until: Instant,
}

/// As long as this is there, the thread tells the cell's loss by its deadline.
pub(crate) struct Watch(u64);

impl Watch {
    pub(crate) fn new(cell: &Arc<Cell>) -> Self {
        let at = cell.deadline();
        let mut watched = lock();
        if !watched.runs {
            // If there are no threads to be had, the driver's task is left.
            let thread = std::thread::Builder::new().name("lock keeper".to_string()).spawn(keep);
            watched.runs = thread.is_ok();
        }
        watched.last += 1;
        let id = watched.last;
        watched.insert(id, at, cell.clone());
        if at < watched.asleep_until {
            CHANGED.notify_one();
        }
        Self(id)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = lock();
        let cell = watched.remove(self.0);
        drop(watched);
        drop(cell);
    }
}

impl Watched {
    fn insert(&mut self, id: u64, at: Instant, cell: Arc<Cell>) {
        self.cells.insert(id, (at, cell));
        self.order.insert((at, id));
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Cell>> {
        let (at, cell) = self.cells.remove(&id)?;
        self.order.remove(&(at, id));
        Some(cell)
    }

    /// The next one whose deadline seems to have passed; it may have been renewed meanwhile.
    fn due(&self, now: Instant) -> Option<(u64, Arc<Cell>)> {
        let (_, id) = self.order.first().filter(|(at, _)| *at <= now)?;
        let (_, cell) = self.cells.get(id)?;
        Some((*id, cell.clone()))
    }

    /// One that is due is lost, or is due again at its new deadline.
    fn settle(&mut self, id: u64, is_lost: bool) -> Option<Arc<Cell>> {
        let cell = self.remove(id)?;
        if is_lost {
            return Some(cell);
        }
        self.insert(id, cell.deadline(), cell);
        None
    }
}

fn lock() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's life.
fn keep() {
    let mut watched = lock();
    loop {
        let now = clock::now();
        if let Some((id, cell)) = watched.due(now) {
            drop(watched);
            // It wakes tasks, and what a waker does is not up to us.
            let loss = catch_unwind(AssertUnwindSafe(|| cell.loss(now)));
            let settled = lock().settle(id, !matches!(loss, Ok(None)));
            drop((cell, settled));
            watched = lock();
            continue;
        }
        let next = watched.order.first().map(|(at, _)| (*at).min(now.after(LOOK)));
        watched.asleep_until = next.unwrap_or(NEVER);
        watched = match next {
            None => CHANGED.wait(watched).unwrap_or_else(PoisonError::into_inner),
            Some(at) => {
                let slept = CHANGED.wait_timeout(watched, at.since(now));
                slept.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        watched.asleep_until = LONG_AGO;
    }
}
