//! Callers that wait for a release, in the order in which their patience ends.

use super::news;
use lock_core::{Instant, LockId, Release};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

#[derive(Default)]
pub(super) struct Leaving {
    callers: BTreeMap<LockId, (Instant, Tell)>,
    order: BTreeSet<(Instant, LockId)>,
}

pub(super) enum Tell {
    Release(oneshot::Sender<Release>),
    /// Its wait was ended by [`Driver::close`](super::Driver::close).
    Closed(news::Sender),
}

impl Leaving {
    /// It waits until then at most.
    pub(super) fn insert(&mut self, id: LockId, until: Instant, tell: Tell) {
        self.callers.insert(id, (until, tell));
        self.order.insert((until, id));
    }

    pub(super) fn remove(&mut self, id: LockId) -> Option<Tell> {
        let (until, tell) = self.callers.remove(&id)?;
        self.order.remove(&(until, id));
        Some(tell)
    }

    /// Until when the first of them waits.
    pub(super) fn until(&self) -> Option<Instant> {
        self.order.first().map(|(until, _)| *until)
    }

    /// One that has waited long enough.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Tell> {
        let (_, id) = *self.order.first().filter(|(until, _)| *until <= now)?;
        self.remove(id)
    }
}

impl Tell {
    pub(super) fn tell(self, release: Release) {
        match self {
            Tell::Release(tell) => drop(tell.send(release)),
            Tell::Closed(news) => drop(news),
        }
    }
}
