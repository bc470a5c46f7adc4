//! The connections that are open: their backends, idle or checked out with a request.

use crate::backend::{Backend, Backends, Cut};
use lock_core::{ConnectionId, DispatchId};
use std::collections::BTreeMap;

pub(super) struct ConnectionPool {
    /// The maker of backends. [`None`] while a thread makes the first connect with it.
    backends: Option<Box<dyn Backends>>,
    /// There may be several backends.
    are_many: bool,
    /// The idle backends.
    idle: BTreeMap<ConnectionId, Box<dyn Backend>>,
    /// The backends that execute a request: one for each connection, or more if the connection was dropped and used
    /// again.
    checked_out: BTreeMap<ConnectionId, Vec<CheckedOut>>,
    /// Number of these that do not wait at the server.
    asking: usize,
}

/// A backend that executes a request.
struct CheckedOut {
    id: DispatchId,
    /// True if it waits at the server.
    waits: bool,
    /// True if its connection was dropped meanwhile.
    dropped: bool,
    cut: Option<Cut>,
}

impl ConnectionPool {
    pub(super) fn new(backends: Box<dyn Backends>) -> Self {
        let are_many = backends.are_many();
        Self {
            backends: Some(backends),
            are_many,
            idle: BTreeMap::new(),
            checked_out: BTreeMap::new(),
            asking: 0,
        }
    }

    /// Takes the maker of backends out for the first connect, before which nobody else needs it.
    pub(super) fn take_backends(&mut self) -> Option<Box<dyn Backends>> {
        self.backends.take()
    }

    /// Puts it back.
    pub(super) fn put_backends(&mut self, backends: Box<dyn Backends>) {
        self.backends = Some(backends);
    }

    /// Takes the connection's backend, or a new one, to execute a request. `for_waits` is true if the connection is there
    /// to wait.
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        id: DispatchId,
        waits: bool,
        for_waits: bool,
    ) -> Option<Box<dyn Backend>> {
        let idle = self.idle.remove(&connection);
        let backend = idle.or_else(|| self.backends.as_mut()?.backend(for_waits))?;
        let cut = if waits { backend.cut() } else { None };
        self.asking += usize::from(!waits);
        self.checked_out.entry(connection).or_default().push(CheckedOut {
            id,
            waits,
            dropped: false,
            cut,
        });
        Some(backend)
    }

    /// Puts a backend back. If it is of no more use, returns it: the caller drops it, which may take a
    /// moment.
    pub(super) fn give_back(
        &mut self,
        connection: ConnectionId,
        id: DispatchId,
        backend: Box<dyn Backend>,
    ) -> Option<Box<dyn Backend>> {
        let checked_out = self.returned(connection, id);
        if checked_out.is_none_or(|checked_out| checked_out.dropped) || !backend.lasts() {
            return Some(backend);
        }
        self.idle.insert(connection, backend)
    }

    fn returned(&mut self, connection: ConnectionId, id: DispatchId) -> Option<CheckedOut> {
        let all = self.checked_out.get_mut(&connection)?;
        let checked_out = all.swap_remove(all.iter().position(|checked_out| checked_out.id == id)?);
        if all.is_empty() {
            self.checked_out.remove(&connection);
        }
        self.asking -= usize::from(!checked_out.waits);
        Some(checked_out)
    }

    /// Drops a connection. A backend that executes a command is cut off if possible, and dropped when it comes
    /// back. An idle one is returned, for the caller to drop.
    pub(super) fn drop_connection(&mut self, connection: ConnectionId) -> Option<Box<dyn Backend>> {
        self.checked_out.get_mut(&connection).into_iter().flatten().for_each(CheckedOut::end);
        self.idle.remove(&connection)
    }

    /// Drops all connections.
    pub(super) fn drop_all(&mut self) -> Vec<Box<dyn Backend>> {
        self.checked_out.values_mut().flatten().for_each(CheckedOut::end);
        std::mem::take(&mut self.idle).into_values().collect()
    }

    /// True if there may be several backends.
    pub(super) fn are_many(&self) -> bool {
        self.are_many
    }

    /// True if a request is in flight that does not wait at the server.
    pub(super) fn is_asking(&self) -> bool {
        self.asking > 0
    }
}

impl CheckedOut {
    fn end(&mut self) {
        self.dropped = true;
        if let Some(cut) = self.cut.take() {
            cut();
        }
    }
}
