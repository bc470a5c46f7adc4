//! The releases that are under way, and the callers that wait for them, in the order of their deadlines.

use super::news;
use super::state::Held;
use lock_core::{Instant, LockId, Release};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

#[derive(Default)]
pub(super) struct Leaving {
    all: BTreeMap<LockId, Left>,
    order: BTreeSet<(Instant, LockId)>,
}

/// A release that is under way.
pub(super) struct Left {
    /// The guard that there was.
    pub(super) held: Option<Held>,
    /// The caller, and how long it waits.
    caller: Option<(Instant, Tell)>,
}

pub(super) enum Tell {
    Release(oneshot::Sender<Release>),
    /// An acquire that [`Driver::close`](super::Driver::close) ended.
    Closed(news::Sender),
}

impl Leaving {
    /// Adds a release. Its caller waits until a deadline at most.
    pub(super) fn insert(
        &mut self,
        id: LockId,
        held: Option<Held>,
        caller: Option<(Instant, Tell)>,
    ) {
        if let Some((until, _)) = &caller {
            self.order.insert((*until, id));
        }
        self.all.insert(id, Left { held, caller });
    }

    /// Removes a release that has ended.
    pub(super) fn remove(&mut self, id: LockId) -> Option<Left> {
        let left = self.all.remove(&id)?;
        if let Some((until, _)) = &left.caller {
            self.order.remove(&(*until, id));
        }
        Some(left)
    }

    /// The first deadline.
    pub(super) fn until(&self) -> Option<Instant> {
        self.order.first().map(|(until, _)| *until)
    }

    /// Removes a caller whose deadline has passed.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Tell> {
        let (_, id) = *self.order.first().filter(|(until, _)| *until <= now)?;
        self.order.pop_first();
        self.all.get_mut(&id)?.tell()
    }
}

impl Left {
    /// The caller, once.
    pub(super) fn tell(&mut self) -> Option<Tell> {
        self.caller.take().map(|(_, tell)| tell)
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
