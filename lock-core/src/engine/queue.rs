//! Local rivals for one name: only those in front talk to the server.
//!
//! In front is the first of a name's queue; if it wants to share, so are those behind it that do. Each
//! attempt knows whether it is in front, so that no step has to walk along the queue: it is brought to the
//! front once, and stays there until it leaves.
//!
//! Attempts behind the front learn from it who has the lock: each once, at the latest when somebody in
//! front gets to know it. They always know as much as those behind them, or more, so only the end of the
//! queue is to be told. Later changes are the front's: a hundred thousand attempts that are told of each
//! hand-over would be told ten thousand million times.

use super::{Attempt, Engine, Place, Todo};
use crate::contention::Before;
use crate::event::LockId;
use crate::name::LockName;
use crate::request::Mode;
use crate::slot::{Input, Known, Sight};
use crate::time::Instant;
use crate::timing::Timing;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

impl Engine {
    /// Puts an attempt that is about to begin at the end of its name's queue. Whether it is in front, and what
    /// that means to it: behind, it goes by what those ahead know.
    pub(super) fn join_queue(&mut self, name: LockName, id: LockId, mode: Mode) -> (Place, Input) {
        let place = (name, id);
        let last = self.ahead_of(&place).map(|last| &*self.attempts[&last]);
        let front = last.is_none_or(|last| last.shares_front() && mode == Mode::Shared);
        self.queues.insert(place);
        if front { (Place::Front, Input::Front) } else { (Place::Behind, Input::Tick) }
    }

    /// Takes an attempt out of its name's queue, and brings to the front who is in front now.
    pub(super) fn leave_queue(&mut self, id: LockId) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        attempt.place = Place::Left;
        let place = (attempt.name.clone(), id);
        self.queues.remove(&place);
        let behind = self.queues.range((Excluded(&place), Unbounded));
        let mut behind = behind.take_while(|(name, _)| *name == place.0).peekable();
        if behind.peek().is_none() {
            return;
        }
        let ahead = self.ahead_of(&place).map(|ahead| &*self.attempts[&ahead]);
        let mut first = ahead.is_none();
        let mut shared = ahead.is_some_and(Attempt::shares_front);
        let mut come = Vec::new();
        for (_, id) in behind {
            let attempt = &self.attempts[id];
            let shares = attempt.mode == Mode::Shared;
            if attempt.is_in_front() || !(first || shared && shares) {
                break;
            }
            come.push(*id);
            (first, shared) = (false, shares);
        }
        let next = come.is_empty() && ahead.is_none() && self.unaware > 0;
        for id in come {
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.place = Place::Front;
            }
            self.todo.push(Todo::Attempt(id, Input::Front));
        }
        let first = if next { self.in_front(&place.0).next() } else { None };
        if let Some(first) = first {
            self.tell_behind(first);
        }
    }

    /// What the first of an attempt's queue knows of the lock, or else the next ahead of it.
    pub(super) fn ahead(&self, now: Instant, id: LockId) -> Option<Sight> {
        let Attempt { name, slot, .. } = &**self.attempts.get(&id)?;
        // If its wait has run out, it is of interest who had the lock then.
        let (place, at) = ((name.clone(), id), now.min(slot.limit()));
        let next = self.ahead_of(&place)?;
        let first = self.in_front(&place.0).next()?;
        let label = |one: &Attempt| one.own_label().or(self.capabilities.label.as_ref()).cloned();
        let sight = |id| self.attempts[id].slot.sight(at, label(&self.attempts[id]).as_deref());
        let (first, next) = (sight(&first), || sight(&next));
        if first.known > Known::Nothing || first.failure.is_some() {
            Some(first)
        } else {
            Some(next())
        }
    }

    /// The first of a queue knows more of who has the lock, or somebody else has come first: tells those
    /// in the queue that know less.
    pub(super) fn tell_behind(&mut self, id: LockId) {
        let Some(attempt) = self.attempts.get(&id).filter(|_| self.unaware > 0) else { return };
        let (name, known) = (&attempt.name, attempt.slot.known());
        if self.in_front(name).next() != Some(id) {
            return;
        }
        let behind = self.queues.range((name.clone(), id)..=(name.clone(), LockId(u64::MAX)));
        let behind = behind.rev().map(|(_, id)| *id).take_while(|id| {
            let attempt = &self.attempts[id];
            attempt.place == Place::Behind && attempt.slot.told() < known
        });
        let from = self.todo.len();
        self.todo.extend(behind.map(|id| Todo::Attempt(id, Input::Tick)));
        self.todo[from..].reverse();
    }

    /// Those of a name's queue that are in front.
    pub(super) fn in_front(&self, name: &LockName) -> impl Iterator<Item = LockId> + use<'_> {
        let all = (name.clone(), LockId(0))..=(name.clone(), LockId(u64::MAX));
        self.queues.range(all).map(|(_, id)| *id).take_while(|id| self.attempts[id].is_in_front())
    }

    /// The attempt just ahead in the same queue.
    fn ahead_of(&self, place: &(LockName, LockId)) -> Option<LockId> {
        let ahead = self.queues.range((Unbounded, Excluded(place))).next_back();
        ahead.filter(|(name, _)| *name == place.0).map(|(_, id)| *id)
    }

    /// Keeps this process from taking what it has just freed: the waiters need a round trip.
    pub(super) fn yield_to_others(&mut self, now: Instant, id: LockId) {
        let step = self.config.timing.back_off(0, self.round_trip);
        if let Some(Attempt { name, slot, .. }) = self.attempts.get(&id).map(|attempt| &**attempt) {
            let until = now.after(slot.contention.cooldown(self.capabilities.sessions, step));
            let pace = slot.contention.pace();
            let before = Before { cooldown_until: until, pace, ticket: None };
            self.last_attempts.begin(now, name.clone(), until, before);
        }
    }

    /// Keeps the ticket of an attempt that gave up for the next one, if that comes soon.
    pub(super) fn keep_ticket(&mut self, now: Instant, id: LockId, ticket: u64) {
        if let Some(Attempt { name, slot, .. }) = self.attempts.get(&id).map(|attempt| &**attempt) {
            let (pace, ticket) = (slot.contention.pace(), Some(ticket));
            let before = Before { pace, ticket, ..self.last_attempts.of(now, name) };
            self.last_attempts.begin(now, name.clone(), now.after(Timing::MAX_BACK_OFF), before);
        }
    }
}

impl Attempt {
    fn is_in_front(&self) -> bool {
        self.place == Place::Front
    }

    fn shares_front(&self) -> bool {
        self.is_in_front() && self.mode == Mode::Shared
    }
}
