//! A lock that is held.

mod pins;
#[cfg(all(test, lock_shuttle))]
mod schedules;

use crate::driver::{Driver, Teller, apart};
use crate::process::Process;
use crate::{clock, events};
use lock_core::config::ReleaseError;
use lock_core::{Failure, Fence, Instant, LockId, LockName, LostReason, Mode};
use lock_shared::held::Held;
use lock_shared::metrics::Hold;
use lock_shared::pin::Pins;
use lock_shared::threads::atomic::{AtomicU64, Ordering};
use lock_shared::threads::{Condvar, Mutex, MutexGuard};
use lock_shared::wish::Wish;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;
use tracing::Level;

/// A lock that this process holds, until it is released, dropped or lost.
///
/// It is renewed in the background every third of its TTL. If no renewal is confirmed in time, or the server
/// says that someone else has the lease, the lock is **lost**. It stays lost even if the server can be
/// reached again.
///
/// A guard belongs to the process that acquired the lock. In a fork of it, nothing is held: the guard says
/// so, and dropping it there releases nothing.
///
/// Time passes between a call of [`is_held`](Self::is_held) and the caller's next step, and a process can be
/// stopped for any length of time. Where that would be fatal, [`pin`](Self::pin) the lock in the transaction
/// that writes, or give [`fence`](Self::fence) to the resource that the lock protects.
///
/// Keep the guard in a variable with a name: `let _ = locks.lock("a")` releases the lock at once. The compiler warns of
/// that with `#![warn(let_underscore_drop)]`, and by default if there is no `let` at all.
#[must_use = "the lock is released when the guard is dropped: keep it in a variable, such as `let _guard = …`"]
pub struct Guard {
    driver: Arc<Driver>,
    name: LockName,
    mode: Mode,
    granted: Granted,
    pins: Pins,
    /// How long after its grant the lock stays taken.
    keep: Option<Duration>,
    released: bool,
}

impl Guard {
    pub(crate) fn new(driver: Arc<Driver>, wish: Wish, granted: Granted, pins: Pins) -> Self {
        granted.cell.metrics.begin(&wish);
        let Wish { name, mode, keep, .. } = wish;
        Self { driver, name, mode, granted, pins, keep, released: false }
    }

    /// The lock's name: of several locks, the one that [`Acquire`](crate::Acquire) began with.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// The mode in which the lock is held.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The fencing token of this grant, which is greater than that of every earlier grant of the lock and does not change.
    /// Of several locks, it is that of the name that sorts first, whichever [`name`](Self::name) is.
    pub fn fence(&self) -> Fence {
        self.granted.held.fence()
    }

    /// The number of the permit, from 1, if the guard holds one of a [semaphore](crate::Acquire::permits).
    pub fn permit(&self) -> Option<u32> {
        self.granted.held.permit()
    }

    /// Each lock that the guard holds, sorted by name, with the fence of its grant. It is one lock, unless several were
    /// acquired [together](crate::Acquire::and). A permit has a name of its own.
    pub fn fences(&self) -> impl Iterator<Item = (&LockName, Fence)> {
        self.granted.held.locks()
    }

    /// Returns true if the lock is certainly held at this moment. Reads the clock at every call, so a process
    /// that was stopped or suspended past its lease never gets a stale "yes". Never blocks.
    pub fn is_held(&self) -> bool {
        self.lost_reason().is_none()
    }

    /// The reason of the loss, if the lock is lost. Once lost, it stays lost. Reads the clock at every call, and never
    /// blocks; [`wait_lost`](Self::wait_lost) does, and [`on_lost`](Self::on_lost) calls back.
    pub fn lost_reason(&self) -> Option<LostReason> {
        self.granted.cell.loss(clock::now())
    }

    /// The time for which the lock is certainly held if no renewal succeeds. Zero once it is lost.
    pub fn remaining(&self) -> Duration {
        let now = clock::now();
        match self.granted.cell.loss(now) {
            Some(_) => Duration::ZERO,
            None => self.granted.cell.deadline().since(now),
        }
    }

