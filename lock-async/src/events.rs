//! The events for `tracing`: each with `lock.name`, once it is granted with `lock.fence`.
//!
//! A subscriber is foreign code: it may block, panic, or take a lock. What happens while a caller waits
//! is told by the caller's own future, and what happens to a guard by a task of its own, so that no
//! subscriber holds up a renewal or a loss.

use lock_core::{Failure, Fence, LockName, LostReason, Release};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Level;
use tracing::level_filters::LevelFilter;

lock_shared::events!();

/// So many events may wait for a subscriber that is slow. Of what comes then only the number is told.
const QUEUE: usize = 1 << 16;

/// An event in a guard's life, `held` after it was acquired.
pub(crate) struct Told {
    pub(crate) name: LockName,
    pub(crate) fence: Fence,
    pub(crate) held: Duration,
    pub(crate) what: Life,
}

pub(crate) enum Life {
    Renewed,
    /// It is tried again.
    RenewalFailed(Failure),
    Lost(LostReason),
    Released(Release),
}

impl Life {
    fn level(&self) -> Level {
        match self {
            Life::Renewed => Level::TRACE,
            Life::Released(Release::Freed) => Level::DEBUG,
            _ => Level::WARN,
        }
    }
}

impl Told {
    fn emit(self) {
        let Self { name, fence, held, what } = self;
        match what {
            Life::Renewed => renewed(&name, fence, held),
            Life::RenewalFailed(failure) => renewal_failed(&name, fence, held, &failure),
            Life::Lost(reason) => lost(&name, fence, held, &reason),
            Life::Released(release) => {
                let release = match release {
                    Release::Freed => Ok(()),
                    Release::Unconfirmed(why) => Err(why.to_string()),
                    _ => Err("the lock had been lost".to_string()),
                };
                released(&name, fence, held, &release);
            }
        }
    }
}

/// The way to the task that tells events. The task starts with the first one that somebody may want to hear.
#[derive(Default)]
pub(crate) struct Teller {
    task: Option<(mpsc::Sender<Told>, JoinHandle<()>)>,
    missed: Arc<AtomicUsize>,
}

impl Teller {
    pub(crate) fn tell(&mut self, told: Told) {
        // This asks no subscriber, as `enabled!` would. Warnings are for those of `log` too.
        let level = told.what.level();
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

    /// All that was told has been heard when this ends.
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
            guarded(|| tracing::warn!(missed, "there were more events than could be told"));
        }
    }
}

/// A subscriber that panics has had its say.
fn guarded(emit: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(emit));
}
