//! The channel for reports about an attempt, from the task to its caller.
//!
//! A caller that is not polled does not block the task, and reports do not pile up: the channel keeps the
//! latest progress of each kind, and the end of the attempt.

use super::News;
use crate::locks::Progress;
use futures_util::task::AtomicWaker;
use lock_core::LockId;
use std::future::poll_fn;
use std::mem::discriminant;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

/// Makes both ends for one attempt.
pub(super) fn channel() -> (Sender, Receiver) {
    let slot = Arc::new(Slot::default());
    (Sender(slot.clone()), Receiver(slot))
}

/// The task's end. After it is dropped, the caller gets the remaining reports, and then [`News::Closed`].
pub(super) struct Sender(Arc<Slot>);

/// The caller's end.
pub(super) struct Receiver(Arc<Slot>);

/// The attempt that a call is about.
pub(super) struct Target(Arc<Slot>);

#[derive(Default)]
struct Slot {
    /// Once the task has begun the attempt.
    id: OnceLock<LockId>,
    untold: Mutex<Untold>,
    /// The caller, while it waits.
    caller: AtomicWaker,
}

#[derive(Default)]
struct Untold {
    /// The latest progress of each kind, in order of arrival.
    progress: Vec<Progress>,
    end: Option<News>,
    closed: bool,
}

impl Untold {
    /// The next report.
    fn next(&mut self) -> Option<News> {
        if !self.progress.is_empty() {
            return Some(News::Progress(self.progress.remove(0)));
        }
        self.end.take().or_else(|| self.closed.then_some(News::Closed))
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// The attempt has begun. Calls about it come later.
    pub(super) fn begun(&self, id: LockId) {
        let _ = self.0.id.set(id);
    }

    pub(super) fn progress(&self, progress: Progress) {
        let mut untold = self.0.lock();
        untold.progress.retain(|old| discriminant(old) != discriminant(&progress));
        untold.progress.push(progress);
        drop(untold);
        self.0.caller.wake();
    }

    /// Reports the end of the attempt. It is the last report.
    pub(super) fn end(self, end: News) {
        self.0.lock().end = Some(end);
        // Dropping this wakes the caller.
    }

    #[cfg(test)]
    pub(super) fn untold(&self) -> usize {
        self.0.lock().progress.len()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.caller.wake();
    }
}

impl Target {
    /// [`None`] if the attempt was never begun.
    pub(super) fn id(&self) -> Option<LockId> {
        self.0.id.get().copied()
    }
}

impl Receiver {
    /// Names the attempt in a call.
    pub(super) fn target(&self) -> Target {
        Target(self.0.clone())
    }

    /// Waits for the next report. Cancel safe.
    pub(super) async fn next(&mut self) -> News {
        poll_fn(|cx| {
            // Before the look, so that no report from here on is missed.
            self.0.caller.register(cx.waker());
            self.0.lock().next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// A caller that waits no more need not be woken. Its waker is foreign code, which should be dropped here and not by the task.
impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.0.caller.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::config::Busy;
    use lock_core::{Holder, LockName, NotAcquired};
    use std::time::Duration;

    fn busy(label: &str) -> Progress {
        let holder = Holder::new(label, Duration::ZERO, Duration::ZERO);
        Progress::Busy(Busy::new(LockName::new("a").expect("good"), Some(holder)))
    }

    #[tokio::test]
    async fn the_latest_of_each_kind_is_told_and_then_the_end() {
        let (sender, mut receiver) = channel();
        for n in 0..10_000 {
            sender.progress(busy(&n.to_string()));
            sender.progress(Progress::Trouble(n.to_string()));
        }
        assert_eq!(sender.untold(), 2);
        sender.end(News::Not(NotAcquired::Busy(None), None));
        let News::Progress(first) = receiver.next().await else { panic!("progress") };
        assert_eq!(first, busy("9999"));
        let News::Progress(second) = receiver.next().await else { panic!("progress") };
        assert_eq!(second, Progress::Trouble("9999".to_string()));
        assert!(matches!(receiver.next().await, News::Not(..)));
        assert!(matches!(receiver.next().await, News::Closed));
    }

    #[tokio::test]
    async fn a_caller_that_waits_is_woken() {
        let (sender, mut receiver) = channel();
        let told = tokio::spawn(async move {
            let first = receiver.next().await;
            (matches!(first, News::Progress(_)), matches!(receiver.next().await, News::Closed))
        });
        tokio::task::yield_now().await;
        sender.progress(busy("a"));
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(told.await.expect("no panic"), (true, true));
    }
}
