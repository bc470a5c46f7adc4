//! Requests: the engine's one vocabulary for a server, whatever keeps the locks there.

use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::outcome::Outcome;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// A question or an order to the server. Codecs turn it into SQL or HTTP; the answer is a
/// [`Reply`](crate::Reply).
///
/// The engine makes only requests that the server's [`Capabilities`](crate::Capabilities) name.
/// Claims are sorted by name, each name once, and never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Request {
    /// Begin a session: connect, or make a record.
    Open {
        /// A number that no other session has.
        owner: Owner,
        /// The server may end the session once it has been idle for so long, and not before.
        ttl: Duration,
    },
    /// Keep a session alive.
    KeepAlive {
        /// Its name.
        session: SessionName,
    },
    /// End a session that is a record, and with it all its locks.
    Close {
        /// Its name.
        session: SessionName,
    },
    /// Take every name that is free, expired or already its claim's owner's. Repeated in one session after an
    /// answer failed to come, it changes nothing.
    Acquire {
        /// The session that is to have the locks.
        session: SessionName,
        /// The names and their owners.
        claims: Vec<Claim>,
        /// How long a lease lasts from the moment when the statement runs, unless its claim has a TTL of its own.
        ttl: Duration,
        /// A server that forgets its locks when it restarts grants none before it has run for so long. Zero if
        /// the age of the session proves that it has.
        min_uptime: Duration,
        /// Stored with the lock, for people, unless its claim has a label of its own.
        label: Arc<str>,
    },
    /// Extend every lease that its owner still holds.
    Renew {
        /// The leases.
        claims: Vec<Claim>,
        /// How long a lease lasts from the moment when the statement runs, unless its claim has a TTL of its own.
        ttl: Duration,
    },
    /// Free every lease that its owner still holds.
    Release {
        /// The session that has the locks.
        session: SessionName,
        /// The leases.
        claims: Vec<Claim>,
        /// A session whose entry in the line is to be removed, for it left the lock free when it was its turn.
        passed_over: Option<SessionName>,
    },
    /// Leave every lease that its owner still holds taken until so long after its grant, by the server's clock, and free
    /// it by then. Until then it is [nobody's](Owner::KEPT). What was granted longer ago is freed at once.
    Keep {
        /// The leases.
        claims: Vec<Claim>,
        /// The time from each lease's grant to its end.
        keep: Duration,
    },
    /// Read which names another owner has, or are left to other waiters. This is less work for the server than an attempt to
    /// take them.
    Probe {
        /// The names and who wants them.
        claims: Vec<Claim>,
    },
    /// Stand in the line of those that wait for the lock, with an entry that lasts as long as the session, and read who is
    /// ahead. Repeated, it keeps its place.
    Join {
        /// The session that is to have the lock.
        session: SessionName,
        /// The names and their owners.
        claims: Vec<Claim>,
    },
    /// Stand in that line no more.
    Leave {
        /// The session that joined.
        session: SessionName,
        /// The names and their owners.
        claims: Vec<Claim>,
    },
    /// Answer when the lock is taken or may be free.
    Wait {
        /// The session that is to have the lock.
        session: SessionName,
        /// The name and its owner.
        claim: Claim,
        /// Wait for the end of this session's entry in the line, as it was at `since`, and not for the lock.
        behind: Option<SessionName>,
        /// Where in the server's history the last wait for it ended; zero at first. See
        /// [`Outcome::Unchanged`].
        since: u64,
        /// Answer within this time.
        up_to: Duration,
        /// As in [`Request::Acquire`].
        min_uptime: Duration,
    },
    /// On a new connection: begin to notify. On one that is notified: answer as soon as there are notifications.
    /// It goes over a connection of its own, [`ConnectionId::NOTIFICATIONS`](crate::ConnectionId::NOTIFICATIONS).
    Subscribe {
        /// Answer within this time.
        up_to: Duration,
    },
    /// On a connection that is notified: notify it no more. It stays open, for it may be [subscribed](Self::Subscribe) again.
    Unsubscribe,
    /// Notify all that listen of this number. It goes over another connection than theirs.
    Ping {
        /// No two pings have the same.
        number: u128,
    },
}

impl Request {
    /// The kind of request.
    pub fn action(&self) -> Action {
        match self {
            Request::Open { .. } => Action::Open,
            Request::KeepAlive { .. } => Action::KeepAlive,
            Request::Close { .. } => Action::Close,
            Request::Acquire { .. } => Action::Acquire,
            Request::Renew { .. } => Action::Renew,
            Request::Release { .. } | Request::Keep { .. } => Action::Release,
            Request::Probe { .. } => Action::Probe,
            Request::Join { .. } => Action::Join,
            Request::Leave { .. } => Action::Leave,
            Request::Wait { .. } => Action::Wait,
            Request::Subscribe { .. } => Action::Subscribe,
            Request::Unsubscribe => Action::Unsubscribe,
            Request::Ping { .. } => Action::Ping,
        }
    }

    /// Whether the server may take its time with the answer.
    pub fn waits(&self) -> bool {
        matches!(self, Request::Wait { .. } | Request::Subscribe { .. })
    }

    /// The same to be changed.
    #[cfg(feature = "sim")]
    pub(crate) fn claims_mut(&mut self) -> &mut [Claim] {
        match self {
            Request::Acquire { claims, .. }
            | Request::Renew { claims, .. }
            | Request::Release { claims, .. }
            | Request::Keep { claims, .. }
            | Request::Probe { claims } => claims,
            Request::Wait { claim, .. } => core::slice::from_mut(claim),
            _ => &mut [],
        }
    }

