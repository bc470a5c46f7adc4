//! The work on the threads of callers.

use super::pump::{Dead, Locked, Pumped, Shared};
use super::state::Caller;
use super::{Acquired, NO_LIMIT};
use crate::cancel::Cancel;
use crate::locks::Progress;
use crate::{clock, events};
use lock_core::{Failure, Instant, LockId, Release};
use lock_shared::threads::Condvar;
use lock_shared::wish::Wish;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

impl Shared {
    /// Waits for a lock.
    pub(super) fn acquire(
        self: &Arc<Self>,
        wish: &Wish,
        cancel: Option<&Cancel>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Acquired, Dead> {
        let mut state = self.lock()?;
        if state.closed {
            return Ok(Acquired::Closed);
        }
        if cancel.is_some_and(Cancel::is_cancelled) {
            return Ok(Acquired::Cancelled);
        }
        let now = clock::now();
        let (name, give_up) = (&wish.name, wish.give_up(now));
        let until = give_up.map_or(NO_LIMIT, |at| at.after(state.engine.timing().answer_grace()));
        let caller = Box::new(Caller { name: Some(name.clone()), ..Caller::default() });
        let id = wish.begin(&mut state.engine, now, give_up);
        state.callers.insert(id, caller);
        let _registered = cancel.map(|cancel| {
            let shared = Arc::downgrade(self);
            let wake = move || {
                if let Some(shared) = shared.upgrade() {
                    shared.cancel(id);
                }
            };
            let registered = cancel.register(wake);
            if registered.is_none() {
                state.callers.entry(id).or_default().cancelled = true;
            }
            registered
        });
        loop {
            state = self.settle(state)?;
            let closed = state.closed;
            let caller = state.callers.entry(id).or_default();
            if let Some(acquired) = caller.acquired.take() {
                self.deregister(state, id);
                return Ok(acquired);
            }
            if closed {
                // The server may have granted the lock meanwhile. It is released.
                self.release(state, id, None)?;
                return Ok(Acquired::Closed);
            }
            if caller.cancelled {
                // The pump releases in the background what the server may have granted.
                state.callers.remove(&id);
                self.abandon(state, id, None);
                return Ok(Acquired::Cancelled);
            }
            if let Some(news) = caller.progress.take() {
                // The callback may take a while. The pump does what is due meanwhile.
                self.wake_workers(&state);
                drop(state);
                let tell = || {
                    events::progress(name, &news);
                    progress(&news);
                };
                let told = catch_unwind(AssertUnwindSafe(tell));
                if !self.process.is_current() {
                    return Ok(told.map_or_else(Acquired::Panicked, |()| Acquired::Forked));
                }
                let locked = self.lock();
                if let Err(panic) = told {
                    // Nobody is left to take the lock, so it must not stay granted.
                    let _ = locked.and_then(|state| self.release(state, id, None));
                    return Ok(Acquired::Panicked(panic));
                }
                state = locked?;
                continue;
            }
            state = self.proceed(state, id, until)?;
        }
    }

    /// Releases `id`, and waits for that until the caller's deadline. A lock that was granted stays taken until `keep`
    /// after the grant.
    pub(super) fn release<'a>(
        self: &'a Arc<Self>,
        mut state: Locked<'a>,
        id: LockId,
        keep: Option<Duration>,
    ) -> Result<Release, Dead> {
        let now = clock::now();
        let until = now.after(state.engine.timing().answer_grace());
        // A guard exists if the lock was granted after its caller gave up.
        let guard = state.take_guard(id);
        let caller = state.callers.insert(id, Box::default());
        if caller.is_some_and(|caller| matches!(caller.acquired, Some(Acquired::Not(..)))) {
            // It has ended: nothing more is told of it.
            self.deregister(state, id);
            return Ok(Release::NotOurs);
        }
        state.engine.release_after(now, id, keep);
        let release = loop {
            state = self.settle(state)?;
            let caller = state.callers.entry(id).or_default();
            if let Some(release) = caller.released.take() {
                break release;
            }
            if until <= clock::now() {
                break Release::Unconfirmed(Failure::Unknown("no answer in time".to_string()));
            }
            state = self.proceed(state, id, until)?;
        };
        self.deregister(state, id);
        drop(guard);
        Ok(release)
    }

    /// Ends the wait of `id`, if it still waits.
    fn cancel(&self, id: LockId) {
        if !self.process.is_current() {
            return; // The copied mutex may be locked for ever.
        }
        if let Ok(mut state) = self.lock()
            && let Some(caller) = state.callers.get_mut(&id)
        {
            caller.cancelled = true;
            caller.wake();
        }
    }

    /// Lets the pump release `id`, in the same way.
    pub(super) fn abandon(&self, mut state: Locked<'_>, id: LockId, keep: Option<Duration>) {
        let guard = state.take_guard(id);
        state.engine.release_after(clock::now(), id, keep);
        self.wake_workers(&state);
        drop(state);
        drop(guard);
    }

    /// Executes a request that is due, or sleeps until there is a report about `id`, or until `until`.
    fn proceed<'a>(
        self: &'a Arc<Self>,
        state: Locked<'a>,
        id: LockId,
        until: Instant,
    ) -> Result<Locked<'a>, Dead> {
        let now = clock::now();
        // A request may concern other callers, too. It needs a request's whole time, or is left to the pump.
        if until < now.after(state.engine.timing().request()) {
            return self.sleep(state, id, until.since(now));
        }
        match self.pump(state, NO_LIMIT)? {
            Pumped::Did(state) => Ok(state),
            Pumped::Nothing(state) if until == NO_LIMIT => self.sleep(state, id, Duration::MAX),
            Pumped::Nothing(state) => self.sleep(state, id, until.since(clock::now())),
        }
    }

    /// Sleeps until there is a report about `id`, for at most `limit`.
    fn sleep<'a>(
        &'a self,
        mut state: Locked<'a>,
        id: LockId,
        limit: Duration,
    ) -> Result<Locked<'a>, Dead> {
        self.wake_workers(&state);
        let wake = Arc::new(Condvar::new());
        state.callers.entry(id).or_default().asleep = Some(wake.clone());
        let woken = wake.wait_timeout(state, limit);
        state = self.woken(woken.map(|(state, _)| state).map_err(drop))?;
        state.callers.entry(id).or_default().asleep = None;
        Ok(state)
    }

    fn deregister(&self, mut state: Locked<'_>, id: LockId) {
        let caller = state.callers.remove(&id);
        self.wake_workers(&state);
        drop(state);
        drop(caller);
    }
}
