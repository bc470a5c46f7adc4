//! Backends execute the core's requests.

pub(crate) mod admin;
#[cfg(feature = "consul")]
pub(crate) mod consul;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod factory;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
pub(crate) mod names;
pub(crate) mod panics;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(any(feature = "sqlx-mysql", feature = "sqlx-postgres"))]
mod sqlx;

use lock_core::sql::{ConnectError, Rows, Statement, advisory};
use lock_core::{Failure, Instant, Notification, Reached, Reply, Request};
use std::future::{Future, ready};
use std::path::PathBuf;
use std::task::Context;
use std::time::Duration;

/// Makes the backends, each for one [`ConnectionId`](lock_core::ConnectionId).
pub(crate) trait Backends: Send + 'static {
    type Backend: Backend;

    /// Makes the first connect, with all that is checked then, so that a fault is told at once, also that the way to the
    /// server is too slow for the leases. Each step may take the time of a first connect. May be called again after it
    /// failed.
    fn connect(&mut self) -> impl Future<Output = Result<Reached, ConnectError>> + Send;

    /// Makes another backend, which connects at its first use. `None` if there can be none.
    fn backend(&mut self) -> Option<Self::Backend>;
}

/// Executes requests, one at a time.
pub(crate) trait Backend: Send + 'static {
    /// Executes a request that was made at `now`, within `budget`. If it panics, it may be used
    /// again; if it is dropped before its end, the backend is [`cut`](Self::cut). At its end, a connection that
    /// is to be polled while it is idle has been polled, and is polled again when it asks for that.
    fn execute(
        &mut self,
        request: Request,
        now: Instant,
        budget: Duration,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// True if the connection's next request may use this backend. Otherwise it gets a new one.
    fn lasts(&self) -> bool {
        true
    }

    /// Polls the connection while there is nothing to execute.
    fn poll_idle(&mut self, _cx: &mut Context<'_>) {}

    /// Says goodbye to the server. Bounded in time.
    fn close(self) -> impl Future<Output = ()> + Send;

    /// Drops the backend during a request that nobody waits for. Asks the server to end the request, if it
    /// would not by itself. Bounded in time.
    fn cut(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async { drop(self) }
    }
}

/// A connection that statements can be run on, and that can be opened again.
pub(crate) trait Session: Send + 'static {
    /// True if it is still the connection that was opened.
    fn is_open(&self) -> bool;

    /// Opens it, or a new one in its place, within `limit`.
    fn open(&mut self, limit: Duration) -> impl Future<Output = Result<(), ConnectError>> + Send;

    /// Runs a statement within `limit`. After [`Failure::Unknown`] it is no longer open, unless
    /// what runs next is sure to run after that statement.
    fn run(
        &mut self,
        statement: &Statement,
        limit: Duration,
    ) -> impl Future<Output = Result<Rows, Failure>> + Send;

    /// Waits for notifications, for at most `up_to`, and returns those since the last call. After
    /// [`Failure::Unknown`], the session is no longer open.
    fn news(
        &mut self,
        _up_to: Duration,
    ) -> impl Future<Output = Result<Vec<Notification>, Failure>> + Send {
        ready(Err(Failure::NotSent("this server sends no notifications".to_string())))
    }

    /// True if it is a connection of the caller's, who may have left it inside a transaction.
    fn handed(&self) -> bool {
        false
    }

    /// True if each statement has another connection, from a pool that others use, too.
    fn shared(&self) -> bool {
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

    /// Polls the connection while no statement runs.
    fn poll_idle(&mut self, _cx: &mut Context<'_>) {}

    /// It is used on another runtime from now on, and the one before may not run any more, whose timers and sockets it
    /// has: what can be opened again is no longer open.
    fn moved(&mut self) {}

    /// Says goodbye to the server. Bounded in time.
    fn close(self) -> impl Future<Output = ()> + Send;

    /// Drops the session during a statement, and asks the server to end that statement, which is of what the server knows as
    /// `waiting`. Bounded in time.
    fn cut(self, waiting: &advisory::Session) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        let _ = waiting;
        async { drop(self) }
    }
}

/// Makes sessions.
pub(crate) trait Source: Send + 'static {
    type Session: Session;

    /// True if the server can notify a session of its own about releases.
    const TELLS: bool = false;

    /// True if another session can be opened when one ends.
    const RECONNECTS: bool = true;

    /// Makes another session, not open yet. `None` if there can be none.
    fn session(&mut self) -> Option<Self::Session>;
}

/// A source of one session, until it is taken.
pub(crate) struct Provided<S>(pub(crate) Option<S>);

impl<S: Session> Source for Provided<S> {
    type Session = S;
    const RECONNECTS: bool = false;

    fn session(&mut self) -> Option<S> {
        self.0.take()
    }
}

/// How much time is left.
fn left(until: tokio::time::Instant) -> impl Fn() -> Duration + Send + Copy {
    move || until.saturating_duration_since(tokio::time::Instant::now())
}
