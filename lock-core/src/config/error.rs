//! What can go wrong, by who is at fault.

mod busy;
mod config;
mod shutdown;

pub use busy::Busy;
pub use config::ConfigError;
pub use shutdown::ShutdownError;

use crate::admin::PurgeError;
use crate::error::{ClaimError, Code, Failure, LostReason, NameError};
use crate::sql::{ConnectError, Refusal};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::convert::Infallible;
use core::fmt;
use core::time::Duration;

/// Why a lock was not acquired, or could not be asked for. For `try_lock` and its like, that somebody else has it is
/// no error.
///
/// Each is one line for people, without secrets. The line says all, so there is no `source()` that would say it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Someone else held the lock for as long as the caller wanted to wait. May pass.
    #[error(transparent)]
    Busy(Box<Busy>),
    /// The lock's name breaks a rule. The caller's fault.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such lock where the locks are kept: a mode or a name that it does not have. Told
    /// without asking the server. The caller's fault.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The time for a purge is shorter than an hour, or there are no rows to purge: Consul has none. The caller's fault.
    #[error(transparent)]
    Purge(#[from] PurgeError),
    /// The configuration cannot work. The caller's fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server or the table is such that locks would not be safe, or not possible. Its operator
    /// must act.
    #[error(transparent)]
    UnsafeServer(#[from] Refusal),
    /// The server could not be reached, or did not answer in time. May pass.
    #[error("the lock server cannot be used: {0}")]
    Unavailable(String),
    /// The server answered that it will not do it. Its operator must act.
    #[error("the lock server refuses: {0}")]
    Refused(String),
    /// The connection or the pool that the caller handed over has ended, or its file was replaced. The server said
    /// nothing. The caller must connect again with another.
    #[error("{0}")]
    NoConnection(String),
    /// `Locks::close` or `Locks::shutdown` was called, or
    /// the locks have ended by themselves, and with them every guard: the runtime that they were connected
    /// on has ended, or one of their threads panicked, which is a bug.
    #[error("the locks were closed")]
    Closed,
    /// The caller's own `Cancel` ended the wait. Told by `lock-sync`.
    #[error("the wait was cancelled")]
    Cancelled,
    /// The caller is a fork of the process that connected, whose connections are not its own.
    /// The caller's fault.
    #[error(
        "the locks belong to the process that this one was forked from: connect again after a fork"
    )]
    Forked,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything. That includes all that
    /// a server was found to be (a standby, read-only, without the table) when it was connected to again:
    /// only the first connect ends with [`Error::UnsafeServer`].
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Busy(_) | Error::Unavailable(_))
    }
}

impl From<Busy> for Error {
    fn from(busy: Busy) -> Self {
        Error::Busy(Box::new(busy))
    }
}

/// For names that are checked already.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected { retry: false, code: Some(Code::NoWay), message } => {
                Error::NoConnection(message)
            }
            Failure::Rejected { retry: false, message, .. } => Error::Refused(message),
            other => Error::Unavailable(other.to_string()),
        }
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::UnsafeServer(refusal) => Error::UnsafeServer(refusal),
            ConnectError::Failed(failure) => failure.into(),
            ConnectError::TooSlow(error) => ConfigError::from(error).into(),
            other => other.before_request().into(),
        }
    }
}

/// Why a release does not end with a lock freed by us. Its text is one line that says all, so it has no `source()`.
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
        /// The last error, for people.
        reason: String,
        /// That time.
        within: Duration,
    },
}

/// Why `Locks::with_lock` cannot say that the lock was held while the work was
/// done. If the work was done, the error contains its value. Its text is one line that says all, so it has no `source()`.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WithLockError<T> {
    /// The lock could not be asked for: the work was not begun.
    #[error(transparent)]
    Acquire(#[from] Error),
    /// The lock was lost before the work was done: the work may have overlapped with another holder's.
    #[error("the lock was lost while it was used: {reason}")]
    Lost {
        /// The work's value.
        value: T,
        /// How the lock was lost.
        reason: LostReason,
    },
    /// The work was done under the lock, but the server did not confirm the release. The lease ends by
    /// itself, as after [`ReleaseError::Unconfirmed`].
    #[error("the release was not confirmed ({reason}); the lease ends by itself within {within:?}")]
    Unconfirmed {
        /// The work's value.
        value: T,
        /// The last error, for people.
        reason: String,
        /// The longest time until the lease ends.
        within: Duration,
    },
}

impl<T> WithLockError<T> {
    /// The work's value; [`None`] if the work was not begun.
    pub fn into_value(self) -> Option<T> {
        match self {
            WithLockError::Acquire(_) => None,
            WithLockError::Lost { value, .. } | WithLockError::Unconfirmed { value, .. } => {
                Some(value)
            }
        }
    }

    /// The result of the work's `value` and the `release` after it.
    ///
    /// # Errors
    /// [`WithLockError`], with the value, if the release failed.
    pub fn after(value: T, release: Result<(), ReleaseError>) -> Result<T, Self> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TimingError;

    #[test]
    fn the_value_of_work_that_was_done_is_handed_back() {
        let unconfirmed =
            ReleaseError::Unconfirmed { reason: "no answer".into(), within: Duration::ZERO };
        for release in [ReleaseError::Lost(LostReason::Taken), unconfirmed] {
            let error = WithLockError::after(7, Err(release)).expect_err("not released");
            assert_eq!(error.into_value(), Some(7));
        }
        assert_eq!(WithLockError::<()>::Acquire(Error::Closed).into_value(), None);
    }

    /// A report of an error and its causes says nothing twice.
    #[test]
    fn an_error_says_all_itself_and_has_no_cause_that_says_it_again() {
        let code = Some(Code::Mysql(1290));
        let failure = Failure::not_now("read-only".into()).with_code(code);
        let last_failure = Some(failure.clone());
        for reason in [
            LostReason::Deadline { last_failure: last_failure.clone() },
            LostReason::Disconnected { last_failure },
            LostReason::Gone { failure },
        ] {
            let released = ReleaseError::Lost(reason.clone());
            let worked = WithLockError::Lost { value: 7, reason: reason.clone() };
            let all: [&dyn core::error::Error; 3] = [&reason, &released, &worked];
            for error in all {
                assert!(error.to_string().contains("read-only"), "{error}");
                assert!(error.source().is_none(), "{error}");
            }
            assert_eq!(reason.last_failure().and_then(Failure::code), code);
        }
        let timing: ConfigError = TimingError::NoTime.into();
        let name: Error = NameError::Empty.into();
        let claim: Error = ClaimError::from(TimingError::Ttl).into();
        let all: [&dyn core::error::Error; 6] = [
            &Error::from(timing.clone()),
            &timing,
            &name,
            &claim,
            &WithLockError::<()>::Acquire(name.clone()),
            &Error::Unavailable("down".into()),
        ];
        assert!(all.iter().all(|error| error.source().is_none()), "{all:?}");
    }
}
