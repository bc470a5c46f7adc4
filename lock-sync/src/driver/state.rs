//! The state that the driver's threads share, under its mutex.

use super::pool::ConnectionPool;
use super::{Acquired, NO_LIMIT, Teller};
use crate::backend::Backends;
use crate::guard::{Granted, HoldState};
use crate::locks::Progress;
use crate::{clock, events};
use lock_core::config::ReleaseError;
use lock_core::{Event, Failure, Holder, Instant, LockId, LockName, LostReason, Release};
use lock_shared::engine::{Engine, guard_counts};
use lock_shared::held::{Held, released};
use lock_shared::threads::{Condvar, ThreadId};
use lock_shared::unconfirmed::Unconfirmed;
use lock_shared::wish::waiting;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

pub(super) struct State {
    pub(super) engine: Engine,
    pub(super) pool: ConnectionPool,
    /// Boxed, for a map moves what is in it.
    pub(super) callers: BTreeMap<LockId, Box<Caller>>,
    pub(super) guards: BTreeMap<LockId, Arc<HoldState>>,
    /// Holds that are released in the background. The end of that is told.
    pub(super) leaving: BTreeMap<LockId, Arc<HoldState>>,
    /// The next wake-ups of the keeper and the pump, in this order.
    pub(super) asleep_until: [Instant; 2],
    /// Longest sleep of the pump and the keeper while there are guards.
    look: Duration,
    /// The moment at which the last guard counts as long gone.
    idle_from: Instant,
    pub(super) closed: bool,
    /// True once the driver and all guards are gone.
    pub(super) stopped: bool,
    /// True once a thread panicked in the middle of this state, which must not be used any more.
    pub(super) dead: bool,
    /// The threads that have a pause. While there are some, only they may begin requests.
    pub(super) paused: Vec<ThreadId>,
    teller: Teller,
    pub(super) unconfirmed: Unconfirmed,
    /// Number of wake-ups of threads that slept.
    #[cfg(test)]
    pub(super) woken: usize,
}

/// An event of a guard or a wait, for callbacks and subscribers. It is never delivered under the driver's mutex.
pub(super) enum Told {
    Renewed(Arc<HoldState>),
    RenewalFailed(Arc<HoldState>, Failure),
    Lost(Arc<HoldState>, LostReason),
    HeldLong(Arc<HoldState>, Duration, Option<Arc<str>>),
    /// In the background.
    Released(Arc<HoldState>, Result<(), ReleaseError>),
    WaitsLong(Teller, LockName, Duration, Option<Holder>),
}

impl Told {
    pub(super) fn tell(self) {
        match self {
            Told::Renewed(cell) => cell.tell_renewed(),
            Told::RenewalFailed(cell, failure) => cell.tell_renewal_failed(failure),
            Told::Lost(cell, reason) => cell.tell_lost(reason),
            Told::HeldLong(cell, held, label) => cell.tell_held_long(held, label),
            Told::Released(cell, released) => cell.tell_released(released),
            Told::WaitsLong(teller, name, waited, holder) => {
                let event = move || events::waits_long(&name, waited, holder.as_ref());
                teller.tell(Level::WARN, event);
            }
        }
    }
}

/// A thread that waits for reports about an attempt.
#[derive(Default)]
pub(super) struct Caller {
    /// The lock's name, if the thread waits for a lock.
    pub(super) name: Option<LockName>,
    /// The end of its acquire.
    pub(super) acquired: Option<Acquired>,
    /// True once its wait was cancelled.
    pub(super) cancelled: bool,
    /// The end of its release.
    pub(super) released: Option<Release>,
    pub(super) progress: Option<Progress>,
    /// What it sleeps on, while it does: most callers never sleep, and waking nobody would cost a system call.
    pub(super) asleep: Option<Arc<Condvar>>,
}

impl Caller {
    pub(super) fn wake(&self) {
        if let Some(asleep) = &self.asleep {
            asleep.notify_all();
        }
    }
}

impl State {
    pub(super) fn new(
        engine: Engine,
        backends: Box<dyn Backends>,
        within: Duration,
        teller: Teller,
    ) -> Self {
        // At most a request's time, so that a request's limit need not wake them.
        let look = engine.timing().request().min(Duration::from_secs(1));
        Self {
            look,
            idle_from: Instant::from_nanos(0),
            engine,
            pool: ConnectionPool::new(backends),
            callers: BTreeMap::new(),
            guards: BTreeMap::new(),
            leaving: BTreeMap::new(),
            asleep_until: [Instant::from_nanos(0); 2],
            closed: false,
            stopped: false,
            dead: false,
            paused: Vec::new(),
            teller,
            unconfirmed: Unconfirmed::new(within),
            #[cfg(test)]
            woken: 0,
        }
    }

