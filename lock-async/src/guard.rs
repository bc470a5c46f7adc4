//! A lock that is held.

use crate::clock;
use crate::driver::Attempt;
use crate::error::ReleaseError;
use crate::keeper::Watch;
use crate::process::Process;
use lock_core::{Failure, Fence, Instant, LockName, LostReason, Mode};
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A lock that this process holds, until it is released, dropped or lost.
///
/// It is renewed in the background every third of its TTL. When no renewal has been confirmed in
/// time, or the server says that the lease is not ours any more, the lock is **lost**: for good,
/// even if the server can be reached again. When the runtime that the locks were connected on
/// ends, nobody renews any more, and every guard counts as lost at once.
///
/// A guard belongs to the process that took the lock. In a fork of it nothing is held: the guard says so, and
/// dropping it there releases nothing.
///
/// Between a look at [`is_held`](Self::is_held) and what is done next, time passes, and a process
/// can be stopped for any length of it. Where that would be fatal, give [`fence`](Self::fence) to
/// the resource that the lock protects.
///
/// Dropping a guard releases its lock in the background. That may be done anywhere, also while
/// panicking and outside of any runtime. The background is a task of the runtime that the locks were
/// connected on: a guard dropped at the end of `main` keeps its lock until the lease ends, unless
/// [`release`](Self::release) or [`Locks::shutdown`](crate::Locks::shutdown) is awaited.
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard {
    attempt: Attempt,
    name: LockName,
    mode: Mode,
    granted: Granted,
}

impl Guard {
    pub(crate) fn new(attempt: Attempt, name: LockName, mode: Mode, granted: Granted) -> Self {
        Self { attempt, name, mode, granted }
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
        !self.granted.cell.is_lost(clock::now())
    }

    /// Why the lock is lost, if it is. Once lost it stays lost. Reads the clock at every call.
    pub fn lost_reason(&self) -> Option<LostReason> {
        self.granted.cell.loss(clock::now())
    }

    /// Waits until the lock is lost, and says why. For ever, if it never is.
    ///
    /// It resolves by the lease's deadline though the server is silent, to within the few
    /// milliseconds that timers are late by, also on another runtime, and when the one that the locks
    /// were connected on is held up: a thread of this crate sees to that. It may be awaited by many
    /// and many times; once the lock is lost, it resolves at once.
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
    /// # Cancel safety
    /// Dropping the future loses nothing: the next one resolves as this one would have.
    pub async fn lost(&self) -> LostReason {
        if let Some(reason) = self.lost_reason() {
            return reason;
        }
        let mut watch = None;
        loop {
            let mut told = pin!(self.granted.cell.lost.notified());
            // From here on a loss wakes us, so that none can fall between the look and the wait.
            told.as_mut().enable();
            if let Some(reason) = self.lost_reason() {
                return reason;
            }
            watch.get_or_insert_with(|| Watch::new(&self.granted.cell));
            told.await;
        }
    }

    /// For how much longer the lock is certainly held if no renewal succeeds; zero when it is lost.
    pub fn remaining(&self) -> Duration {
        let now = clock::now();
        match self.granted.cell.loss(now) {
            Some(_) => Duration::ZERO,
            None => self.granted.cell.deadline().since(now),
        }
    }

    /// Why the last renewal failed, while the lock is held on an earlier one; [`None`] once a renewal
    /// succeeds. After a loss, [`LostReason`] has it.
    pub fn last_failure(&self) -> Option<Failure> {
        self.granted.cell.last_failure()
    }

    /// For how long a grant or renewal counts: [`remaining`](Self::remaining) right after one.
    pub fn valid_for(&self) -> Duration {
        self.attempt.timing().valid()
    }

