//! The events for `tracing`. Each has `lock.name`. Those after a grant have `lock.fence`.
//!
//! A subscriber is foreign code: it may block, panic, or acquire a lock. The caller's own future emits the
//! events of its wait, and a task of its own emits those of guards, so that no subscriber delays a renewal or
//! a loss.

use lock_core::config::ReleaseError;
use lock_core::{Failure, Fence, Holder, LockName, LostReason};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Level;
use tracing::level_filters::LevelFilter;

lock_shared::events!();

/// Number of events that may wait for a slow subscriber. Events beyond it are only counted.
const QUEUE: usize = 1 << 16;

pub(crate) enum Told {
    /// An event in a guard's life, `held` after it was acquired.
    Guard { name: LockName, fence: Fence, held: Duration, what: Life },
    /// A wait goes on, and has lasted long.
    WaitsLong { name: LockName, waited: Duration, holder: Option<Holder> },
}

pub(crate) enum Life {
    Renewed,
    /// A renewal failed. The driver tries again.
    RenewalFailed(Failure),
    Lost(LostReason),
    /// It still is, and has been for long.
    HeldLong(Option<Arc<str>>),
    Released(Result<(), ReleaseError>),
}

impl Told {
    fn level(&self) -> Level {
        match self {
            Self::Guard { what: Life::Renewed, .. } => Level::TRACE,
            Self::Guard { what: Life::Released(Ok(())), .. } => Level::DEBUG,
            _ => Level::WARN,
        }
    }

    fn emit(self) {
        let (name, fence, held, what) = match self {
            Self::Guard { name, fence, held, what } => (name, fence, held, what),
            Self::WaitsLong { name, waited, holder } => {
                return waits_long(&name, waited, holder.as_ref());
            }
        };
        match what {
            Life::Renewed => renewed(&name, fence, held),
            Life::RenewalFailed(failure) => renewal_failed(&name, fence, held, &failure),
            Life::HeldLong(label) => held_long(&name, fence, held, label.as_deref()),
            Life::Lost(reason) => lost(&name, fence, held, &reason),
            Life::Released(release) => released(&name, fence, held, &release),
        }
    }
}

/// The queue of the task that emits events. The task starts with the first event that a subscriber may want.
#[derive(Default)]
pub(crate) struct Teller {
    task: Option<(mpsc::Sender<Told>, JoinHandle<()>)>,
    missed: Arc<AtomicUsize>,
}

impl Teller {
    pub(crate) fn tell(&mut self, told: Told) {
        // This asks no subscriber, as `enabled!` would. Warnings are for those of `log` too.
        let level = told.level();
        if level > Level::WARN && LevelFilter::current() < level {
            return;
        }
        let (queue, _) = self.task.get_or_insert_with(|| {
            let (queue, todo) = mpsc::channel(QUEUE);
            (queue, tokio::spawn(tell_all(todo, self.missed.clone())))
        });
        if queue.try_send(told).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the subscriber has received all events.
    pub(crate) async fn end(self) {
        let Some((queue, task)) = self.task else { return };
        drop(queue);
        let _ = task.await;
    }
}

async fn tell_all(mut todo: mpsc::Receiver<Told>, missed: Arc<AtomicUsize>) {
    while let Some(told) = todo.recv().await {
        guarded(|| told.emit());
        let missed = missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            guarded(|| self::missed(missed));
        }
    }
}

/// Calls a subscriber. Its panic ends here.
fn guarded(emit: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(emit));
}

#[cfg(test)]
mod tests {
    use super::*;

    lock_shared::listener!();

    fn told(what: Life) -> Told {
        let name = LockName::new("a").expect("a good name");
        Told::Guard { name, fence: Fence::new(1), held: Duration::ZERO, what }
    }

    /// A program may have a logger of `log` instead.
    #[tokio::test]
    async fn warnings_are_told_without_a_subscriber() {
        let mut teller = Teller::default();
        teller.tell(told(Life::Renewed));
        teller.tell(told(Life::Released(Ok(()))));
        assert!(teller.task.is_none(), "nobody may want these");
        let failure = || Failure::Unknown("cut off".to_string());
        for what in [
            Life::RenewalFailed(failure()),
            Life::Lost(LostReason::Taken),
            Life::HeldLong(None),
            Life::Released(Err(ReleaseError::Unconfirmed {
                reason: "no".to_string(),
                within: Duration::ZERO,
            })),
            Life::Released(Err(ReleaseError::Lost(LostReason::Taken))),
        ] {
            let mut teller = Teller::default();
            teller.tell(told(what));
            assert!(teller.task.is_some());
        }
    }

    /// The task does not get to tell anything meanwhile.
    #[tokio::test]
    async fn events_beyond_a_number_are_counted_and_that_is_told_once() {
        let mut teller = Teller::default();
        for _ in 0..QUEUE + 3 {
            teller.tell(told(Life::Lost(LostReason::Taken)));
        }
        let listener = Listener::default();
        let told = tracing::subscriber::set_default(listener.clone());
        teller.end().await;
        drop(told);
        let told = listener.0.lock().expect("unpoisoned");
        let left_out = "message=the subscriber is too slow: events were left out;missed=3;";
        assert_eq!((told.matches("missed=").count(), told.matches(left_out).count()), (1, 1));
    }
}
