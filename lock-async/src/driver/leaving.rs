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

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::{Config, Timing, table};
    use lock_shared::clock;
    use lock_shared::engine::Engine;
    use lock_shared::wish::Wish;
    use std::time::Duration;

    #[test]
    fn each_caller_waits_until_its_own_deadline() {
        let timing = Timing::new(Duration::from_secs(30)).expect("good");
        let mut engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
        let (mut leaving, now) = (Leaving::default(), clock::now());
        let after = |seconds| now.after(Duration::from_secs(seconds));
        for (name, seconds) in [("a", 2), ("b", 1), ("c", 3)] {
            let id = Wish::new(name).expect("a name").begin(&mut engine, now, None);
            let (tell, _) = oneshot::channel();
            leaving.insert(id, None, Some((after(seconds), Tell::Release(tell))));
        }
        for seconds in 1..=3 {
            assert_eq!(leaving.until(), Some(after(seconds)));
            assert!(leaving.pop(after(seconds - 1)).is_none());
            assert!(leaving.pop(after(seconds)).is_some());
        }
        assert_eq!(leaving.until(), None);
    }

    /// Else the task wakes up for it, and keeps its place until then.
    #[test]
    fn the_deadline_of_a_release_goes_with_it() {
        let timing = Timing::new(Duration::from_secs(30)).expect("good");
        let mut engine = Engine::new(table::capabilities("me", false), Config::new(timing, 1));
        let (mut leaving, now) = (Leaving::default(), clock::now());
        let id = Wish::new("a").expect("a name").begin(&mut engine, now, None);
        let (tell, _) = oneshot::channel();
        leaving.insert(id, None, Some((now, Tell::Release(tell))));
        assert!(leaving.remove(id).is_some_and(|mut left| left.tell().is_some()));
        assert_eq!(leaving.until(), None);
    }
}
