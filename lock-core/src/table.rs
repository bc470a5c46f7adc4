//! The table protocol: a lock is a row with an owner, a fence and an expiry.
//!
//! Every transition is **one statement** that commits by itself, and every comparison with the time
//! uses the server's clock, read while the statement runs:
//!
//! ```text
//!   acquire   row absent, or owner absent, or expired, or owner = me
//!             -> owner = me, expiry = now + ttl, fence = max(fence + 1, now in µs)
//!                (owner = me already: the fence stays, the expiry never moves back)
//!   renew     owner = me and not expired   -> expiry = max(expiry, now + ttl)
//!   release   owner = me                   -> owner = nobody; the row stays, for its fence
//! ```
//!
//! Who is denied marks the row, so that its holder, on the release, learns that somebody waits; then it
//! is told, or looks from time to time:
//!
//! ```text
//!   look      row absent, or owner absent, or expired, or owner = me   -> it may be free
//!             otherwise: who has it, and whether somebody waited before
//! ```
//!
//! The owner is a number that is never used for a second hold, so it identifies one hold: a late
//! duplicate of an earlier hold's request cannot touch the row of a newer one.

use crate::error::Failure;
use crate::fence::Fence;
use crate::protocol::{Action, Claim, Holder, News, Protocol, Verdict};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// The table protocol's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    ttl: Duration,
    holder: Arc<str>,
    tells: bool,
}

impl Table {
    /// The longest text about a holder that is stored, in bytes.
    pub const MAX_HOLDER_BYTES: usize = 255;

    /// Leases of `ttl`, stored with `holder` for people to read. A longer text is cut, and control
    /// characters in it become spaces.
    pub fn new(ttl: Duration, holder: &str) -> Self {
        let end = (0..=Self::MAX_HOLDER_BYTES.min(holder.len()))
            .rev()
            .find(|end| holder.is_char_boundary(*end));
        let holder = holder[..end.unwrap_or(0)].replace(char::is_control, " ");
        Self { ttl, holder: holder.into(), tells: false }
    }

    /// The same on a server that tells, on a connection of its own, which locks were freed. Who is
    /// told need not look whether they were.
    #[must_use]
    pub fn told(self) -> Self {
        Self { tells: true, ..self }
    }
}

/// What is asked of a lock table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Take the names that are free, expired or already their claim's owner's.
    Acquire {
        /// Sorted by name, each name once.
        claims: Vec<Claim>,
        /// How long the leases last from the moment the statement runs.
        ttl: Duration,
        /// Stored with the leases, for people.
        holder: Arc<str>,
    },
    /// See which names somebody else has.
    Look {
        /// Sorted by name, each name once.
        claims: Vec<Claim>,
    },
    /// Extend the leases.
    Renew {
        /// Sorted by name.
        leases: Vec<Claim>,
        /// How long they last from the moment the statement runs.
        ttl: Duration,
    },
    /// Free the leases.
    Release {
        /// Sorted by name.
        leases: Vec<Claim>,
    },
    /// On a new connection: begin to listen. On one that listens: tell which locks that somebody
    /// waits for were freed, as soon as one was.
    Listen {
        /// Answer within this time.
        up_to: Duration,
    },
    /// Send a notification to all that listen, which frees nothing.
    Probe {
        /// No other probe has it.
        number: u128,
    },
}

impl Command {
    /// What the command is for.
    pub fn action(&self) -> Action {
        match self {
            Command::Acquire { .. } => Action::Acquire,
            Command::Look { .. } => Action::Look,
            Command::Renew { .. } => Action::Renew,
            Command::Release { .. } => Action::Release,
            Command::Listen { .. } => Action::Listen,
            Command::Probe { .. } => Action::Probe,
        }
    }

    /// What it is about.
    pub fn claims(&self) -> &[Claim] {
        match self {
            Command::Acquire { claims, .. } | Command::Look { claims } => claims,
            Command::Renew { leases, .. } | Command::Release { leases } => leases,
            Command::Listen { .. } | Command::Probe { .. } => &[],
        }
    }
}

/// What a lock table answers: about claims, an entry for each claim of the command, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// To [`Command::Acquire`].
    Acquired(Vec<Acquired>),
    /// To [`Command::Look`].
    Seen(Vec<Seen>),
    /// To [`Command::Renew`]: whether the lease was the owner's.
    Changed(Vec<bool>),
    /// To [`Command::Release`].
    Freed(Vec<Freed>),
    /// To [`Command::Listen`].
    Told(News),
    /// To [`Command::Probe`]: the notification is on its way.
    Probed,
}

/// What became of one claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Acquired {
    /// The row is the owner's.
    Granted(Fence),
    /// It is somebody else's.
    Busy(Option<Holder>),
}

/// What is seen of a name that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// Nobody else has it.
    Free,
    /// It is somebody else's.
    Held(Option<Holder>),
}

