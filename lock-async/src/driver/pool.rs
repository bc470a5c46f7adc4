//! The connections that are open: their backends, idle or checked out with a request.

use super::idle::{Calling, Idle};
use crate::backend::panics::{PANICKED, guarded};
use crate::backend::{Backend, Backends};
use crate::process::Process;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use lock_core::sql::ConnectError;
use lock_core::{ConnectionId, DispatchId, Failure, Instant, Reached, Reply, Request};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// The end of the first connect.
type Connected = Result<Reached, ConnectError>;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(super) struct ConnectionPool<F: Backends> {
    /// The maker of backends. `None` during the first connect and the drop.
    backends: Option<F>,
    /// The first connect, while it is under way.
    connecting: Option<Boxed<(F, Connected)>>,
    connections: BTreeMap<ConnectionId, Connection<F::Backend>>,
    /// The connections whose idle backends want to be polled.
    calling: Arc<Calling>,
    exchanges: FuturesUnordered<Boxed<Arrival<F>>>,
    /// Goodbyes in flight. A panic in one ends its connection, too.
    goodbyes: FuturesUnordered<Boxed<Option<()>>>,
    process: Process,
}

/// The backends of a connection.
struct Connection<B> {
    idle: Idle<B>,
    /// Those that execute a request: usually one.
    checked_out: Vec<CheckedOut>,
}

/// A backend that executes a request. Dropping this cuts the backend off in the middle of the request.
struct CheckedOut {
    id: DispatchId,
    _cut: oneshot::Sender<Infallible>,
}

/// A request's answer, and its backend.
struct Arrival<F: Backends> {
    connection: ConnectionId,
    id: DispatchId,
    backend: Box<F::Backend>,
    reply: Result<Reply, Failure>,
}

impl<F: Backends> ConnectionPool<F> {
    pub(super) fn new(backends: F) -> Self {
        Self {
            backends: Some(backends),
            connecting: None,
            connections: BTreeMap::new(),
            calling: Arc::default(),
            exchanges: FuturesUnordered::new(),
            goodbyes: FuturesUnordered::new(),
            process: Process::current(),
        }
    }

    /// Begins the first connect, before which no backend is needed.
    pub(super) fn connect(&mut self) {
        let Some(mut backends) = self.backends.take() else { return };
        self.connecting = Some(Box::pin(async move {
            let connected = guarded(backends.connect()).await;
            let panicked = Failure::Unknown(PANICKED.to_string());
            (backends, connected.unwrap_or_else(|| Err(panicked.into())))
        }));
    }

    /// Polls the first connect.
    pub(super) fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<Connected> {
        let Some(connecting) = &mut self.connecting else { return Poll::Pending };
        let Poll::Ready((backends, connected)) = connecting.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        (self.connecting, self.backends) = (None, Some(backends));
        Poll::Ready(connected)
    }

    /// Sends a request by the connection's backend, or by a new one. Returns false if there can be no new one.
    pub(super) fn send(
        &mut self,
        connection: ConnectionId,
        id: DispatchId,
        request: Request,
        sent: Instant,
        budget: Duration,
    ) -> bool {
        let idle = self.connections.get_mut(&connection).and_then(|one| one.idle.take());
        let another = || self.backends.as_mut()?.backend().map(Box::new);
        let Some(mut backend) = idle.or_else(another) else { return false };
        let (cut, mut is_cut) = oneshot::channel();
        let new = || Connection {
            idle: Idle::new(connection, self.calling.clone()),
            checked_out: Vec::new(),
        };
        let one = self.connections.entry(connection).or_insert_with(new);
        one.checked_out.push(CheckedOut { id, _cut: cut });
        self.exchanges.push(Box::pin(async move {
            let reply = {
                let mut exchange = pin!(backend.execute(request, sent, budget));
                poll_fn(|cx| {
                    if Pin::new(&mut is_cut).poll(cx).is_ready() {
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
            let dropped = || Failure::Unknown("the connection was dropped".to_string());
            Arrival { connection, id, backend, reply: reply.unwrap_or_else(|| Err(dropped())) }
        }));
        true
    }

    /// Polls for the next answer, and polls goodbyes and idle backends.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(DispatchId, Result<Reply, Failure>)> {
        while !self.goodbyes.is_empty()
            && let Poll::Ready(Some(_)) = Pin::new(&mut self.goodbyes).poll_next(cx)
        {}
        for connection in self.calling.take(cx) {
            if let Some(one) = self.connections.get_mut(&connection) {
                one.idle.poll();
            }
        }
        let Poll::Ready(Some(arrival)) = Pin::new(&mut self.exchanges).poll_next(cx) else {
            return Poll::Pending;
        };
        let Arrival { connection, id, backend, reply } = arrival;
        match self.returned(connection, id) {
            // Its connection was dropped meanwhile.
            None => self.goodbyes.push(Box::pin(guarded(backend.cut()))),
            Some(one) if backend.lasts() => one.idle.put(backend),
            Some(one) if one.checked_out.is_empty() && one.idle.is_empty() => {
                self.connections.remove(&connection);
            }
            Some(_) => {}
        }
        Poll::Ready((id, reply))
    }

    /// Notes that a backend has answered. Returns its connection, unless that was dropped meanwhile.
    fn returned(
        &mut self,
        connection: ConnectionId,
        id: DispatchId,
    ) -> Option<&mut Connection<F::Backend>> {
        let one = self.connections.get_mut(&connection)?;
        let at = one.checked_out.iter().position(|checked_out| checked_out.id == id)?;
        one.checked_out.swap_remove(at);
        Some(one)
    }

    /// Drops a connection. Its backend says goodbye, or is cut off if it executes a request.
    pub(super) fn drop_connection(&mut self, connection: ConnectionId) {
        let dropped = self.connections.remove(&connection);
        if let Some(backend) = dropped.and_then(|mut one| one.idle.take()) {
            self.goodbyes.push(Box::pin(guarded(backend.close())));
        }
    }

    /// Drops all connections. Bounded in time, because each goodbye is.
    pub(super) async fn drop_all(mut self) {
        self.connections.values_mut().for_each(|one| one.checked_out.clear());
        while let Some(Arrival { backend, .. }) = next(&mut self.exchanges).await {
            self.goodbyes.push(Box::pin(guarded(backend.cut())));
        }
        let connections = std::mem::take(&mut self.connections).into_values();
        for backend in connections.filter_map(|mut one| one.idle.take()) {
            self.goodbyes.push(Box::pin(guarded(backend.close())));
        }
        while next(&mut self.goodbyes).await.is_some() {}
    }
}

/// A fork drops its copy of the runtime, and this with it. The connections belong to the parent, so not even
/// a goodbye may be sent on them.
impl<F: Backends> Drop for ConnectionPool<F> {
    fn drop(&mut self) {
        if !self.process.is_current() {
            std::mem::forget(self.backends.take());
            std::mem::forget(self.connecting.take());
            std::mem::forget(std::mem::take(&mut self.connections));
            std::mem::forget(std::mem::take(&mut self.exchanges));
            std::mem::forget(std::mem::take(&mut self.goodbyes));
        }
    }
}

async fn next<T>(all: &mut FuturesUnordered<Boxed<T>>) -> Option<T> {
    poll_fn(|cx| Pin::new(&mut *all).poll_next(cx)).await
}
