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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What a client and its connection have between them.
    #[derive(Default)]
    struct Between {
        /// The waker of the connection, and of the client.
        connection: AtomicWaker,
        client: AtomicWaker,
        asked: AtomicBool,
        answer: Mutex<Option<u8>>,
        polls: AtomicUsize,
    }

    /// A connection that passes an answer on once there is one. It is there at once if `quick`.
    fn moving(between: &Arc<Between>, quick: bool) -> Option<Moving> {
        let between = between.clone();
        Some(Moving::new(poll_fn(move |cx| {
            between.polls.fetch_add(1, Ordering::SeqCst);
            between.connection.register(cx.waker());
            if quick && between.asked.load(Ordering::SeqCst) {
                *between.answer.lock().expect("unpoisoned") = Some(1);
            }
            if between.answer.lock().expect("unpoisoned").is_some() {
                between.client.wake();
            }
            Poll::Pending
        })))
    }

    /// A client that asks, and wakes the connection by that.
    fn work(between: &Arc<Between>) -> impl Future<Output = Result<u8, Error>> {
        let between = between.clone();
        poll_fn(move |cx| {
            between.client.register(cx.waker());
            if !between.asked.swap(true, Ordering::SeqCst) {
                between.connection.wake();
            }
            between
                .answer
                .lock()
                .expect("unpoisoned")
                .take()
                .map_or(Poll::Pending, |one| Poll::Ready(Ok(one)))
        })
    }

    #[test]
    fn nobody_is_woken_for_what_is_polled_next_and_everybody_for_what_comes_later() {
        let (between, wakes) = (Arc::<Between>::default(), Arc::<Counts>::default());
        let (waker, mut connection) = (Waker::from(wakes.clone()), moving(&between, false));
        let mut cx = Context::from_waker(&waker);
        let woken = || wakes.0.load(Ordering::SeqCst);
        // As one that is idle.
        assert!(connection.as_mut().expect("there").poll(&mut cx).is_pending());
        let mut work = std::pin::pin!(work(&between));
        let mut driven = Box::pin(drive(&mut connection, work.as_mut()));
        assert!(driven.as_mut().poll(&mut cx).is_pending());
        assert_eq!((between.polls.load(Ordering::SeqCst), woken()), (2, 0), "it was asked");
        *between.answer.lock().expect("unpoisoned") = Some(7);
        between.connection.wake();
        assert_eq!(woken(), 1, "the server has answered");
        assert!(matches!(driven.as_mut().poll(&mut cx), Poll::Ready(Ok(7))));
        assert_eq!((between.polls.load(Ordering::SeqCst), woken()), (3, 1));
        drop(driven);
        between.connection.wake();
        assert_eq!(woken(), 2, "an idle connection is polled, too");
    }

    #[test]
    fn an_answer_to_what_was_just_asked_is_taken_at_once() {
        let (between, wakes) = (Arc::<Between>::default(), Arc::<Counts>::default());
        let (waker, mut connection) = (Waker::from(wakes.clone()), moving(&between, true));
        let mut cx = Context::from_waker(&waker);
        let mut work = std::pin::pin!(work(&between));
        let mut driven = Box::pin(drive(&mut connection, work.as_mut()));
        assert!(matches!(driven.as_mut().poll(&mut cx), Poll::Ready(Ok(1))));
    }

    #[test]
    fn a_connection_that_ends_leaves_the_client_to_say_so() {
        let (between, waker) = (Arc::<Between>::default(), Waker::noop());
        let mut connection = Some(Moving::new(std::future::ready(Ok(()))));
        let mut work = std::pin::pin!(work(&between));
        let mut driven = Box::pin(drive(&mut connection, work.as_mut()));
        assert!(driven.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        *between.answer.lock().expect("unpoisoned") = Some(3);
        assert!(matches!(
            driven.as_mut().poll(&mut Context::from_waker(waker)),
            Poll::Ready(Ok(3))
        ));
        drop(driven);
        assert!(connection.is_none());
    }
}
