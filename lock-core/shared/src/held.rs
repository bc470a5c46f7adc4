//! The locks that one guard holds.

use crate::engine::Engine;
use crate::pin::{Pin, Pins};
use lock_core::config::ReleaseError;
use lock_core::{Fence, LockId, LockName, LostReason, NotPinnable, Release, Timing};
use std::time::Duration;

/// The locks that one guard holds: one, or several that were acquired together.
#[derive(Clone, Debug)]
pub struct Held {
    name: LockName,
    fence: Fence,
    /// All of them, if there are several.
    several: Vec<(LockName, Fence)>,
    timing: Timing,
    /// The timing is that of these locks alone.
    own: bool,
}

impl Held {
    /// The locks of an attempt that was wanted for `wanted` and granted with `fence`.
    pub fn of(engine: &Engine, id: LockId, wanted: &LockName, fence: Fence) -> Self {
        let name = engine.name(id).unwrap_or(wanted).clone();
        let own = engine.own_timing(id);
        let timing = own.unwrap_or(*engine.timing());
        Self { name, fence, several: engine.fences(id), timing, own: own.is_some() }
    }

    /// The fence of the one lock, or of the first.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// The number of the permit, if it is one of a semaphore.
    pub fn permit(&self) -> Option<u32> {
        self.name.as_permit().map(|(_, number)| number)
    }

    /// The time that a grant or renewal counts.
    pub fn valid_for(&self) -> Duration {
        self.timing.valid()
    }

    /// The time after which they end by themselves; `usual` if they have no TTL of their own.
    pub fn within(&self, usual: Duration) -> Duration {
        if self.own { self.timing.ttl() } else { usual }
    }

    /// Each lock with the fence of its grant, sorted by name.
    pub fn locks(&self) -> impl Iterator<Item = (&LockName, Fence)> {
        let one = self.several.is_empty().then_some((&self.name, self.fence));
        self.several.iter().map(|(name, fence)| (name, *fence)).chain(one)
    }

    /// The pin of each lock.
    pub fn pins<'a>(&'a self, pins: &'a Pins) -> impl Iterator<Item = Pin<'a>> {
        self.locks().map(move |(name, fence)| Pin { pins, name, fence })
    }

    /// The one lock.
    ///
    /// # Errors
    /// There are several, and no single statement pins them.
    pub fn only(&self) -> Result<(&LockName, Fence), NotPinnable> {
        match self.several.len() {
            0 | 1 => Ok((&self.name, self.fence)),
            _ => Err(NotPinnable::Several),
        }
    }
}

/// How a release is told to people and programs. A lock that was not freed ends by itself `within` that time.
///
/// # Errors
/// [`ReleaseError`], unless the release freed the lock.
pub fn released(release: Release, within: Duration) -> Result<(), ReleaseError> {
    match release {
        Release::NotOurs => Err(ReleaseError::Lost(LostReason::Taken)),
        Release::Gone(failure) => Err(ReleaseError::Lost(LostReason::Gone { failure })),
        Release::Unconfirmed(failure) => {
            Err(ReleaseError::Unconfirmed { reason: failure.to_string(), within })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use lock_core::{Config, Mode, Wanted, Which, table};

    /// Of a TTL of its own, which others have to wait for if the lock is not released.
    #[test]
    fn a_lock_with_its_own_ttl_counts_and_ends_by_that() {
        let [usual, own] = [30, 90].map(|ttl| Timing::new(Duration::from_secs(ttl)).expect("good"));
        let mut engine = Engine::new(table::capabilities("me", false), Config::new(usual, 1));
        let mut held = |name: &str, timing| {
            let name = LockName::new(name).expect("good");
            let (mode, which) = (Mode::Exclusive, Which::One(name.clone()));
            let wanted = Wanted { mode, once: true, give_up: None, timing, label: None };
            let id = engine.want(clock::now(), which, wanted);
            Held::of(&engine, id, &name, Fence::new(1))
        };
        for (name, timing, counts) in [("a", None, usual), ("b", Some(own), own)] {
            let held = held(name, timing);
            assert_eq!(held.valid_for(), counts.valid());
            assert_eq!(held.within(usual.ttl()), counts.ttl());
        }
    }
}
