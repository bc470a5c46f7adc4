//! The connections that are open.

use super::calling::Calling;
use super::worker::{Answer, Answers, Job, Worker, lock};
use super::{Boxed, Connected};
use crate::backend::Backends;
use crate::backend::panics::{PANICKED, guarded};
use crate::process::Process;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use lock_core::{ConnectionId, Failure};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub(super) struct ConnectionPool<F: Backends> {
    /// The maker of backends. `None` during the first connect and the drop.
    backends: Option<F>,
    /// The first connect, while it is under way.
    connecting: Option<Boxed<(F, Connected)>>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Those of them that want to be polled.
    calling: Arc<Calling>,
    /// Room for them, while they are polled.
    called: Vec<ConnectionId>,
    answers: Answers,
    /// Workers of connections that were dropped, until they have ended.
    leaving: FuturesUnordered<Boxed<()>>,
    process: Process,
}

/// The workers of a connection.
struct Connection {
    /// Usually one.
    workers: Vec<Worker>,
    /// Has them polled.
    waker: Waker,
}

impl<F: Backends> ConnectionPool<F> {
    pub(super) fn new(backends: F) -> Self {
        Self {
            backends: Some(backends),
            connecting: None,
            connections: BTreeMap::new(),
            calling: Arc::default(),
            called: Vec::new(),
            answers: Arc::default(),
            leaving: FuturesUnordered::new(),
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

    /// Sends a request by a worker that is idle, or by a new one. Returns false if there can be no new one.
    pub(super) fn send(&mut self, connection: ConnectionId, job: Job) -> bool {
        let workers = self.connections.get_mut(&connection).map(|one| &mut one.workers);
        if let Some(idle) = workers.and_then(|all| all.iter_mut().find(|one| !one.is_busy())) {
            idle.execute(job);
        } else {
            let Some(backend) = self.backends.as_mut().and_then(F::backend) else { return false };
            let mut worker = Worker::new(backend, self.answers.clone());
            worker.execute(job);
            let waker = self.calling.waker(connection);
            let new = || Connection { workers: Vec::new(), waker };
            self.connections.entry(connection).or_insert_with(new).workers.push(worker);
        }
        self.calling.add(connection);
        true
    }

    /// Polls those that were dropped or have called.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while !self.leaving.is_empty()
            && let Poll::Ready(Some(())) = Pin::new(&mut self.leaving).poll_next(cx)
        {}
        self.calling.take(&mut self.called, cx);
        while let Some(connection) = self.called.pop() {
            self.poll_connection(connection);
        }
    }

    /// The next answer that has arrived.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        lock(&self.answers).pop_front()
    }

    fn poll_connection(&mut self, connection: ConnectionId) {
        let Some(one) = self.connections.get_mut(&connection) else { return };
        let mut cx = Context::from_waker(&one.waker);
        one.workers.retain_mut(|worker| !worker.poll(&mut cx));
        if one.workers.is_empty() {
            self.connections.remove(&connection);
        }
    }

    /// Drops a connection. Its backend says goodbye, or is cut off if it executes a request.
    pub(super) fn drop_connection(&mut self, connection: ConnectionId) {
        let dropped = self.connections.remove(&connection);
        self.leaving.extend(dropped.into_iter().flat_map(|one| one.workers).map(Worker::end));
    }

    /// Drops all connections. Bounded in time, because each goodbye is.
    pub(super) async fn drop_all(mut self) {
        let all = std::mem::take(&mut self.connections).into_values();
        self.leaving.extend(all.flat_map(|one| one.workers).map(Worker::end));
        while poll_fn(|cx| Pin::new(&mut self.leaving).poll_next(cx)).await.is_some() {}
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
            std::mem::forget(std::mem::take(&mut self.leaving));
        }
    }
}
