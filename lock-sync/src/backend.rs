//! Backends execute the core's requests.

pub(crate) mod admin;
#[cfg(feature = "consul")]
pub(crate) mod consul;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
pub(crate) mod names;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use lock_core::config::{ConfigError, Error};
use lock_core::sql::{ConnectError, Rows, Statement};
use lock_core::{Failure, Instant, Notification, Reply, Request};
use std::time::Duration;

/// Ends what a backend is doing on another thread, as far as that is possible. Does not block.
pub(crate) type Cut = Box<dyn FnOnce() + Send>;

/// Makes the backends, each for one [`Lane`](lock_core::Lane).
pub(crate) trait Backends: Send + 'static {
    /// Whether there may be more than one backend. Then none is to wait for another.
    fn are_many(&self) -> bool {
        true
    }

    /// Another backend, if there may be one. It connects when it is used; `waits` if it is there to wait
    /// at the server.
    fn backend(&mut self, waits: bool) -> Option<Box<dyn Backend>>;
}

/// Executes requests, one at a time, on the calling thread.
pub(crate) trait Backend: Send + 'static {
    /// Executes a request that was made at `now`, within `budget`.
    fn execute(
        &mut self,
        request: &Request,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure>;

    /// Whether it is to be kept for its lane's next request; there will be a new one otherwise.
    fn lasts(&self) -> bool {
        true
    }

    /// What cuts short the wait that it is going to execute.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

/// A connection that statements can be run on, and that can be opened again.
pub(crate) trait Session: Send + 'static {
    /// Whether it is still the connection that was opened.
    fn is_open(&self) -> bool;

    /// Opens it, or a new one in its place, within `budget`.
    fn open(&mut self, budget: Duration) -> Result<(), ConnectError>;

    /// Runs a statement within `budget`. After [`Failure::Unknown`] it is no longer open.
    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure>;

    /// What it was told since the last time, as soon as there is something, or after `up_to`. After
    /// [`Failure::Unknown`] it is no longer open.
    fn news(&mut self, _up_to: Duration) -> Result<Vec<Notification>, Failure> {
        Err(Failure::NotSent("this server sends no notifications".to_string()))
    }

    /// Closes it, without waiting for a server that does not answer.
    fn close(&mut self) {}

    /// Whether its statements may take longer than their budget: it was opened with more time than most.
    fn is_patient(&self) -> bool {
        false
    }

    /// Whether it is the caller's, who may have left it in the middle of something.
    fn handed(&self) -> bool {
        false
    }

    /// What the server called it when it was opened, if the client tells.
    fn id(&self) -> Option<u32> {
        None
    }

    /// What cuts short the next statement.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

/// Makes sessions.
pub(crate) trait Source: Send + 'static {
    type Session: Session;

    /// Whether a session of its own can be told what was freed.
    const TELLS: bool = false;

    /// Whether there is a way to another session when one is gone.
    const RECONNECTS: bool = true;

    /// Another one, not open yet, if there may be one; `waits` if it is there to wait at the server.
    fn session(&mut self, waits: bool) -> Option<Self::Session>;
}

/// The one session that there is, until it is asked for.
pub(crate) struct Provided<S>(pub(crate) Option<S>);

impl<S: Session> Source for Provided<S> {
    type Session = S;
    const RECONNECTS: bool = false;

    fn session(&mut self, _waits: bool) -> Option<S> {
        self.0.take()
    }
}

/// The failure of every request after a connection of the caller's is gone.
const GONE: &str = "the connection that was handed over has ended: connect again with a new one";

/// A codec of another server's, or no session. A configuration makes neither.
pub(crate) fn unsupported() -> Error {
    ConfigError::System("this configuration leads to no connection".to_string()).into()
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
