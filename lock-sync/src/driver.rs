//! The loop that moves commands between the engine and the server.
//!
//! ```text
//!   caller       leaves its wish in the engine, then carries out commands on its own thread while
//!                any is due: an uncontended acquire or release hops to no other thread
//!   pump         a thread that carries out what becomes due later: renewals, retries
//!   keeper       a thread that never does I/O: it notices what time alone decides, so that a hung
//!                request delays no loss
//! ```
//!
//! The mutex around [`State`] is held for moments only, never during I/O. The backend belongs to
//! whoever took it out of the state; wishes that gather meanwhile leave together in the next
//! command.

use crate::backend::Backend;
use crate::clock;
use crate::error::ReleaseError;
use crate::guard::{Cell, Granted};
use crate::locks::{Progress, Wait};
use lock_core::{
    Engine, Event, Failure, Instant, LockId, LockName, LostReason, NotAcquired, Release, Timing,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How an acquire ended.
pub(crate) enum Acquired {
    Granted(Granted),
    Not(NotAcquired),
    Closed,
}

/// A driver, whatever its protocol and backend are.
pub(crate) trait Drive: Send + Sync {
    /// Waits for `name` on the calling thread.
    fn acquire(&self, name: LockName, wait: Wait, progress: &mut dyn FnMut(&Progress)) -> Acquired;

    /// Frees what `id` holds. Bounded in time.
    fn release(&self, id: LockId) -> Result<(), ReleaseError>;

    /// Ends every acquire that waits, now and later.
    fn close(&self);

    /// Calls `call` while no request is under way, and none can begin.
    fn between_requests(&self, call: &mut dyn FnMut());

    /// For how long a grant or renewal counts.
    fn valid_for(&self) -> Duration;
}

pub(crate) struct Driver<B: Backend> {
    shared: Arc<Shared<B>>,
}

struct Shared<B: Backend> {
    state: Mutex<State<B>>,
    /// The pump and the keeper sleep on it.
    timers: Condvar,
    timing: Timing,
}

struct State<B: Backend> {
    engine: Engine<B::Protocol>,
    /// Absent while somebody carries out a command.
    backend: Option<B>,
    callers: BTreeMap<LockId, Caller>,
    guards: BTreeMap<LockId, Arc<Cell>>,
    /// Until when the keeper and the pump sleep, in this order.
    asleep_until: [Instant; 2],
    closed: bool,
    /// The driver is gone, and so are all guards.
    stopped: bool,
}

/// A thread that waits for something to become of an attempt.
#[derive(Default)]
struct Caller {
    outcome: Option<Outcome>,
    progress: Option<Progress>,
    wake: Arc<Condvar>,
}

enum Outcome {
    Granted(Granted),
    Not(NotAcquired),
    Released(Release),
}

impl<B: Backend> Driver<B> {
    /// Starts the two threads.
    pub(crate) fn start(engine: Engine<B::Protocol>, backend: B) -> std::io::Result<Self>
    where
        Engine<B::Protocol>: Send,
    {
        let timing = *engine.timing();
        let state = State {
            engine,
            backend: Some(backend),
            callers: BTreeMap::new(),
            guards: BTreeMap::new(),
            asleep_until: [Instant::from_nanos(0); 2],
            closed: false,
            stopped: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), timers: Condvar::new(), timing });
        let driver = Self { shared };
        for (name, io) in [("lock pump", true), ("lock keeper", false)] {
            let shared = driver.shared.clone();
            std::thread::Builder::new()
                .name(name.to_string())
                .spawn(move || background(&shared, io))?;
        }
        Ok(driver)
    }
}

impl<B: Backend> Drop for Driver<B> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.timers.notify_all();
    }
}

