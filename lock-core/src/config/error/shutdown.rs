//! Shutdowns that may leave locks behind.

use core::time::Duration;

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
    /// The server did not confirm in time that locks were freed whose guards are gone. A release that told so itself
    /// ([`ReleaseError::Unconfirmed`](super::ReleaseError::Unconfirmed)) counts, too, until its lease has ended.
    #[error("{locks} releases were not confirmed; the leases end by themselves within {within:?}")]
    Unconfirmed {
        /// How many.
        locks: usize,
        /// After which the leases end.
        within: Duration,
    },
    /// The driver ended before the shutdown, so that nothing could be sent: the runtime that it was on
    /// has ended, or one of its threads panicked, which is a bug.
    #[error(
        "the locks had ended before the shutdown; leases that were left end by themselves within {within:?}"
    )]
    Ended {
        /// That time.
        within: Duration,
    },
}