    /// The claims that it is about: the reply has an [`Outcome`] for each, in the same order.
    pub fn claims(&self) -> &[Claim] {
        match self {
            Request::Acquire { claims, .. }
            | Request::Renew { claims, .. }
            | Request::Release { claims, .. }
            | Request::Keep { claims, .. }
            | Request::Join { claims, .. }
            | Request::Leave { claims, .. }
            | Request::Probe { claims } => claims,
            Request::Wait { claim, .. } => core::slice::from_ref(claim),
            Request::Open { .. }
            | Request::KeepAlive { .. }
            | Request::Close { .. }
            | Request::Subscribe { .. }
            | Request::Unsubscribe
            | Request::Ping { .. } => &[],
        }
    }
}

/// A kind of request. The order is the order in which due requests leave: leases are kept before others are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Action {
    /// [`Request::Close`].
    Close,
    /// [`Request::Open`].
    Open,
    /// [`Request::KeepAlive`].
    KeepAlive,
    /// [`Request::Renew`].
    Renew,
    /// [`Request::Release`] and [`Request::Keep`].
    Release,
    /// [`Request::Leave`].
    Leave,
    /// [`Request::Acquire`].
    Acquire,
    /// [`Request::Probe`].
    Probe,
    /// [`Request::Join`].
    Join,
    /// [`Request::Wait`].
    Wait,
    /// [`Request::Subscribe`].
    Subscribe,
    /// [`Request::Unsubscribe`].
    Unsubscribe,
    /// [`Request::Ping`].
    Ping,
}

impl Action {
    /// Whether `outcome` can be the answer to such a request. Any other is a surprise, and never a grant.
    pub(crate) fn allows(self, outcome: &Outcome) -> bool {
        use Outcome::{
            Busy, Delayed, Done, DoneContended, Free, Granted, InLine, NoSession, NotOwner,
            Reserved, Unchanged,
        };
        match self {
            Action::KeepAlive => matches!(outcome, Done | NoSession),
            Action::Close | Action::Leave | Action::Ping | Action::Unsubscribe => {
                matches!(outcome, Done)
            }
            Action::Join => matches!(outcome, InLine { .. } | NoSession),
            Action::Renew => matches!(outcome, Done | NotOwner),
            Action::Release => matches!(outcome, Done | DoneContended | NotOwner),
            Action::Acquire => {
                matches!(outcome, Granted(_) | Busy(_) | Reserved(_) | Delayed | NoSession)
            }
            Action::Probe => matches!(outcome, Free | Busy(_) | Reserved(_)),
            Action::Wait => {
                matches!(outcome, Granted(_) | Busy(_) | Delayed | Free | Unchanged { .. })
            }
            Action::Open | Action::Subscribe => false,
        }
    }
}

/// The server's name for a session; [`None`] where it has none, and before it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionName(pub Option<Arc<str>>);

impl SessionName {
    /// The name as text, empty if there is none.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<&str> for SessionName {
    fn from(name: &str) -> Self {
        Self(Some(name.into()))
    }
}

/// Whether a lock excludes everybody or only those who want to exclude others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Mode {
    /// At most one holder.
    #[default]
    Exclusive,
    /// Any number of holders, and no exclusive one. Only some servers have it.
    Shared,
}

/// `exclusive` or `shared`.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
        })
    }
}

/// One name and the owner that wants, has or gives back its lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The lock's name.
    pub name: LockName,
    /// The hold's owner.
    pub owner: Owner,
    /// How it is wanted.
    pub mode: Mode,
    /// Another's lease that may be ended: it has not changed for its whole TTL, by the clock of whoever claims. Only
    /// where the server's clock does not count.
    pub ended: Option<LeaseVersion>,
    /// How long its lease lasts, if it is not the request's TTL. Only where each lock is a lease of its own.
    pub ttl: Option<Duration>,
    /// Stored with the lock, for people, if it is not the request's label.
    pub label: Option<Arc<str>>,
    /// Which waiters it lets go first. Only where they draw tickets; in Consul, a ticket says that it has an entry in the
    /// line.
    pub turn: Turn,
}

impl Claim {
    /// An exclusive claim, with the request's TTL and label, that takes what is free.
    pub fn new(name: LockName, owner: Owner) -> Self {
        Self {
            name,
            owner,
            mode: Mode::Exclusive,
            ended: None,
            ttl: None,
            label: None,
            turn: Turn::Any,
        }
    }
}

/// The waiters that a claim lets go first, where they draw tickets from a lock's row: see [`table`](crate::table).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// None. Its attempt does not wait, and a denial draws no ticket.
    #[default]
    Any,
    /// Those with an earlier ticket than its own; if it has none yet, all that have one. A denial draws one.
    Of(Option<u64>),
    /// None, though it waits: its attempt waits for several locks, and will leave all tickets but one behind. Its ticket
    /// only tells how many are ahead.
    Loose(Option<u64>),
}

impl Turn {
    /// The number of a claim that has no ticket yet: the greatest that every JSON reader takes for an integer.
    pub(crate) const LAST: i64 = (1 << 53) - 1;

    /// The turn as statements have it: 0 for [`Any`](Self::Any), a ticket, [`LAST`](Self::LAST) for none yet, and the
    /// same with a minus if it is [`Loose`](Self::Loose).
    pub(crate) fn number(self) -> i64 {
        let number = |ticket: Option<u64>| {
            ticket.and_then(|ticket| i64::try_from(ticket).ok()).unwrap_or(Self::LAST)
        };
        match self {
            Turn::Any => 0,
            Turn::Of(ticket) => number(ticket),
            Turn::Loose(ticket) => -number(ticket),
        }
    }
}

/// One state of a lease. Each grant and each renewal makes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct LeaseVersion {
    /// Its fence.
    pub fence: Fence,
    /// Its expiry as the server has it, in µs.
    pub expiry: i64,
}
