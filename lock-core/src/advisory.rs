//! The advisory protocol: a lock is a server's own lock (`pg_advisory_lock`, `GET_LOCK`), and lives
//! as long as the connection that took it.
//!
//! Such a lock has no TTL. It is made a lease: the server is told to end a connection that is idle
//! for T, the client asks something every T/3, and counts on the connection only until
//! `c0 + k·T` of the last question that was answered. What the theorem in
//! [`Timing`](crate::Timing) says of a row's expiry then holds for the connection.
//!
//! ```text
//!   open     connect, set the idle limit to T           -> a session: one lease for all its locks
//!   keep     ask something, see that it is still the same connection
//!   try      take what is free, on the home connection  -> granted with a fence, or busy
//!   wait     in the server's queue, for a time; on a connection of its own
//!   unlock   free it
//!   (close)  drop the connection; whatever it has or is about to get goes with it
//! ```
//!
//! # What goes wrong with advisory locks, and where it is handled
//!
//! | | handled by |
//! |---|---|
//! | a connection is replaced behind one's back (reconnect, pooler) and its locks are gone | a session is never reopened under the same number; [`Request::KeepAlive`](crate::Request::KeepAlive) must find the connection it was opened on, or the outcome is [`NoSession`](crate::Outcome::NoSession): lost at once |
//! | the server gives a lock twice to one connection | rivals for one name queue in the engine, also while the first is still releasing |
//! | a failed or cancelled request may have taken the lock | [`Sessions::Connections`]: any answer that fails to come ends the session, and with it the lock |
//! | `NULL` from `GET_LOCK`, an error, a timeout are three things | the codec: only `1` is a grant; a reply that does not fit is a failure, never a grant |
//! | an endless wait on a connection that died unseen | waits come in slices ([`Request::Wait`](crate::Request::Wait)), each with a deadline |
//! | a connection dies unseen; the holder goes on | the lease above: lost at the deadline, which is before the server frees the lock |
//! | one connection for all: when it breaks, everything is lost | each attempt is told so, once |
//! | blocking the shared connection by a wait, or by the monitor | the home connection only ever *tries*; waits have connections of their own, keeping is one short question |
//! | a waiter that was cancelled is granted the lock later | its connection is closed at once, not when the wait ends |
//! | the server restarts, and has forgotten every lock while holders still count on theirs | nothing is granted in the first T after a start: [`Outcome::Delayed`](crate::Outcome::Delayed). It is the T of whoever asks, so all must have the same |
//! | the server's clock is set back, and its start lies in the future | a connection that was open for 6/5 of T, by the client's clock, proves that the server has run for T |
//!
//! Not covered: an administrator who ends the holder's connection at the server. The lock is free
//! then, and the holder believes in it until its next question, T/3 at most. A server that is shut down in good order does the
//! same: it ends its connections one after the other, and one that still waits may be granted what another had. With PostgreSQL,
//! which signals all of them at once, this takes milliseconds of a busy machine.

use crate::capabilities::{Capabilities, Sessions};
use crate::request::Action;
use alloc::sync::Arc;

/// The default for the number of connections that may wait at once.
pub const WAITING: usize = 16;

/// A server with locks of its own, of which at most `waiting` connections may wait at once. Attempts beyond that, and
/// all for zero, ask again and again instead. The server tells nobody who has a lock; attempts that wait for
/// each other in one process are told the `label`.
pub fn capabilities(waiting: usize, label: Option<&str>) -> Capabilities {
    Capabilities {
        shared: true,
        batch: usize::MAX,
        label: label.map(Arc::from),
        sessions: Some(Sessions::Connections { waiting, one_lock: false }),
        on_busy: Action::Wait,
        keeps: false,
        notifies: false,
    }
}
