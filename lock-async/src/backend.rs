//! Backends execute the core's requests.

pub(crate) mod admin;
#[cfg(feature = "consul")]
pub(crate) mod consul;
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

use lock_core::config::{ConfigError, Error};
use lock_core::sql::{ConnectError, Rows, Statement};
use lock_core::{Failure, Instant, Notification, Reply, Request};
use std::future::{Future, ready};
use std::task::Context;
use std::time::Duration;

/// Makes the backends, each for one [`Lane`](lock_core::Lane).
pub(crate) trait Backends: Send + 'static {
    type Backend: Backend;

    /// Another one, if there may be one. It connects when it is used.
    fn backend(&mut self) -> Option<Self::Backend>;
}

/// Executes requests, one at a time.
pub(crate) trait Backend: Send + 'static {
    /// Executes a request that was made at `now`, within `budget`. If it panics, it may be used
    /// again; if it is dropped before its end, the backend is [`cut`](Self::cut).
    fn execute(
        &mut self,
        request: &Request,
        now: Instant,
        budget: Duration,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// Whether it is to be kept for its lane's next request; there will be a new one otherwise.
    fn lasts(&self) -> bool {
        true
    }

    /// Sees to what the connection needs while there is nothing to execute.
    fn poll_idle(&mut self, _cx: &mut Context<'_>) {}

    /// Says goodbye. Bounded in time.
    fn close(self) -> impl Future<Output = ()> + Send;

    /// Drops it in the middle of a request, of which nobody wants to hear any more: has the server
    /// end that too, where it would not by itself. Bounded in time.
    fn cut(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async { drop(self) }
    }
}

/// A connection that statements can be run on, and that can be opened again.
pub(crate) trait Session: Send + 'static {
    /// Whether it is still the connection that was opened.
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

    /// What it was told since the last time, as soon as there is something, or after `up_to`. After
    /// [`Failure::Unknown`] it is no longer open.
    fn news(
        &mut self,
        _up_to: Duration,
    ) -> impl Future<Output = Result<Vec<Notification>, Failure>> + Send {
        ready(Err(Failure::NotSent("this server sends no notifications".to_string())))
    }

    /// Whether it is the caller's, who may have left it in the middle of something.
    fn handed(&self) -> bool {
        false
    }

    /// What the server called it when it was opened, if the client tells.
    fn id(&self) -> Option<u32> {
        None
    }

    /// Sees to what it needs while no statement runs.
    fn poll_idle(&mut self, _cx: &mut Context<'_>) {}

    /// Ends it without a word, if it can be ended: the server may not be listening.
    fn discard(&mut self) {}

    /// Says goodbye. Bounded in time.
    fn close(self) -> impl Future<Output = ()> + Send;

    /// Drops it in the middle of a statement, and has the server end that too. Bounded in time.
    fn cut(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async { drop(self) }
    }
}

/// Makes sessions.
pub(crate) trait Source: Send + 'static {
    type Session: Session;

    /// Whether a session of its own can be told what was freed.
    const TELLS: bool = false;

    /// Whether there is a way to another session when one is gone.
    const RECONNECTS: bool = true;

    /// Another one, not open yet, if there may be one.
    fn session(&mut self) -> Option<Self::Session>;
}

/// The one session that there is, until it is asked for.
pub(crate) struct Provided<S>(pub(crate) Option<S>);

impl<S: Session> Source for Provided<S> {
    type Session = S;
    const RECONNECTS: bool = false;

    fn session(&mut self) -> Option<S> {
        self.0.take()
    }
}

/// The failure of every request after a connection of the caller's is gone.
const GONE: &str = "the connection that was handed over has ended: connect again with a new one";

/// A codec of another server's, or no session. A configuration makes neither.
pub(crate) fn unsupported() -> Error {
    ConfigError::System("this configuration leads to no connection".to_string()).into()
}

/// How much time is left.
fn left(until: tokio::time::Instant) -> impl Fn() -> Duration + Send + Copy {
    move || until.saturating_duration_since(tokio::time::Instant::now())
}
