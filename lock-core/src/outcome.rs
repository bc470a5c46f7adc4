//! Replies: what a server has said, in the engine's words.

use crate::error::Failure;
use crate::fence::Fence;
use crate::name::LockName;
use crate::request::{Action, LeaseVersion, SessionName};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// The answer to a [`Request`](crate::Request), made by a codec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Reply {
    /// To [`Request::Open`](crate::Request::Open): the server's name for the session.
    Opened(SessionName),
    /// To [`Request::Subscribe`](crate::Request::Subscribe).
    News(News),
    /// To all others: an outcome for each claim of the request, or one for a request without claims.
    Outcomes(Vec<Outcome>),
}

impl Reply {
    /// The reply of one outcome.
    pub fn one(outcome: Outcome) -> Self {
        Reply::Outcomes(Vec::from([outcome]))
    }

    /// The outcomes, if this can be the answer to such a request about so many claims.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if it cannot: a surprise is never a grant.
    pub fn outcomes(self, action: Action, claims: usize) -> Result<Vec<Outcome>, Failure> {
        match self {
            Reply::Outcomes(all) if all.len() == claims.max(1) => {
                let fit = all.iter().all(|outcome| action.allows(outcome));
                if fit { Ok(all) } else { Err(surprise()) }
            }
            Reply::Outcomes(_) => {
                Err(Failure::Unknown("the reply has the wrong number of entries".into()))
            }
            Reply::Opened(_) | Reply::News(_) => Err(surprise()),
        }
    }

    /// The name of the session that was opened.
    pub(crate) fn opened(self) -> Result<SessionName, Failure> {
        match self {
            Reply::Opened(name) => Ok(name),
            _ => Err(surprise()),
        }
    }

    /// The news for a subscriber.
    pub(crate) fn news(self) -> Result<News, Failure> {
        match self {
            Reply::News(news) => Ok(news),
            _ => Err(surprise()),
        }
    }
}

fn surprise() -> Failure {
    Failure::Unknown("the reply does not belong to the request".into())
}

/// The server's decision about one claim, or about a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Outcome {
    /// Acquire, wait: the lease is the owner's.
    Granted(Fence),
    /// Acquire, probe, wait: another has the lock; the holder, if the server told.
    Busy(Option<Holder>),
    /// Acquire, probe: nobody has the lock, and for a moment it is left to those whose tickets go first.
    Reserved(Place),
    /// Acquire, wait: nobody has the lock, but the server does not yet give it away: the session of its last
    /// holder was lost, the server has just started, or a transaction has the lock [pinned](crate::PinStatement).
    /// Nothing tells when that is over.
    Delayed,
    /// Join: it stands in the line.
    InLine {
        /// Its place there.
        place: Place,
        /// The session whose entry is just ahead, and where in the server's history that was made; none if it is the first.
        ahead: Option<(SessionName, u64)>,
    },
    /// Probe, wait: the lock may be free by now; or the session that was waited for has left the line, and
    /// may have joined it again.
    Free,
    /// Wait: another still has the lock, or the session that was waited for still stands in the line.
    Unchanged {
        /// Up to where in its history the server has looked; never zero.
        index: u64,
    },
    /// Renew, release, or a request without claims: done.
    Done,
    /// Release: done, and others wait for the lock; where the server notifies, it has notified them.
    DoneContended,
    /// Renew, release: the lease is not this owner's, or no longer. Nothing was changed.
    NotOwner,
    /// The session does not exist, or no longer. Nothing was changed.
    NoSession,
}

/// The holder of a lock, for people to read, and the end of its lease, for a waiter to plan by.
///
/// A snapshot: by the time it is read it may be out of date. Nothing that must be safe rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Holder {
    /// The holder's words about itself: host, process id and a label of its own.
    pub label: String,
    /// How long it has had the lock, by the server's clock; by the engine's own, if the hold is its own.
    pub held_for: Duration,
    /// The time until its lease ends unless it is renewed, by the same clock.
    pub expires_in: Duration,
    /// The waiter's place among those that wait, where they draw tickets and this one has drawn one.
    pub place: Option<Place>,
    /// It was released, and nobody has it. It is kept until `expires_in` is over.
    pub kept: bool,
    /// The lease's version and TTL, where its end is found out by watching it. Then `expires_in` is the engine's.
    pub watched: Option<(LeaseVersion, Duration)>,
}

impl Holder {
    /// A holder that calls itself so, as somebody is told that has no place in the line.
    pub fn new(label: impl Into<String>, held_for: Duration, expires_in: Duration) -> Self {
        let (label, place, kept, watched) = (label.into(), None, false, None);
        Self { label, held_for, expires_in, place, kept, watched }
    }

    /// The same without what a table with tickets tells of the time and the line: the waiter's own state has that.
    #[cfg(feature = "sim")]
    pub(crate) fn timeless(self) -> Self {
        if self.place.is_none() {
            return self;
        }
        Self { held_for: Duration::ZERO, expires_in: Duration::ZERO, place: None, ..self }
    }
}

