//! The idle backends. A backend that needs to be polled, for example to receive a notification, asks for
//! that. So no turn polls all of them.

use crate::backend::Backend;
use futures_util::task::AtomicWaker;
use lock_core::ConnectionId;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

pub(super) struct Idle<B> {
    /// In boxes, because they are large, and each request takes one out and puts it back.
    backends: BTreeMap<ConnectionId, (Box<B>, Waker)>,
    calling: Arc<Calling>,
}

/// The connections whose backends want to be polled.
#[derive(Default)]
struct Calling {
    connections: Mutex<BTreeSet<ConnectionId>>,
    task: AtomicWaker,
}

/// The waker of a connection's backend.
struct Bell {
    connection: ConnectionId,
    calling: Arc<Calling>,
}

impl<B: Backend> Idle<B> {
    pub(super) fn new() -> Self {
        Self { backends: BTreeMap::new(), calling: Arc::default() }
    }

    /// Adds a backend. It is polled soon, and then whenever it asks for that.
    pub(super) fn insert(&mut self, connection: ConnectionId, backend: Box<B>) {
        let waker = Waker::from(Arc::new(Bell { connection, calling: self.calling.clone() }));
        waker.wake_by_ref();
        self.backends.insert(connection, (backend, waker));
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Box<B>> {
        self.backends.remove(&connection).map(|(backend, _)| backend)
    }

    pub(super) fn take_all(&mut self) -> Vec<Box<B>> {
        std::mem::take(&mut self.backends).into_values().map(|(backend, _)| backend).collect()
    }

    /// Polls the backends that have asked for it.
    pub(super) fn poll(&mut self, cx: &Context<'_>) {
        self.calling.task.register(cx.waker());
        let calling = std::mem::take(&mut *self.calling.lock());
        for connection in calling {
            if let Some((backend, waker)) = self.backends.get_mut(&connection) {
                let mut cx = Context::from_waker(waker);
                // A backend that panics here fails when it is used next.
                let _ = catch_unwind(AssertUnwindSafe(|| backend.poll_idle(&mut cx)));
            }
        }
    }
}

impl Calling {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<ConnectionId>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.calling.lock().insert(self.connection);
        self.calling.task.wake();
    }
}
