//! An attempt for several locks at once: all or none.
//!
//! It is made of an attempt for each lock, the *parts*, which are told of under its own id. All are wanted at once, in
//! one request where the server takes so many. If one is somebody else's, those that come after it by name are given
//! back, and wanted again once it is granted. So whoever waits for a lock holds none that comes after it: two sets of
//! locks never wait for each other, in whatever order they were named.

mod parts;

use super::{Engine, Todo, Wanted, Which};
use crate::contention::Contention;
use crate::event::{Event, LockId, Release};
use crate::fence::Fence;
use crate::name::LockName;
use crate::request::Mode;
use crate::slot::Input;
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};
use core::time::Duration;
pub(super) use parts::Several;
use parts::{Part, Stage};

impl Engine {
    /// Wants all of `names` at once until `give_up`, [`None`] for as long as it takes, and exclusively: all or none.
    /// With `once`, the first "busy" ends it. Two attempts for several locks never wait for each other. A name that
    /// comes twice counts once.
    ///
    /// Leads to [`Event::Granted`] with the fence of the name that sorts first, or to [`Event::NotAcquired`], unless
    /// released before, as [`acquire`](Self::acquire) does. [`fences`](Self::fences) has the others. They are lost
    /// together: with the first that is.
    pub fn acquire_all(
        &mut self,
        now: Instant,
        names: Vec<LockName>,
        once: bool,
        give_up: Option<Instant>,
    ) -> LockId {
        self.want(now, Which::All(names), Wanted { once, give_up, ..Wanted::default() })
    }

    pub(super) fn want_all(
        &mut self,
        now: Instant,
        names: Vec<LockName>,
        wanted: Wanted,
    ) -> LockId {
        self.last_id += 1;
        let id = LockId(self.last_id);
        if names.is_empty() {
            return self.nothing_named(id);
        }
        self.several.insert(id, Several::new(names, wanted));
        self.todo.push(Todo::Widen(id));
        self.apply_effects(now);
        id
    }

    /// The locks that an attempt holds, sorted by name, with the fences of their grants. None before it is granted.
    pub fn fences(&self, id: LockId) -> Vec<(LockName, Fence)> {
        let held = |several: &&Several| matches!(several.stage, Stage::Held(_) | Stage::Lost);
        let parts = self.several.get(&id).filter(held).into_iter().flat_map(|one| &one.parts);
        parts.filter_map(|(name, part)| Some((name.clone(), part.lease?.0))).collect()
    }

    /// True if an attempt is for several locks at once. When one of them is [lost](Event::Lost), the others are held
    /// until the attempt is released.
    pub fn is_for_several(&self, id: LockId) -> bool {
        self.several.contains_key(&id)
    }

    /// Releases all parts; what follows remains to be done. False if there are none.
    pub(super) fn release_all(&mut self, id: LockId, keep: Option<Duration>) -> bool {
        let Some(several) = self.several.get_mut(&id) else { return false };
        // The caller has none before it has all.
        let input = Input::Release(keep.filter(|_| several.stage != Stage::Wanting));
        several.stage = Stage::Releasing(Release::Freed);
        self.todo.extend(several.parts().map(|part| Todo::Attempt(part, input.clone())));
        true
    }

    /// Makes parts for the locks that have none.
    pub(super) fn want_rest(&mut self, id: LockId) {
        let Some(several) = self.several.get_mut(&id) else { return };
        if several.stage != Stage::Wanting {
            return;
        }
        let wanted = several.wanted.clone();
        for name in core::mem::take(&mut several.rest) {
            let contention = Contention::new(self.capabilities.on_busy).draws_once_denied();
            let exclusively = (name.clone(), Mode::Exclusive);
            let (part, input) = self.begin(exclusively, Some(id), &wanted, contention);
            if let Some(several) = self.several.get_mut(&id) {
                several.parts.insert(name, Part { id: part, lease: None });
            }
            self.todo.push(Todo::Attempt(part, input));
        }
    }

    /// A part of `id` was stepped, and told these events.
    pub(super) fn one_of_all_stepped(
        &mut self,
        now: Instant,
        id: LockId,
        part: LockId,
        events: VecDeque<Event>,
    ) {
        let Some(attempt) = self.attempts.get(&part) else { return };
        let (name, denied) = (attempt.name.clone(), attempt.is_denied());
        for event in events {
            self.one_of_all_told(id, part, &name, event);
        }
        if let Some(several) = self.several.get_mut(&id) {
            several.note_denied(&name, part, denied);
        }
        self.decide(now, id);
        self.extend_all(id);
    }

