//! The parts of an attempt for several locks, and what is known of them.

use crate::engine::Wanted;
use crate::event::{LockId, Release};
use crate::fence::Fence;
use crate::name::LockName;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound::{self, Unbounded};

/// How far its parts have got. No step of one walks along all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Several {
    /// The locks that it has asked for.
    pub(super) parts: BTreeMap<LockName, Part>,
    /// The locks that it has not asked for yet, or has given back.
    pub(super) rest: BTreeSet<LockName>,
    /// The parts whose locks are known to be somebody else's.
    pub(super) denied: BTreeSet<LockName>,
    /// When the leases of the parts end that have their locks.
    pub(super) ends: BTreeSet<(Instant, LockId)>,
    pub(super) stage: Stage,
    /// The part whose lock the caller was told to be somebody else's, and as far as it is known, whose.
    pub(super) told: Option<LockId>,
    pub(super) wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) id: LockId,
    /// It has its lock: the fence of the grant, and when the lease ends.
    pub(super) lease: Option<(Fence, Instant)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Wanting,
    /// All were granted; the caller was told that they are held until then.
    Held(Instant),
    /// One of them was lost.
    Lost,
    /// The caller wants no more of it. The worst that its releases came to.
    Releasing(Release),
}

impl Several {
    pub(super) fn new(names: Vec<LockName>, wanted: Wanted) -> Self {
        Self {
            parts: BTreeMap::new(),
            rest: names.into_iter().collect(),
            denied: BTreeSet::new(),
            ends: BTreeSet::new(),
            stage: Stage::Wanting,
            told: None,
            wanted,
        }
    }

    /// Until when all are held, if they are.
    pub(in crate::engine) fn held_until(&self) -> Option<Instant> {
        let held = matches!(self.stage, Stage::Held(_)) && self.ends.len() == self.parts.len();
        self.ends.first().filter(|_| held).map(|(ends, _)| *ends)
    }

    /// The first part that it has.
    pub(in crate::engine) fn first(&self) -> Option<LockId> {
        self.parts().next()
    }

    /// The parts that it has, sorted by name.
    pub(in crate::engine) fn parts(&self) -> impl Iterator<Item = LockId> {
        self.parts.values().map(|part| part.id)
    }

    /// The first lock that it has asked for and does not have, and its part.
    pub(in crate::engine) fn first_without(&self) -> Option<(&LockName, LockId)> {
        let without = self.parts.iter().find(|(_, part)| part.lease.is_none());
        without.map(|(name, part)| (name, part.id))
    }

    /// The part for this lock, unless it is of earlier: one that was given up goes on for a while.
    fn part(&mut self, name: &LockName, id: LockId) -> Option<&mut Part> {
        self.parts.get_mut(name).filter(|part| part.id == id)
    }

    pub(super) fn note_lease(&mut self, name: &LockName, id: LockId, fence: Fence, ends: Instant) {
        let Some(part) = self.part(name, id) else { return };
        if let Some((_, before)) = part.lease.replace((fence, ends)) {
            self.ends.remove(&(before, id));
        }
        self.ends.insert((ends, id));
    }

    pub(super) fn note_end(&mut self, name: &LockName, id: LockId, ends: Instant) {
        if let Some((fence, _)) = self.part(name, id).and_then(|part| part.lease) {
            self.note_lease(name, id, fence, ends);
        }
    }

    pub(super) fn note_denied(&mut self, name: &LockName, id: LockId, denied: bool) {
        let Some(part) = self.part(name, id) else { return };
        if denied && part.lease.is_none() {
            self.denied.insert(name.clone());
        } else {
            self.denied.remove(name);
        }
    }

    pub(super) fn take(&mut self, name: &LockName, id: LockId) -> Option<Part> {
        self.part(name, id)?;
        let part = self.parts.remove(name)?;
        self.denied.remove(name);
        if let Some((_, ends)) = part.lease {
            self.ends.remove(&(ends, id));
        }
        Some(part)
    }

    /// Wants again later the locks that come after that: the parts that it had for them.
    pub(super) fn give_back(&mut self, after: Bound<&LockName>) -> Vec<LockId> {
        let back = self.parts.range::<LockName, _>((after, Unbounded));
        let back: Vec<_> = back.map(|(name, part)| (name.clone(), part.id)).collect();
        let ids = back.iter().map(|(_, id)| *id).collect();
        for (name, id) in back {
            self.take(&name, id);
            self.rest.insert(name);
        }
        ids
    }
}

#[cfg(feature = "sim")]
impl Several {
    /// The state that tells it apart for a search, with times as `time` and fences as `fence` sees them.
    pub(in crate::engine) fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(u64) -> u64,
    ) -> Self {
        let mut seen = self.clone();
        seen.wanted.give_up = self.wanted.give_up.map(time);
        if let Stage::Held(until) = &mut seen.stage {
            *until = time(*until);
        }
        for (known, ends) in seen.parts.values_mut().filter_map(|part| part.lease.as_mut()) {
            (*known, *ends) = (Fence::new(fence(known.get())), time(*ends));
        }
        seen.ends = self.ends.iter().map(|(ends, id)| (time(*ends), *id)).collect();
        seen
    }
}
