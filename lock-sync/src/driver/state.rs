//! What the driver's threads share, under its mutex.

use super::lanes::Lanes;
use super::{NO_LIMIT, Speaks};
use crate::backend::Backends;
use crate::clock;
use crate::guard::{Cell, Granted};
use crate::locks::Progress;
use lock_core::{Engine, Event, Instant, LockId, LockName, NotAcquired, Release};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar};
use std::time::Duration;

pub(super) struct State<F: Backends> {
    pub(super) engine: Engine<Speaks<F>>,
    pub(super) lanes: Lanes<F>,
    pub(super) callers: BTreeMap<LockId, Caller>,
    pub(super) guards: BTreeMap<LockId, Arc<Cell>>,
    /// Until when the keeper and the pump sleep, in this order.
    pub(super) asleep_until: [Instant; 2],
    /// The pump and the keeper look for what is due so often while there are guards.
    look: Duration,
    /// When the last guard will have been there long ago.
    idle_from: Instant,
    pub(super) closed: bool,
    /// The driver is gone, and so are all guards.
    pub(super) stopped: bool,
}

/// A thread that waits for something to become of an attempt.
#[derive(Default)]
pub(super) struct Caller {
    /// What it wants, if it is a lock.
    pub(super) name: Option<LockName>,
    pub(super) outcome: Option<Outcome>,
    pub(super) progress: Option<Progress>,
    pub(super) wake: Arc<Condvar>,
    /// It sleeps on that; waking nobody would cost a system call.
    pub(super) asleep: bool,
}

impl Caller {
    pub(super) fn wake(&self) {
        if self.asleep {
            self.wake.notify_all();
        }
    }
}

pub(super) enum Outcome {
    Granted(Granted),
    Not(NotAcquired),
    Released(Release),
}

impl<F: Backends> State<F> {
    pub(super) fn new(engine: Engine<Speaks<F>>, backends: F) -> Self {
        // No more than a request's time, so that the limit of one need not wake them.
        let look = engine.timing().request().min(Duration::from_secs(1));
        Self {
            look,
            idle_from: Instant::from_nanos(0),
            engine,
            lanes: Lanes::new(backends),
            callers: BTreeMap::new(),
            guards: BTreeMap::new(),
            asleep_until: [Instant::from_nanos(0); 2],
            closed: false,
            stopped: false,
        }
    }

    /// When time alone gives the pump or the keeper something to do.
    pub(super) fn timer(&self, now: Instant) -> Instant {
        // Condition variables do not count suspended time. While a lock is held, a look now and
        // then makes sure that a machine that slept through its lease says so soon after waking up.
        // Also for a while after that: then locks taken again and again need not wake anybody.
        let timer = self.engine.poll_timeout().unwrap_or(NO_LIMIT);
        let idle = self.guards.is_empty() && self.idle_from <= now;
        if idle { timer } else { timer.min(now.after(self.look)) }
    }

    /// Hands the engine's events to those they concern.
    pub(super) fn drain(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Granted { id, fence, deadline } => {
                    let Some(name) = self.callers.get(&id).and_then(|c| c.name.clone()) else {
                        continue; // Nobody wants it any more.
                    };
                    let cell = Arc::new(Cell::new(name, fence, deadline));
                    self.guards.insert(id, cell.clone());
                    self.idle_from = clock::now().after(self.look);
                    self.tell(id, Outcome::Granted(Granted { id, fence, cell }));
                }
                Event::NotAcquired { id, why } => self.tell(id, Outcome::Not(why)),
                Event::Released { id, release } => self.tell(id, Outcome::Released(release)),
                Event::Waiting { id, holder } => self.report(id, Progress::Busy(holder)),
                Event::Trouble { id, failure } => {
                    self.report(id, Progress::Trouble(failure.to_string()))
                }
                Event::Renewed { id, deadline } => {
                    if let Some(cell) = self.guards.get(&id) {
                        cell.renewed(deadline);
                    }
                }
                Event::RenewalFailed { id, failure, .. } => {
                    if let Some(cell) = self.guards.get(&id) {
                        cell.renewal_failed(&failure);
                    }
                }
                Event::Lost { id, reason } => {
                    if let Some(cell) = self.guards.get(&id) {
                        cell.lose(reason);
                    }
                }
                _ => {}
            }
        }
    }

    fn tell(&mut self, id: LockId, outcome: Outcome) {
        if let Some(caller) = self.callers.get_mut(&id) {
            caller.outcome = Some(outcome);
            caller.wake();
        }
    }

    fn report(&mut self, id: LockId, progress: Progress) {
        if let Some(caller) = self.callers.get_mut(&id) {
            if let Some(name) = &caller.name {
                match &progress {
                    Progress::Busy(holder) => {
                        let holder = holder.as_ref().map(|holder| &*holder.label);
                        tracing::debug!(lock.name = %name, holder, "waiting");
                    }
                    Progress::Trouble(why) => {
                        tracing::warn!(lock.name = %name, %why, "the server could not be asked");
                    }
                }
            }
            caller.progress = Some(progress);
            caller.wake();
        }
    }
}
