//! When to try again what failed or was denied: ever later, from a round trip up to a second, with jitter.

use crate::rng::Rng;
use crate::time::Instant;
use crate::timing::Timing;
use core::time::Duration;

/// Failures and denials in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct BackOff(u32);

impl BackOff {
    /// The next failure is the first.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }

    /// How long to wait after the next failure, before jitter.
    pub(crate) fn full(self, timing: &Timing, round_trip: Duration) -> Duration {
        timing.back_off(self.0, round_trip)
    }

    /// It failed: when to try again.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        timing: &Timing,
        round_trip: Duration,
        rng: &mut Rng,
    ) -> Instant {
        let full = self.full(timing, round_trip);
        self.0 = self.0.saturating_add(1);
        now.after(rng.jitter(full))
    }

    /// No more than whether there was a failure: for a search through states.
    #[cfg(feature = "sim")]
    pub(crate) fn project(self) -> Self {
        Self(self.0.min(1))
    }
}
