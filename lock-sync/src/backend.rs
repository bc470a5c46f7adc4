//! Backends execute the core's requests.

pub(crate) mod admin;
#[cfg(feature = "consul")]
pub(crate) mod consul;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub(crate) mod factory;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
pub(crate) mod names;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use lock_core::sql::{ConnectError, Rows, Statement, advisory};
use lock_core::{Failure, Instant, Notification, Reached, Reply, Request};
use std::path::PathBuf;
use std::time::Duration;

/// Ends a backend's request on another thread, as far as possible. Does not block.
pub(crate) type Cut = Box<dyn FnOnce() + Send>;

/// Makes the backends, each for one [`ConnectionId`](lock_core::ConnectionId).
pub(crate) trait Backends: Send + 'static {
    /// True if there may be several backends. Then none waits for another.
    fn are_many(&self) -> bool {
        true
    }

    /// Makes the first connect, with all that is checked then, so that a fault is told at once, also that the way to the
    /// server is too slow for the leases. Each step may take the time of a first connect. May be called again after it
    /// failed.
    fn connect(&mut self) -> Result<Reached, ConnectError>;

    /// Makes another backend, which connects at its first use. `None` if there can be none. `waits` is true
    /// if it is there to wait at the server.
    fn backend(&mut self, waits: bool) -> Option<Box<dyn Backend>>;
}

/// Executes requests, one at a time, on the calling thread.
pub(crate) trait Backend: Send + 'static {
    /// Executes a request that was made at `now`, within `budget`.
    fn execute(
        &mut self,
        request: Request,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure>;

    /// True if the connection's next request may use this backend. Otherwise it gets a new one.
    fn lasts(&self) -> bool {
        true
    }

    /// A handle that ends the wait that is executed next.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

/// A connection that statements can be run on, and that can be opened again.
pub(crate) trait Session: Send + 'static {
    /// True if it is still the connection that was opened.
    fn is_open(&self) -> bool;

    /// Opens it, or a new one in its place, within `budget`.
    fn open(&mut self, budget: Duration) -> Result<(), ConnectError>;

    /// Runs a statement within `budget`. After [`Failure::Unknown`], the session is no longer open.
    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure>;

    /// Waits for notifications, for at most `up_to`, and returns those since the last call. After
    /// [`Failure::Unknown`], the session is no longer open.
    fn news(&mut self, _up_to: Duration) -> Result<Vec<Notification>, Failure> {
        Err(Failure::NotSent("this server sends no notifications".to_string()))
    }

    /// Closes it, without waiting for a server that does not answer.
    fn close(&mut self) {}

    /// True if its statements may take longer than their budget, because it was opened with the time of a
    /// first connect.
    fn is_patient(&self) -> bool {
        false
    }

    /// True if it is a connection of the caller's, who may have left it inside a transaction.
    fn handed(&self) -> bool {
        false
    }

    /// The file that it is to, as it is known now.
    fn file(&self) -> Option<PathBuf> {
        None
    }

    /// The server's id of the connection, if the client knows it.
    fn id(&self) -> Option<u32> {
        None
    }

    /// A handle that ends the next statement, which is of what the server knows as `waiting` if it waits for an advisory lock.
    fn cut(&self, waiting: Option<&advisory::Session>) -> Option<Cut> {
        let _ = waiting;
        None
    }
}

/// Makes sessions.
pub(crate) trait Source: Send + 'static {
    type Session: Session;

    /// True if the server can notify a session of its own about releases.
    const TELLS: bool = false;

    /// True if another session can be opened when one ends.
    const RECONNECTS: bool = true;

    /// Makes another session, not open yet. `None` if there can be none. `waits` is true if it is there to
    /// wait at the server.
    fn session(&mut self, waits: bool) -> Option<Self::Session>;
}

/// A source of one session, until it is taken.
pub(crate) struct Provided<S>(pub(crate) Option<S>);

impl<S: Session> Source for Provided<S> {
    type Session = S;
    const RECONNECTS: bool = false;

    fn session(&mut self, _waits: bool) -> Option<S> {
        self.0.take()
    }
}

/// Begins a step only while time is left for it.
fn in_time<T, E: From<Failure>>(
    left: Duration,
    step: impl FnOnce(Duration) -> Result<T, E>,
) -> Result<T, E> {
    if left.is_zero() {
        return Err(Failure::NotSent("no answer in time".to_string()).into());
    }
    step(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_time_is_not_begun_and_so_was_not_sent() {
        let step = |_| -> Result<(), Failure> { panic!("it was begun") };
        let failed = in_time(Duration::ZERO, step);
        assert!(matches!(failed, Err(Failure::NotSent(_))), "{failed:?}");
    }
}
