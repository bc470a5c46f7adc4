//! A lock that is held.

mod pins;

use crate::clock;
use crate::driver::Attempt;
use crate::keeper::Watch;
use crate::lost::Lost;
use crate::process::Process;
use lock_core::config::ReleaseError;
use lock_core::{Failure, Fence, Instant, LockName, LostReason, Mode};
use lock_shared::held::Held;
use lock_shared::metrics::Hold;
use lock_shared::pin::Pins;
use lock_shared::threads::apart;
use lock_shared::wish::Wish;
use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A lock that this process holds, until it is released, dropped or lost.
///
/// It is renewed in the background every third of its TTL. If no renewal is confirmed in time, or the server
/// says that someone else has the lease, the lock is **lost**. It stays lost even if the server can be
/// reached again. When the runtime that the locks were connected on ends, nobody renews any more, and every
/// guard counts as lost at once.
///
/// A guard belongs to the process that acquired the lock. In a fork of it, nothing is held: the guard says
/// so, and dropping it there releases nothing.
///
/// Time passes between a call of [`is_held`](Self::is_held) and the caller's next step, and a process can be
/// stopped for any length of time. Where that would be fatal, [`pin`](Self::pin) the lock in the transaction
/// that writes, or give [`fence`](Self::fence) to the resource that the lock protects.
///
/// Dropping a guard releases its lock in the background. It may be dropped anywhere, also during a panic and
/// outside of any runtime. A task of the runtime that the locks were connected on makes the release. A guard
/// that is dropped at the end of `main` keeps its lock until the lease ends, unless
/// [`release`](Self::release) or [`Locks::shutdown`](crate::Locks::shutdown) is awaited.
///
/// Keep the guard in a variable with a name: `let _ = locks.lock("a")` releases the lock at once. The compiler warns of
/// that with `#![warn(let_underscore_drop)]`, and by default if there is no `let` at all.
#[must_use = "the lock is released when the guard is dropped: keep it in a variable, such as `let _guard = …`"]
pub struct Guard {
    attempt: Attempt,
    name: LockName,
    mode: Mode,
    granted: Granted,
    pins: Pins,
}

