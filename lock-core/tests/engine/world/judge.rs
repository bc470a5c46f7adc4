//! What every caller is told must make sense, and what must hold between them.

use super::{NAMES, Stage, World};
use lock_core::Event;

impl World {
    pub(super) fn listen(&mut self) {
        for n in 0..2 {
            while let Some(event) = self.clients[n].engine.poll_event() {
                self.told(n, event);
            }
        }
    }

    fn told(&mut self, n: usize, event: Event) {
        let attempts = &mut self.clients[n].attempts;
        let (Event::Granted { id, .. }
        | Event::Waiting { id, .. }
        | Event::Trouble { id, .. }
        | Event::NotAcquired { id, .. }
        | Event::Renewed { id, .. }
        | Event::RenewalFailed { id, .. }
        | Event::Lost { id, .. }
        | Event::Released { id, .. }) = event
        else {
            panic!("unheard of: {event:?}")
        };
        let (name, stage) = attempts.get_mut(&id).expect("an attempt of this engine");
        *stage = match (&*stage, event) {
            (Stage::Wanted, Event::Waiting { .. } | Event::Trouble { .. }) => Stage::Wanted,
            (Stage::Wanted, Event::Granted { fence, deadline, .. }) => {
                let last = self.fences.insert(name.clone(), fence);
                assert!(last.is_none_or(|last| last < fence), "{name}: {fence} after {last:?}");
                self.grants += 1;
                Stage::Held { until: deadline }
            }
            (Stage::Held { until }, Event::Renewed { deadline, .. }) => {
                assert!(*until <= deadline);
                Stage::Held { until: deadline }
            }
            (Stage::Held { until }, Event::RenewalFailed { deadline, .. }) => {
                assert_eq!(*until, deadline);
                Stage::Held { until: deadline }
            }
            (Stage::Held { .. }, Event::Lost { .. }) => Stage::Lost,
            (Stage::Wanted, Event::NotAcquired { .. }) => Stage::Ended,
            (Stage::Leaving, Event::Released { .. }) => Stage::Ended,
            // It was over before the release was asked for, and told in the same breath.
            (Stage::Leaving, Event::NotAcquired { .. }) => Stage::Ended,
            (Stage::Leaving, Event::Lost { .. }) => Stage::Leaving,
            (stage, event) => panic!("{event:?} for an attempt that is {stage:?}"),
        };
    }

    /// At most one of all attempts for a name believes, by its own clock, to hold it.
    pub(super) fn check(&self) {
        for text in NAMES {
            let holders = (0..2).flat_map(|n| {
                let now = self.now(n);
                self.clients[n].attempts.values().filter(move |(name, stage)| {
                    name.as_str() == text && matches!(stage, Stage::Held { until } if now < *until)
                })
            });
            assert!(holders.count() <= 1, "two hold {text}");
        }
    }

    /// The network is well again, everybody lets go, and time passes.
    pub(super) fn wind_down(&mut self) {
        self.requests.clear();
        self.replies.clear();
        for n in 0..2 {
            while !self.clients[n].under_way.is_empty() {
                self.fail(n, 0);
            }
            while self.clients[n].attempts.values().any(|(_, s)| *s != Stage::Ended) {
                self.listen();
                self.release(n, 0);
                if !self.serve(n) {
                    self.pass(10_000, None);
                }
                self.listen();
                self.check();
            }
            while self.clients[n].engine.attempts() > 0 {
                if !self.serve(n) {
                    self.pass(10_000, None);
                }
            }
            assert_eq!(self.clients[n].engine.poll_timeout(), None);
        }
        // Whatever was left behind at the server is free by itself.
        self.pass(2 * 6_000_000, None);
        for text in NAMES {
            self.acquire(0, text, true, None);
        }
        let before = self.grants;
        while self.serve(0) {}
        self.listen();
        assert_eq!(self.grants, before + NAMES.len(), "a name stayed locked");
    }
}
