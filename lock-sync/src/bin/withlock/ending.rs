//! The signals that a lease's end means for the command.

use rustix::process::Signal;
use std::time::Duration;

/// The signals that the command gets when its lock is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnLost {
    /// TERM in time to clean up, then KILL.
    #[default]
    Term,
    /// KILL.
    Kill,
    /// No signal. The command relies on its fence.
    Ignore,
}

/// The signals, and their timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) on_lost: OnLost,
    /// Time between TERM and the end of the lease.
    pub(crate) grace: Duration,
}

impl Ending {
    /// The signal that is due when the lock is certainly held for another `remaining`.
    pub(crate) fn due(self, remaining: Duration) -> Option<Signal> {
        match self.on_lost {
            OnLost::Ignore => None,
            _ if remaining.is_zero() => Some(Signal::KILL),
            OnLost::Term if remaining <= self.grace => Some(Signal::TERM),
            OnLost::Term | OnLost::Kill => None,
        }
    }

    /// True if a command may start: the lock is held, and no signal is due.
    pub(crate) fn may_begin(self, remaining: Duration) -> bool {
        !remaining.is_zero() && self.due(remaining).is_none()
    }

    /// Time until the next signal becomes due.
    pub(crate) fn next(self, remaining: Duration) -> Duration {
        match self.on_lost {
            OnLost::Ignore => Duration::MAX,
            OnLost::Term if remaining > self.grace => remaining - self.grace,
            OnLost::Term | OnLost::Kill => remaining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn ending(on_lost: OnLost) -> Ending {
        Ending { on_lost, grace: 5 * S }
    }

    #[test]
    fn term_comes_by_the_grace_and_kill_by_the_deadline() {
        let term = ending(OnLost::Term);
        assert_eq!((term.due(6 * S), term.next(6 * S)), (None, S));
        assert_eq!((term.due(5 * S), term.next(5 * S)), (Some(Signal::TERM), 5 * S));
        assert_eq!(term.due(Duration::ZERO), Some(Signal::KILL));
    }

    #[test]
    fn kill_comes_without_a_warning() {
        let kill = ending(OnLost::Kill);
        assert_eq!((kill.due(S), kill.next(S)), (None, S));
        assert_eq!(kill.due(Duration::ZERO), Some(Signal::KILL));
    }

    #[test]
    fn who_ignores_a_loss_gets_nothing() {
        assert_eq!(ending(OnLost::Ignore).due(Duration::ZERO), None);
    }

    #[test]
    fn a_command_begins_while_the_lock_is_held_and_nothing_is_due() {
        let begins = |on_lost, left| ending(on_lost).may_begin(left);
        assert!(begins(OnLost::Term, 6 * S) && !begins(OnLost::Term, 5 * S));
        for on_lost in [OnLost::Kill, OnLost::Ignore] {
            assert!(begins(on_lost, S) && !begins(on_lost, Duration::ZERO), "{on_lost:?}");
        }
    }
}
