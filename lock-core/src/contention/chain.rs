//! A waiter's place in the line for a lock of Consul.
//!
//! Each waiter has an entry of its own beside the lock's key, and waits for the end of the entry just ahead of it. A release
//! ends the holder's entry too, so it wakes one waiter:
//!
//! ```text
//!   denied, or behind what its process freed    joins; it is told which entry is just ahead
//!   nobody is ahead                             waits for the lock itself
//!   the entry ahead has ended                   looks at the lock: free, it claims; taken, it joins again, for the
//!                                               waiter of that entry only left, and is told who is ahead now
//!   the entry ahead has not ended for long      looks at the lock: taken, it waits on; free, those ahead sleep or
//!                                               have died: it gives them the time to claim, and then claims; its
//!                                               release removes the entry that it passed over
//! ```
//!
//! So it claims only what it has seen free. An entry has ended, too, if its session has made another since: whoever frees the
//! lock may join again at once, behind those that wait for that.

use crate::outcome::Place;
use crate::request::{Action, SessionName, Turn};

/// The place of one waiter, and what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Chain {
    /// It has asked for an entry in its session, which may exist.
    stands: bool,
    place: Option<Place>,
    /// The session of the waiter just ahead, and where in the server's history the last wait for it ended.
    ahead: Option<(SessionName, u64)>,
    /// Where the last wait for the lock itself ended.
    index: u64,
    asks: Asks,
}

/// The subject of its next wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Asks {
    /// The lock, for nobody is ahead.
    #[default]
    Lock,
    /// The entry ahead.
    Ahead,
    /// The state of the lock, for the entry ahead has not ended for long.
    Patience,
    /// The state of the lock, for the entry ahead has ended.
    Gone,
}

impl Chain {
    /// Whether it may have an entry.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    /// The turn of its claims.
    pub(super) fn turn(&self) -> Turn {
        Turn::Of(self.place.map(|place| place.ticket))
    }

    /// The waiter whose end it waits for instead of the lock's.
    pub(super) fn waits_for(&self) -> Option<&SessionName> {
        let (session, _) = self.ahead.as_ref().filter(|_| self.asks == Asks::Ahead)?;
        Some(session)
    }

    /// The waiter that it passed over, for it left what was free.
    pub(super) fn passed_over(&self) -> Option<&SessionName> {
        let (session, _) = self.ahead.as_ref().filter(|_| self.asks == Asks::Patience)?;
        Some(session)
    }

    /// The place in the server's history at which its wait is to begin; zero for an answer at once.
    pub(super) fn since(&self) -> u64 {
        match (self.asks, &self.ahead) {
            (Asks::Ahead, Some((_, since))) => *since,
            (Asks::Lock, _) => self.index,
            _ => 0,
        }
    }

    /// Its request for an entry leaves.
    pub(super) fn joins(&mut self) {
        self.stands = true;
    }

    /// It has no entry any more.
    pub(super) fn has_left(&mut self) {
        *self = Self::default();
    }

    /// It has an entry, and this one is just ahead.
    pub(super) fn stands_behind(&mut self, place: Place, ahead: Option<(SessionName, u64)>) {
        self.asks = if ahead.is_some() { Asks::Ahead } else { Asks::Lock };
        self.place = Some(place);
        self.ahead = ahead;
        self.index = 0;
    }

    /// Its wait has ended, up to `index`, and what it waited for is as it was. The next request, and whether the lock has
    /// changed hands.
    pub(super) fn unchanged(&mut self, index: u64) -> (Action, bool) {
        match self.asks {
            Asks::Lock => {
                let moved = self.index > 0 && index > self.index;
                // A history that goes backwards is another history: start over.
                self.index = if index < self.index { 0 } else { index };
                (Action::Wait, moved)
            }
            Asks::Ahead => {
                if let Some((_, since)) = &mut self.ahead {
                    *since = index;
                }
                self.asks = Asks::Patience;
                (Action::Wait, false)
            }
            Asks::Patience => {
                self.asks = Asks::Ahead;
                (Action::Wait, false)
            }
            Asks::Gone => (Action::Join, false),
        }
    }

    /// What it waited for is no more. The next request, and how many go first.
    pub(super) fn free(&mut self) -> (Action, u64) {
        self.index = 0;
        match self.asks {
            Asks::Ahead => {
                self.asks = Asks::Gone;
                (Action::Wait, 0)
            }
            Asks::Patience => (Action::Acquire, self.place.map_or(0, |place| place.ahead)),
            Asks::Lock | Asks::Gone => (Action::Acquire, 0),
        }
    }

    /// The state that tells waiters apart for a search through states.
    #[cfg(feature = "sim")]
    pub(super) fn project(&self, index: impl Fn(u64) -> u64) -> Self {
        let place = |place: Place| Place { ticket: index(place.ticket), ..place };
        Self {
            place: self.place.map(place),
            ahead: self.ahead.clone().map(|(session, since)| (session, index(since))),
            index: index(self.index),
            ..self.clone()
        }
    }
}