    /// The error of the last renewal, if it failed. [`None`] once a renewal succeeds. After a loss,
    /// [`LostReason`] contains it.
    pub fn last_failure(&self) -> Option<Failure> {
        self.granted.cell.last_failure()
    }

    /// The time that a grant or renewal counts: [`remaining`](Self::remaining) right after one.
    pub fn valid_for(&self) -> Duration {
        self.granted.held.valid_for()
    }

    /// Waits until the lock is lost, or for `limit`.
    pub fn wait_lost(&self, limit: Duration) -> Option<LostReason> {
        self.granted.cell.wait(limit)
    }

    /// Registers a callback that runs once if the lock is lost, on a thread of its own. If the lock is lost
    /// already, it runs at once. Several callbacks may be registered: all of them run, in no order. None runs
    /// after a release.
    ///
    /// A callback runs by the lease's deadline, whatever the server, other callbacks or a `tracing`
    /// subscriber do. If the system cannot start a thread, a thread of the driver runs it.
    pub fn on_lost(&self, call: impl FnOnce(LostReason) + Send + 'static) {
        self.granted.cell.on_lost(Box::new(call));
    }

    /// How long after its grant the lock stays taken, though it is released: what [`keep_for`](crate::Acquire::keep_for) asked
    /// for.
    pub fn kept_for(&self) -> Option<Duration> {
        self.keep
    }

    /// Has the release free the lock at once, whatever [`keep_for`](crate::Acquire::keep_for) asked for: if the work failed, say,
    /// and another process may try it now.
    pub fn cancel_keep(&mut self) {
        self.keep = None;
    }

    /// Releases the lock, and reports the result. Returns within two request budgets.
    ///
    /// Dropping the guard also releases the lock, without a report, and takes as long: usually one round
    /// trip, but up to 10 s with the default TTL if the server does not answer. See
    /// [`release_in_background`](Self::release_in_background).
    ///
    /// # Errors
    /// [`ReleaseError::Lost`] if the lock was lost before: work done under it may have overlapped with
    /// another holder's. [`ReleaseError::Unconfirmed`] if the server did not confirm the release. The lease
    /// then ends by itself.
    pub fn release(mut self) -> Result<(), ReleaseError> {
        let result = self.give_back();
        events::released(&self.name, self.granted.held.fence(), self.granted.cell.held(), &result);
        result
    }

    /// Releases the lock in the background, without waiting for the server.
    ///
    /// A thread of the [`Locks`](crate::Locks) makes the request. If the process ends before, the lock stays
    /// held until its lease ends. [`Locks::shutdown`](crate::Locks::shutdown) waits for the request.
    pub fn release_in_background(mut self) {
        self.released = true;
        self.granted.cell.forget();
        self.driver.release_in_background(self.granted.id, self.keep);
        self.granted.cell.ended(&Ok(()));
    }

    fn give_back(&mut self) -> Result<(), ReleaseError> {
        self.released = true;
        if let Some(reason @ LostReason::Forked) = self.lost_reason() {
            // The connection belongs to the parent.
            return Err(ReleaseError::Lost(reason));
        }
        self.granted.cell.forget();
        let released = self.driver.release(self.granted.id, &self.granted.held, self.keep);
        self.granted.cell.ended(&released);
        released
    }
}

/// Releases the lock, and waits for that as [`Guard::release`] does: usually for one round trip, and for up
/// to two request budgets (10 s by default) if the server does not answer. [`Guard::release_in_background`]
/// does not wait.
impl Drop for Guard {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let result = self.give_back();
        if result == Err(ReleaseError::Lost(LostReason::Forked)) {
            return;
        }
        let (fence, held) = (self.granted.held.fence(), self.granted.cell.held());
        // If the caller is panicking, a subscriber's panic would end the process.
        let event = || events::released(&self.name, fence, held, &result);
        let _ = catch_unwind(AssertUnwindSafe(event));
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .field("fence", &self.granted.held.fence())
            .field("lost", &self.lost_reason())
            .finish_non_exhaustive()
    }
}

