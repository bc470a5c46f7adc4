//! The connections that want to be polled. A backend that needs that while it is idle, for example to receive a
//! notification, asks for it by the waker that it was polled with last. So no turn polls all of them.

use futures_util::task::AtomicWaker;
use lock_core::ConnectionId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

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
}

impl Calling {
    /// What has a connection polled.
    pub(super) fn waker(self: &Arc<Self>, connection: ConnectionId) -> Waker {
        Arc::new(Bell { connection, calling: self.clone() }).into()
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
        self.calling.add(self.connection);
        self.calling.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_calls_once() {
        let calling = Arc::<Calling>::default();
        let called = || {
            let mut called = Vec::new();
            calling.take(&mut called, &Context::from_waker(Waker::noop()));
            called
        };
        let (main, waker) = (ConnectionId::MAIN, calling.waker(ConnectionId::MAIN));
        assert_eq!(called(), [], "nobody has");
        waker.wake_by_ref();
        waker.wake_by_ref();
        calling.add(main);
        assert_eq!(called(), [main]);
        assert_eq!(called(), [], "it was told");
        waker.wake();
        assert_eq!(called(), [main], "and calls again");
    }
}
