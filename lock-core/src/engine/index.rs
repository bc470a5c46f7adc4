//! Which slot is to be looked at when, and what is due on which connection: derived from the slots, so that
//! no call has to look at all of them.

use super::{Attempt, ConnectionId, Engine};
use crate::capabilities::Sessions;
use crate::event::LockId;
use crate::request::Action;
use crate::session::SessionId;
use crate::time::Instant;

/// The owner of a timer. Sessions come first: their loss is the loss of their attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TimerKey {
    Session(SessionId),
    Attempt(LockId),
    Subscription,
    /// A wait or a hold, which may last long.
    Span(LockId),
    FirstConnect,
}

/// The order of what is due: over which connection, for what, in which session, and since when. Of renewals, it is not since
/// when, but until when: if there is no time for all, those that would be lost first go first, and last those that were refused.
pub(super) type Rank = (ConnectionId, Action, Option<SessionId>, Instant);

/// The indexed facts about a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    wake: Option<Instant>,
    /// It is a renewal that it wakes for.
    renews: bool,
    due: Option<Rank>,
    denied: bool,
    /// It is to be notified.
    near: bool,
    /// It waits in the queue, and has not been told who has the lock.
    unaware: bool,
    /// The session that it needs.
    needs: Option<SessionId>,
}

impl Engine {
    /// Keeps true what is indexed of an attempt: nothing, once it has ended. The session that it is
    /// in and does not need.
    pub(super) fn index(&mut self, now: Instant, id: LockId) -> Option<SessionId> {
        let mut attempt = self.attempts.get_mut(&id)?;
        let mut due = None;
        if let Some((action, at)) = attempt.slot.due(now) {
            let part_of = attempt.part_of;
            let over = match action {
                Action::Acquire if self.is_held_back(id, part_of) => None,
                _ if self.capabilities.sessions.is_some() => self.assign(now, id, action),
                _ => Some((wait_connection(id, action), action, None)),
            };
            due = over.map(|(connection, action, session)| (connection, action, session, at));
            attempt = self.attempts.get_mut(&id)?;
        }
        let Attempt { indexed, session, slot, .. } = &mut **attempt;
        let session = *session;
        let needs = session.filter(|_| slot.needs_session());
        let wake = slot.wake(now, self.capabilities.sessions.is_some());
        let (renews, denied) = (slot.renews(now), slot.is_denied());
        let (unaware, near) = (slot.is_unaware(), slot.is_to_be_notified());
        let new = Entry { wake, renews, due, denied, near, unaware, needs };
        let old = core::mem::replace(indexed, new);
        if old.due != due {
            self.set_due(id, old.due, due);
        }
        if denied && !old.denied {
            self.denied.insert(id);
        }
        if old.denied && !denied {
            self.denied.remove(&id);
        }
        if near && !old.near {
            self.near.insert(id);
            self.listen(now);
        }
        if old.near && !near {
            self.near.remove(&id);
        }
        self.unaware += usize::from(unaware);
        self.unaware -= usize::from(old.unaware);
        if old.needs != needs {
            if let Some(session) = old.needs.and_then(|id| self.sessions.get_mut(&id)) {
                session.needed -= 1;
            }
            if let Some(session) = needs.and_then(|id| self.sessions.get_mut(&id)) {
                session.needed += 1;
            }
        }
        let at = |entry: &Entry| entry.wake.map(|at| (at, entry.renews));
        if at(&old) != at(&new) {
            self.set_timer(TimerKey::Attempt(id), at(&new));
            self.forget_timer(TimerKey::Attempt(id), at(&old));
        }
        session.filter(|_| needs.is_none())
    }

    pub(super) fn index_session(&mut self, now: Instant, id: SessionId) {
        let connection = self.session_connection(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.lease.closes() {
            self.closes.insert(connection);
        }
        let due = session.lease.due(now);
        let due = due.map(|action| (connection, action, Some(id), Instant::default()));
        let new = Entry { wake: session.lease.wake(now), due, ..Entry::default() };
        let old = core::mem::replace(&mut session.indexed, new);
        if old.due != due {
            self.set_due(LockId(0), old.due, due);
        }
        if old.wake != new.wake {
            self.set_timer(TimerKey::Session(id), new.wake.map(|at| (at, false)));
            self.forget_timer(TimerKey::Session(id), old.wake.map(|at| (at, false)));
        }
    }

    fn set_timer(&mut self, who: TimerKey, timer: Option<(Instant, bool)>) {
        match (timer, who) {
            (Some((at, true)), TimerKey::Attempt(id)) => _ = self.renewals.insert((at, id)),
            (Some((at, _)), who) => _ = self.timers.insert((at, who)),
            (None, _) => {}
        }
    }

    fn forget_timer(&mut self, who: TimerKey, timer: Option<(Instant, bool)>) {
        match (timer, who) {
            (Some((at, true)), TimerKey::Attempt(id)) => _ = self.renewals.remove(&(at, id)),
            (Some((at, _)), who) => _ = self.timers.remove(&(at, who)),
            (None, _) => {}
        }
    }

    /// The first timer.
    pub(super) fn first_timer(&self) -> Option<(Instant, TimerKey)> {
        match (self.timers.first(), self.renewals.first()) {
            (Some(timer), Some((at, _))) if timer.0 <= *at => Some(*timer),
            (_, Some((at, id))) => Some((*at, TimerKey::Attempt(*id))),
            (timer, None) => timer.copied(),
        }
    }

    fn set_due(&mut self, id: LockId, old: Option<Rank>, new: Option<Rank>) {
        if let Some(rank) = new {
            self.due.insert((rank, id));
            self.connection_changed(rank.0);
        }
        if let Some(rank) = old {
            self.due.remove(&(rank, id));
            self.connection_changed(rank.0);
        }
    }

    /// Something has become due on a connection or no longer is, or a request has left or come back.
    pub(super) fn connection_changed(&mut self, connection: ConnectionId) {
        if connection != ConnectionId::MAIN {
            self.index_connection(connection);
        }
    }

    fn index_connection(&mut self, connection: ConnectionId) {
        if self.first_on(connection).is_some() {
            self.ready.insert(connection);
        } else {
            self.ready.remove(&connection);
        }
    }

    /// Over which connection claims of a session go. A connection waits itself.
    pub(super) fn claims_connection(
        &self,
        id: LockId,
        action: Action,
        session: Option<SessionId>,
    ) -> ConnectionId {
        match (session, self.capabilities.sessions) {
            (Some(session), Some(Sessions::Connections { .. })) => ConnectionId(session.number()),
            _ => wait_connection(id, action),
        }
    }

    fn session_connection(&self, id: SessionId) -> ConnectionId {
        match self.capabilities.sessions {
            Some(Sessions::Connections { .. }) => ConnectionId(id.number()),
            Some(Sessions::Records) | None => ConnectionId::MAIN,
        }
    }

    pub(super) fn is_free(&self, connection: ConnectionId) -> bool {
        let most = self.config.in_flight;
        // As it is in most questions.
        if self.in_flight.is_empty() {
            return true;
        }
        self.in_flight.range((connection, 0)..=(connection, u64::MAX)).take(most).count() < most
    }
}

/// The connection of a request if no session is a connection: each attempt that waits has one of its own.
fn wait_connection(id: LockId, action: Action) -> ConnectionId {
    if action == Action::Wait { ConnectionId(id.0) } else { ConnectionId::MAIN }
}