/// A waiter's place among those that wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Place {
    /// Its ticket. The next that is drawn has the next number.
    pub ticket: u64,
    /// How many tickets go first. Some of their waiters may be gone.
    pub ahead: u64,
}

/// Word from a server that notifies waiters. Safety never rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum News {
    /// From now on the server notifies. It did not notify of locks that were freed before.
    Begun,
    /// The notifications since the last news; none if none came within the time.
    Notified(Vec<Notification>),
}

impl News {
    /// Whether nothing was told within the time.
    pub fn is_empty(&self) -> bool {
        matches!(self, News::Notified(all) if all.is_empty())
    }

    /// Whether this lock may have been freed.
    pub fn is_about(&self, lock: &LockName) -> bool {
        let is_about = |one: &Notification| match one {
            Notification::Freed { name, .. } | Notification::Kept { name, .. } => name == lock,
            Notification::Ping(_) => false,
        };
        match self {
            News::Begun => true,
            News::Notified(all) => all.iter().any(is_about),
        }
    }
}

/// One notification on the connection that listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Notification {
    /// A lock was freed.
    Freed {
        /// Its name.
        name: LockName,
        /// The ticket whose turn it is.
        ticket: u64,
    },
    /// A lock was released, and is [kept](crate::Request::Keep).
    Kept {
        /// Its name.
        name: LockName,
        /// The ticket whose turn it is then.
        ticket: u64,
        /// For how long.
        left: Duration,
    },
    /// The number of a [`Request::Ping`](crate::Request::Ping).
    Ping(u128),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 13] = [
        Action::Close,
        Action::Open,
        Action::KeepAlive,
        Action::Renew,
        Action::Release,
        Action::Leave,
        Action::Acquire,
        Action::Probe,
        Action::Join,
        Action::Wait,
        Action::Subscribe,
        Action::Unsubscribe,
        Action::Ping,
    ];

    fn allowed(outcome: &Outcome) -> Vec<Action> {
        let reply = || Reply::one(outcome.clone());
        ACTIONS.into_iter().filter(|action| reply().outcomes(*action, 1).is_ok()).collect()
    }

    #[test]
    fn a_grant_answers_nothing_but_a_claim_or_a_wait() {
        assert_eq!(allowed(&Outcome::Granted(Fence::new(1))), [Action::Acquire, Action::Wait]);
    }

    #[test]
    fn each_outcome_answers_its_own_requests_only() {
        use Action::{Acquire, Close, Join, KeepAlive, Leave, Ping, Probe, Release};
        use Action::{Renew, Unsubscribe, Wait};
        assert_eq!(allowed(&Outcome::Busy(None)), [Acquire, Probe, Wait]);
        assert_eq!(allowed(&Outcome::Reserved(Place { ticket: 2, ahead: 1 })), [Acquire, Probe]);
        assert_eq!(allowed(&Outcome::Delayed), [Acquire, Wait]);
        assert_eq!(allowed(&Outcome::Free), [Probe, Wait]);
        let place = Place { ticket: 2, ahead: 0 };
        assert_eq!(allowed(&Outcome::InLine { place, ahead: None }), [Join]);
        assert_eq!(allowed(&Outcome::Unchanged { index: 1 }), [Wait]);
        let done = [Close, KeepAlive, Renew, Release, Leave, Unsubscribe, Ping];
        assert_eq!(allowed(&Outcome::Done), done);
        assert_eq!(allowed(&Outcome::DoneContended), [Release]);
        assert_eq!(allowed(&Outcome::NotOwner), [Renew, Release]);
        assert_eq!(allowed(&Outcome::NoSession), [KeepAlive, Acquire, Join]);
    }

    #[test]
    fn a_reply_about_another_number_of_claims_is_a_surprise() {
        let two = || Reply::Outcomes([Outcome::Done, Outcome::Done].into());
        assert!(two().outcomes(Action::Renew, 2).is_ok());
        assert!(matches!(two().outcomes(Action::Renew, 1), Err(Failure::Unknown(_))));
        assert!(matches!(two().outcomes(Action::Renew, 3), Err(Failure::Unknown(_))));
        let none = Reply::Outcomes(Vec::new());
        assert!(matches!(none.outcomes(Action::Close, 0), Err(Failure::Unknown(_))));
    }

    #[test]
    fn news_and_names_of_sessions_are_told_apart_from_outcomes() {
        let (opened, news) = (Reply::Opened(SessionName::default()), Reply::News(News::Begun));
        assert!(opened.clone().outcomes(Action::Acquire, 1).is_err());
        assert!(news.clone().outcomes(Action::Acquire, 1).is_err());
        assert!(opened.clone().news().is_err() && news.clone().opened().is_err());
        assert!(opened.opened().is_ok() && news.news().is_ok());
    }
}
