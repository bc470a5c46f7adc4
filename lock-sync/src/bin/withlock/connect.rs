//! The first connect, which is a part of the wait.

use crate::args::Args;
use crate::waiting::Waiting;
use lock_sync::{Config, Locks};
use std::time::{Duration, Instant};

/// How long to wait for the lock, the first connect included.
#[derive(Clone, Copy)]
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
}

/// Connects, again and again if the server cannot be reached. What it refuses, it refuses for good.
pub(crate) fn connect(
    mut config: Config,
    again: impl Fn() -> Result<Config, String>,
    patience: Patience,
    waiting: &mut Waiting,
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
        waiting.trouble(&error);
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_secs(2));
        config = again()?;
    }
}
