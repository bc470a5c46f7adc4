//! Capabilities: what the engine must know of a place where locks are kept.

use crate::request::Action;
use alloc::sync::Arc;

/// The facts about a place that decide which requests the engine makes. [`table`](crate::table),
/// [`advisory`](crate::advisory), [`sql_lock`](crate::sql::advisory::sql_lock) and [`consul`](crate::consul) make those that there are.
///
/// # Leases and sessions
///
/// Where each lock is a lease of its own, `sessions` is [`None`], and locks are renewed. Otherwise locks belong to
/// a *session*, which is itself the lease: it is opened, kept and closed, and lost with all its locks. Then locks
/// are not renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Mode::Shared`](crate::Mode::Shared) is known.
    pub shared: bool,
    /// The most claims that a request may carry, whatever the engine's own limit.
    pub batch: usize,
    /// Stored with the engine's locks, and told to attempts that wait for them in the same engine: see
    /// [`Holder::label`](crate::Holder::label). [`None`]: holds of the engine have no label.
    pub label: Option<Arc<str>>,
    /// The kind of session, if there are any.
    pub sessions: Option<Sessions>,
    /// The request that follows a denial: [`Action::Acquire`], [`Action::Probe`], [`Action::Wait`] or [`Action::Join`],
    /// which a wait follows.
    pub on_busy: Action,
    /// [`Request::Keep`](crate::Request::Keep) is known.
    pub keeps: bool,
    /// The server notifies waiters of freed locks, on a connection of its own.
    pub notifies: bool,
}

/// The kinds of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Sessions {
    /// A session is a connection: lost with it, and lost when any answer on it fails to come. The
    /// server carries out its requests in order.
    ///
    /// A connection that waits in the server's queue can do nothing else, so each waiting attempt
    /// gets one of its own, up to `waiting` of them; further ones ask again and again.
    Connections {
        /// The most connections that may wait at once.
        waiting: usize,
        /// A connection has one lock at most, because a release ends all that it has. So each attempt tries and waits on a
        /// connection of its own, and `waiting` does not count.
        one_lock: bool,
    },
    /// A session is a record at the server, named in each request. Waiting needs no session.
    Records,
}
