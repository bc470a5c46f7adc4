//! Who goes first among those that wait for one lock.
//!
//! * Who was the first to be denied claims at once what was freed: nobody is waited for.
//! * Those behind it are held back by a number of steps that shrinks with the square of how often they
//!   were passed over: 24, 24, 14, 8, 5, 3½, … none. So they are not in its way, and the next to be
//!   denied first is most likely the one that has waited longest. A step is a round trip where all are
//!   told at once, and a quarter of it where each finds out by itself, for most do so later.
//! * Who finds out by itself, and has seen the lock change hands, expects that again: it looks four
//!   times in the time that took, and if it was passed over often, up to sixteen times. If the lock
//!   is kept for longer, it looks less often by and by: an eighth of that time apart. After a
//!   standstill, nobody sleeps long while others go on.
//! * Consul tells all at once, and knows no first. There, who frees a lock leaves word of how often it
//!   was passed over. Who was passed over as often is next, and claims at once; anybody else is held back
//!   by a round trip for each time that it lacks, and then sees first whether it is still free.
//! * Who frees what others wait for stays behind them, longer if there were many of them.
//!
//! Nothing that must be safe rests on it, and nobody is held back for long: not even if the first has
//! died.

use super::state::{Context, Hold, Slot};
use crate::protocol::Action;
use crate::time::Instant;
use crate::timing::Timing;
use core::time::Duration;

/// By how many steps at most somebody is held back.
const MOST: u32 = 24;
/// How often somebody looks in the time in which a lock changes hands, before it is passed over.
const LOOKS: u32 = 4;

impl Slot {
    /// Its process has just freed the lock, for others that wait: it joins them.
    pub(crate) fn comes_behind(&mut self) {
        if !self.once {
            self.next = self.again;
            self.first = false;
        }
    }

    /// When to claim, now that no local rival is in front any more: after those that wait for what its
    /// process has just freed. Whoever will not wait, for them either, asks at once.
    pub(super) fn comes_to_front(&self, cx: &Context<'_>) -> Instant {
        let held_back = if self.once { cx.now } else { cx.not_before.min(self.give_up) };
        cx.now.max(held_back)
    }

    /// When to claim what was freed, as all that wait are told.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> Instant {
        self.passed = self.passed.saturating_add(1);
        self.behind_the_first(1, cx)
    }

    /// When to claim what it has found free, or to see whether it still is. Its last holder was passed
    /// over by so many, if that is known.
    pub(super) fn found(&mut self, last: Option<u32>, cx: &mut Context<'_>) -> Instant {
        if self.again == Action::Look {
            return self.behind_the_first(4, cx);
        }
        // It has changed hands.
        self.failures = 0;
        if core::mem::replace(&mut self.held_back, false) {
            return cx.now;
        }
        self.passed = self.passed.saturating_add(1);
        let ahead = last.unwrap_or(0).saturating_sub(self.passed).min(MOST);
        if ahead == 0 {
            return cx.now;
        }
        self.held_back = true;
        self.next = self.again;
        let step = cx.timing.back_off(0, cx.round_trip);
        let back = step * ahead + cx.rng.jitter(step);
        cx.now.after(back.min(Timing::MAX_BACK_OFF))
    }

    fn behind_the_first(&mut self, steps_a_round_trip: u32, cx: &mut Context<'_>) -> Instant {
        if self.first {
            return cx.now.max(cx.not_before);
        }
        let step = cx.timing.back_off(0, cx.round_trip) / steps_a_round_trip;
        let back = held_back(self.passed, step);
        // Jitter for equals, but not so much that it reverses the order.
        cx.now.after(back / 2 + cx.rng.jitter(back / 2)).max(cx.not_before)
    }

    /// Notes whether another has the lock than at the last denial, and since when; `told` if changes are
    /// told.
    pub(super) fn watch_hands(&mut self, told: bool, now: Instant) {
        let Some(holder) = &self.holder else { return };
        let taken_at = now.before(holder.held_for);
        let last = self.hold.replace(Hold { seen_at: now, taken_at });
        if last.is_some_and(|last| holder.held_for >= now.since(last.seen_at)) {
            return;
        }
        self.first = !holder.wanted;
        let Some(last) = last else { return };
        // It changed hands meanwhile, and may soon again.
        self.failures = 0;
        if self.again == Action::Look || (self.again == Action::Acquire && !told) {
            self.passed = self.passed.saturating_add(1);
            self.turn = Some(taken_at.since(last.taken_at));
        }
    }

    /// How long to wait between two looks at a lock that has changed hands.
    pub(super) fn pace(&self, now: Instant) -> Option<Duration> {
        let (turn, hold) = self.turn.zip(self.hold)?;
        let pace = turn / LOOKS * 12u32.saturating_sub(self.passed).max(3) / 12;
        Some(pace.max(now.since(hold.taken_at) / 8))
    }

    /// For how long it stays behind those that wait for what it has freed.
    pub(crate) fn yields(&self, step: Duration) -> Duration {
        // What is left word of holds it back by itself.
        let passed = if self.again == Action::Wait { 0 } else { self.passed };
        (step * passed.saturating_add(2).min(MOST)).min(Timing::MAX_BACK_OFF)
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