impl Guard {
    pub(crate) fn new(mut attempt: Attempt, wish: &Wish, granted: Granted, pins: Pins) -> Self {
        granted.cell.metrics.begin(wish);
        attempt.keep = wish.keep;
        let (name, mode) = (wish.name.clone(), wish.mode);
        Self { attempt, name, mode, granted, pins }
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
    /// that was stopped or suspended past its lease never gets a stale "yes".
    pub fn is_held(&self) -> bool {
        !self.granted.cell.is_lost(clock::now())
    }

    /// The reason of the loss, if the lock is lost. Once lost, it stays lost. Reads the clock at every call.
    pub fn lost_reason(&self) -> Option<LostReason> {
        self.granted.cell.loss(clock::now())
    }

    /// Waits until the lock is lost, and returns the reason. It never resolves if the lock is never lost.
    ///
    /// It resolves by the lease's deadline even if the server is silent, apart from the few milliseconds by
    /// which timers are late. A thread of this crate makes sure of that, also on another runtime, and while
    /// the runtime of the locks is held up. Several tasks may await it, several times. Once the lock is lost,
    /// it resolves at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let locks = lock_async::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display())).await?;
    /// # async fn work() -> u32 { 7 }
    /// let guard = locks.lock("nightly-report").await?;
    /// tokio::select! {
    ///     done = work() => println!("done: {done}"),
    ///     reason = guard.lost() => println!("stopped: {reason}"),
    /// }
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The future owns what it needs: a task of its own can await it, also after the guard has moved. Once the guard is
    /// released or dropped, it never resolves, as the lock is not lost. A task that only waits for the loss ends sooner
    /// with [`on_lost`](Self::on_lost).
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing. The next one resolves as this one would have.
    pub fn lost(&self) -> Lost {
        Lost::of(self.granted.cell.clone())
    }

    /// Registers a callback that runs once if the lock is lost, on a thread of its own. If the lock is lost
    /// already, it runs at once. Several callbacks may be registered: all of them run, in no order. None runs
    /// after a release, and nothing of them is left then.
    ///
    /// A callback runs by the lease's deadline, whatever the server, the runtime, other callbacks or a `tracing`
    /// subscriber do. If the system cannot start a thread, a thread or task of this crate runs it.
    pub fn on_lost(&self, call: impl FnOnce(LostReason) + Send + 'static) {
        self.granted.cell.on_lost(Box::new(call));
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

    /// How long after its grant the lock stays taken, though it is released: what [`keep_for`](crate::Acquire::keep_for) asked
    /// for.
    pub fn kept_for(&self) -> Option<Duration> {
        self.attempt.keep
    }

    /// Has the release free the lock at once, whatever [`keep_for`](crate::Acquire::keep_for) asked for: if the work failed, say,
    /// and another process may try it now.
    pub fn cancel_keep(&mut self) {
        self.attempt.keep = None;
    }

    /// Releases the lock, and reports the result. Resolves within two request budgets.
    ///
    /// Dropping the guard also releases the lock, without a report.
    ///
    /// # Errors
    /// [`ReleaseError::Lost`] if the lock was lost before: work done under it may have overlapped with
    /// another holder's. [`ReleaseError::Unconfirmed`] if the server did not confirm the release. The lease
    /// then ends by itself.
    ///
    /// # Cancel safety
    /// Dropping the future, at any point and even before it was polled, releases the lock in the background.
    /// Only the result is not reported.
    pub async fn release(self) -> Result<(), ReleaseError> {
        let Self { attempt, granted, .. } = self;
        if let Some(reason) = granted.cell.loss(clock::now()) {
            // The outcome is known. The task releases in the background what the server may still hold.
            return Err(ReleaseError::Lost(reason));
        }
        granted.cell.forget();
        attempt.release(&granted.held).await
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

/// A panic elsewhere leaves nothing half changed here: a guard's state is in atomics, and behind mutexes under which no foreign
/// code runs. As in lock-sync, where the compiler sees that.
impl UnwindSafe for Guard {}
impl RefUnwindSafe for Guard {}

/// A grant.
pub(crate) struct Granted {
    pub(crate) held: Held,
    pub(crate) cell: Arc<HoldState>,
}

/// The guard is gone, so its lock cannot be lost any more.
impl Drop for Granted {
    fn drop(&mut self) {
        let deadline = self.cell.deadline();
        self.cell.forget();
        self.cell.ended(deadline);
    }
}

type Call = Box<dyn FnOnce(LostReason) + Send>;

/// The callbacks for a loss, and the watch that sees to it that they run by the deadline.
#[derive(Default)]
struct Calls {
    watch: Option<Watch>,
    calls: Vec<Call>,
}

/// A deadline of a lock whose guard is gone.
const RELEASED: u64 = u64::MAX;

/// The state that the driver's task shares with a guard. Reading it does not need the task.
pub(crate) struct HoldState {
    process: Process,
    /// The lease's deadline. Zero once it was seen to have passed; [`RELEASED`] once the guard is gone before.
    deadline: AtomicU64,
    loss: OnceLock<LostReason>,
    pub(crate) lost: Notify,
    /// No foreign code runs or is dropped while this is locked.
    calls: Mutex<Calls>,
    /// The error of the last renewal.
    last_failure: Mutex<Option<Failure>>,
    metrics: Hold,
}

impl HoldState {
    /// A grant that counts until `deadline`, and for `valid` after each renewal.
    pub(crate) fn new(deadline: Instant, valid: Duration) -> Self {
        Self {
            process: Process::current(),
            deadline: AtomicU64::new(deadline.as_nanos()),
            loss: OnceLock::new(),
            lost: Notify::new(),
            calls: Mutex::default(),
            last_failure: Mutex::default(),
            metrics: Hold::new(valid),
        }
    }

    /// The reason of the loss, if the lock is lost at `now`. Once a deadline was seen to have passed, the
    /// lock stays lost, whatever the driver still hears.
    pub(crate) fn loss(&self, now: Instant) -> Option<LostReason> {
        if !self.process.is_current() {
            return Some(LostReason::Forked);
        }
        if self.loss.get().is_none() && self.is_lost(now) {
            self.lose(LostReason::Deadline { last_failure: self.last_failure() });
        }
        self.loss.get().cloned()
    }

    /// True if the lock is lost at `now`. Takes no mutex.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        if !self.process.is_current() || self.loss.get().is_some() {
            return true;
        }
        let passed = self.deadline() <= now;
        if passed {
            self.deadline.store(0, Ordering::SeqCst);
            self.lost.notify_waiters();
        }
        passed
    }

    pub(crate) fn renewed(&self, deadline: Instant) {
        *self.failure() = None;
        let later = |at| (at != 0 && at != RELEASED).then_some(deadline.as_nanos());
        // A deadline that was seen to have passed stays so, and so does a release.
        let renewed = self.deadline.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
        if let Ok(before) = renewed {
            self.metrics.renewed(Instant::from_nanos(before));
        }
    }

    pub(crate) fn renewal_failed(&self, failure: &Failure) {
        *self.failure() = Some(failure.clone());
        self.metrics.renewal_failed();
    }

    fn last_failure(&self) -> Option<Failure> {
        self.failure().clone()
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the lock as lost, and runs the callbacks.
    pub(crate) fn lose(&self, reason: LostReason) {
        let released = self.deadline.load(Ordering::SeqCst) == RELEASED;
        if released || self.loss.set(reason.clone()).is_err() {
            return;
        }
        self.metrics.lost(&reason);
        let Calls { watch, calls } = std::mem::take(&mut *self.calls());
        for call in calls {
            run(call, reason.clone());
        }
        drop(watch);
        self.lost.notify_waiters();
    }

    fn on_lost(self: &Arc<Self>, call: Call) {
        if self.loss(clock::now()).is_none() {
            // The watch has a mutex of its own.
            let watch = Watch::new(self);
            let mut calls = self.calls();
            // Otherwise, whoever lost the lock has taken the callbacks.
            if self.loss.get().is_none() {
                calls.calls.push(call);
                let unused = match calls.watch {
                    None => calls.watch.replace(watch),
                    Some(_) => Some(watch),
                };
                drop(calls);
                drop(unused);
                return;
            }
        }
        if let Some(reason) = self.loss(clock::now()) {
            run(call, reason);
        }
    }

    /// Drops the callbacks, because the guard is gone. A lock that is not lost by now never is.
    fn forget(&self) {
        if !self.process.is_current() {
            return; // The copied mutex may be locked for ever.
        }
        let gone = |at| (at != 0).then_some(RELEASED);
        let _ = self.deadline.fetch_update(Ordering::SeqCst, Ordering::SeqCst, gone);
        let calls = std::mem::take(&mut *self.calls());
        drop(calls);
    }

    /// The guard is gone, whose lease counted until `deadline`. Calls a recorder of metrics.
    fn ended(&self, deadline: Instant) {
        if self.process.is_current() {
            self.metrics.released(deadline);
        }
    }

    /// The release ended so.
    pub(crate) fn found(&self, release: &Result<(), ReleaseError>) {
        self.metrics.found(release);
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::from_nanos(self.deadline.load(Ordering::SeqCst))
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

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_loss_seen_by_the_guard_alone_says_why_the_last_renewal_failed() {
        let full = Failure::Unknown("disk full".to_string());
        let lost = |last_failure| Some(LostReason::Deadline { last_failure });
        let seen = HoldState::new(Instant::from_nanos(10), Duration::ZERO);
        seen.renewal_failed(&Failure::Unknown("not the last".to_string()));
        seen.renewal_failed(&full);
        assert_eq!(seen.loss(Instant::from_nanos(9)), None);
        assert_eq!(seen.last_failure(), Some(full.clone()));
        assert_eq!(seen.loss(Instant::from_nanos(10)), lost(Some(full.clone())));
        let renewed = HoldState::new(Instant::from_nanos(10), Duration::ZERO);
        renewed.renewal_failed(&full);
        renewed.renewed(Instant::from_nanos(20));
        assert_eq!(renewed.last_failure(), None);
        assert_eq!(renewed.loss(Instant::from_nanos(20)), lost(None));
    }

    #[tokio::test]
    async fn everybody_who_waits_for_a_loss_is_told() {
        let cell = HoldState::new(clock::now().after(DAY), Duration::ZERO);
        let cell = Arc::new(cell);
        let mut waits = tokio::task::JoinSet::new();
        for _ in 0..3 {
            waits.spawn(Lost::of(cell.clone()));
        }
        // They wait from here on.
        tokio::task::yield_now().await;
        cell.lose(LostReason::Taken);
        let told = tokio::time::timeout(DAY / 1_000, waits.join_all()).await;
        assert_eq!(told, Ok(vec![LostReason::Taken; 3]));
    }

    #[test]
    fn what_was_seen_to_be_lost_is_not_revived_by_a_late_renewal() {
        let cell = HoldState::new(Instant::from_nanos(10), Duration::ZERO);
        assert!(!cell.is_lost(Instant::from_nanos(9)));
        assert!(cell.is_lost(Instant::from_nanos(10)));
        cell.renewed(Instant::from_nanos(20));
        assert!(cell.is_lost(Instant::from_nanos(11)));
        assert!(cell.loss(Instant::from_nanos(11)).is_some());
    }
}
