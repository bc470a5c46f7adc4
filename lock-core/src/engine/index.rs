//! Which slot is to be looked at when, and what is due on which lane: derived from the slots, so that
//! no call has to look at all of them.

use super::{Attempt, Engine, Lane};
use crate::capabilities::Sessions;
use crate::event::LockId;
use crate::request::{Action, Mode};
use crate::session::SessionId;
use crate::time::Instant;

/// The owner of a timer. Sessions come first: their loss is the loss of their attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TimerKey {
    Session(SessionId),
    Attempt(LockId),
    Subscription,
}

/// The indexed facts about a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    wake: Option<Instant>,
    /// It is a renewal that it wakes for.
    renews: bool,
    due: Option<(Lane, Action, Option<SessionId>)>,
    denied: bool,
    /// It wants to share its name, or shares it.
    shares: bool,
    /// It waits in the queue, and has not been told who has the lock.
    unaware: bool,
    /// The session that it needs.
    needs: Option<SessionId>,
}

impl Engine {
    /// Keeps true what is indexed of an attempt: nothing, once it has ended. The session that it is
    /// in now.
    pub(super) fn index(&mut self, now: Instant, id: LockId) -> Option<SessionId> {
        let mut attempt = self.attempts.get_mut(&id)?;
        let due = match attempt.slot.due(now) {
            Some(action) if self.capabilities.sessions.is_some() => {
                let due = self.assign(now, id, action);
                attempt = self.attempts.get_mut(&id)?;
                due
            }
            action => action.map(|action| (wait_lane(id, action), action, None)),
        };
        let Attempt { indexed, session, slot, name, mode, .. } = &mut **attempt;
        let session = *session;
        let shares = *mode == Mode::Shared && slot.wanted();
        let needs = session.filter(|_| slot.needs_session());
        let (wake, renews, denied) = (slot.wake(now), slot.renews(now), slot.is_denied());
        let unaware = slot.is_unaware();
        let new = Entry { wake, renews, due, denied, shares, unaware, needs };
        let old = core::mem::replace(indexed, new);
        let name = (old.shares != shares).then(|| name.clone());
        if old.due != due {
            self.set_due(id, old.due, due);
        }
        if denied && !old.denied {
            self.denied.insert(id);
            self.listen(now);
        }
        if old.denied && !denied {
            self.denied.remove(&id);
        }
        self.unaware += usize::from(unaware);
        self.unaware -= usize::from(old.unaware);
        if let Some(name) = name {
            self.count_sharer(name, shares);
        }
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
        session
    }

    pub(super) fn index_session(&mut self, now: Instant, id: SessionId) {
        let lane = self.session_lane(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.lease.closes() {
            self.closes.insert(lane);
        }
        let due = session.lease.due(now).map(|action| (lane, action, Some(id)));
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

    fn set_due(
        &mut self,
        id: LockId,
        old: Option<(Lane, Action, Option<SessionId>)>,
        new: Option<(Lane, Action, Option<SessionId>)>,
    ) {
        if let Some((lane, action, session)) = new {
            self.due.insert((lane, action, session, id));
            self.lane_changed(lane);
        }
        if let Some((lane, action, session)) = old {
            self.due.remove(&(lane, action, session, id));
            self.lane_changed(lane);
        }
    }

    /// Something has become due on a lane or no longer is, or a request has left or come back.
    pub(super) fn lane_changed(&mut self, lane: Lane) {
        if lane != Lane::HOME {
            self.index_lane(lane);
        }
    }

    fn index_lane(&mut self, lane: Lane) {
        if self.first_on(lane).is_some() {
            self.ready.insert(lane);
        } else {
            self.ready.remove(&lane);
        }
    }

    /// Over which connection claims of a session go. A connection waits itself.
    pub(super) fn claims_lane(
        &self,
        id: LockId,
        action: Action,
        session: Option<SessionId>,
    ) -> Lane {
        match (session, self.capabilities.sessions) {
            (Some(session), Some(Sessions::Connections { .. })) => Lane(session.number()),
            _ => wait_lane(id, action),
        }
    }

    fn session_lane(&self, id: SessionId) -> Lane {
        match self.capabilities.sessions {
            Some(Sessions::Connections { .. }) => Lane(id.number()),
            Some(Sessions::Records) | None => Lane::HOME,
        }
    }

    pub(super) fn is_free(&self, lane: Lane) -> bool {
        let most = self.config.in_flight;
        // As it is in most questions.
        if self.in_flight.is_empty() {
            return true;
        }
        self.in_flight.range((lane, 0)..=(lane, u64::MAX)).take(most).count() < most
    }
}

/// The lane of a request if no session is a connection: each attempt waits on a lane of its own.
fn wait_lane(id: LockId, action: Action) -> Lane {
    if action == Action::Wait { Lane(id.0) } else { Lane::HOME }
}
