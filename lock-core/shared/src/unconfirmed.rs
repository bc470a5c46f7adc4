//! Locks that the server may still hold although nobody wants them any more.

use crate::engine::Engine;
use crate::held::Held;
use lock_core::config::ShutdownError;
use lock_core::{Instant, LockId, Release};
use std::collections::BTreeSet;
use std::time::Duration;

/// Locks that the server may still hold although nobody wants them any more. No request about them follows.
#[derive(Debug)]
pub struct Unconfirmed {
    locks: usize,
    within: Duration,
    /// The moment at which all of their leases have ended.
    until: Instant,
    /// Guards that hold nothing any more: their lock is lost, and there is no other.
    lost: BTreeSet<LockId>,
}

impl Unconfirmed {
    /// None. An unreleased lock ends by itself `within` that time, unless it has a TTL of its own.
    pub fn new(within: Duration) -> Self {
        Self { locks: 0, within, until: Instant::from_nanos(0), lost: BTreeSet::new() }
    }

    /// The time after which an unreleased lock has ended, whichever of those that were granted.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// Notes that `held` was granted.
    pub fn granted(&mut self, held: &Held) {
        self.within = self.within.max(held.within(self.within));
    }

    /// Notes how a release ended.
    pub fn released(&mut self, now: Instant, release: &Release) {
        if matches!(release, Release::Unconfirmed(_)) {
            self.locks = self.at(now) + 1;
            self.until = now.after(self.within);
        }
    }

    /// Notes that the lock of a guard was lost.
    pub fn lost(&mut self, engine: &Engine, id: LockId) {
        // Of several, the others are held until the guard is gone.
        if !engine.is_for_several(id) {
            self.lost.insert(id);
        }
    }

    /// Notes that a guard is gone.
    pub fn gone(&mut self, id: LockId) {
        self.lost.remove(&id);
    }

    /// Of so many guards and attempts of the engine's, those that hold their locks, and those that are theirs or wait for an
    /// answer. What is lost stays with its guard, and nobody needs to wait for it.
    pub fn unsettled(&self, guards: usize, attempts: usize) -> (usize, usize) {
        let lost = self.lost.len();
        (guards.saturating_sub(lost), attempts.saturating_sub(lost))
    }

    /// The result of a shutdown that ends now, when `guards` of the engine's `attempts` are guards and the others are
    /// not settled.
    ///
    /// # Errors
    /// [`ShutdownError`] if it leaves locks behind.
    pub fn left(&self, now: Instant, guards: usize, attempts: usize) -> Result<(), ShutdownError> {
        let (guards, attempts) = self.unsettled(guards, attempts);
        let locks = self.at(now) + attempts.saturating_sub(guards);
        match (guards, locks) {
            (0, 0) => Ok(()),
            (0, locks) => Err(ShutdownError::Unconfirmed { locks, within: self.within }),
            (guards, _) => Err(ShutdownError::Held { guards }),
        }
    }

    fn at(&self, now: Instant) -> usize {
        if now < self.until { self.locks } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::Failure;

    const TTL: Duration = Duration::from_secs(30);

    #[test]
    fn what_was_not_confirmed_is_left_until_its_lease_is_over() {
        let (now, mut unconfirmed) = (Instant::from_nanos(5), Unconfirmed::new(TTL));
        let refused = Release::Unconfirmed(Failure::refused("no".to_string()));
        for release in [&refused, &Release::Freed, &Release::NotOurs, &refused] {
            unconfirmed.released(now, release);
        }
        let left = |locks| Err(ShutdownError::Unconfirmed { locks, within: TTL });
        assert_eq!(unconfirmed.left(now, 0, 0), left(2));
        assert_eq!(unconfirmed.left(now, 0, 1), left(3), "one is not settled");
        let held = Err(ShutdownError::Held { guards: 1 });
        assert_eq!(unconfirmed.left(now, 1, 1), held);
        let over = now.after(TTL);
        assert_eq!(unconfirmed.left(over, 0, 0), Ok(()));
        unconfirmed.released(over, &refused);
        assert_eq!(unconfirmed.left(over, 0, 0), left(1), "the first two have ended");
    }
}