/// A grant.
pub(crate) struct Granted {
    pub(crate) id: LockId,
    pub(crate) held: Held,
    pub(crate) cell: Arc<HoldState>,
}

type Call = Box<dyn FnOnce(LostReason) + Send>;

/// The state that the driver shares with a guard. Reading whether the lock is held takes no mutex.
pub(crate) struct HoldState {
    name: LockName,
    fence: Fence,
    since: Instant,
    process: Process,
    deadline: AtomicU64,
    reason: OnceLock<LostReason>,
    /// Callbacks for a loss. No foreign code runs or is dropped while this is locked.
    calls: Mutex<Vec<Call>>,
    lost: Condvar,
    teller: Teller,
    /// The error of the last renewal. Locked for moments only, never during I/O or foreign code.
    last_failure: Mutex<Option<Failure>>,
    metrics: Hold,
}

impl HoldState {
    /// A grant that counts until `deadline`, and for `valid` after each renewal.
    pub(crate) fn new(
        name: LockName,
        fence: Fence,
        deadline: Instant,
        valid: Duration,
        teller: Teller,
    ) -> Self {
        Self {
            name,
            fence,
            since: clock::now(),
            process: Process::current(),
            deadline: AtomicU64::new(deadline.as_nanos()),
            reason: OnceLock::new(),
            calls: Mutex::default(),
            lost: Condvar::new(),
            teller,
            last_failure: Mutex::default(),
            metrics: Hold::new(valid),
        }
    }

    /// The reason of the loss, if the lock is lost at `now`. Once a deadline was seen to have passed, the
    /// lock stays lost, whatever the driver still hears.
    pub(crate) fn loss(self: &Arc<Self>, now: Instant) -> Option<LostReason> {
        if !self.process.is_current() {
            return Some(LostReason::Forked);
        }
        if self.reason.get().is_none() && self.deadline() <= now {
            self.lose(self.overdue());
        }
        self.reason.get().cloned()
    }

    pub(crate) fn renew(&self, deadline: Instant) {
        *self.failure() = None;
        let before = self.deadline.swap(deadline.as_nanos(), Ordering::SeqCst);
        self.metrics.renewed(Instant::from_nanos(before));
    }

    /// Marks the lock as lost. Returns true if it was not lost before. Then [`tell_lost`](Self::tell_lost) must follow.
    pub(crate) fn latch(&self, reason: LostReason) -> bool {
        let latched = self.reason.set(reason).is_ok();
        if latched && let Some(reason) = self.reason.get() {
            self.metrics.lost(reason);
        }
        latched
    }

    /// Marks the lock as lost, and runs the callbacks.
    pub(crate) fn lose(self: &Arc<Self>, reason: LostReason) {
        if self.latch(reason.clone()) {
            self.tell_lost(reason);
        }
    }

    /// Stores the error of a renewal. It is the reason of a loss, until a renewal succeeds.
    pub(crate) fn renewal_failed(&self, failure: &Failure) {
        *self.failure() = Some(failure.clone());
        self.metrics.renewal_failed();
    }

    pub(crate) fn tell_renewed(self: &Arc<Self>) {
        let (cell, held) = (self.clone(), self.held());
        let event = move || events::renewed(&cell.name, cell.fence, held);
        self.teller.tell(Level::TRACE, event);
    }

    pub(crate) fn tell_renewal_failed(self: &Arc<Self>, failure: Failure) {
        let (cell, held) = (self.clone(), self.held());
        let event = move || events::renewal_failed(&cell.name, cell.fence, held, &failure);
        self.teller.tell(Level::WARN, event);
    }

    pub(crate) fn tell_held_long(self: &Arc<Self>, held: Duration, label: Option<Arc<str>>) {
        let cell = self.clone();
        let event = move || events::held_long(&cell.name, cell.fence, held, label.as_deref());
        self.teller.tell(Level::WARN, event);
    }