    /// Releases the lock and tells how that went. Resolves within two request budgets.
    ///
    /// Dropping the guard releases it too, without telling.
    ///
    /// # Errors
    /// [`ReleaseError::Lost`] if the lock had been lost: work done under it may have overlapped
    /// with another holder's. [`ReleaseError::Unconfirmed`] if the server did not confirm it; the
    /// lease then ends by itself.
    ///
    /// # Cancel safety
    /// Dropping the future, at any point and even before it was polled, releases the lock in the
    /// background; only how that went is not told.
    pub async fn release(self) -> Result<(), ReleaseError> {
        let Self { attempt, granted, .. } = self;
        if let Some(reason) = granted.cell.loss(clock::now()) {
            // What the server may still hold is freed in the background: the outcome is known.
            return Err(ReleaseError::Lost(reason));
        }
        attempt.release().await
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .field("fence", &self.granted.fence)
            .field("lost", &self.lost_reason())
            .finish_non_exhaustive()
    }
}

/// What a grant consists of.
pub(crate) struct Granted {
    pub(crate) fence: Fence,
    pub(crate) cell: Arc<Cell>,
}

/// What the driver's task tells a guard. Read without the task.
pub(crate) struct Cell {
    process: Process,
    /// Zero once it was seen to have passed.
    deadline: AtomicU64,
    loss: OnceLock<LostReason>,
    lost: Notify,
    /// Why the last renewal failed.
    last_failure: Mutex<Option<Failure>>,
}

impl Cell {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            process: Process::current(),
            deadline: AtomicU64::new(deadline.as_nanos()),
            loss: OnceLock::new(),
            lost: Notify::new(),
            last_failure: Mutex::default(),
        }
    }

    /// Why the lock is lost at `now`. Latched: a deadline seen to have passed is a loss, whatever
    /// the driver still hears.
    pub(crate) fn loss(&self, now: Instant) -> Option<LostReason> {
        if !self.process.is_current() {
            return Some(LostReason::Forked);
        }
        if self.loss.get().is_none() && self.is_lost(now) {
            self.lose(LostReason::Deadline { last_failure: self.last_failure() });
        }
        self.loss.get().cloned()
    }

    /// The same without the reason, and without a lock.
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
        let later = |at| (at != 0).then_some(deadline.as_nanos());
        // One that was seen to have passed stays so.
        let _ = self.deadline.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
    }

    pub(crate) fn renewal_failed(&self, failure: &Failure) {
        *self.failure() = Some(failure.clone());
    }

    fn last_failure(&self) -> Option<Failure> {
        self.failure().clone()
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lose(&self, reason: LostReason) {
        if self.loss.set(reason).is_ok() {
            self.lost.notify_waiters();
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::from_nanos(self.deadline.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_seen_by_the_guard_alone_says_why_the_last_renewal_failed() {
        let full = Failure::Unknown("disk full".to_string());
        let lost = |last_failure| Some(LostReason::Deadline { last_failure });
        let seen = Cell::new(Instant::from_nanos(10));
        seen.renewal_failed(&full);
        assert_eq!(seen.loss(Instant::from_nanos(9)), None);
        assert_eq!(seen.last_failure(), Some(full.clone()));
        assert_eq!(seen.loss(Instant::from_nanos(10)), lost(Some(full.clone())));
        let renewed = Cell::new(Instant::from_nanos(10));
        renewed.renewal_failed(&full);
        renewed.renewed(Instant::from_nanos(20));
        assert_eq!(renewed.last_failure(), None);
        assert_eq!(renewed.loss(Instant::from_nanos(20)), lost(None));
    }

    #[test]
    fn what_was_seen_to_be_lost_is_not_revived_by_a_late_renewal() {
        let cell = Cell::new(Instant::from_nanos(10));
        assert!(!cell.is_lost(Instant::from_nanos(9)));
        assert!(cell.is_lost(Instant::from_nanos(10)));
        cell.renewed(Instant::from_nanos(20));
        assert!(cell.is_lost(Instant::from_nanos(11)));
        assert!(cell.loss(Instant::from_nanos(11)).is_some());
    }
}
