//! Which slot is to be looked at when, and which command is due: derived from the slots, so that
//! no call has to look at all of them.

use super::{About, Attempt, Engine, Lane};
use crate::event::LockId;
use crate::protocol::{Action, Mode, Protocol, Sessions};
use crate::session::SessionId;
use crate::time::Instant;
use alloc::vec::Vec;

/// What a timer is for. Sessions first: what they lose, their attempts have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    Session(SessionId),
    Attempt(LockId),
    Ear,
}

/// What is indexed of a slot.
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

impl<P: Protocol> Engine<P> {
    /// Keeps true what is indexed of an attempt: nothing, once it has ended. The session that it is
    /// in now.
    pub(super) fn index(&mut self, now: Instant, id: LockId) -> Option<SessionId> {
        let mut attempt = self.attempts.get_mut(&id)?;
        let due = match attempt.slot.due(now) {
            Some(action) if self.protocol.sessions().is_some() => {
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
            self.set_timer(Who::Attempt(id), at(&new));
            self.forget_timer(Who::Attempt(id), at(&old));
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
            self.set_timer(Who::Session(id), new.wake.map(|at| (at, false)));
            self.forget_timer(Who::Session(id), old.wake.map(|at| (at, false)));
        }
    }

    fn set_timer(&mut self, who: Who, timer: Option<(Instant, bool)>) {
        match (timer, who) {
            (Some((at, true)), Who::Attempt(id)) => _ = self.renewals.insert((at, id)),
            (Some((at, _)), who) => _ = self.timers.insert((at, who)),
            (None, _) => {}
        }
    }

    fn forget_timer(&mut self, who: Who, timer: Option<(Instant, bool)>) {
        match (timer, who) {
            (Some((at, true)), Who::Attempt(id)) => _ = self.renewals.remove(&(at, id)),
            (Some((at, _)), who) => _ = self.timers.remove(&(at, who)),
            (None, _) => {}
        }
    }

    /// What is to be looked at first, and when.
    pub(super) fn first_timer(&self) -> Option<(Instant, Who)> {
        match (self.timers.first(), self.renewals.first()) {
            (Some(timer), Some((at, _))) if timer.0 <= *at => Some(*timer),
            (_, Some((at, id))) => Some((*at, Who::Attempt(*id))),
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

    /// Something has become due on a lane or no longer is, or a command has left or come back.
    pub(super) fn lane_changed(&mut self, lane: Lane) {
        if lane != Lane::HOME {
            self.index_lane(lane);
        }
    }

    fn index_lane(&mut self, lane: Lane) {
        if self.first_due(lane).is_some() {
            self.ready.insert(lane);
        } else {
            self.ready.remove(&lane);
        }
    }

    /// What the next command is for, in which session, and over which lane it goes.
    pub(super) fn next_due(&self) -> Option<(Lane, Action, Option<SessionId>)> {
        let home = self.first_due(Lane::HOME);
        // A probe takes a moment, once in a quarter of a TTL: it comes before all but renewals.
        let renewal = home.filter(|(_, action, _)| *action <= Action::Renew);
        let probe = || self.is_probe_due().then_some((Lane::HOME, Action::Probe, None));
        let other = || self.first_due(*self.ready.first()?);
        let news = || Some((Lane::NEWS, self.ear.due()?, None));
        renewal.or_else(probe).or(home).or_else(other).or_else(news)
    }

    /// What is due first on a lane, if it may leave. To end a session, nothing has to be waited for.
    fn first_due(&self, lane: Lane) -> Option<(Lane, Action, Option<SessionId>)> {
        if self.due.is_empty() {
            return None;
        }
        let least = (lane, Action::Close, None, LockId(0));
        let (at, action, session, _) = *self.due.range(least..).next()?;
        (at == lane && (action == Action::Close || self.is_free(lane)))
            .then_some((lane, action, session))
    }

    /// What a command is about that is due.
    pub(super) fn about(
        &self,
        now: Instant,
        lane: Lane,
        action: Action,
        session: Option<SessionId>,
    ) -> About {
        match (session, action) {
            (Some(id), Action::Open | Action::Keep | Action::Close) => About::Session(id),
            (_, Action::Listen | Action::Probe) => About::News,
            _ => About::Claims(session, self.batch(now, lane, action, session)),
        }
    }

    /// The attempts that the next command is about, sorted by name.
    fn batch(
        &self,
        now: Instant,
        lane: Lane,
        action: Action,
        session: Option<SessionId>,
    ) -> Vec<LockId> {
        let mut most = match action {
            Action::Wait => 1,
            _ => self.config.batch.min(self.protocol.batch()).max(1),
        };
        let (first, last) = (LockId(0), LockId(u64::MAX));
        let due = (lane, action, session, first)..=(lane, action, session, last);
        let due = self.due.range(due).map(|(_, _, _, id)| *id);
        let early = || self.renewals.range(..=(now.after(self.config.timing.renew_early()), last));
        let early = (action == Action::Renew).then(early);
        let mut ids = Vec::with_capacity(1);
        for id in due.chain(early.into_iter().flatten().map(|(_, id)| *id)) {
            // Nobody is carried along in a command about more than it may be in.
            most = most.min(self.attempts[&id].slot.among);
            if ids.len() >= most {
                break;
            }
            ids.push(id);
        }
        if ids.len() < 2 {
            return ids;
        }
        let name = |id: &LockId| &self.attempts[id].name;
        ids.sort_by(|a, b| (name(a), a).cmp(&(name(b), b)));
        // A lost attempt and its successor may both be releasing one name: one after the other.
        ids.dedup_by(|a, b| name(a) == name(b));
        ids
    }

    /// Over which connection claims of a session go. A connection waits itself.
    pub(super) fn claims_lane(
        &self,
        id: LockId,
        action: Action,
        session: Option<SessionId>,
    ) -> Lane {
        match (session, self.protocol.sessions()) {
            (Some(session), Some(Sessions::Connections { .. })) => Lane(session.number()),
            _ => wait_lane(id, action),
        }
    }

    fn session_lane(&self, id: SessionId) -> Lane {
        match self.protocol.sessions() {
            Some(Sessions::Connections { .. }) => Lane(id.number()),
            Some(Sessions::Records) | None => Lane::HOME,
        }
    }

    pub(super) fn is_free(&self, lane: Lane) -> bool {
        let most = self.config.in_flight;
        // As it is in most questions.
        if self.under_way.is_empty() {
            return true;
        }
        self.under_way.range((lane, 0)..=(lane, u64::MAX)).take(most).count() < most
    }

    /// A request's time: its budget, but no longer than the leases that it is to renew.
    pub(super) fn give_up_at(&self, now: Instant, about: &About, action: Action) -> Instant {
        let budget = now.after(self.config.timing.request());
        match (about, action) {
            (About::Session(id), Action::Keep) => {
                self.sessions[id].lease.deadline().map_or(budget, |lost| budget.min(lost))
            }
            (About::Claims(_, ids), Action::Wait) => budget.after(self.wait_up_to(now, ids)),
            (About::News, Action::Listen) => budget.after(self.config.timing.wait()),
            (About::Claims(_, ids), Action::Renew) => {
                let lost = ids.iter().filter_map(|id| self.attempts[id].slot.deadline()).max();
                lost.map_or(budget, |lost| budget.min(lost))
            }
            _ => budget,
        }
    }

    /// How long the server may take to answer a wait.
    pub(super) fn wait_up_to(&self, now: Instant, ids: &[LockId]) -> core::time::Duration {
        let give_up = ids.first().map_or(now, |id| self.attempts[id].slot.give_up());
        let least = core::time::Duration::from_millis(1);
        self.config.timing.wait().min(give_up.since(now)).max(least)
    }
}

/// Where no session is a connection: each attempt waits on one of its own.
fn wait_lane(id: LockId, action: Action) -> Lane {
    if action == Action::Wait { Lane(id.0) } else { Lane::HOME }
}
