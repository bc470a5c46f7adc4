//! The threads that move requests between the engine and the server.
//!
//! ```text
//!   caller       leaves its wish in the engine, then carries out requests on its own thread while
//!                any is due: an uncontended acquire or release hops to no other thread
//!   pump         a thread that carries out what becomes due later: renewals, retries; where there
//!                are several connections it has threads do that, so that none waits for another
//!   wait         a thread for each request that waits at the server
//!   keeper       a thread that never does I/O: it notices what time alone decides, so that a hung
//!                request delays no loss
//!   teller       a thread, while there is something to tell, for subscribers of events
//! ```
//!
//! The mutex around [`State`] is held for moments only, never during I/O. No foreign code runs under it: no
//! callback, no subscriber, no `Drop` of a client. A connection's backend belongs to the thread that took it out of
//! the state. Requests that arrive meanwhile leave together in the next command.
//!
//! A panic under that mutex, or of one of the threads, is a bug. The state cannot be trusted after it, so the
//! driver ends, and all guards and callers are told (see [`Shared::alive`](pump::Shared::alive)).

mod callers;
mod pool;
mod pump;
#[cfg(all(test, lock_shuttle))]
mod schedules;
mod state;
mod teller;
#[cfg(test)]
mod tests;

use crate::backend::Backends;
use crate::cancel::Cancel;
use crate::clock;
use crate::guard::Granted;
use crate::locks::Progress;
use lock_core::config::{ReleaseError, ShutdownError};
use lock_core::{Instant, LockId, LockName, LostReason, NotAcquired};
use lock_shared::engine::Engine;
use lock_shared::held::{Held, released};
use lock_shared::threads::Builder;
use lock_shared::wish::Wish;
use pump::Shared;
use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use lock_shared::threads::apart;
pub(crate) use teller::Teller;

/// A moment that never comes.
const NO_LIMIT: Instant = Instant::from_nanos(u64::MAX);

/// The end of an acquire.
pub(crate) enum Acquired {
    Granted(Granted),
    Not(NotAcquired, Option<LockName>),
    Closed,
    /// The caller's token ended it.
    Cancelled,
    /// The caller is a fork of the process that connected.
    Forked,
    /// The caller's callback panicked.
    Panicked(Box<dyn Any + Send>),
}

/// The two threads of a driver, and what they share with callers.
pub(crate) struct Driver {
    shared: Arc<Shared>,
}

impl Driver {
    /// Starts the two threads. An unreleased lock ends by itself `within` that time.
    pub(crate) fn start(
        engine: Engine,
        backends: Box<dyn Backends>,
        within: Duration,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(engine, backends, within));
        let driver = Self { shared };
        for (name, io) in [("lock pump", true), ("lock keeper", false)] {
            let shared = driver.shared.clone();
            let life = move || drop(shared.alive(|| shared.background(io)));
            Builder::new().name(name.to_string()).spawn(life)?;
        }
        Ok(driver)
    }

    /// Waits for a lock on the calling thread.
    pub(crate) fn acquire(
        &self,
        wish: &Wish,
        cancel: Option<&Cancel>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Acquired {
        if self.is_forked() {
            return Acquired::Forked;
        }
        let acquired = self.shared.alive(|| self.shared.acquire(wish, cancel, progress));
        match acquired {
            Ok(Acquired::Panicked(panic)) => resume_unwind(panic),
            Ok(acquired) => acquired,
            Err(_) => Acquired::Closed,
        }
    }

    /// Releases the lock of `id`, which is to stay taken until `keep` after its grant. Bounded in time.
    pub(crate) fn release(
        &self,
        id: LockId,
        held: &Held,
        keep: Option<Duration>,
    ) -> Result<(), ReleaseError> {
        if self.is_forked() {
            return Err(ReleaseError::Lost(LostReason::Forked));
        }
        let end = self.shared.alive(|| {
            let mut state = self.shared.lock()?;
            let cell = state.take_guard(id);
            if let Some(reason) = cell.and_then(|cell| cell.loss(clock::now())) {
                // The outcome is known. The pump releases in the background what the server may still hold.
                self.shared.abandon(state, id, keep);
                return Ok(Err(reason));
            }
            self.shared.release(state, id, keep).map(Ok)
        });
        match end {
            Ok(Ok(release)) => released(release, held.within(self.shared.within)),
            Ok(Err(reason)) => Err(ReleaseError::Lost(reason)),
            Err(_) => Err(ReleaseError::Lost(LostReason::Unattended)),
        }
    }

    /// The same in the background.
    pub(crate) fn release_in_background(&self, id: LockId, keep: Option<Duration>) {
        if !self.is_forked() {
            let _ = self.shared.alive(|| {
                let mut state = self.shared.lock()?;
                let cell = state.guards.get(&id).cloned();
                state.leaving.extend(cell.map(|cell| (id, cell)));
                self.shared.abandon(state, id, keep);
                Ok(())
            });
        }
    }

    /// Ends every acquire that waits, now and later.
    pub(crate) fn close(&self) {
        if !self.is_forked() {
            let _ = self.shared.alive(|| {
                let mut state = self.shared.lock()?;
                state.closed = true;
                state.callers.values().for_each(|caller| caller.wake());
                Ok(())
            });
        }
    }

    /// Ends every acquire, and waits until all locks are released. Bounded in time.
    pub(crate) fn shutdown(&self) -> Result<(), ShutdownError> {
        if self.is_forked() {
            return Ok(());
        }
        self.close();
        let drained = self.shared.alive(|| self.shared.drained());
        drained.unwrap_or_else(|_| Err(ShutdownError::Ended { within: self.shared.within }))
    }

    /// Calls `call` while no request is in flight, and none can begin.
    pub(crate) fn between_requests(&self, call: &mut dyn FnMut()) {
        if self.is_forked() {
            return call();
        }
        let pause = self.shared.pause();
        call();
        drop(pause);
    }

    /// The time that a grant or renewal counts.
    pub(crate) fn valid_for(&self) -> Duration {
        self.shared.valid
    }

    fn is_forked(&self) -> bool {
        !self.shared.process.is_current()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.is_forked() {
            // The connections belong to the parent, so not even a goodbye may be sent on them.
            std::mem::forget(self.shared.clone());
            return;
        }
        // The two threads and the waits share the state. All of them end soon.
        let _ = self.shared.alive(|| self.shared.end());
    }
}
