//! The first connect, which is a part of the wait.

use crate::args::Args;
use lock_sync::{Config, Error, Locks};
use std::time::{Duration, Instant};

/// How long a server has to answer at all, however short the wait, and how long an answer is waited for after it.
const LATE: Duration = Duration::from_secs(2);
/// How long the first connect may take if there is no wait.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the answer may then take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait for the lock, the first connect included.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until then.
    Until(Instant),
    /// As long as it takes.
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

    /// How much is left of it.
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

    /// When a first connect that is still under way is given up, if it begins now.
    pub(crate) fn to_connect(self) -> Option<Instant> {
        match self {
            Self::None => Instant::now().checked_add(CONNECT),
            Self::Until(until) => Some(until.max(Instant::now() + LATE)),
            Self::Endless => None,
        }
    }

    /// When a server that was connected to just now, and does not answer, is given up.
    pub(crate) fn to_answer(self) -> Option<Instant> {
        match self {
            Self::None => Instant::now().checked_add(ANSWER),
            Self::Until(until) => until.max(Instant::now()).checked_add(LATE),
            Self::Endless => None,
        }
    }

    /// When a wait that a signal ends is over, whatever the server says.
    pub(crate) fn to_end() -> Option<Instant> {
        Instant::now().checked_add(LATE)
    }
}

/// Connects, again and again if the server cannot be reached, and tells why. A refusal by the server is final.
pub(crate) fn connect(
    mut config: Config,
    again: impl Fn() -> Result<Config, String>,
    patience: Patience,
    trouble: impl Fn(String),
) -> Result<Locks, String> {
    let mut pause = Duration::from_millis(100);
    loop {
        let error = match config.connect() {
            Ok(locks) => return Ok(locks),
            Err(error) if !error.is_transient() => return Err(error.to_string()),
            Err(error) => error.to_string(),
        };
        let left = patience.left();
        if left.is_zero() {
            // Nobody is known to have the lock: it is not the end of a wait for them.
            return Err(error);
        }
        trouble(error);
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_secs(2));
        config = again()?;
    }
}

/// A server that did not answer.
pub(crate) fn silent() -> String {
    Error::Unavailable("no answer in time".to_string()).to_string()
}
