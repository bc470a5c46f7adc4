//! The callers that wait for a release, in the order of their deadlines.

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
    /// An acquire that [`Driver::close`](super::Driver::close) ended.
    Closed(news::Sender),
}

impl Leaving {
    /// Adds a caller, which waits until `until` at most.
    pub(super) fn insert(&mut self, id: LockId, until: Instant, tell: Tell) {
        self.callers.insert(id, (until, tell));
        self.order.insert((until, id));
    }

    pub(super) fn remove(&mut self, id: LockId) -> Option<Tell> {
        let (until, tell) = self.callers.remove(&id)?;
        self.order.remove(&(until, id));
        Some(tell)
    }

    /// The first deadline.
    pub(super) fn until(&self) -> Option<Instant> {
        self.order.first().map(|(until, _)| *until)
    }

    /// Removes a caller whose deadline has passed.
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
