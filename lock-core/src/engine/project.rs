//! The simulation's view of an engine.

use super::{Attempt, ConnectionId, DispatchId, Due, Engine, Entry, InFlight};
use crate::event::LockId;
use crate::name::{LockName, Owner};
use crate::request::SessionName;
use crate::session::Session;
use crate::slot::Slot;
use crate::time::Instant;
use alloc::vec::Vec;

impl DispatchId {
    /// After all others.
    pub(crate) const LAST: Self =
        Self { number: u64::MAX, connection: ConnectionId::NOTIFICATIONS };
}

impl Engine {
    /// The state that tells engines apart for a search through states: without counters, jitter and what is
    /// derived, with times that are waited for as `time` sees them, and times at which something
    /// was sent as `sent_at` does, and tickets as `ticket` does.
    pub(crate) fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        sent_at: &dyn Fn(Instant) -> Instant,
        since: &dyn Fn(u64) -> u64,
        ticket: &dyn Fn(&LockName, u64) -> u64,
    ) -> impl core::hash::Hash {
        let slot = |name: &LockName, slot: &Slot| {
            slot.project(time, sent_at, since, |number| ticket(name, number))
        };
        let attempts = self.attempts.iter();
        let attempts: Vec<_> = attempts
            .map(|(id, attempt)| {
                let Attempt { name, mode, session, part_of, own, .. } = &**attempt;
                let own = own.clone();
                (*id, name.clone(), *mode, *session, *part_of, own, slot(name, &attempt.slot))
            })
            .collect();
        let sessions = self.sessions.iter();
        let sessions: Vec<_> = sessions
            .map(|(id, session)| {
                let (lease, indexed) = (session.lease.project(time, sent_at), Entry::default());
                // Only what it proves counts.
                let proves = |at| time(self.config.timing.uptime_is_proven(at));
                let opened_at = session.opened_at.map(proves);
                (*id, Session { lease, indexed, opened_at, ..session.clone() })
            })
            .collect();
        let in_flight = self.in_flight.iter();
        let in_flight: Vec<_> = in_flight
            .map(|((connection, _), request)| {
                (*connection, InFlight { sent: sent_at(request.sent), ..request.clone() })
            })
            .collect();
        let news =
            (self.subscription.project(time, sent_at), self.last_attempts.project(time, ticket));
        let counters = (self.last_id, self.last_session, self.home, self.closing, news);
        let semaphores = self.semaphores.iter();
        let semaphores: Vec<_> = semaphores.map(|(id, one)| (*id, one.project(time))).collect();
        let several = self.several.iter();
        let several: Vec<_> = several.map(|(id, one)| (*id, one.project(time, since))).collect();
        let counters = (counters, self.idle_waiter, (semaphores, several));
        (counters, attempts, sessions, self.queues.clone(), in_flight)
    }

    /// Whether the answer to a request means anything to anybody any more.
    pub(crate) fn listens_for(&self, id: DispatchId) -> bool {
        self.in_flight.get(&(id.connection, id.number)).is_some_and(|request| match &request.due {
            Due::Open(id) | Due::KeepAlive(id) | Due::Close(id) => self.sessions.contains_key(id),
            _ => !request.void,
        })
    }

    /// Whether an attempt of that owner is not yet settled.
    pub(crate) fn knows(&self, owner: Owner) -> bool {
        self.attempts.values().any(|attempt| attempt.slot.owner == owner)
    }

    /// The ticket of the attempt of that owner, if it waits in a table's line and was told of one.
    pub(crate) fn ticket_of(&self, owner: Owner) -> Option<u64> {
        let mut attempts = self.attempts.values();
        attempts.find(|attempt| attempt.slot.owner == owner)?.slot.contention.ticket()
    }

    /// The attempt of that owner: of a part, the whole.
    pub(crate) fn attempt_of(&self, owner: Owner) -> Option<LockId> {
        let mut attempts = self.attempts.iter();
        let (id, attempt) = attempts.find(|(_, attempt)| attempt.slot.owner == owner)?;
        Some(attempt.part_of.unwrap_or(*id))
    }

    /// Whether nothing is left of an attempt, nor of its parts.
    pub(crate) fn is_settled(&self, id: LockId) -> bool {
        let mut attempts = self.attempts.iter();
        !attempts.any(|(own, attempt)| *own == id || attempt.part_of == Some(id))
    }

    /// The sessions that are kept, as the server calls them.
    pub(crate) fn kept_sessions(&self) -> impl Iterator<Item = (ConnectionId, &SessionName)> {
        let kept = self.sessions.iter().filter(|(_, session)| session.lease.is_wanted());
        kept.map(|(id, session)| (ConnectionId(id.number()), &session.name))
    }
}
