//! Local rivals for one name: only those in front talk to the server.
//!
//! In front is the first of a name's queue; if it wants to share, so are those behind it that do. Each
//! attempt knows whether it is in front, so that no step has to walk along the queue: it is brought to the
//! front once, and stays there until it leaves.

use super::{Attempt, Engine, Todo};
use crate::event::LockId;
use crate::name::LockName;
use crate::protocol::{Mode, Protocol};
use crate::slot::Input;
use crate::time::Instant;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

impl<P: Protocol> Engine<P> {
    /// Puts an attempt at the end of its name's queue, and says what that means to it.
    pub(super) fn join_queue(&mut self, id: LockId) -> Input {
        let Attempt { name, mode, .. } = &*self.attempts[&id];
        let (place, mode) = ((name.clone(), id), *mode);
        let last = self.ahead_of(&place).map(|last| &*self.attempts[&last]);
        let front =
            last.is_none_or(|last| last.front && last.mode == Mode::Shared && mode == Mode::Shared);
        // Whoever is not in front waits for an attempt that is wanted.
        let rival = last.is_some_and(|last| match last.mode {
            Mode::Shared if last.front => self.sharers.contains_key(&place.0),
            _ => last.slot.wanted(),
        });
        self.queues.insert(place);
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.front = front;
        }
        match (front, rival) {
            (true, _) => Input::Front,
            (false, true) => Input::Rival,
            (false, false) => Input::Tick,
        }
    }

    /// Takes an attempt out of its name's queue, and brings to the front who is in front now.
    pub(super) fn leave_queue(&mut self, id: LockId) {
        let place = (self.attempts[&id].name.clone(), id);
        if !self.queues.remove(&place) {
            return;
        }
        let ahead = self.ahead_of(&place).map(|ahead| &*self.attempts[&ahead]);
        let mut first = ahead.is_none();
        let mut shared = ahead.is_some_and(|ahead| ahead.front && ahead.mode == Mode::Shared);
        let mut come = Vec::new();
        let behind = self.queues.range((Excluded(&place), Unbounded));
        for (_, id) in behind.take_while(|(name, _)| *name == place.0) {
            let attempt = &self.attempts[id];
            let shares = attempt.mode == Mode::Shared;
            if attempt.front || !(first || shared && shares) {
                break;
            }
            come.push(*id);
            (first, shared) = (false, shares);
        }
        for id in come {
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.front = true;
            }
            self.todo.push(Todo::Attempt(id, Input::Front));
        }
    }

    /// Those of a name's queue that are in front.
    pub(super) fn in_front(&self, name: &LockName) -> impl Iterator<Item = LockId> + use<'_, P> {
        let all = (name.clone(), LockId(0))..=(name.clone(), LockId(u64::MAX));
        self.queues.range(all).map(|(_, id)| *id).take_while(|id| self.attempts[id].front)
    }

    /// Who is just ahead in the same queue.
    fn ahead_of(&self, place: &(LockName, LockId)) -> Option<LockId> {
        let ahead = self.queues.range((Unbounded, Excluded(place))).next_back();
        ahead.filter(|(name, _)| *name == place.0).map(|(_, id)| *id)
    }

    /// What was freed is not taken again at once: those that wait for it need a round trip.
    pub(super) fn yield_to_others(&mut self, now: Instant, id: LockId) {
        while let Some((until, name)) = self.yields.first()
            && *until <= now
        {
            if self.yielded.get(name) == Some(until) {
                self.yielded.remove(name);
            }
            self.yields.pop_first();
        }
        if let Some(Attempt { name, slot, .. }) = self.attempts.get(&id).map(|attempt| &**attempt) {
            let one = self.config.timing.back_off(0, self.round_trip);
            let until = now.after(slot.yields(one));
            self.yielded.insert(name.clone(), until);
            self.yields.insert((until, name.clone()));
        }
    }

    /// Counts an attempt among those that want to share a name, or no more.
    pub(super) fn count_sharer(&mut self, name: LockName, shares: bool) {
        let count = self.sharers.entry(name.clone()).or_default();
        if shares {
            *count += 1;
        } else if *count > 1 {
            *count -= 1;
        } else {
            self.sharers.remove(&name);
        }
    }
}
