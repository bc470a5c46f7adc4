//! The first connect, which is a part of the wait.

use crate::args::Args;
use lock_sync::{Config, Error, Locks};
use std::time::{Duration, Instant};

/// Time that a server gets to answer even if the wait is shorter, and that an answer may come late after the
/// wait.
const LATE: Duration = Duration::from_secs(2);
/// Longest time of the first connect if there is no wait.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time of the answer after that connect.
const ANSWER: Duration = Duration::from_secs(5);

/// The time to wait for the lock, including the first connect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Wait until this moment.
    Until(Instant),
    /// Wait without a limit.
    Endless,
}

impl Patience {
    pub(crate) fn new(args: &Args) -> Self {
        match args.wait {
            Some(Duration::ZERO) => Self::None,
            Some(limit) => Instant::now().checked_add(limit).map_or(Self::Endless, Self::Until),
            None if args.once || args.skip => Self::None,
            None => Self::Endless,
        }
    }

    /// The time that is left.
    fn left(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Until(until) => until.saturating_duration_since(Instant::now()),
            Self::Endless => Duration::MAX,
        }
    }

    pub(crate) fn wait(self) -> lock_sync::Wait {
        match self {
            Self::None => lock_sync::Wait::Never,
            Self::Until(_) => lock_sync::Wait::For(self.left()),
            Self::Endless => lock_sync::Wait::Forever,
        }
    }

    /// Deadline of a first connect that begins now, and of the answer after it. A server whose failure is known by then
    /// gets no time beyond the wait.
    pub(crate) fn to_connect(self, has_failed: bool) -> Option<Instant> {
        match self {
            Self::None => Instant::now().checked_add(CONNECT),
            Self::Until(until) if has_failed => Some(until),
            Self::Until(until) => Some(until.max(Instant::now()) + LATE),
            Self::Endless => None,
        }
    }

    /// Deadline for the answer of a server to which the connection was made just now.
    pub(crate) fn to_answer(self) -> Option<Instant> {
        match self {
            Self::None => Instant::now().checked_add(ANSWER),
            Self::Until(until) => until.max(Instant::now()).checked_add(LATE),
            Self::Endless => None,
        }
    }

    /// Deadline for the end of a wait after a signal.
    pub(crate) fn to_end() -> Option<Instant> {
        Instant::now().checked_add(LATE)
    }
}

/// Connects: at once, if the lock is not waited for, or else with the wait, which tells of failures.
pub(crate) fn connect(config: Config, patience: Patience) -> Result<Locks, String> {
    let config = if patience == Patience::None { config } else { config.lazy() };
    Locks::open(config).map_err(|error| error.to_string())
}

/// The error for the server at `place`, which did not answer.
pub(crate) fn silent(place: &str) -> String {
    away(&format!("no answer in time from {place}"))
}

/// The error for a server that cannot be reached.
pub(crate) fn away(why: &str) -> String {
    Error::Unavailable(why.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_may_still_answer_gets_time_beyond_the_wait() {
        for until in [Instant::now(), Instant::now() + CONNECT] {
            let patience = Patience::Until(until);
            assert_eq!(patience.to_connect(true), Some(until));
            assert!(patience.to_connect(false) >= Some(until + LATE));
            assert!(patience.to_answer() >= Some(until + LATE));
        }
        assert_eq!(Patience::Endless.to_connect(true), None);
        for limit in [
            Patience::None.to_connect(false),
            Patience::None.to_connect(true),
            Patience::None.to_answer(),
        ] {
            assert!(limit.is_some(), "without a wait, a server that says nothing delays no end");
        }
    }
}
