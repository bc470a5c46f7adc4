//! The loop that moves commands between the engine and the server.
//!
//! ```text
//!   caller       leaves its wish in the engine, then carries out commands on its own thread while
//!                any is due: an uncontended acquire or release hops to no other thread
//!   pump         a thread that carries out what becomes due later: renewals, retries; where there
//!                are several lanes it has threads do that, so that none waits for another
//!   wait         a thread for each command that waits at the server
//!   keeper       a thread that never does I/O: it notices what time alone decides, so that a hung
//!                request delays no loss
//! ```
//!
//! The mutex around [`State`] is held for moments only, never during I/O. A lane's backend belongs
//! to whoever took it out of the state; wishes that gather meanwhile leave together in the next
//! command.

mod lanes;
mod pump;
mod state;

use crate::backend::{Backend, Backends};
use crate::clock;
use crate::error::ReleaseError;
use crate::guard::Granted;
use crate::locks::{Progress, Wait};
use lock_core::{
    Engine, Instant, LockId, LockName, LostReason, Mode, NotAcquired, Protocol, Release,
};
use pump::{Pumped, Shared};
use state::{Caller, Outcome};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Later than ever.
const NO_LIMIT: Instant = Instant::from_nanos(u64::MAX);

/// What the backends of these speak.
pub(crate) type Speaks<F> = <<F as Backends>::Backend as Backend>::Protocol;
type Command<F> = <Speaks<F> as Protocol>::Command;
type Reply<F> = <Speaks<F> as Protocol>::Reply;

/// How an acquire ended.
pub(crate) enum Acquired {
    Granted(Granted),
    Not(NotAcquired),
    Closed,
}

/// A driver, whatever its protocol and backend are.
pub(crate) trait Drive: Send + Sync {
    /// Waits for `name` on the calling thread.
    fn acquire(
        &self,
        name: LockName,
        mode: Mode,
        wait: Wait,
        progress: &mut dyn FnMut(&Progress),
    ) -> Acquired;

    /// Frees what `id` holds. Bounded in time.
    fn release(&self, id: LockId) -> Result<(), ReleaseError>;

    /// Ends every acquire that waits, now and later.
    fn close(&self);

    /// Calls `call` while no request is under way, and none can begin.
    fn between_requests(&self, call: &mut dyn FnMut());

    /// For how long a grant or renewal counts.
    fn valid_for(&self) -> Duration;
}

pub(crate) struct Driver<F: Backends> {
    shared: Arc<Shared<F>>,
}

impl<F: Backends> Driver<F> {
    /// Starts the two threads. What was not released ends by itself `within` that time.
    pub(crate) fn start(
        engine: Engine<Speaks<F>>,
        backends: F,
        within: Duration,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(engine, backends, within));
        let driver = Self { shared };
        for (name, io) in [("lock pump", true), ("lock keeper", false)] {
            let shared = driver.shared.clone();
            let life = move || shared.background(io);
            std::thread::Builder::new().name(name.to_string()).spawn(life)?;
        }
        Ok(driver)
    }
}

impl<F: Backends> Drop for Driver<F> {
    fn drop(&mut self) {
        // The two threads, and the waits, own what is shared; all of them end soon.
        self.shared.end();
    }
}

impl<F: Backends> Drive for Driver<F> {
    fn acquire(
        &self,
        name: LockName,
        mode: Mode,
        wait: Wait,
        progress: &mut dyn FnMut(&Progress),
    ) -> Acquired {
        let shared = &self.shared;
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
        let caller = Caller { name: Some(name.clone()), ..Caller::default() };
        let id = state.engine.acquire_as(now, name, mode, wait == Wait::Never, give_up);
        state.callers.insert(id, caller);
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
            state = match shared.pump(state, NO_LIMIT) {
                Pumped::Did(state) => state,
                Pumped::Nothing(state) => shared.sleep(state, id, None),
            };
        }
    }

    fn release(&self, id: LockId) -> Result<(), ReleaseError> {
        let shared = &self.shared;
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
                within: shared.within,
            }),
            _ => Ok(()),
        }
    }

    fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for caller in state.callers.values() {
            caller.wake();
        }
    }

    fn between_requests(&self, call: &mut dyn FnMut()) {
        let until = clock::now().after(self.shared.timing.request());
        loop {
            let state = self.shared.lock();
            // A request that hangs has had its time.
            if !state.lanes.is_asking() || until <= clock::now() {
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
