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
/// The engine owns ids, queues, deadlines, retry, renewal, cancellation and loss. A protocol is
/// stateless: it makes commands and reads replies. Each command carries one or more claims, each
/// reply one [`Verdict`] for each of them, in the same order.
pub trait Protocol: Clone + Debug + Eq + Hash {
    /// What is asked of the server, in the protocol's own terms.
    type Command: Clone + Debug + Eq + Hash;
    /// What the server answers.
    type Reply: Clone + Debug + Eq + Hash;

    /// The command that takes every name in `claims` that is free, expired or already its
    /// owner's. Doing it twice is the same as doing it once.
    fn acquire(&self, claims: Vec<Claim>) -> Self::Command;

    /// The command that extends every lease in `leases` that its owner still holds.
    fn renew(&self, leases: Vec<Claim>) -> Self::Command;

    /// The command that frees every lease in `leases` that its owner still holds.
    fn release(&self, leases: Vec<Claim>) -> Self::Command;

    /// What `reply` says about each claim of the command it answers.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if the reply does not fit: a surprise is never a grant.
    fn verdicts(&self, action: Action, reply: Self::Reply) -> Result<Vec<Verdict>, Failure>;
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// To extend leases: goes first, holding on beats taking on.
    Renew,
    /// To free leases.
    Release,
    /// To take names.
    Acquire,
}

impl Action {
    /// All of them, in the order in which commands are made when several are due.
    pub const IN_ORDER: [Action; 3] = [Action::Renew, Action::Release, Action::Acquire];
}

/// One name and the owner that wants, has or gives back its lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The lock's name.
    pub name: LockName,
    /// The hold's owner.
    pub owner: Owner,
}

/// What the server decided about one claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Acquire: the lease is the owner's.
    Granted {
        /// The grant's fence.
        fence: Fence,
    },
    /// Acquire: somebody else has it.
    Busy {
        /// Who, when the server told.
        holder: Option<Holder>,
    },
    /// Renew or release: done.
    Done,
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
    /// How long it has had the lock, by the server's clock.
    pub held_for: Duration,
    /// When its lease ends unless it is renewed, by the server's clock.
    pub expires_in: Duration,
}
