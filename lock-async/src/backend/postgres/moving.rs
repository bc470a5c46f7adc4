//! The client and the connection that moves its bytes, which the driver's task polls both.
//!
//! Each step of one wakes the other. Where the other is polled next anyway, that wakes nobody: the task would take
//! another turn for it.

use futures_util::task::AtomicWaker;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio_postgres::Error;

/// A connection.
pub(super) struct Moving {
    future: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
    bell: Arc<Bell>,
    /// Has the connection polled.
    waker: Waker,
    answered: Arc<Answered>,
    /// Has the client polled.
    answers: Waker,
}

/// Wakes who polled the connection last.
#[derive(Default)]
struct Bell {
    caller: AtomicWaker,
    /// True while the connection is about to be polled.
    silent: AtomicBool,
}

/// True if the connection has something for the client. Nothing else has.
#[derive(Default)]
struct Answered(AtomicBool);

impl Moving {
    pub(super) fn new(future: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        let (bell, answered) = (Arc::<Bell>::default(), Arc::<Answered>::default());
        let (waker, answers) = (bell.clone().into(), answered.clone().into());
        Self { future: Box::pin(future), bell, waker, answered, answers }
    }

    /// Polls the connection until it ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.bell.caller.register(cx.waker());
        // Whatever somebody did who did not wake the caller has happened by now.
        self.bell.silent.swap(false, Ordering::AcqRel);
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker))
    }

    /// Waits until the connection ends.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Polls the client for the first time: it asks. The connection must be polled next.
    fn ask<T>(&self, work: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Poll<T> {
        self.bell.silent.store(true, Ordering::Release);
        self.answered.0.store(false, Ordering::Release);
        self.answer(work, cx)
    }

    /// Polls the client.
    fn answer<T>(&self, work: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Poll<T> {
        let result = work.poll(&mut Context::from_waker(&self.answers));
        if result.is_pending() && self.is_answered() {
            cx.waker().wake_by_ref();
        }
        result
    }

    /// Whether there is something for the client. Says so once.
    fn is_answered(&self) -> bool {
        self.answered.0.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // This changes nothing, but it is a write, so that the poll that follows sees what was done before it.
        if !self.silent.fetch_and(true, Ordering::AcqRel) {
            self.caller.wake();
        }
    }
}

impl Wake for Answered {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work` with the client, and moves the connection's bytes meanwhile, if there is a connection to poll.
pub(super) async fn drive<T>(
    connection: &mut Option<Moving>,
    mut work: Pin<&mut impl Future<Output = Result<T, Error>>>,
) -> Result<T, Error> {
    let mut begins = true;
    poll_fn(|cx: &mut Context<'_>| {
        let Some(moving) = connection else { return work.as_mut().poll(cx) };
        // At first the client asks. From then on, the connection is polled first, for it has the answer.
        let asked = std::mem::take(&mut begins).then(|| moving.ask(work.as_mut(), cx));
        let asked = asked.filter(Poll::is_ready);
        let Poll::Ready(ended) = moving.poll(cx) else {
            return match asked {
                Some(asked) => asked,
                None if moving.is_answered() => moving.answer(work.as_mut(), cx),
                None => Poll::Pending,
            };
        };
        *connection = None;
        match (asked.unwrap_or_else(|| work.as_mut().poll(cx)), ended) {
            // This error says only that the connection ended. The connection itself has the reason.
            (Poll::Ready(Err(error)), Err(why)) if error.is_closed() => Poll::Ready(Err(why)),
            (result, _) => result,
        }
    })
    .await
}
