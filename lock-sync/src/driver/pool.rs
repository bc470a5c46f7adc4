//! The connections that are open: their backends, idle or checked out with a request.

use crate::backend::{Backend, Backends, Cut};
use lock_core::{ConnectionId, DispatchId};
use std::collections::BTreeMap;

pub(super) struct ConnectionPool {
    /// The maker of backends. [`None`] while a thread makes the first connect with it.
    backends: Option<Box<dyn Backends>>,
    /// There may be several backends.
    are_many: bool,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Number of these that do not wait at the server.
    asking: usize,
}

/// The backends of a connection.
#[derive(Default)]
struct Connection {
    idle: Option<Box<dyn Backend>>,
    /// Those that execute a request: one, or more if the connection was dropped and used again.
    checked_out: Vec<CheckedOut>,
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
        Self { backends: Some(backends), are_many, connections: BTreeMap::new(), asking: 0 }
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
        let idle = self.connections.get_mut(&connection).and_then(|one| one.idle.take());
        let backend = idle.or_else(|| self.backends.as_mut()?.backend(for_waits))?;
        let cut = if waits { backend.cut() } else { None };
        self.asking += usize::from(!waits);
        let checked_out = CheckedOut { id, waits, dropped: false, cut };
        self.connections.entry(connection).or_default().checked_out.push(checked_out);
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
        let Some(one) = self.connections.get_mut(&connection) else { return Some(backend) };
        let at = one.checked_out.iter().position(|checked_out| checked_out.id == id);
        let Some(checked_out) = at.map(|at| one.checked_out.swap_remove(at)) else {
            return Some(backend);
        };
        self.asking -= usize::from(!checked_out.waits);
        if !checked_out.dropped && backend.lasts() {
            return one.idle.replace(backend);
        }
        if one.idle.is_none() && one.checked_out.is_empty() {
            self.connections.remove(&connection);
        }
        Some(backend)
    }

    /// Drops a connection. A backend that executes a command is cut off if possible, and dropped when it comes
    /// back. An idle one is returned, for the caller to drop.
    pub(super) fn drop_connection(&mut self, connection: ConnectionId) -> Option<Box<dyn Backend>> {
        let one = self.connections.get_mut(&connection)?;
        one.checked_out.iter_mut().for_each(CheckedOut::end);
        let idle = one.idle.take();
        if one.checked_out.is_empty() {
            self.connections.remove(&connection);
        }
        idle
    }

    /// Drops all connections.
    pub(super) fn drop_all(&mut self) -> Vec<Box<dyn Backend>> {
        let all = self.connections.values_mut();
        let end = |one: &mut Connection| {
            one.checked_out.iter_mut().for_each(CheckedOut::end);
            one.idle.take()
        };
        all.filter_map(end).collect()
    }

    /// True if there may be several backends.
    pub(super) fn are_many(&self) -> bool {
        self.are_many
    }

    /// True if the first connect is under way.
    pub(super) fn is_connecting(&self) -> bool {
        self.backends.is_none()
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

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::sql::ConnectError;
    use lock_core::{Config, Engine, Failure, Instant, LockName, Mode, Reached, Reply, Request};
    use lock_core::{Timing, Wanted, Which, table};
    use std::sync::mpsc::{Sender, channel};

    /// Waits until it is cut off.
    #[derive(Clone)]
    struct Waits(Sender<()>);

    impl Backends for Waits {
        fn are_many(&self) -> bool {
            true
        }

        fn connect(&mut self) -> Result<Reached, ConnectError> {
            unreachable!("it was connected to before")
        }

        fn backend(&mut self, _waits: bool) -> Option<Box<dyn Backend>> {
            Some(Box::new(self.clone()))
        }
    }

    impl Backend for Waits {
        fn execute(
            &mut self,
            _request: Request,
            _now: Instant,
            _budget: std::time::Duration,
        ) -> Result<Reply, Failure> {
            unreachable!("the test executes nothing")
        }

        fn lasts(&self) -> bool {
            true
        }

        fn cut(&self) -> Option<Cut> {
            let tell = self.0.clone();
            Some(Box::new(move || tell.send(()).expect("heard")))
        }
    }

    /// Its thread would go on at the server for as long as the wait may last.
    #[test]
    fn a_wait_is_cut_off_with_its_connection_and_with_all() {
        let mut engine =
            Engine::new(table::capabilities("me", false), Config::new(Timing::default(), 1));
        let which = Which::One(LockName::new("a").expect("a good name"));
        let (mode, now) = (Mode::Exclusive, Instant::from_nanos(1));
        let wanted = Wanted { mode, once: true, give_up: None, timing: None, label: None };
        engine.want(now, which, wanted);
        let request = engine.poll_request(now).expect("due");
        for all in [false, true] {
            let (cut, cuts) = channel();
            let mut pool = ConnectionPool::new(Box::new(Waits(cut)));
            let backend = pool.take(request.connection, request.id, true, true).expect("a new one");
            assert!(if all {
                pool.drop_all().is_empty()
            } else {
                pool.drop_connection(request.connection).is_none()
            });
            assert_eq!(cuts.try_recv(), Ok(()), "all: {all}");
            let dropped = pool.give_back(request.connection, request.id, backend);
            assert!(dropped.is_some(), "it is used no more");
        }
    }
}