/// What became of a lease that was to be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freed {
    /// It was not its owner's.
    NotOurs,
    /// It is free.
    Free,
    /// It is free, and somebody waits for it; where the server tells, it was told.
    Wanted,
}

impl Protocol for Table {
    type Command = Command;
    type Reply = Reply;
    type Session = ();

    fn acquire(&self, _: &(), claims: Vec<Claim>, _: bool) -> Command {
        Command::Acquire { claims, ttl: self.ttl, holder: self.holder.clone() }
    }

    fn renew(&self, leases: Vec<Claim>) -> Option<Command> {
        Some(Command::Renew { leases, ttl: self.ttl })
    }

    fn release(&self, _: &(), leases: Vec<Claim>, _: u32) -> Command {
        Command::Release { leases }
    }

    fn label(&self) -> Option<&str> {
        Some(&self.holder)
    }

    fn again(&self) -> Action {
        if self.tells { Action::Acquire } else { Action::Look }
    }

    fn look(&self, claims: Vec<Claim>) -> Option<Command> {
        Some(Command::Look { claims })
    }

    fn listen(&self, up_to: Duration) -> Option<Command> {
        self.tells.then_some(Command::Listen { up_to })
    }

    fn news(&self, reply: Reply) -> Result<News, Failure> {
        match reply {
            Reply::Told(news) => Ok(news),
            _ => Err(Failure::Unknown("the reply does not belong to the command".to_string())),
        }
    }

    fn probe(&self, number: u128) -> Option<Command> {
        self.tells.then_some(Command::Probe { number })
    }

    fn verdicts(&self, action: Action, reply: Reply) -> Result<Vec<Verdict>, Failure> {
        match (action, reply) {
            (Action::Acquire, Reply::Acquired(entries)) => Ok(entries
                .into_iter()
                .map(|entry| match entry {
                    Acquired::Granted(fence) => Verdict::Granted { fence },
                    Acquired::Busy(holder) => Verdict::Busy { holder },
                })
                .collect()),
            (Action::Look, Reply::Seen(entries)) => Ok(entries
                .into_iter()
                .map(|entry| match entry {
                    Seen::Free => Verdict::Free { passed: None },
                    Seen::Held(holder) => Verdict::Busy { holder },
                })
                .collect()),
            (Action::Renew, Reply::Changed(entries)) => Ok(entries
                .into_iter()
                .map(|ours| if ours { Verdict::Done } else { Verdict::NotOurs })
                .collect()),
            (Action::Release, Reply::Freed(entries)) => Ok(entries
                .into_iter()
                .map(|entry| match entry {
                    Freed::NotOurs => Verdict::NotOurs,
                    Freed::Free => Verdict::Done,
                    Freed::Wanted => Verdict::Wanted,
                })
                .collect()),
            (Action::Listen, Reply::Told(_)) | (Action::Probe, Reply::Probed) => {
                Ok([Verdict::Done].into())
            }
            _ => Err(Failure::Unknown("the reply does not belong to the command".to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_one_line_of_bounded_length() {
        assert_eq!(&*Table::new(Duration::MAX, "host\n1\u{0}").holder, "host 1 ");
        let long = Table::new(Duration::MAX, &"é".repeat(200));
        assert_eq!(long.holder.len(), 254, "cut at a character's boundary");
    }

    #[test]
    fn who_is_told_is_told_in_words_of_its_own() {
        let table = Table::new(Duration::MAX, "").told();
        let told = || Reply::Told(News::Begun);
        assert_eq!(table.verdicts(Action::Listen, told()), Ok([Verdict::Done].into()));
        assert_eq!(table.news(told()), Ok(News::Begun));
        assert_eq!(table.verdicts(Action::Probe, Reply::Probed), Ok([Verdict::Done].into()));
        assert!(table.news(Reply::Probed).is_err());
        assert!(table.verdicts(Action::Acquire, told()).is_err());
        let untold = Table::new(Duration::MAX, "");
        assert!(untold.listen(Duration::MAX).is_none() && untold.probe(1).is_none());
        let freed = Reply::Freed([Freed::NotOurs, Freed::Free, Freed::Wanted].into());
        let verdicts = [Verdict::NotOurs, Verdict::Done, Verdict::Wanted];
        assert_eq!(table.verdicts(Action::Release, freed), Ok(verdicts.into()));
    }

    #[test]
    fn a_reply_of_the_wrong_kind_is_never_a_grant() {
        let table = Table::new(Duration::MAX, "");
        let granted = || Reply::Acquired([Acquired::Granted(Fence::new(1))].into());
        for action in [Action::Renew, Action::Release] {
            assert!(matches!(table.verdicts(action, granted()), Err(Failure::Unknown(_))));
        }
        let changed = Reply::Changed([true].into());
        assert!(matches!(table.verdicts(Action::Acquire, changed), Err(Failure::Unknown(_))));
    }
}
