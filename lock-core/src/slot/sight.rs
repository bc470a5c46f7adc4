//! What attempts for one name learn from each other: those in front ask the server, and those behind them go by that.

use super::state::{Phase, Slot};
use crate::error::Failure;
use crate::outcome::Holder;
use crate::time::Instant;

/// How much is known, or was told, of the lock's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Known {
    Nothing,
    /// Somebody has it.
    Held,
    /// And who that is.
    Holder,
}

impl Known {
    /// The knowledge that a denial brings that names `holder`.
    pub(super) fn by(holder: Option<&Holder>) -> Self {
        if holder.is_some() { Self::Holder } else { Self::Held }
    }
}

/// What an attempt in front knows of the lock.
pub(crate) struct Sight {
    pub(crate) known: Known,
    pub(crate) holder: Option<Holder>,
    /// Nobody is known to have it, but the server does not give it away yet.
    pub(crate) withheld: bool,
    /// Why nothing is known: its last request failed.
    pub(crate) failure: Option<Failure>,
}

impl Slot {
    /// How much it knows of who has the lock: its caller, or somebody that was in its way.
    pub(crate) fn known(&self) -> Known {
        match self.phase {
            Phase::Held { .. } if self.untold.is_none() => Known::Holder,
            Phase::Waiting { .. } | Phase::Claiming { .. }
                if self.wanted() && self.denied && self.failure.is_none() =>
            {
                Known::by(self.holder.as_ref().filter(|_| !self.outdated))
            }
            _ => Known::Nothing,
        }
    }

    /// What it knows, for the attempts behind it. The label is that of its own hold.
    pub(crate) fn sight(&self, now: Instant, label: Option<&str>) -> Sight {
        let holder = match self.deadline() {
            Some(deadline) => label.map(|label| Holder {
                label: label.into(),
                held_for: now.since(self.granted_at),
                expires_in: deadline.since(now),
                place: None,
                kept: false,
                watched: None,
            }),
            None => self.holder.clone().filter(|_| !self.outdated),
        };
        let asks = matches!(self.phase, Phase::Waiting { .. } | Phase::Claiming { .. });
        let failure = self.failure.clone().filter(|_| asks && self.wanted());
        Sight { known: self.known(), holder, withheld: self.withheld, failure }
    }

    /// Whether it waits in the queue, and has not been told who has the lock.
    pub(crate) fn is_unaware(&self) -> bool {
        self.phase == Phase::Queued && self.told < Known::Holder
    }

    /// How much the caller was told of the holder.
    pub(crate) fn told(&self) -> Known {
        self.told
    }
}
