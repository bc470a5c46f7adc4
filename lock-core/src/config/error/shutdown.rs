//! Shutdowns that may leave locks behind.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

/// Why a shutdown may leave locks behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Guards are still there, and their locks are held and renewed as before. The caller's fault: if
    /// the process ends now, the leases end by themselves.
    #[error("locks are still held: drop {} before the shutdown", all_of(*.guards))]
    Held {
        /// How many.
        guards: usize,
    },
    /// The server did not confirm in time that locks were freed whose guards are gone. A release that told so itself
    /// ([`ReleaseError::Unconfirmed`](super::ReleaseError::Unconfirmed)) counts, too, until its lease has ended.
    #[error("{} within {within:?}", unconfirmed(*.locks))]
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

fn all_of(guards: usize) -> String {
    match guards {
        1 => "their guard".to_string(),
        guards => format!("their {guards} guards"),
    }
}

fn unconfirmed(locks: usize) -> String {
    match locks {
        1 => "1 release was not confirmed; the lease ends by itself".to_string(),
        locks => format!("{locks} releases were not confirmed; the leases end by themselves"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_in_the_singular() {
        let told = [1, 2].map(|guards| ShutdownError::Held { guards }.to_string());
        assert_eq!(told[0], "locks are still held: drop their guard before the shutdown");
        assert_eq!(told[1], "locks are still held: drop their 2 guards before the shutdown");
        let within = Duration::from_secs(30);
        let told = [1, 2].map(|locks| ShutdownError::Unconfirmed { locks, within }.to_string());
        assert_eq!(told[0], "1 release was not confirmed; the lease ends by itself within 30s");
        assert_eq!(
            told[1],
            "2 releases were not confirmed; the leases end by themselves within 30s"
        );
    }
}
