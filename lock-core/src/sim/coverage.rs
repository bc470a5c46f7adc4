//! What a search has seen: so that no check is passed because nothing happened.

use alloc::vec::Vec;
use core::fmt;

/// Something that should happen in some schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Sometimes {
    /// Every client was granted a lock in one schedule.
    AllAcquired,
    /// A claim was denied.
    Denied,
    /// An attempt waited for another of its own client.
    LocalRival,
    /// A lease that had expired was taken over.
    TakenOver,
    /// A lease was renewed.
    Renewed,
    /// A lease was held beyond its first TTL.
    RenewedPastTtl,
    /// A renewal failed and the lock was still held.
    RenewalFailed,
    /// A lock was lost at its deadline.
    LostByDeadline,
    /// A lock was lost because the server said so.
    LostByReply,
    /// A client was told of a loss although it was asleep when it happened.
    LostAsleep,
    /// A request was carried out after its client gave it up.
    GhostExecuted,
    /// Such a request took a lock.
    GhostTook,
    /// A request was carried out twice.
    DuplicateExecuted,
    /// A request was carried out by a time that it had read before another overtook it.
    StaleExecuted,
    /// A grant arrived too late to count.
    LateGrantRefused,
    /// A grant arrived for an attempt that was no longer wanted.
    AbandonedGranted,
    /// A request failed without an answer, and the attempt was granted later.
    GrantedAfterTrouble,
    /// A wait ran out.
    TimedOut,
    /// An attempt that would not wait ended.
    Refused,
    /// A release was confirmed.
    Freed,
    /// A release came too late.
    NotOurs,
    /// A release was never confirmed.
    Unconfirmed,
    /// A client died holding a lock.
    CrashedHolding,
    /// The server died while somebody held a lock.
    ServerCrashed,
    /// A request waited at the server.
    WaitedAtServer,
    /// A lock was lost with its connection.
    LostByDisconnect,
    /// Two held a lock at once, sharing it.
    Shared,
    /// A claim was denied because a session was lost, or the server has just started.
    Delayed,
    /// A client was told that a lock was freed.
    Told,
    /// A client that waited saw that a lock may be free.
    FoundFree,
    /// All permits of a semaphore were held at once.
    AllPermitsHeld,
    /// Several locks were lost while the server still had some of their leases.
    LostOneOfSeveral,
    /// A claim was denied because the lock is kept after its release.
    DeniedWhileKept,
}

impl Sometimes {
    /// All of them.
    pub const ALL: [Sometimes; 33] = [
        Sometimes::AllAcquired,
        Sometimes::Denied,
        Sometimes::LocalRival,
        Sometimes::TakenOver,
        Sometimes::Renewed,
        Sometimes::RenewedPastTtl,
        Sometimes::RenewalFailed,
        Sometimes::LostByDeadline,
        Sometimes::LostByReply,
        Sometimes::LostAsleep,
        Sometimes::GhostExecuted,
        Sometimes::GhostTook,
        Sometimes::DuplicateExecuted,
        Sometimes::StaleExecuted,
        Sometimes::LateGrantRefused,
        Sometimes::AbandonedGranted,
        Sometimes::GrantedAfterTrouble,
        Sometimes::TimedOut,
        Sometimes::Refused,
        Sometimes::Freed,
        Sometimes::NotOurs,
        Sometimes::Unconfirmed,
        Sometimes::CrashedHolding,
        Sometimes::ServerCrashed,
        Sometimes::WaitedAtServer,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Delayed,
        Sometimes::Told,
        Sometimes::FoundFree,
        Sometimes::AllPermitsHeld,
        Sometimes::LostOneOfSeveral,
        Sometimes::DeniedWhileKept,
    ];
}

/// A set of what was seen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Coverage(u64);

impl Coverage {
    /// Notes that something was seen.
    pub fn insert(&mut self, sometimes: Sometimes) {
        self.0 |= 1 << sometimes as u8;
    }

    /// Notes all that another search saw.
    pub fn merge(&mut self, other: Coverage) {
        self.0 |= other.0;
    }

    /// Whether it was seen.
    pub fn contains(&self, sometimes: Sometimes) -> bool {
        self.0 & 1 << sometimes as u8 != 0
    }

    /// What was not seen.
    pub fn missing(&self) -> Vec<Sometimes> {
        Sometimes::ALL.into_iter().filter(|one| !self.contains(*one)).collect()
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Sometimes::ALL.iter().filter(|one| self.contains(**one))).finish()
    }
}
