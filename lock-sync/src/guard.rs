//! A lock that is held.

use crate::clock;
use crate::driver::Drive;
use crate::error::ReleaseError;
use lock_core::{Failure, Fence, Instant, LockId, LockName, LostReason, Mode};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A lock that this process holds, until it is released, dropped or lost.
///
/// It is renewed in the background every third of its TTL. When no renewal has been confirmed in
/// time, or the server says that the lease is not ours any more, the lock is **lost**: for good,
/// even if the server can be reached again.
///
/// Between a look at [`is_held`](Self::is_held) and what is done next, time passes, and a process
/// can be stopped for any length of it. Where that would be fatal, give [`fence`](Self::fence) to
/// the resource that the lock protects.
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard {
    driver: Arc<dyn Drive>,
    name: LockName,
    mode: Mode,
    granted: Granted,
    released: bool,
}

impl Guard {
    pub(crate) fn new(
        driver: Arc<dyn Drive>,
        name: LockName,
        mode: Mode,
        granted: Granted,
    ) -> Self {
        Self { driver, name, mode, granted, released: false }
    }

    /// The lock's name.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// Whether it is shared with others.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The hold's fencing token: greater than that of every earlier hold of this name. It does not
    /// change while the lock is held.
    pub fn fence(&self) -> Fence {
        self.granted.fence
    }

    /// Whether the lock is certainly held at this moment. Reads the clock at every call, so that a
    /// process that was stopped or suspended past its lease never gets a stale "yes".
    pub fn is_held(&self) -> bool {
        self.lost().is_none()
    }

    /// Why the lock is lost, if it is. Once lost it stays lost.
    pub fn lost(&self) -> Option<LostReason> {
        self.granted.cell.loss(clock::now())
    }

    /// For how much longer the lock is certainly held if no renewal succeeds; zero when it is lost.
    pub fn remaining(&self) -> Duration {
        let now = clock::now();
        match self.granted.cell.loss(now) {
            Some(_) => Duration::ZERO,
            None => self.granted.cell.deadline().since(now),
        }
    }

    /// For how long a grant or renewal counts: [`remaining`](Self::remaining) right after one.
    pub fn valid_for(&self) -> Duration {
        self.driver.valid_for()
    }

    /// Waits until the lock is lost, or for `limit`.
    pub fn wait_lost(&self, limit: Duration) -> Option<LostReason> {
        self.granted.cell.wait(limit)
    }

    /// Has `call` called once if the lock is lost, on a thread of its own; at once if it is lost
    /// already. It is not called after a release.
    pub fn on_lost(&self, call: impl FnOnce(LostReason) + Send + 'static) {
        self.granted.cell.on_lost(Box::new(call));
    }

    /// Releases the lock and tells how that went. Returns within two request budgets.
    ///
    /// Dropping the guard releases it too, without telling.
    ///
    /// # Errors
    /// [`ReleaseError::Lost`] if the lock had been lost: work done under it may have overlapped
    /// with another holder's. [`ReleaseError::Unconfirmed`] if the server did not confirm it; the
    /// lease then ends by itself.
    pub fn release(mut self) -> Result<(), ReleaseError> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), ReleaseError> {
        self.released = true;
        self.granted.cell.forget();
        let (held, result) = (self.granted.cell.held(), self.driver.release(self.granted.id));
        if result.is_ok() {
            tracing::debug!(lock.name = %self.name, lock.fence = self.granted.fence.get(), ?held, "released");
        }
        result
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = self.give_back()
        {
            tracing::warn!(lock.name = %self.name, lock.fence = self.granted.fence.get(), %error, "a lock was not released as it should be");
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .field("fence", &self.granted.fence)
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// What a grant consists of.
pub(crate) struct Granted {
    pub(crate) id: LockId,
    pub(crate) fence: Fence,
    pub(crate) cell: Arc<Cell>,
}

type Call = Box<dyn FnOnce(LostReason) + Send>;

/// What the driver tells a guard. Read without the driver's mutex.
pub(crate) struct Cell {
    name: LockName,
    fence: Fence,
    since: Instant,
    deadline: AtomicU64,
    loss: Mutex<Loss>,
    lost: Condvar,
}

#[derive(Default)]
struct Loss {
    reason: Option<LostReason>,
    call: Option<Call>,
}

impl Cell {
    pub(crate) fn new(name: LockName, fence: Fence, deadline: Instant) -> Self {
        Self {
            name,
            fence,
            since: clock::now(),
            deadline: AtomicU64::new(deadline.as_nanos()),
            loss: Mutex::default(),
            lost: Condvar::new(),
        }
    }

    /// Why the lock is lost at `now`. Latched: a deadline seen to have passed is a loss, whatever
    /// the driver still hears.
    pub(crate) fn loss(&self, now: Instant) -> Option<LostReason> {
        let mut loss = self.lock();
        if loss.reason.is_none() && self.deadline() <= now {
            self.latch(&mut loss, LostReason::Deadline);
        }
        loss.reason
    }

    pub(crate) fn renewed(&self, deadline: Instant) {
        self.deadline.store(deadline.as_nanos(), Ordering::SeqCst);
        tracing::trace!(lock.name = %self.name, lock.fence = self.fence.get(), held = ?self.held(), "renewed");
    }

    pub(crate) fn renewal_failed(&self, failure: &Failure) {
        tracing::warn!(lock.name = %self.name, lock.fence = self.fence.get(), held = ?self.held(), %failure, "a renewal failed");
    }

    fn held(&self) -> Duration {
        clock::now().since(self.since)
    }

    pub(crate) fn lose(&self, reason: LostReason) {
        let mut loss = self.lock();
        if loss.reason.is_none() {
            self.latch(&mut loss, reason);
        }
    }

    fn deadline(&self) -> Instant {
        Instant::from_nanos(self.deadline.load(Ordering::SeqCst))
    }

    fn latch(&self, loss: &mut Loss, reason: LostReason) {
        loss.reason = Some(reason);
        tracing::warn!(lock.name = %self.name, lock.fence = self.fence.get(), held = ?self.held(), %reason, "lost");
        self.lost.notify_all();
        if let Some(call) = loss.call.take() {
            run(call, reason);
        }
    }

    fn on_lost(&self, call: Call) {
        let mut loss = self.lock();
        match loss.reason {
            Some(reason) => run(call, reason),
            None => loss.call = Some(call),
        }
    }

    /// The guard's owner has given the lock back: nobody is to be called any more.
    fn forget(&self) {
        self.lock().call = None;
    }

    fn wait(&self, limit: Duration) -> Option<LostReason> {
        let until = clock::now().after(limit);
        loop {
            let now = clock::now();
            if let Some(reason) = self.loss(now) {
                return Some(reason);
            }
            if until <= now {
                return None;
            }
            // Condition variables do not count suspended time: look now and then.
            let nap = until
                .min(self.deadline())
                .since(now)
                .clamp(Duration::from_millis(1), Duration::from_secs(1));
            let loss = self.lock();
            if loss.reason.is_none() {
                drop(self.lost.wait_timeout(loss, nap).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loss> {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On a thread of its own, so that a call that takes long delays no renewal of other locks.
fn run(call: Call, reason: LostReason) {
    let spawned =
        std::thread::Builder::new().name("lock lost".to_string()).spawn(move || call(reason));
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread for telling that a lock is lost");
    }
}
