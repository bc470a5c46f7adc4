//! What a lock protocol must say: which command means what, and what a reply means.

use crate::error::Failure;
use crate::fence::Fence;
use crate::name::{LockName, Owner};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;
use core::time::Duration;

/// A vocabulary for [`Engine`](crate::Engine), which is the grammar.
///
/// The engine owns ids, queues, deadlines, retry, renewal, sessions, cancellation and loss. A
/// protocol is stateless: it makes commands and reads replies. A command about claims carries one
/// or more of them, and its reply one [`Verdict`] for each, in the same order.
///
/// # Leases and sessions
///
/// Where each lock is a lease of its own, [`sessions`](Self::sessions) is [`None`], locks are
/// renewed, and nothing else needs to be said. Otherwise locks belong to a *session*, which is
/// itself the lease: it is opened, kept and closed, and lost with all its locks. Then locks are not
/// renewed.
///
/// A method that returns an [`Option`] must have the command where the protocol's other answers lead to it:
/// [`renew`](Self::renew) where there are no sessions, [`look`](Self::look) and [`wait`](Self::wait) where
/// [`again`](Self::again) says so, [`open`](Self::open) and [`keep`](Self::keep) where there are sessions,
/// [`close`](Self::close) where these are records.
pub trait Protocol: Clone + Debug + Eq + Hash {
    /// What is asked of the server, in the protocol's own terms.
    type Command: Clone + Debug + Eq + Hash;
    /// What the server answers.
    type Reply: Clone + Debug + Eq + Hash;
    /// What the server calls a session; `()` where it has no name.
    type Session: Clone + Debug + Default + Eq + Hash;

    /// The command that takes every name in `claims` that is free, expired or already its
    /// owner's. Repeated in one session after an answer failed to come, it must change nothing.
    /// `claims` is never empty. `proven`: by the session's age, the server has certainly run for a
    /// TTL.
    fn acquire(&self, session: &Self::Session, claims: Vec<Claim>, proven: bool) -> Self::Command;

    /// The command that extends every lease in `leases` that its owner still holds.
    fn renew(&self, leases: Vec<Claim>) -> Option<Self::Command>;

    /// The command that frees every lease in `leases` that its owner still holds. `leases` is
    /// never empty. The first of them was passed over by `passed` others before it was granted, for
    /// those that wait for it to know: see [`Verdict::Free`].
    fn release(&self, session: &Self::Session, leases: Vec<Claim>, passed: u32) -> Self::Command;

    /// What `reply` says about each claim of the command it answers; about the session if the
    /// command was about that.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if the reply does not fit: a surprise is never a grant.
    fn verdicts(&self, action: Action, reply: Self::Reply) -> Result<Vec<Verdict>, Failure>;

    /// How many claims a command may carry, whatever the engine's own limit.
    fn batch(&self) -> usize {
        usize::MAX
    }

    /// The label of the engine's own holds, for attempts that wait for them in the same engine:
    /// see [`Holder::label`].
    fn label(&self) -> Option<&str> {
        None
    }

    /// Whether it has [`Mode::Shared`].
    fn shares(&self) -> bool {
        false
    }

    /// How its sessions are; [`None`] if it has none.
    fn sessions(&self) -> Option<Sessions> {
        None
    }

    /// What is asked after a denial: to acquire again, to [`look`](Self::look) first, or to
    /// [`wait`](Self::wait) at the server.
    fn again(&self) -> Action {
        Action::Acquire
    }

    /// The command that opens a session; `owner` is a number that no other session has.
    fn open(&self, _owner: Owner) -> Option<Self::Command> {
        None
    }

    /// What the server calls the session that it has opened.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if the reply does not fit.
    fn opened(&self, _reply: &Self::Reply) -> Result<Self::Session, Failure> {
        Ok(Self::Session::default())
    }

    /// The command that keeps a session alive.
    fn keep(&self, _session: &Self::Session) -> Option<Self::Command> {
        None
    }

    /// The command that ends a session that is a record, and with it all its locks. A connection is closed
    /// without one: see [`Engine::poll_close`](crate::Engine::poll_close).
    fn close(&self, _session: &Self::Session) -> Option<Self::Command> {
        None
    }

    /// The command that reads which of `claims` somebody else has: less work for the server than to
    /// try to take them, and in nobody's way.
    fn look(&self, _claims: Vec<Claim>) -> Option<Self::Command> {
        None
    }

