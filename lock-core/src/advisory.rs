//! The advisory protocol: a lock is a server's own lock (`pg_advisory_lock`, `GET_LOCK`), and lives
//! as long as the connection that took it.
//!
//! Such a lock has no TTL. It is made a lease: the server is told to end a connection that is idle
//! for T, the client asks something every T/3, and counts on the connection only until
//! `c0 + k·T` of the last question that was answered. What the theorem in
//! [`Timing`](crate::Timing) says of a row's expiry then holds for the connection.
//!
//! ```text
//!   open     connect, set the idle limit to T           -> a session: one lease for all its locks
//!   keep     ask something, see that it is still the same connection
//!   try      take what is free, on the home connection  -> granted with a fence, or busy
//!   wait     in the server's queue, for a time; on a connection of its own
//!   unlock   free it
//!   (close)  drop the connection; whatever it has or is about to get goes with it
//! ```
//!
//! # What goes wrong with advisory locks, and where it is handled
//!
//! | | handled by |
//! |---|---|
//! | a connection is replaced behind one's back (reconnect, pooler) and its locks are gone | a session is never reopened under the same number; [`Command::Keep`] must find the connection it was opened on, or answers `Kept(false)`: lost at once |
//! | the server gives a lock twice to one connection | rivals for one name queue in the engine, also while the first is still releasing |
//! | a failed or cancelled request may have taken the lock | [`Sessions::Connections`]: any answer that fails to come ends the session, and with it the lock |
//! | `NULL` from `GET_LOCK`, an error, a timeout are three things | the codec: only `1` is [`Tried::Granted`]; a reply that does not fit is a failure, never a grant |
//! | an endless wait on a connection that died unseen | waits come in slices ([`Wait::up_to`](crate::Wait)), each with a deadline |
//! | a connection dies unseen; the holder goes on | the lease above: lost at the deadline, which is before the server frees the lock |
//! | one connection for all: when it breaks, everything is lost | each attempt is told so, once |
//! | blocking the shared connection by a wait, or by the monitor | the home connection only ever *tries*; waits have connections of their own, keeping is one short question |
//! | a waiter that was cancelled is granted the lock later | its connection is closed at once, not when the wait ends |
//! | the server restarts, and has forgotten every lock while holders still count on theirs | nothing is granted in the first T after a start: [`Tried::Starting`] |
//! | the server's clock is set back, and its start lies in the future | a connection that was open for 6/5 of T, by the client's clock, proves that the server has run for T |
//!
//! Not covered: an administrator who ends the holder's connection at the server. The lock is free
//! then, and the holder believes in it until its next question, T/3 at most.

use crate::error::Failure;
use crate::fence::Fence;
use crate::name::Owner;
use crate::protocol::{Action, Claim, Holder, Protocol, Sessions, Verdict, Wait};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// The advisory protocol's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Advisory {
    ttl: Duration,
    waiting: usize,
    holder: Option<Arc<str>>,
}

impl Advisory {
    /// How many connections may wait at once, when nothing else is said.
    pub const WAITING: usize = 16;

    /// Connections that the server ends when they are idle for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, waiting: Self::WAITING, holder: None }
    }

    /// The same with another limit for connections that wait. Attempts beyond it, and all for
    /// zero, ask again and again instead.
    #[must_use]
    pub fn with_waiting(self, waiting: usize) -> Self {
        Self { waiting, ..self }
    }

    /// The same with a text about its holds, for people who wait for them in the same process: the server
    /// does not tell anybody who has a lock.
    #[must_use]
    pub fn labelled(self, holder: &str) -> Self {
        Self { holder: Some(holder.into()), ..self }
    }

    /// For how long the server must have run by its own clock. If that clock was set back, the start
    /// lies in its future, for however long. A connection that has been open for longer by the client's
    /// clock proves the same, and then the server's clock is not asked.
    fn grace(&self, proven: bool) -> Duration {
        if proven { Duration::ZERO } else { self.ttl }
    }
}

/// What is asked of a server with advisory locks, on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Connect.
    Open {
        /// The server is to end the connection when it is idle for so long.
        ttl: Duration,
    },
    /// Ask something, and find out that it is still the same connection.
    Keep,
    /// Take what is free; do not wait.
    Try {
        /// Sorted by name, each name once.
        claims: Vec<Claim>,
        /// Grant nothing before the server has run for so long. Zero if it is known that it has.
        grace: Duration,
    },
    /// Wait in the server's queue.
    Wait {
        /// What is wanted.
        claim: Claim,
        /// Answer within this time.
        up_to: Duration,
        /// Grant nothing before the server has run for so long. Zero if it is known that it has.
        grace: Duration,
    },
    /// Free them.
    Unlock {
        /// Sorted by name.
        leases: Vec<Claim>,
    },
}

