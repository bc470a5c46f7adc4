//! The connections that are open: their backends, idle or checked out with a request.

use super::calling::Calling;
use crate::backend::panics::{PANICKED, guarded};
use crate::backend::{Backend, Backends};
use crate::process::Process;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use lock_core::sql::ConnectError;
use lock_core::{ConnectionId, DispatchId, Failure, Instant, Reached, Reply, Request};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The end of the first connect.
type Connected = Result<Reached, ConnectError>;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(super) struct ConnectionPool<F: Backends> {
    /// The maker of backends. `None` during the first connect and the drop.
    backends: Option<F>,
    /// The first connect, while it is under way.
    connecting: Option<Boxed<(F, Connected)>>,
    connections: BTreeMap<ConnectionId, Connection<F::Backend>>,
    /// The connections that want to be polled.
    calling: Arc<Calling>,
    /// Room for them, while they are polled.
    called: Vec<ConnectionId>,
    /// The answers that have arrived.
    answers: VecDeque<Answer>,
    /// Requests of connections that were dropped, until their backends are back.
    cut: FuturesUnordered<Boxed<Arrival<F::Backend>>>,
    /// Goodbyes in flight. A panic in one ends its connection, too.
    goodbyes: FuturesUnordered<Boxed<Option<()>>>,
    process: Process,
}

/// The backends of a connection.
struct Connection<B> {
    /// In a box, because it is large, and each request takes it out and puts it back.
    idle: Option<Box<B>>,
    /// Those that execute a request: usually one.
    exchanges: Vec<Boxed<Arrival<B>>>,
    /// Has the backends polled, also one that is idle: its last request was polled with it.
    waker: Waker,
    /// True once the connection is dropped. It cuts its exchanges off when they are polled next. Only the task reads and
    /// writes it.
    dropped: Arc<AtomicBool>,
}

/// A request's answer, and its backend.
struct Arrival<B> {
    answer: Answer,
    backend: Box<B>,
}

type Answer = (DispatchId, Result<Reply, Failure>);

impl<F: Backends> ConnectionPool<F> {
    pub(super) fn new(backends: F) -> Self {
        Self {
            backends: Some(backends),
            connecting: None,
            connections: BTreeMap::new(),
            calling: Arc::default(),
            called: Vec::new(),
            answers: VecDeque::new(),
            cut: FuturesUnordered::new(),
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
        let new = || Connection {
            idle: None,
            exchanges: Vec::new(),
            waker: self.calling.waker(connection),
            dropped: Arc::default(),
        };
        let one = self.connections.entry(connection).or_insert_with(new);
        let dropped = one.dropped.clone();
        one.exchanges.push(Box::pin(async move {
            let reply = {
                let mut exchange = pin!(backend.execute(request, sent, budget));
                poll_fn(|cx| {
                    if dropped.load(Ordering::Relaxed) {
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
            Arrival { answer: (id, reply.unwrap_or_else(|| Err(dropped()))), backend }
        }));
        self.calling.add(connection);
        true
    }

    /// Polls for the next answer, and polls goodbyes and idle backends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        while !self.goodbyes.is_empty()
            && let Poll::Ready(Some(_)) = Pin::new(&mut self.goodbyes).poll_next(cx)
        {}
        while !self.cut.is_empty()
            && let Poll::Ready(Some(arrival)) = Pin::new(&mut self.cut).poll_next(cx)
        {
            self.goodbyes.push(Box::pin(guarded(arrival.backend.cut())));
            self.answers.push_back(arrival.answer);
        }
        self.calling.take(&mut self.called, cx);
        while let Some(connection) = self.called.pop() {
            self.poll_connection(connection);
        }
        self.answers.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_connection(&mut self, connection: ConnectionId) {
        let Some(one) = self.connections.get_mut(&connection) else { return };
        let (mut cx, mut at) = (Context::from_waker(&one.waker), 0);
        if let Some(backend) = &mut one.idle {
            // A backend that panics here fails when it is used next.
            let _ = catch_unwind(AssertUnwindSafe(|| backend.poll_idle(&mut cx)));
        }
        while let Some(exchange) = one.exchanges.get_mut(at) {
            let Poll::Ready(Arrival { answer, backend }) = exchange.as_mut().poll(&mut cx) else {
                at += 1;
                continue;
            };
            drop(one.exchanges.swap_remove(at));
            if backend.lasts() {
                one.idle = Some(backend);
            }
            self.answers.push_back(answer);
        }
        if one.exchanges.is_empty() && one.idle.is_none() {
            self.connections.remove(&connection);
        }
    }

    /// Drops a connection. Its backend says goodbye, or is cut off if it executes a request.
    pub(super) fn drop_connection(&mut self, connection: ConnectionId) {
        if let Some(one) = self.connections.remove(&connection) {
            self.end(one);
        }
    }

    fn end(&mut self, mut one: Connection<F::Backend>) {
        one.dropped.store(true, Ordering::Relaxed);
        self.cut.extend(one.exchanges);
        if let Some(backend) = one.idle.take() {
            self.goodbyes.push(Box::pin(guarded(backend.close())));
        }
    }

    /// Drops all connections. Bounded in time, because each goodbye is.
    pub(super) async fn drop_all(mut self) {
        for one in std::mem::take(&mut self.connections).into_values() {
            self.end(one);
        }
        while let Some(Arrival { backend, .. }) = next(&mut self.cut).await {
            self.goodbyes.push(Box::pin(guarded(backend.cut())));
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
            std::mem::forget(std::mem::take(&mut self.cut));
            std::mem::forget(std::mem::take(&mut self.goodbyes));
        }
    }
}

async fn next<T>(all: &mut FuturesUnordered<Boxed<T>>) -> Option<T> {
    poll_fn(|cx| Pin::new(&mut *all).poll_next(cx)).await
}
