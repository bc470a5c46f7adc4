//! A worker: one future that executes a connection's requests one after another, and polls its backend in between.

use super::Boxed;
use crate::backend::Backend;
use crate::backend::panics::guarded;
use lock_core::{DispatchId, Failure, Instant, Reply, Request};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

pub(super) type Answer = (DispatchId, Result<Reply, Failure>);

/// The answers that have arrived. Only the task reads and writes them, and the desks.
pub(super) type Answers = Arc<Mutex<VecDeque<Answer>>>;

/// A worker, as the pool sees it.
pub(super) struct Worker {
    desk: Arc<Mutex<Desk>>,
    /// Ends once its backend serves no further request, or has said goodbye.
    life: Boxed<()>,
}

/// The pool's orders for a worker.
#[derive(Default)]
struct Desk {
    job: Option<Job>,
    /// True from the job until its answer.
    busy: bool,
    /// True once its connection is dropped, which cuts the request off.
    dropped: bool,
}

/// A request to be executed.
pub(super) struct Job {
    pub(super) id: DispatchId,
    pub(super) request: Request,
    pub(super) sent: Instant,
    pub(super) budget: Duration,
}

impl Worker {
    pub(super) fn new(backend: impl Backend, answers: Answers) -> Self {
        let desk = Arc::<Mutex<Desk>>::default();
        Self { life: Box::pin(live(backend, desk.clone(), answers)), desk }
    }

    pub(super) fn is_busy(&self) -> bool {
        lock(&self.desk).busy
    }

    /// Has a request executed, when it is polled next.
    pub(super) fn execute(&mut self, job: Job) {
        let mut desk = lock(&self.desk);
        (desk.job, desk.busy) = (Some(job), true);
    }

    /// Returns true if it has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.life.as_mut().poll(cx).is_ready()
    }

    /// The rest of its life: its backend says goodbye, or is cut off if it executes a request. Bounded in time.
    pub(super) fn end(self) -> Boxed<()> {
        lock(&self.desk).dropped = true;
        self.life
    }
}

async fn live(mut backend: impl Backend, desk: Arc<Mutex<Desk>>, answers: Answers) {
    loop {
        // A backend has been polled by its last request.
        let mut polled = true;
        let next = poll_fn(|cx| {
            let mut desk = lock(&desk);
            match desk.job.take() {
                Some(job) => return Poll::Ready(Some(job)),
                None if desk.dropped => return Poll::Ready(None),
                None => drop(desk),
            }
            if !std::mem::take(&mut polled) {
                // A backend that panics here fails when it is used next.
                let _ = catch_unwind(AssertUnwindSafe(|| backend.poll_idle(cx)));
            }
            Poll::Pending
        });
        let Some(Job { id, request, sent, budget }) = next.await else {
            let _ = guarded(backend.close()).await;
            return;
        };
        let reply = {
            let mut exchange = pin!(backend.execute(request, sent, budget));
            poll_fn(|cx| {
                if lock(&desk).dropped {
                    return Poll::Ready(None);
                }
                catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(cx).map(Some)))
                    .unwrap_or_else(|_| {
                        let panicked = "the database client panicked".to_string();
                        Poll::Ready(Some(Err(Failure::Unknown(panicked))))
                    })
            })
            .await
        };
        let cut = reply.is_none();
        let dropped = || Failure::Unknown("the connection was dropped".to_string());
        lock(&desk).busy = false;
        lock(&answers).push_back((id, reply.unwrap_or_else(|| Err(dropped()))));
        if cut {
            let _ = guarded(backend.cut()).await;
            return;
        }
        if !backend.lasts() {
            return;
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
