//! What can go wrong, by who is at fault.

use crate::config::Protocol;
use lock_core::admin::PurgeError;
use lock_core::http::KeyError;
use lock_core::sql::Refusal;
use lock_core::sql::advisory::PrefixError;
use lock_core::{ClaimError, Failure, LostReason, NameError, TableError, TimingError};
use std::fmt;
use std::time::Duration;

/// Why a lock could not be asked for. That somebody else has it is no error.
///
/// Each is one line for people, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The lock's name breaks a rule. The caller's fault.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such lock where the locks are kept: a mode or a name that it does not have. Told
    /// without asking the server. The caller's fault.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// What is used was to be purged. The caller's fault.
    #[error(transparent)]
    Purge(#[from] PurgeError),
    /// The configuration cannot work. The caller's fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server or the table is such that locks would not be safe, or not possible. Its operator
    /// must act.
    #[error(transparent)]
    Unfit(#[from] Refusal),
    /// The server could not be reached, or did not answer in time. May pass.
    #[error("the lock server cannot be used: {0}")]
    Unavailable(String),
    /// The server answered that it will not do it. Its operator must act.
    #[error("the lock server refuses: {0}")]
    Refused(String),
    /// [`Locks::close`](crate::Locks::close) or [`Locks::shutdown`](crate::Locks::shutdown) was called, or one of the locks' threads panicked, which is a
    /// bug: then every guard is lost, too.
    #[error("the locks were closed")]
    Closed,
    /// The caller is a fork of the process that connected, whose connections and threads are not its own.
    /// The caller's fault.
    #[error(
        "the locks belong to the process that this one was forked from: connect again after a fork"
    )]
    Forked,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything. That includes all that
    /// a server was found to be (a standby, read-only, without the table) after it was connected to once:
    /// only the first connect ends with [`Error::Unfit`].
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected { retry: false, message, .. } => Error::Refused(message),
            other => Error::Unavailable(other.to_string()),
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL has no scheme that this build knows.
    #[error("the URL must begin with one of: {0}")]
    Scheme(&'static str),
    /// The URL cannot be read.
    #[error("the URL cannot be read: {0}")]
    Url(String),
    /// The URL has a parameter that means nothing here.
    #[error("unknown URL parameter {name:?} (known: {known})")]
    UnknownParameter {
        /// The parameter.
        name: String,
        /// Those that are known.
        known: &'static str,
    },
    /// A parameter's value cannot be used.
    #[error("URL parameter {name}: {reason}")]
    Parameter {
        /// The parameter.
        name: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// The lease times cannot be safe.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The table's name is not an identifier.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The prefix of lock names cannot be used.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// The prefix of Consul's keys cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The backend does not have the protocol.
    #[error("{place} has no {protocol} locks (there are: {has})")]
    Protocol {
        /// The backend.
        place: &'static str,
        /// The protocol that was asked for.
        protocol: Protocol,
        /// Those that it has.
        has: &'static str,
    },
    /// A setting means nothing with this backend and protocol.
    #[error("{name} belongs to {belongs}: leave it out, or choose the protocol that has it")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it is for.
        belongs: &'static str,
    },
    /// The SQLite file cannot be used.
    #[error("the SQLite file {path}: {reason}")]
    File {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server does not know these locks by their names.
    #[error("{0} locks cannot be looked at: the server does not know their names")]
    NotShown(crate::config::Protocol),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The system has no random numbers, or no threads, to give.
    #[error("the system: {0}")]
    System(String),
}

/// Why a release does not end with a lock freed by us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The lock had been lost before: what was done under it may have overlapped with another
    /// holder's work.
    #[error("the lock had been lost: {0}")]
    Lost(LostReason),
    /// The server did not confirm the release in time. It is tried again in the background as long
    /// as this process lives, and the lease ends by itself: after its TTL; with Consul, where it is
    /// the session's, after up to twice that and the lock-delay, when nothing else is held in it.
    #[error("the release was not confirmed ({reason}); the lease ends by itself within {within:?}")]
    Unconfirmed {
        /// What is known.
        reason: String,
        /// That time.
        within: Duration,
    },
}

/// Why a shutdown may leave locks behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Guards are still there, and their locks are held and renewed as before. The caller's fault: if
    /// the process ends now, the leases end by themselves.
    #[error("locks are still held: drop their {guards} guards before the shutdown")]
    Held {
        /// How many.
        guards: usize,
    },
    /// The server did not confirm in time that locks were freed whose guards had been dropped.
    #[error("{locks} releases were not confirmed; the leases end by themselves within {within:?}")]
    Unconfirmed {
        /// How many.
        locks: usize,
        /// After which the leases end.
        within: Duration,
    },
    /// One of the locks' threads panicked before, which is a bug, so that nothing could be sent.
    #[error(
        "the locks had ended before the shutdown; leases that were left end by themselves within {within:?}"
    )]
    Ended {
        /// That time.
        within: Duration,
    },
}

/// Why [`with_lock`](crate::Locks::with_lock) cannot say that the lock was held while the work was
/// done. If the work was done, the error contains its value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WithLockError<T> {
    /// The lock could not be asked for: the work was not begun.
    #[error(transparent)]
    Acquire(#[from] Error),
    /// The lock was lost before the work was done: the work may have overlapped with another holder's.
    #[error("the lock was lost while it was used: {reason}")]
    Lost {
        /// What the work returned.
        value: T,
        /// How the lock was lost.
        reason: LostReason,
    },
    /// The work was done under the lock, but the server did not confirm the release. The lease ends by
    /// itself, as after [`ReleaseError::Unconfirmed`].
    #[error("the release was not confirmed ({reason}); the lease ends by itself within {within:?}")]
    Unconfirmed {
        /// What the work returned.
        value: T,
        /// What is known.
        reason: String,
        /// The longest time until the lease ends.
        within: Duration,
    },
}

impl<T> WithLockError<T> {
    /// What the work returned; [`None`] if it was not begun.
    pub fn into_value(self) -> Option<T> {
        match self {
            WithLockError::Acquire(_) => None,
            WithLockError::Lost { value, .. } | WithLockError::Unconfirmed { value, .. } => {
                Some(value)
            }
        }
    }

    /// What the work's `value` and the `release` after it come to.
    pub(crate) fn after(value: T, release: Result<(), ReleaseError>) -> Result<T, Self> {
        match release {
            Ok(()) => Ok(value),
            Err(ReleaseError::Lost(reason)) => Err(WithLockError::Lost { value, reason }),
            Err(ReleaseError::Unconfirmed { reason, within }) => {
                Err(WithLockError::Unconfirmed { value, reason, within })
            }
        }
    }
}

/// Without the value, which need not have a `Debug` of its own.
impl<T> fmt::Debug for WithLockError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WithLockError::Acquire(error) => f.debug_tuple("Acquire").field(error).finish(),
            WithLockError::Lost { reason, .. } => {
                f.debug_struct("Lost").field("reason", reason).finish_non_exhaustive()
            }
            WithLockError::Unconfirmed { reason, within, .. } => f
                .debug_struct("Unconfirmed")
                .field("reason", reason)
                .field("within", within)
                .finish_non_exhaustive(),
        }
    }
}