    fn one_of_all_told(&mut self, id: LockId, part: LockId, name: &LockName, event: Event) {
        let Some(several) = self.several.get_mut(&id) else { return };
        if matches!(event, Event::Waiting { .. }) && several.told == Some(part) {
            // There is news of it.
            several.told = None;
        }
        match (event, &mut several.stage) {
            (Event::Granted { fence, deadline, .. }, Stage::Wanting) => {
                several.note_lease(name, part, fence, deadline);
            }
            (Event::Renewed { deadline, .. }, _) => several.note_end(name, part, deadline),
            (Event::NotAcquired { id, why, .. }, _) => {
                let of = several.take(name, part).map(|_| name.clone());
                let parts: Vec<LockId> = several.parts().collect();
                self.several.remove(&id);
                self.events.push_back(Event::NotAcquired { id, of, why });
                for part in parts {
                    self.give_up_part(part);
                }
            }
            // What was held is wanted again, in order.
            (Event::Lost { .. }, Stage::Wanting) => self.start_over(id),
            (event @ Event::Lost { .. }, stage @ Stage::Held(_)) => {
                *stage = Stage::Lost;
                self.events.push_back(event);
            }
            (Event::Released { release, .. }, Stage::Releasing(worst)) => {
                if *worst == Release::Freed {
                    *worst = release;
                }
                let release = worst.clone();
                several.take(name, part);
                if several.parts.is_empty() {
                    self.several.remove(&id);
                    self.events.push_back(Event::Released { id, release });
                }
            }
            (Event::RenewalFailed { id, failure, .. }, Stage::Held(deadline)) => {
                let deadline = *deadline;
                self.tell_once(Event::RenewalFailed { id, failure, deadline });
            }
            (event @ Event::Trouble { .. }, Stage::Wanting) => self.tell_once(event),
            _ => {}
        }
    }

    /// Once every part knows whether its lock is free: all are held, or those after the first that is not are given
    /// back.
    fn decide(&mut self, now: Instant, id: LockId) {
        let Some(several) = self.several.get(&id).filter(|one| one.stage == Stage::Wanting) else {
            return;
        };
        if several.parts.len() > several.denied.len() + several.ends.len() {
            return;
        }
        if let Some(first) = several.denied.first().cloned() {
            self.give_back_after(now, id, first);
        } else if !several.rest.is_empty() {
            self.todo.push(Todo::Widen(id));
        } else {
            self.all_granted(now, id);
        }
    }

    fn give_back_after(&mut self, now: Instant, id: LockId, first: LockName) {
        let Some(without) = self.several.get(&id).map(|several| several.parts[&first].id) else {
            return;
        };
        let holder = self.in_the_way(now, without);
        let withheld = self.attempts.get(&without).is_some_and(|one| one.slot.is_withheld());
        let Some(several) = self.several.get_mut(&id) else { return };
        let parts = several.give_back(Excluded(&first));
        if several.told.replace(without) != Some(without) {
            self.events.push_back(Event::Waiting { id, of: Some(first), holder, withheld });
        }
        for part in parts {
            self.give_up_part(part);
        }
    }

    fn all_granted(&mut self, now: Instant, id: LockId) {
        let Some(several) = self.several.get_mut(&id) else { return };
        let first = several.parts.values().find_map(|part| part.lease);
        // If one has ended, it is about to be told that it is lost.
        let ends = several.ends.first().filter(|(ends, _)| now < *ends);
        if let (Some((fence, _)), Some((deadline, _))) = (first, ends.copied()) {
            several.stage = Stage::Held(deadline);
            self.events.push_back(Event::Granted { id, fence, deadline });
        }
    }

    /// All are held for as long as the first of them to end.
    fn extend_all(&mut self, id: LockId) {
        let Some(several) = self.several.get_mut(&id) else { return };
        if let (Stage::Held(told), Some(deadline)) = (&several.stage, several.held_until())
            && *told < deadline
        {
            several.stage = Stage::Held(deadline);
            self.events.push_back(Event::Renewed { id, deadline });
        }
    }

    fn start_over(&mut self, id: LockId) {
        let Some(several) = self.several.get_mut(&id) else { return };
        for part in several.give_back(Unbounded) {
            self.give_up_part(part);
        }
        self.todo.push(Todo::Widen(id));
    }
}
