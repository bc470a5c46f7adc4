//! Idle backends, and the bells of connections. A backend that needs to be polled, for example to receive a
//! notification, asks for that. So no turn polls all of them.

use crate::backend::Backend;
use futures_util::task::AtomicWaker;
use lock_core::ConnectionId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// The place of a connection's idle backend.
pub(super) struct Idle<B> {
    /// In a box, because it is large, and each request takes it out and puts it back.
    backend: Option<Box<B>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// The connections that want to be polled.
#[derive(Default)]
pub(super) struct Calling {
    connections: Mutex<Vec<ConnectionId>>,
    task: AtomicWaker,
}

/// The waker of a connection.
struct Bell {
    connection: ConnectionId,
    calling: Arc<Calling>,
    /// False while the idle backend that it was made for executes a request, and is polled with that.
    rings: AtomicBool,
}

impl<B: Backend> Idle<B> {
    /// An empty one.
    pub(super) fn new(connection: ConnectionId, calling: Arc<Calling>) -> Self {
        let bell = Arc::new(Bell { connection, calling, rings: AtomicBool::new(false) });
        Self { backend: None, waker: bell.clone().into(), bell }
    }

    /// Puts a backend there. It is polled soon, and then whenever it asks for that.
    pub(super) fn put(&mut self, backend: Box<B>) {
        self.backend = Some(backend);
        self.bell.rings.store(true, Ordering::SeqCst);
        self.bell.wake_by_ref();
    }

    pub(super) fn take(&mut self) -> Option<Box<B>> {
        self.bell.rings.store(false, Ordering::SeqCst);
        self.backend.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.backend.is_none()
    }

    /// Polls the backend, which has asked for it.
    pub(super) fn poll(&mut self) {
        if let Some(backend) = &mut self.backend {
            let mut cx = Context::from_waker(&self.waker);
            // A backend that panics here fails when it is used next.
            let _ = catch_unwind(AssertUnwindSafe(|| backend.poll_idle(&mut cx)));
        }
    }
}

impl Calling {
    /// What has a connection polled.
    pub(super) fn waker(self: &Arc<Self>, connection: ConnectionId) -> Waker {
        let (calling, rings) = (self.clone(), AtomicBool::new(true));
        Arc::new(Bell { connection, calling, rings }).into()
    }

    /// Has a connection polled in the next turn, and wakes nobody.
    pub(super) fn add(&self, connection: ConnectionId) {
        let mut calling = self.lock();
        if !calling.contains(&connection) {
            calling.push(connection);
        }
    }

    /// Puts those that have called into `called`, which is empty. Another call wakes the task.
    pub(super) fn take(&self, called: &mut Vec<ConnectionId>, cx: &Context<'_>) {
        self.task.register(cx.waker());
        std::mem::swap(&mut *self.lock(), called);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ConnectionId>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rings.load(Ordering::SeqCst) {
            self.calling.add(self.connection);
            self.calling.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::{Failure, Instant, Reply, Request};
    use std::time::Duration;

    struct Silent;

    impl Backend for Silent {
        async fn execute(
            &mut self,
            _request: Request,
            _now: Instant,
            _budget: Duration,
        ) -> Result<Reply, Failure> {
            Err(Failure::Unknown("silent".to_string()))
        }

        async fn close(self) {}
    }

    #[test]
    fn a_connection_calls_once_and_an_idle_backend_only_while_it_is_idle() {
        let calling = Arc::<Calling>::default();
        let called = || {
            let mut called = Vec::new();
            calling.take(&mut called, &Context::from_waker(Waker::noop()));
            called
        };
        let (main, mut idle) = (ConnectionId::MAIN, Idle::new(ConnectionId::MAIN, calling.clone()));
        idle.waker.wake_by_ref();
        assert_eq!(called(), [], "there is none");
        idle.put(Box::new(Silent));
        assert_eq!(called(), [main], "it is polled once without having asked for it");
        idle.waker.wake_by_ref();
        idle.waker.wake_by_ref();
        calling.add(main);
        assert_eq!(called(), [main]);
        assert!(idle.take().is_some() && idle.is_empty());
        idle.waker.wake_by_ref();
        assert_eq!(called(), [], "it executes a request");
        calling.waker(main).wake();
        assert_eq!(called(), [main], "and its request is polled");
    }
}
