//! Idle backends. A backend that needs to be polled, for example to receive a notification, asks for that. So no turn
//! polls all of them.

use crate::backend::Backend;
use futures_util::task::AtomicWaker;
use lock_core::ConnectionId;
use std::collections::BTreeSet;
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

/// The connections whose backends want to be polled.
#[derive(Default)]
pub(super) struct Calling {
    connections: Mutex<BTreeSet<ConnectionId>>,
    task: AtomicWaker,
}

/// The waker of a connection's backend while it is idle. While it executes a request, it is polled with that.
struct Bell {
    connection: ConnectionId,
    calling: Arc<Calling>,
    is_idle: AtomicBool,
}

impl<B: Backend> Idle<B> {
    /// An empty one.
    pub(super) fn new(connection: ConnectionId, calling: Arc<Calling>) -> Self {
        let bell = Arc::new(Bell { connection, calling, is_idle: AtomicBool::new(false) });
        Self { backend: None, waker: bell.clone().into(), bell }
    }

    /// Puts a backend there. It is polled soon, and then whenever it asks for that.
    pub(super) fn put(&mut self, backend: Box<B>) {
        self.backend = Some(backend);
        self.bell.is_idle.store(true, Ordering::SeqCst);
        self.bell.wake_by_ref();
    }

    pub(super) fn take(&mut self) -> Option<Box<B>> {
        self.bell.is_idle.store(false, Ordering::SeqCst);
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
    /// Those that have called. Another call wakes the task.
    pub(super) fn take(&self, cx: &Context<'_>) -> BTreeSet<ConnectionId> {
        self.task.register(cx.waker());
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<ConnectionId>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_idle.load(Ordering::SeqCst) {
            self.calling.lock().insert(self.connection);
            self.calling.task.wake();
        }
    }
}