    /// The command that lets the server tell when a lock is taken or may be, instead of being
    /// asked again and again.
    fn wait(&self, _session: &Self::Session, _wait: Wait) -> Option<Self::Command> {
        None
    }

    /// The command that lets the server tell, within `up_to`, which locks were freed, to all that
    /// wait at once. It goes over a connection of its own, [`Lane::NEWS`](crate::Lane::NEWS).
    fn listen(&self, _up_to: Duration) -> Option<Self::Command> {
        None
    }

    /// What such a command was told.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if the reply does not fit.
    fn news(&self, _reply: Self::Reply) -> Result<News, Failure> {
        Err(Failure::Unknown("the reply brings no news".into()))
    }

    /// The command that has the server send [`Notification::Probe`] with `number` to all that listen. It
    /// goes over another connection than the one that listens. Without it, no waiter relies on being told.
    fn probe(&self, _number: u128) -> Option<Self::Command> {
        None
    }
}

/// What the server tells those that wait. Safety never rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// From now on it tells them. It did not tell of locks that were freed before.
    Begun,
    /// The notifications since the last news; none if none came within the time.
    Notified(Vec<Notification>),
}

/// One notification on the connection that listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notification {
    /// This lock was freed.
    Freed(LockName),
    /// Somebody sent this number, to see whether notifications arrive. No two probes have the same.
    Probe(u128),
}

/// How a protocol's sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sessions {
    /// A session is a connection: lost with it, and lost when any answer on it fails to come. The
    /// server carries out its commands in order.
    ///
    /// A connection that waits in the server's queue can do nothing else, so each waiting attempt
    /// gets one of its own, up to `waiting` of them; further ones ask again and again.
    Connections {
        /// How many connections may wait at once.
        waiting: usize,
    },
    /// A session is a record at the server, named in each command. Waiting needs no session.
    Records,
}

/// What is waited for at the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    /// The lock that is wanted.
    pub claim: Claim,
    /// Where in the server's history the last wait for it ended; zero at first. See
    /// [`Verdict::Unchanged`].
    pub since: u64,
    /// The server is to answer within this time.
    pub up_to: Duration,
    /// By the session's age, the server has certainly run for a TTL.
    pub proven: bool,
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// To end a session that is a record.
    Close,
    /// To begin a session.
    Open,
    /// To keep a session alive.
    Keep,
    /// To extend leases: goes before others, holding on beats taking on.
    Renew,
    /// To free leases.
    Release,
    /// To take names.
    Acquire,
    /// To see whether names may be free by now.
    Look,
    /// To wait for a name at the server.
    Wait,
    /// To be told which names were freed.
    Listen,
    /// To see whether notifications arrive.
    Probe,
}

/// Whether a lock excludes everybody or only those who want to exclude others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// At most one holder.
    #[default]
    Exclusive,
    /// Any number of holders, and no exclusive one. Only some protocols have it.
    Shared,
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
}

/// What the server decided about one claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Acquire: the lease is the owner's.
    Granted {
        /// The grant's fence.
        fence: Fence,
    },
    /// Acquire or look: somebody else has it.
    Busy {
        /// Who, when the server told.
        holder: Option<Holder>,
    },
    /// Acquire: nobody has it, but the server does not yet give it away: the session of its last
    /// holder was lost, or the server has just started. Nothing tells when that is over.
    Delayed,
    /// Wait: it is still somebody else's.
    Unchanged {
        /// Up to where in its history the server has looked.
        since: u64,
    },
    /// Look or wait: it may be free by now.
    Free {
        /// By how many others its last holder was passed over before it got it, if the server tells:
        /// whoever was passed over by fewer is not the next.
        passed: Option<u32>,
    },
    /// The session that the command names does not exist (any more). Nothing was changed.
    NoSession,
    /// Renew, release, or a command about a session: done.
    Done,
    /// Release: done, and somebody else waits for the lock; where the server tells, it was told.
    Wanted,
    /// Renew or release: the lease is not this owner's (any more). Nothing was changed.
    NotOurs,
}

/// Who holds a lock, for people to read, and until when, for a waiter to plan by.
///
/// A snapshot: by the time it is read it may be out of date. Nothing that must be safe rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// What the holder said of itself: host, process id and a label of its own.
    pub label: String,
    /// How long it has had the lock, by the server's clock; by the engine's own, if the hold is its own.
    pub held_for: Duration,
    /// When its lease ends unless it is renewed, by the same clock.
    pub expires_in: Duration,
    /// Whether somebody waited for it before us. Only tables know, and an engine of its own attempts.
    pub wanted: bool,
}