    /// The next moment at which time alone makes something due for the pump or the keeper.
    pub(super) fn timer(&self, now: Instant) -> Instant {
        // Condition variables do not count suspended time. While a lock is held, the clock is read now and
        // then, so that a machine that slept through its lease reports the loss soon after it resumes. This
        // goes on for a while after the last guard, so that locks that are acquired again and again wake
        // nobody.
        let timer = self.engine.poll_timeout().unwrap_or(NO_LIMIT);
        let idle = self.guards.is_empty() && self.idle_from <= now;
        if idle { timer } else { timer.min(now.after(self.look)) }
    }

    /// The guard of an attempt, which its caller gives back.
    pub(super) fn take_guard(&mut self, id: LockId) -> Option<Arc<HoldState>> {
        self.unconfirmed.gone(id);
        self.guards.remove(&id)
    }

    /// Passes the engine's events to their callers and guards. Returns those for foreign code, which the
    /// caller delivers without the mutex.
    #[must_use]
    pub(super) fn drain(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Granted { id, fence, deadline } => {
                    let Some(name) = self.callers.get(&id).and_then(|c| c.name.clone()) else {
                        continue; // Nobody wants it any more.
                    };
                    let held = Held::of(&self.engine, id, &name, fence);
                    self.unconfirmed.granted(&held);
                    let (valid, teller) = (held.valid_for(), self.teller.clone());
                    let cell = Arc::new(HoldState::new(name, fence, deadline, valid, teller));
                    guard_counts(&mut self.engine, id, cell.deadline());
                    self.guards.insert(id, cell.clone());
                    self.idle_from = clock::now().after(self.look);
                    let granted = Acquired::Granted(Granted { id, held, cell });
                    self.tell(id, |caller| caller.acquired = Some(granted));
                }
                Event::NotAcquired { id, of, why } => {
                    self.tell(id, |caller| caller.acquired = Some(Acquired::Not(why, of)));
                }
                Event::Released { id, release } => {
                    self.unconfirmed.released(clock::now(), &release);
                    if let Some(cell) = self.leaving.remove(&id) {
                        let within = self.unconfirmed.within();
                        told.push(Told::Released(cell, released(release.clone(), within)));
                    }
                    self.tell(id, |caller| {
                        caller.acquired = Some(Acquired::Closed);
                        caller.released = Some(release);
                    });
                }
                Event::Waiting { id, of, holder, withheld } => self.tell(id, |caller| {
                    let name = of.or_else(|| caller.name.clone());
                    caller.progress = name.map(|name| waiting(name, holder, withheld));
                }),
                Event::Trouble { id, failure } => {
                    let trouble = Progress::Trouble(failure.to_string());
                    self.tell(id, |caller| caller.progress = Some(trouble));
                }
                Event::Renewed { id, deadline } => {
                    if let Some(cell) = self.guards.get(&id) {
                        cell.renew(deadline);
                        guard_counts(&mut self.engine, id, cell.deadline());
                        told.push(Told::Renewed(cell.clone()));
                    }
                }
                Event::RenewalFailed { id, failure, .. } => {
                    if let Some(cell) = self.guards.get(&id) {
                        cell.renewal_failed(&failure);
                        told.push(Told::RenewalFailed(cell.clone(), failure));
                    }
                }
                Event::Lost { id, reason } => {
                    // This comes before any later grant, which may be of the same lock.
                    if let Some(cell) = self.guards.get(&id) {
                        self.unconfirmed.lost(&self.engine, id);
                        if cell.latch(reason.clone()) {
                            told.push(Told::Lost(cell.clone(), reason));
                        }
                    }
                }
                Event::WaitsLong { id, waited, of, holder } => {
                    let own = self.callers.get(&id).and_then(|caller| caller.name.as_ref());
                    if let Some(name) = of.or_else(|| own.cloned()) {
                        told.push(Told::WaitsLong(self.teller.clone(), name, waited, holder));
                    }
                }
                Event::HeldLong { id, held, label } => {
                    let cell = self.guards.get(&id).cloned();
                    told.extend(cell.map(|cell| Told::HeldLong(cell, held, label)));
                }
                _ => {}
            }
        }
        told
    }

    fn tell(&mut self, id: LockId, report: impl FnOnce(&mut Caller)) {
        if let Some(caller) = self.callers.get_mut(&id) {
            report(caller);
            caller.wake();
        }
    }
}
