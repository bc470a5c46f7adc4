//! A session: the lease that the locks of a connection, or of a record at the server, live by.
//!
//! How it is opened, kept and closed is in `lease`; what becomes of the attempts in it, in
//! `engine::sessions`.

use crate::engine::Entry;
use crate::event::LockId;
use crate::lease::Lease;
use crate::request::SessionName;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::BTreeSet;
use core::num::NonZeroU64;

/// Names a session, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(NonZeroU64);

impl SessionId {
    /// The session with that number; 0 is none.
    pub(crate) fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The one that comes after so many.
    pub(crate) fn after(sessions: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(sessions))
    }

    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) lease: Lease,
    /// What the server calls it, once it is open.
    pub(crate) name: SessionName,
    /// When it was opened, where it is a connection: the server has run since then.
    pub(crate) opened_at: Option<Instant>,
    /// The attempts whose claims go to it.
    pub(crate) attempts: BTreeSet<LockId>,
    /// How many of them need it to live. Derived from their slots; see `engine::index`.
    pub(crate) needed: usize,
    /// It is for one attempt that waits at the server.
    pub(crate) waits: bool,
    /// It takes no new attempts: the server may have more in it than is known.
    pub(crate) retired: bool,
    pub(crate) indexed: Entry,
}

impl Session {
    /// Whether the server has certainly run for the longest TTL, by its own clock and by any other.
    pub(crate) fn is_proven(&self, timing: &Timing, now: Instant) -> bool {
        self.opened_at.is_some_and(|at| timing.uptime_is_proven(at) <= now)
    }
}
