//! Which slot is to be looked at when, and which command is due: derived from the slots, so that
//! no call has to look at all of them.

use super::{About, Attempt, Engine, Lane};
use crate::event::LockId;
use crate::protocol::{Action, Protocol, Sessions};
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
    due: Option<(Option<SessionId>, Action)>,
    denied: bool,
}

impl<P: Protocol> Engine<P> {
    /// Keeps true what is indexed of an attempt: nothing, once it has ended. The session that it is
    /// in now.
    pub(super) fn index(&mut self, now: Instant, id: LockId) -> Option<SessionId> {
        let slot = &self.attempts.get(&id)?.slot;
        let (wake, due, denied) = (slot.wake(now), slot.due(now), slot.is_denied());
        let due = due.map(|action| self.assign(now, id, action));
        let Attempt { indexed, session, .. } = &mut **self.attempts.get_mut(&id)?;
        let session = *session;
        let new = Entry { wake, due, denied };
        let old = core::mem::replace(indexed, new);
        if old.due != new.due {
            self.due.extend(new.due.map(|(session, action)| (session, action, id)));
            old.due.map(|(session, action)| self.due.remove(&(session, action, id)));
        }
        if denied && !old.denied {
            self.denied.insert(id);
            self.listen();
        }
        if old.denied && !denied {
            self.denied.remove(&id);
        }
        self.set_timer(Who::Attempt(id), old.wake, wake);
        session
    }

    pub(super) fn index_session(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let due = session.due(now).map(|action| (Some(id), action));
        let new = Entry { wake: session.slot.wake(now), due, denied: false };
        let old = core::mem::replace(&mut session.indexed, new);
        self.set_timer(Who::Session(id), old.wake, new.wake);
    }

    fn set_timer(&mut self, who: Who, old: Option<Instant>, new: Option<Instant>) {
        if old != new {
            self.timers.extend(new.map(|at| (at, who)));
            old.map(|at| self.timers.remove(&(at, who)));
        }
    }

    /// What the next command is for, and in which session.
    pub(super) fn next_due(&self) -> Option<(Option<SessionId>, Action)> {
        for (id, session) in &self.sessions {
            if let Some((_, action)) = session.indexed.due
                && (action == Action::Close || self.is_free(self.session_lane(*id)))
            {
                return Some((Some(*id), action));
            }
            if session.is_open()
                && let Some(action) = self.next_action(Some(*id))
            {
                return Some((Some(*id), action));
            }
        }
        let news = || self.ear.due();
        self.next_action(None).or_else(news).map(|action| (None, action))
    }

    fn next_action(&self, session: Option<SessionId>) -> Option<Action> {
        if self.due.is_empty() {
            return None;
        }
        let first = LockId(0);
        let lane = session.map_or(Lane::HOME, |id| self.session_lane(id));
        if self.is_free(lane) {
            let due = (session, Action::Close, first)..(session, Action::Wait, first);
            if let Some((_, action, _)) = self.due.range(due).next() {
                return Some(*action);
            }
        }
        let mut waits = self.waits(session);
        waits.next().map(|_| Action::Wait)
    }

    /// The waits of a session that are due and may leave.
    fn waits(&self, session: Option<SessionId>) -> impl Iterator<Item = LockId> + '_ {
        let (first, last) = (LockId(0), LockId(u64::MAX));
        let due = self.due.range((session, Action::Wait, first)..=(session, Action::Wait, last));
        due.map(|(_, _, id)| *id).filter(move |id| self.is_free(self.wait_lane(session, *id)))
    }

    /// A connection waits itself; for a record, each attempt waits on a connection of its own.
    fn wait_lane(&self, session: Option<SessionId>, id: LockId) -> Lane {
        match (session, self.protocol.sessions()) {
            (Some(session), Some(Sessions::Connections { .. })) => Lane(session.0),
            _ => Lane(id.0),
        }
    }

    /// What a command is about that is due.
    pub(super) fn about(&self, now: Instant, session: Option<SessionId>, action: Action) -> About {
        match (session, action) {
            (Some(id), Action::Open | Action::Keep | Action::Close) => About::Session(id),
            (_, Action::Listen | Action::Unlisten) => About::News,
            _ => About::Claims(session, self.batch(now, session, action)),
        }
    }

    /// The attempts that the next command is about, sorted by name.
    fn batch(&self, now: Instant, session: Option<SessionId>, action: Action) -> Vec<LockId> {
        if action == Action::Wait {
            return self.waits(session).take(1).collect();
        }
        let most = self.config.batch.min(self.protocol.batch()).max(1);
        let due = (session, action, LockId(0))..=(session, action, LockId(u64::MAX));
        let mut ids: Vec<LockId> = self.due.range(due).map(|(_, _, id)| *id).take(most).collect();
        if action == Action::Renew {
            let soon = now.after(self.config.timing.renew_early());
            let early = self.timers.range(..=(soon, Who::Attempt(LockId(u64::MAX))));
            let early = early
                .filter_map(|(_, who)| match who {
                    Who::Attempt(id) => Some(*id),
                    Who::Session(_) | Who::Ear => None,
                })
                .filter(|id| self.attempts[id].slot.due(soon) == Some(Action::Renew))
                .filter(|id| self.attempts[id].slot.due(now).is_none());
            ids.extend(early.take(most - ids.len()));
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

    /// Over which connection a command goes.
    pub(super) fn lane(&self, about: &About, action: Action) -> Lane {
        match (about, action) {
            (About::Claims(session, ids), Action::Wait) => {
                ids.first().map_or(Lane::HOME, |id| self.wait_lane(*session, *id))
            }
            (About::Session(id) | About::Claims(Some(id), _), _) => self.session_lane(*id),
            (About::Claims(None, _), _) => Lane::HOME,
            (About::News, _) => Lane::NEWS,
        }
    }

    fn session_lane(&self, id: SessionId) -> Lane {
        match self.protocol.sessions() {
            Some(Sessions::Connections { .. }) => Lane(id.0),
            Some(Sessions::Records) | None => Lane::HOME,
        }
    }

    fn is_free(&self, lane: Lane) -> bool {
        let busy = self.under_way.values().filter(|command| command.lane == lane);
        busy.count() < self.config.in_flight
    }

    /// A request's time: its budget, but no longer than the leases that it is to renew.
    pub(super) fn give_up_at(&self, now: Instant, about: &About, action: Action) -> Instant {
        let budget = now.after(self.config.timing.request());
        match (about, action) {
            (About::Session(id), Action::Keep) => {
                self.sessions[id].deadline().map_or(budget, |lost| budget.min(lost))
            }
            (About::Claims(_, ids), Action::Wait) => budget.after(self.wait_up_to(now, ids)),
            (About::News, Action::Listen) => budget.after(self.config.timing.wait()),
            (About::Claims(_, ids), Action::Renew) => {
                let lost = ids.iter().filter_map(|id| self.held_until(*id)).max();
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
