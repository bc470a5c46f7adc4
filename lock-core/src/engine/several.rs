//! An attempt for several locks at once: all or none.
//!
//! It is made of an attempt for each lock, the *parts*, which are told of under its own id. All are wanted at once, in
//! one request where the server takes so many. If one is somebody else's, those that come after it by name are given
//! back, and wanted again once it is granted. So whoever waits for a lock holds none that comes after it: two sets of
//! locks never wait for each other, in whatever order they were named.

use super::{Engine, Todo, Wanted, Which};
use crate::contention::Contention;
use crate::event::{Event, LockId, Release};
use crate::fence::Fence;
use crate::name::LockName;
use crate::request::Mode;
use crate::slot::Input;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

/// How far its parts have got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Several {
    /// Every lock, and its part unless that was given up.
    parts: BTreeMap<LockName, Option<Part>>,
    stage: Stage,
    /// The part whose lock the caller was told to be somebody else's, and as far as it is known, whose.
    told: Option<LockId>,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Part {
    id: LockId,
    /// It has its lock, granted with this fence.
    fence: Option<Fence>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Wanting,
    /// All were granted; the caller was told that they are held until then.
    Held(Instant),
    /// One of them was lost.
    Lost,
    /// The caller wants no more of it. The worst that its releases came to.
    Releasing(Release),
}

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
        let parts = names.into_iter().map(|name| (name, None)).collect();
        let stage = Stage::Wanting;
        let several = Several { parts, stage, told: None, wanted };
        self.several.insert(id, several);
        self.todo.push(Todo::Widen(id));
        self.apply_effects(now);
        id
    }

    /// The locks that an attempt holds, sorted by name, with the fences of their grants. None before it is granted.
    pub fn fences(&self, id: LockId) -> Vec<(LockName, Fence)> {
        let held = |several: &&Several| matches!(several.stage, Stage::Held(_) | Stage::Lost);
        let parts = self.several.get(&id).filter(held).into_iter().flat_map(|one| &one.parts);
        parts.filter_map(|(name, part)| Some((name.clone(), (*part)?.fence?))).collect()
    }

    /// True if an attempt is for several locks at once. When one of them is [lost](Event::Lost), the others are held
    /// until the attempt is released.
    pub fn is_for_several(&self, id: LockId) -> bool {
        self.several.contains_key(&id)
    }

    /// Until when all are held, if they are.
    pub(super) fn all_held_until(&self, several: &Several) -> Option<Instant> {
        let until = |part: &Option<Part>| self.attempts.get(&(*part)?.id)?.slot.held_until();
        match several.stage {
            Stage::Held(_) => several.parts.values().map(until).min().flatten(),
            _ => None,
        }
    }

    /// Releases all parts; what follows remains to be done. False if there are none.
    pub(super) fn release_all(&mut self, id: LockId, keep: Option<Duration>) -> bool {
        let Some(several) = self.several.get_mut(&id) else { return false };
        // The caller has none before it has all.
        let input = Input::Release(keep.filter(|_| several.stage != Stage::Wanting));
        several.stage = Stage::Releasing(Release::Freed);
        several.parts.retain(|_, part| part.is_some());
        let parts = several.parts.values().flatten();
        self.todo.extend(parts.map(|part| Todo::Attempt(part.id, input.clone())));
        true
    }

    /// Makes parts for the locks that have none.
    pub(super) fn want_rest(&mut self, id: LockId) {
        let Some(several) = self.several.get(&id) else { return };
        if several.stage != Stage::Wanting {
            return;
        }
        let wanted = several.wanted.clone();
        let rest = several.parts.iter().filter(|(_, part)| part.is_none());
        let rest: Vec<LockName> = rest.map(|(name, _)| name.clone()).collect();
        for name in rest {
            let contention = Contention::new(self.capabilities.on_busy).draws_once_denied();
            let exclusively = (name.clone(), Mode::Exclusive);
            let (part, input) = self.begin(exclusively, Some(id), &wanted, contention);
            if let Some(several) = self.several.get_mut(&id) {
                several.parts.insert(name, Some(Part { id: part, fence: None }));
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
        for event in events {
            self.one_of_all_told(id, part, event);
        }
        self.decide(now, id);
        self.extend_all(id);
    }

    fn one_of_all_told(&mut self, id: LockId, part: LockId, event: Event) {
        let Some(several) = self.several.get_mut(&id) else { return };
        if matches!(event, Event::Waiting { .. }) && several.told == Some(part) {
            // There is news of it.
            several.told = None;
        }
        match (event, &mut several.stage) {
            (Event::Granted { fence, .. }, Stage::Wanting) => {
                let of = several.parts.values_mut().flatten().find(|one| one.id == part);
                if let Some(of) = of {
                    of.fence = Some(fence);
                }
            }
            (Event::NotAcquired { id, why, .. }, _) => {
                let of = several.name_of(part).cloned();
                several.forget(part);
                let parts: Vec<Part> = several.parts.values().flatten().copied().collect();
                self.several.remove(&id);
                self.events.push_back(Event::NotAcquired { id, of, why });
                for part in parts {
                    self.give_up_part(part.id);
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
                several.parts.retain(|_, one| one.is_some_and(|one| one.id != part));
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
        let denied = |part: &Part| self.attempts.get(&part.id).is_some_and(|one| one.is_denied());
        let known =
            |part: &Option<Part>| part.is_none_or(|one| one.fence.is_some() || denied(&one));
        if !several.parts.values().all(known) {
            return;
        }
        if let Some((first, part)) = several.first_without() {
            self.give_back_after(now, id, first.clone(), part);
        } else if several.parts.values().any(Option::is_none) {
            self.todo.push(Todo::Widen(id));
        } else {
            self.all_granted(now, id);
        }
    }

    fn give_back_after(&mut self, now: Instant, id: LockId, first: LockName, without: LockId) {
        let holder = self.in_the_way(now, without);
        let withheld = self.attempts.get(&without).is_some_and(|one| one.slot.is_withheld());
        let Some(several) = self.several.get_mut(&id) else { return };
        let after = several.parts.iter_mut().filter(|(name, _)| **name > first);
        let parts: Vec<Part> = after.filter_map(|(_, part)| part.take()).collect();
        if several.told.replace(without) != Some(without) {
            self.events.push_back(Event::Waiting { id, of: Some(first), holder, withheld });
        }
        for part in parts {
            self.give_up_part(part.id);
        }
    }

    fn all_granted(&mut self, now: Instant, id: LockId) {
        let Some(several) = self.several.get_mut(&id) else { return };
        let fence = several.parts.values().flatten().find_map(|part| part.fence);
        several.stage = Stage::Held(now);
        let (Some(several), Some(fence)) = (self.several.get(&id), fence) else { return };
        match self.all_held_until(several).filter(|until| now < *until) {
            Some(deadline) => {
                if let Some(several) = self.several.get_mut(&id) {
                    several.stage = Stage::Held(deadline);
                }
                self.events.push_back(Event::Granted { id, fence, deadline });
            }
            // One is about to be told that it is lost.
            None => {
                if let Some(several) = self.several.get_mut(&id) {
                    several.stage = Stage::Wanting;
                }
            }
        }
    }

    /// All are held for as long as the first of them to end.
    fn extend_all(&mut self, id: LockId) {
        let Some(several) = self.several.get(&id) else { return };
        let (Stage::Held(told), Some(deadline)) = (&several.stage, self.all_held_until(several))
        else {
            return;
        };
        if *told < deadline {
            if let Some(several) = self.several.get_mut(&id) {
                several.stage = Stage::Held(deadline);
            }
            self.events.push_back(Event::Renewed { id, deadline });
        }
    }

    fn start_over(&mut self, id: LockId) {
        let Some(several) = self.several.get_mut(&id) else { return };
        let parts: BTreeSet<LockId> =
            several.parts.values_mut().filter_map(|part| Some(part.take()?.id)).collect();
        for part in parts {
            self.give_up_part(part);
        }
        self.todo.push(Todo::Widen(id));
    }
}

impl Several {
    /// The first part that it has.
    pub(super) fn first(&self) -> Option<LockId> {
        self.parts().next()
    }

    /// The parts that it has, sorted by name.
    pub(super) fn parts(&self) -> impl Iterator<Item = LockId> {
        self.parts.values().flatten().map(|part| part.id)
    }

    /// The first lock that it has asked for and does not have, and its part.
    pub(super) fn first_without(&self) -> Option<(&LockName, LockId)> {
        let asked = self.parts.iter().filter_map(|(name, part)| Some((name, part.as_ref()?)));
        asked.filter(|(_, part)| part.fence.is_none()).map(|(name, part)| (name, part.id)).next()
    }

    fn name_of(&self, part: LockId) -> Option<&LockName> {
        let of = self.parts.iter().find(|(_, one)| one.is_some_and(|one| one.id == part));
        of.map(|(name, _)| name)
    }

    fn forget(&mut self, part: LockId) {
        self.parts.retain(|_, one| one.is_none_or(|one| one.id != part));
    }
}

#[cfg(feature = "sim")]
impl Several {
    /// The state that tells it apart for a search, with times as `time` and fences as `fence` sees them.
    pub(super) fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(u64) -> u64,
    ) -> Self {
        let mut seen = self.clone();
        seen.wanted.give_up = self.wanted.give_up.map(time);
        if let Stage::Held(until) = &mut seen.stage {
            *until = time(*until);
        }
        for known in seen.parts.values_mut().flatten().filter_map(|part| part.fence.as_mut()) {
            *known = Fence::new(fence(known.get()));
        }
        seen
    }
}