    pub(crate) fn tell_lost(self: &Arc<Self>, reason: LostReason) {
        let calls = std::mem::take(&mut *self.lock());
        self.lost.notify_all();
        for call in calls {
            run(call, reason.clone());
        }
        let (cell, held) = (self.clone(), self.held());
        let event = move || events::lost(&cell.name, cell.fence, held, &reason);
        self.teller.tell(Level::WARN, event);
    }

    pub(crate) fn tell_released(self: &Arc<Self>, release: Result<(), ReleaseError>) {
        self.metrics.found(&release);
        let (cell, held) = (self.clone(), self.held());
        let level = if release.is_ok() { Level::DEBUG } else { Level::WARN };
        self.teller.tell(level, move || events::released(&cell.name, cell.fence, held, &release));
    }

    /// The reason of a loss by the deadline.
    fn overdue(&self) -> LostReason {
        LostReason::Deadline { last_failure: self.last_failure() }
    }

    fn last_failure(&self) -> Option<Failure> {
        self.failure().clone()
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> Duration {
        clock::now().since(self.since)
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::from_nanos(self.deadline.load(Ordering::SeqCst))
    }

    fn on_lost(self: &Arc<Self>, call: Call) {
        if self.loss(clock::now()).is_none() {
            let mut calls = self.lock();
            // Otherwise the thread that loses the lock has taken the callbacks.
            if self.reason.get().is_none() {
                calls.push(call);
                return;
            }
        }
        let reason = self.loss(clock::now());
        run(call, reason.unwrap_or_else(|| self.overdue()));
    }

    /// The guard's owner has released the lock, as far as that is known. Calls a recorder of metrics.
    fn ended(&self, release: &Result<(), ReleaseError>) {
        if self.process.is_current() {
            self.metrics.found(release);
            self.metrics.released(self.deadline());
        }
    }

    /// Drops the callbacks, because the guard's owner releases the lock. A panic of what they own must not keep it.
    fn forget(&self) {
        let calls = std::mem::take(&mut *self.lock());
        for call in calls {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        }
    }

    fn wait(self: &Arc<Self>, limit: Duration) -> Option<LostReason> {
        let until = clock::now().after(limit);
        loop {
            let now = clock::now();
            if let Some(reason) = self.loss(now) {
                return Some(reason);
            }
            if until <= now {
                return None;
            }
            // Condition variables do not count suspended time, so the clock is read now and then.
            let nap = until
                .min(self.deadline())
                .since(now)
                .clamp(Duration::from_millis(1), Duration::from_secs(1));
            let calls = self.lock();
            if self.reason.get().is_none() {
                drop(self.lost.wait_timeout(calls, nap).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a callback on a thread of its own, so that a slow one delays no other and no renewal.
fn run(call: Call, reason: LostReason) {
    if let Err((_, call)) = apart("lock lost", move || call(reason)) {
        // Without a thread, it runs here, and delays the others.
        let _ = catch_unwind(AssertUnwindSafe(call));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(deadline: u64) -> Arc<HoldState> {
        let (name, until) = (LockName::new("a").expect("a name"), Instant::from_nanos(deadline));
        Arc::new(HoldState::new(name, Fence::new(1), until, Duration::ZERO, Teller::default()))
    }

    #[test]
    fn a_loss_seen_by_the_guard_alone_says_why_the_last_renewal_failed() {
        let full = Failure::Unknown("disk full".to_string());
        let lost = |last_failure| Some(LostReason::Deadline { last_failure });
        let seen = cell(10);
        seen.renewal_failed(&Failure::Unknown("not the last".to_string()));
        seen.renewal_failed(&full);
        assert_eq!(seen.loss(Instant::from_nanos(9)), None);
        assert_eq!(seen.last_failure(), Some(full.clone()));
        assert_eq!(seen.loss(Instant::from_nanos(10)), lost(Some(full.clone())));
        let renewed = cell(10);
        renewed.renewal_failed(&full);
        renewed.renew(Instant::from_nanos(20));
        assert_eq!(renewed.last_failure(), None);
        assert_eq!(renewed.loss(Instant::from_nanos(20)), lost(None));
    }
}
