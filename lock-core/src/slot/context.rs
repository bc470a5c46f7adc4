//! The surroundings that one step of a slot may read and write.

use super::sight::{Known, Sight};
use crate::contention::Before;
use crate::event::{Event, LockId};
use crate::rng::Rng;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::VecDeque;
use core::time::Duration;
/// The surroundings of a step: it may read and write these.
pub(crate) struct Context<'a> {
    pub(crate) id: LockId,
    pub(crate) now: Instant,
    pub(crate) timing: &'a Timing,
    /// Its session, if there are sessions.
    pub(crate) session: Option<SessionView>,
    /// Since when the server tells what was freed, if it does.
    pub(crate) notified_since: Option<Instant>,
    /// What an attempt ahead in the same queue knows of the lock.
    pub(crate) ahead: Option<Sight>,
    /// The memory of the last attempts of this process for the same lock.
    pub(crate) before: Before,
    /// A connection is ready to wait in the server's queue.
    pub(crate) may_queue: bool,
    pub(crate) round_trip: Duration,
    pub(crate) rng: &'a mut Rng,
    pub(crate) events: &'a mut VecDeque<Event>,
}

/// An attempt's view of its session.
#[derive(Clone, Copy)]
pub(crate) struct SessionView {
    /// Until when the session is vouched for, if it is.
    pub(crate) deadline: Option<Instant>,
    /// It is a record at the server: it lives on when a request is not answered.
    pub(crate) record: bool,
}

impl Context<'_> {
    /// Until when a grant counts whose request was sent at `sent`.
    pub(super) fn deadline(&self, sent: Instant) -> Instant {
        match self.session {
            Some(session) => session.deadline.unwrap_or_default(),
            None => self.timing.deadline(sent),
        }
    }

    /// When a lease granted or renewed by a request sent at `sent` is to be renewed.
    pub(super) fn renew_at(&self, sent: Instant) -> Instant {
        if self.session.is_some() { Instant::END } else { sent.after(self.timing.renew_every()) }
    }

    /// Whether somebody is known to have the lock, to an attempt ahead in the same queue.
    pub(super) fn is_held(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.known > Known::Nothing)
    }

    /// Whether a lock that counts until `deadline` is to be renewed by now. A grant is not handed on so late:
    /// its holder would have less time to do something about a loss than any other.
    pub(super) fn is_late(&self, deadline: Instant) -> bool {
        deadline < Instant::END && deadline.since(self.now) <= self.timing.due()
    }

    /// Until when the server may hold what it may have granted by now: in a session, until that
    /// ends.
    pub(super) fn exposure(&self) -> Instant {
        if self.session.is_some() { Instant::END } else { self.timing.surely_over(self.now) }
    }

    pub(super) fn in_record(&self) -> bool {
        self.session.is_some_and(|session| session.record)
    }

    /// Whether the server has a queue, so that whoever waits there is granted the lock in turn.
    pub(crate) fn queues_at_server(&self) -> bool {
        self.session.is_some_and(|session| !session.record)
    }
}