impl Command {
    /// What the command is for.
    pub fn action(&self) -> Action {
        match self {
            Command::Open { .. } => Action::Open,
            Command::Keep => Action::Keep,
            Command::Try { .. } => Action::Acquire,
            Command::Wait { .. } => Action::Wait,
            Command::Unlock { .. } => Action::Release,
        }
    }

    /// What it is about.
    pub fn claims(&self) -> &[Claim] {
        match self {
            Command::Open { .. } | Command::Keep => &[],
            Command::Try { claims, .. } => claims,
            Command::Wait { claim, .. } => core::slice::from_ref(claim),
            Command::Unlock { leases } => leases,
        }
    }
}

/// What such a server answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// To [`Command::Open`].
    Opened,
    /// To [`Command::Keep`]: whether it is the connection that was opened.
    Kept(bool),
    /// To [`Command::Try`], an entry for each claim; to [`Command::Wait`], one.
    Tried(Vec<Tried>),
    /// To [`Command::Unlock`], an entry for each lease: whether the connection had it.
    Unlocked(Vec<bool>),
}

/// What became of one claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tried {
    /// It is the connection's.
    Granted(Fence),
    /// It is another connection's, after the wait if there was one.
    Busy(Option<Holder>),
    /// The server has not run for long enough.
    Starting,
}

impl Protocol for Advisory {
    type Command = Command;
    type Reply = Reply;
    type Session = ();

    fn label(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    fn sessions(&self) -> Option<Sessions> {
        Some(Sessions::Connections { waiting: self.waiting })
    }

    fn shares(&self) -> bool {
        true
    }

    fn again(&self) -> Action {
        Action::Wait
    }

    fn open(&self, _: Owner) -> Option<Command> {
        Some(Command::Open { ttl: self.ttl })
    }

    fn keep(&self, _: &()) -> Option<Command> {
        Some(Command::Keep)
    }

    fn acquire(&self, _: &(), claims: Vec<Claim>, proven: bool) -> Command {
        Command::Try { claims, grace: self.grace(proven) }
    }

    fn wait(&self, _: &(), wait: Wait) -> Option<Command> {
        let grace = self.grace(wait.proven);
        Some(Command::Wait { claim: wait.claim, up_to: wait.up_to, grace })
    }

    fn renew(&self, _: Vec<Claim>) -> Option<Command> {
        None
    }

    fn release(&self, _: &(), leases: Vec<Claim>, _: u32) -> Command {
        Command::Unlock { leases }
    }

    fn verdicts(&self, action: Action, reply: Reply) -> Result<Vec<Verdict>, Failure> {
        let done = |ours| if ours { Verdict::Done } else { Verdict::NotOurs };
        match (action, reply) {
            (Action::Open, Reply::Opened) => Ok([Verdict::Done].into()),
            (Action::Keep, Reply::Kept(same)) => Ok([done(same)].into()),
            (Action::Acquire | Action::Wait, Reply::Tried(entries)) => Ok(entries
                .into_iter()
                .map(|entry| match entry {
                    Tried::Granted(fence) => Verdict::Granted { fence },
                    Tried::Busy(holder) => Verdict::Busy { holder },
                    Tried::Starting => Verdict::Delayed,
                })
                .collect()),
            (Action::Release, Reply::Unlocked(entries)) => {
                Ok(entries.into_iter().map(done).collect())
            }
            _ => Err(Failure::Unknown("the reply does not belong to the command".to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_the_wrong_kind_is_never_a_grant() {
        let advisory = Advisory::new(Duration::MAX);
        let granted = || Reply::Tried([Tried::Granted(Fence::new(1))].into());
        for action in [Action::Open, Action::Keep, Action::Release] {
            assert!(matches!(advisory.verdicts(action, granted()), Err(Failure::Unknown(_))));
        }
        for reply in [Reply::Kept(true), Reply::Opened, Reply::Unlocked([true].into())] {
            for action in [Action::Acquire, Action::Wait] {
                let verdicts = advisory.verdicts(action, reply.clone());
                assert!(matches!(verdicts, Err(Failure::Unknown(_))));
            }
        }
    }

    #[test]
    fn what_was_not_had_or_kept_is_not_ours() {
        let advisory = Advisory::new(Duration::MAX);
        let unlocked = Reply::Unlocked([true, false].into());
        let verdicts = advisory.verdicts(Action::Release, unlocked);
        assert_eq!(verdicts, Ok([Verdict::Done, Verdict::NotOurs].into()));
        let kept = advisory.verdicts(Action::Keep, Reply::Kept(false));
        assert_eq!(kept, Ok([Verdict::NotOurs].into()));
        assert!(advisory.shares() && advisory.again() == Action::Wait);
    }
}