impl<B: Backend> Drive for Driver<B>
where
    Engine<B::Protocol>: Send,
{
    fn acquire(&self, name: LockName, wait: Wait, progress: &mut dyn FnMut(&Progress)) -> Acquired {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.closed {
            return Acquired::Closed;
        }
        let now = clock::now();
        let give_up = match wait {
            Wait::Never => Some(now),
            Wait::For(limit) => Some(now.after(limit)),
            Wait::Forever => None,
        };
        let id = state.engine.acquire(now, name, wait == Wait::Never, give_up);
        state.callers.insert(id, Caller::default());
        loop {
            state.drain();
            let closed = state.closed;
            let caller = state.callers.entry(id).or_default();
            if let Some(outcome) = caller.outcome.take() {
                shared.leave(state, id);
                return match outcome {
                    Outcome::Granted(granted) => Acquired::Granted(granted),
                    Outcome::Not(why) => Acquired::Not(why),
                    Outcome::Released(_) => Acquired::Closed,
                };
            }
            if closed {
                // What the server may have granted meanwhile is freed.
                shared.release(state, id);
                return Acquired::Closed;
            }
            if let Some(news) = caller.progress.take() {
                drop(state);
                let told = catch_unwind(AssertUnwindSafe(|| progress(&news)));
                state = shared.lock();
                if let Err(panic) = told {
                    // Nobody is left to take the lock: it must not be granted and kept.
                    shared.release(state, id);
                    resume_unwind(panic);
                }
                continue;
            }
            state = match shared.pump(state) {
                Pumped::Did(state) => state,
                Pumped::Nothing(state) => shared.sleep(state, id, None),
            };
        }
    }

    fn release(&self, id: LockId) -> Result<(), ReleaseError> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let now = clock::now();
        if let Some(reason) = state.guards.remove(&id).and_then(|cell| cell.loss(now)) {
            // What the server may still hold is freed in the background: the outcome is known.
            state.engine.release(now, id);
            shared.rouse(&state);
            return Err(ReleaseError::Lost(reason));
        }
        match shared.release(state, id) {
            Release::NotOurs => Err(ReleaseError::Lost(LostReason::Taken)),
            Release::Unconfirmed(failure) => Err(ReleaseError::Unconfirmed {
                reason: failure.to_string(),
                within: shared.timing.ttl(),
            }),
            _ => Ok(()),
        }
    }

    fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for caller in state.callers.values() {
            caller.wake.notify_all();
        }
    }

    fn between_requests(&self, call: &mut dyn FnMut()) {
        let until = clock::now().after(self.shared.timing.request());
        loop {
            let state = self.shared.lock();
            // A request that hangs has had its time.
            if state.backend.is_some() || until <= clock::now() {
                call();
                return;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn valid_for(&self) -> Duration {
        self.shared.timing.valid()
    }
}

/// What came of an attempt to carry out a command.
enum Pumped<'a, B: Backend> {
    Did(MutexGuard<'a, State<B>>),
    /// None is due, or somebody else is at it.
    Nothing(MutexGuard<'a, State<B>>),
}

impl<B: Backend> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one command on this thread, if one is due and nobody is at it.
    fn pump<'a>(&'a self, mut state: MutexGuard<'a, State<B>>) -> Pumped<'a, B> {
        let Some(mut backend) = state.backend.take() else { return Pumped::Nothing(state) };
        let sent = clock::now();
        let Some(dispatch) = state.engine.poll_command(sent) else {
            state.backend = Some(backend);
            return Pumped::Nothing(state);
        };
        // Others rely on the timers while this thread is away.
        self.rouse(&state);
        drop(state);
        let budget = dispatch.deadline.since(sent);
        let reply =
            catch_unwind(AssertUnwindSafe(|| backend.execute(&dispatch.command, sent, budget)))
                .unwrap_or_else(|_| {
                    Err(Failure::Unknown("the database driver panicked".to_string()))
                });
        let mut state = self.lock();
        state.backend = Some(backend);
        state.engine.handle_reply(clock::now(), dispatch.id, reply);
        Pumped::Did(state)
    }

    /// Has `id` released, and waits for it as long as patience lasts.
    fn release<'a>(&'a self, mut state: MutexGuard<'a, State<B>>, id: LockId) -> Release {
        let until = clock::now().after(self.timing.patience());
        state.callers.insert(id, Caller::default());
        state.engine.release(clock::now(), id);
        let release = loop {
            state.drain();
            let caller = state.callers.entry(id).or_default();
            if let Some(Outcome::Released(release)) = caller.outcome.take() {
                break release;
            }
            let now = clock::now();
            if until <= now {
                break Release::Unconfirmed(Failure::Unknown("no answer in time".to_string()));
            }
            state = match self.pump(state) {
                Pumped::Did(state) => state,
                Pumped::Nothing(state) => self.sleep(state, id, Some(until.since(now))),
            };
        };
        self.leave(state, id);
        release
    }

    /// Sleeps until something has become of `id`.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<B>>,
        id: LockId,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State<B>> {
        self.rouse(&state);
        let wake = state.callers.entry(id).or_default().wake.clone();
        match limit {
            None => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                wake.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn leave(&self, mut state: MutexGuard<'_, State<B>>, id: LockId) {
        state.callers.remove(&id);
        self.rouse(&state);
    }

    /// Wakes the pump and the keeper if they would sleep through something.
    fn rouse(&self, state: &State<B>) {
        let to_do = state.engine.has_command() && state.backend.is_some();
        let timer = state.timer(clock::now());
        if to_do || state.asleep_until.iter().any(|until| timer < *until) {
            self.timers.notify_all();
        }
    }
}

impl<B: Backend> State<B> {
    /// When time alone gives the pump or the keeper something to do.
    fn timer(&self, now: Instant) -> Instant {
        // Condition variables do not count suspended time. While a lock is held, a look now and
        // then makes sure that a machine that slept through its lease says so soon after waking up.
        const LOOK: Duration = Duration::from_secs(1);
        let timer = self.engine.poll_timeout().unwrap_or(Instant::from_nanos(u64::MAX));
        if self.guards.is_empty() { timer } else { timer.min(now.after(LOOK)) }
    }

    /// Hands the engine's events to those they concern.
    fn drain(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Granted { id, fence, deadline } => {
                    let cell = Arc::new(Cell::new(deadline));
                    self.guards.insert(id, cell.clone());
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
                Event::RenewalFailed { failure, .. } => {
                    tracing::warn!(%failure, "a renewal failed")
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
            caller.wake.notify_all();
        }
    }

    fn report(&mut self, id: LockId, progress: Progress) {
        if let Some(caller) = self.callers.get_mut(&id) {
            caller.progress = Some(progress);
            caller.wake.notify_all();
        }
    }
}

/// The pump's life (`io`), or the keeper's.
fn background<B: Backend>(shared: &Shared<B>, io: bool) {
    loop {
        let mut state = shared.lock();
        if state.stopped {
            return;
        }
        state.engine.handle_timeout(clock::now());
        state.drain();
        if io {
            state = match shared.pump(state) {
                Pumped::Did(_) => continue,
                Pumped::Nothing(state) => state,
            };
        } else {
            // What time has made due is the pump's to send.
            shared.rouse(&state);
        }
        let now = clock::now();
        let until = state.timer(now);
        state.asleep_until[usize::from(io)] = until;
        let nap = until.since(now).max(Duration::from_millis(1));
        drop(shared.timers.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner));
    }
}
