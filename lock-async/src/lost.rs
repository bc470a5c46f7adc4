//! The future that resolves when a lock is lost.

use crate::clock;
use crate::guard::HoldState;
use crate::keeper::Watch;
use lock_core::LostReason;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

type Waiting = Pin<Box<dyn Future<Output = LostReason> + Send + Sync>>;

/// A future that resolves when a lock is lost, with the reason. Made by [`Guard::lost`](crate::Guard::lost).
///
/// It borrows nothing, and a clone resolves as well. It never resolves once the guard is released or dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Lost {
    cell: Arc<HoldState>,
    waiting: Option<Waiting>,
}

impl Lost {
    pub(crate) fn of(cell: Arc<HoldState>) -> Self {
        Self { cell, waiting: None }
    }
}

impl Clone for Lost {
    fn clone(&self) -> Self {
        Self::of(self.cell.clone())
    }
}

impl Future for Lost {
    type Output = LostReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LostReason> {
        let Self { cell, waiting } = &mut *self;
        if let Some(reason) = cell.loss(clock::now()) {
            *waiting = None;
            return Poll::Ready(reason);
        }
        waiting.get_or_insert_with(|| Box::pin(wait(cell.clone()))).as_mut().poll(cx)
    }
}

async fn wait(cell: Arc<HoldState>) -> LostReason {
    let mut watch = None;
    loop {
        let mut told = pin!(cell.lost.notified());
        // From here on, a loss wakes this task, so none is missed between the check and the wait.
        told.as_mut().enable();
        if let Some(reason) = cell.loss(clock::now()) {
            return reason;
        }
        watch.get_or_insert_with(|| Watch::new(&cell));
        told.await;
    }
}

/// As for [`Guard`](crate::Guard). A poll that panics, by its task's waker, leaves a future that panics when it is polled again.
impl UnwindSafe for Lost {}
impl RefUnwindSafe for Lost {}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lost").finish_non_exhaustive()
    }
}
