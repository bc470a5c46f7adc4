//! Who goes first among those that are all told, at once, that a lock was freed.
//!
//! * Who was the first to be denied claims at once: nobody is waited for.
//! * Those behind it are held back by a number of steps, of a round trip each, that shrinks with the
//!   square of how often they were passed over: 24, 24, 14, 8, 5, 3½, … none. So they are not in its
//!   way, and the next to be denied first is most likely the one that has waited longest.
//! * Who frees what others wait for stays behind them, longer if there were many of them.
//!
//! Nothing that must be safe rests on it, and nobody is held back for long: not even if the first has
//! died.

use super::state::{Context, Slot};
use crate::time::Instant;
use crate::timing::Timing;
use core::time::Duration;

/// By how many steps at most somebody is held back.
const MOST: u32 = 24;

impl Slot {
    /// When to claim what was freed.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> Instant {
        self.passed = self.passed.saturating_add(1);
        if !self.holder.as_ref().is_some_and(|holder| holder.wanted) {
            return cx.now.max(cx.not_before);
        }
        let back = held_back(self.passed, cx.timing.back_off(0, cx.round_trip));
        // Jitter for equals, but not so much that it reverses the order.
        cx.now.after(back / 2 + cx.rng.jitter(back / 2)).max(cx.not_before)
    }

    /// For how long it stays behind those that wait for what it has freed.
    pub(crate) fn yields(&self, step: Duration) -> Duration {
        (step * self.passed.saturating_add(2).min(MOST)).min(Timing::MAX_BACK_OFF)
    }
}

/// For how long one is held back that was passed over this often.
fn held_back(passed: u32, step: Duration) -> Duration {
    let back = step * 128 / passed.saturating_mul(passed).max(1);
    if back < step { Duration::ZERO } else { back.min(step * MOST).min(Timing::MAX_BACK_OFF) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_passed_over_more_often_is_held_back_less() {
        let step = Duration::from_millis(10);
        let back = |passed| held_back(passed, step).as_millis() as u32;
        let backs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, u32::MAX].map(back);
        assert_eq!(backs, [240, 240, 240, 142, 80, 51, 35, 26, 20, 15, 12, 10, 0, 0, 0]);
    }

    #[test]
    fn nobody_is_held_back_for_long_though_the_server_is_slow() {
        for passed in 0..20 {
            assert!(held_back(passed, Timing::MAX_BACK_OFF) <= Timing::MAX_BACK_OFF);
        }
    }
}
