//! The order of waiters: who claims a lock when it is freed, and what a waiter asks until then, and when. This
//! file is the whole policy; nothing that must be safe rests on it.
//!
//! A slot tells its [`Contention`] what it was told of the lock (denied, notified, seen free), and asks it when
//! to try again, and what to ask. The engine asks [`others_wait`] and keeps [`Cooldowns`].
//!
//! * The waiter that was denied first claims the lock as soon as it is freed.
//! * The waiters behind it are held back by a number of steps that shrinks with the square of how often they
//!   were overtaken: 24, 24, 14, 8, 5, 3½, … none. So they are not in its way, and the next to be denied first
//!   is most likely the one that has waited longest. A step is a round trip where all waiters are notified at
//!   once, and a quarter of it where each finds out by itself, for most do so later.
//! * A waiter that finds out by itself, and has seen the lock change hands, expects that again: it looks four
//!   times in the time that took, and if it was overtaken often, up to sixteen times. If the lock is kept for
//!   longer, it looks less often by and by: an eighth of that time apart. After a standstill, no waiter sleeps
//!   long while others go on.
//! * Consul notifies all waiters at once, and knows no first. There, a holder that frees a lock leaves word of
//!   how often it was overtaken. A waiter that was overtaken as often is next, and claims at once; any other is
//!   held back by a round trip for each time that it lacks, and then sees first whether the lock is still free.
//! * A process that frees what others wait for stays behind them, longer if there were many of them.
//!
//! No waiter is held back for long: not even if the first has died.

use crate::back_off::BackOff;
use crate::capabilities::Sessions;
use crate::name::LockName;
use crate::outcome::{Holder, Outcome};
use crate::request::Action;
use crate::slot::Context;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

/// By how many steps at most a waiter is held back.
const MOST: u32 = 24;
/// How often a waiter looks in the time in which a lock changes hands, before it is overtaken.
const LOOKS: u32 = 4;

/// The memory that an attempt has of its wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Contention {
    /// The request after a denial.
    on_busy: Action,
    /// The next request.
    next_action: Action,
    /// The place in the server's history at which the last wait ended.
    index: u64,
    /// The hold that the last denial told of.
    observed_hold: Option<Hold>,
    /// How long the hold before that lasted, hand-over and all.
    last_tenure: Option<Duration>,
    /// No other waiter was denied by that holder before.
    is_front_waiter: bool,
    /// The lock may have been freed while the claim was in flight.
    notified: bool,
    /// Hand-overs to others of which it was notified, or that it has seen.
    times_overtaken: u32,
    /// It has let others go first to what was freed.
    deferred: bool,
}

/// Another owner's hold, as a denial told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Hold {
    /// The time of the denial.
    seen_at: Instant,
    /// The beginning of the hold.
    taken_at: Instant,
}

impl Contention {
    /// Before the first claim.
    pub(crate) fn new(on_busy: Action) -> Self {
        Self {
            on_busy,
            next_action: Action::Acquire,
            index: 0,
            observed_hold: None,
            last_tenure: None,
            is_front_waiter: true,
            notified: false,
            times_overtaken: 0,
            deferred: false,
        }
    }

    /// Its process has just freed the lock for others that wait: it joins them.
    pub(crate) fn starts_behind(&mut self) {
        self.next_action = self.on_busy;
        self.is_front_waiter = false;
    }

    /// It looks before it claims, where a look takes nothing and does not wait.
    pub(crate) fn looks_first(&mut self) {
        if self.on_busy != Action::Wait {
            self.next_action = Action::Probe;
        }
    }

    // -- what to ask ------------------------------------------------------------------------------

    /// The next request.
    pub(crate) fn next_action(&self) -> Action {
        self.next_action
    }

    /// The place in the server's history at which a wait is to begin.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// How many others overtook it: what a release leaves word of.
    pub(crate) fn times_overtaken(&self) -> u32 {
        self.times_overtaken
    }

    // -- what it is told --------------------------------------------------------------------------

    /// Another has the lock.
    pub(crate) fn busy(&mut self) {
        self.next_action = self.on_busy;
    }

    /// Nobody has the lock, and nothing would tell when it is given away again.
    pub(crate) fn delayed(&mut self) {
        self.next_action = Action::Acquire;
    }

    /// Its claim has to be repeated.
    pub(crate) fn claims_again(&mut self) {
        self.next_action = Action::Acquire;
    }

    /// A wait has ended, up to `index` in the server's history, and the lock is still another's.
    pub(crate) fn unchanged(&mut self, index: u64, back_off: &mut BackOff) {
        if self.index > 0 && index > self.index {
            // It changed hands, and will again: as often as that, it is worth a look.
            back_off.reset();
            self.times_overtaken = self.times_overtaken.saturating_add(1);
        }
        self.deferred = false;
        // A history that goes backwards is another history: start over.
        self.index = if index < self.index { 0 } else { index };
    }

    /// It was seen free.
    pub(crate) fn free(&mut self) {
        self.index = 0;
        self.next_action = Action::Acquire;
    }

    /// It may have been freed while the claim is in flight.
    pub(crate) fn notified_in_flight(&mut self) {
        self.times_overtaken = self.times_overtaken.saturating_add(1);
        self.notified = true;
    }

    /// The wait at the server ended with its session.
    pub(crate) fn session_ended(&mut self) {
        self.index = 0;
    }

    // -- when to ask ------------------------------------------------------------------------------

    /// The time to claim, now that no local rival is in front any more: after the waiters for what its process has
    /// just freed. An attempt that does not wait asks at once.
    pub(crate) fn at_front(&self, once: bool, give_up: Instant, cx: &Context<'_>) -> Instant {
        let held_back = if once { cx.now } else { cx.cooldown_until.min(give_up) };
        cx.now.max(held_back)
    }

    /// The time to claim what was freed, as all waiters are notified.
    pub(crate) fn after_notification(&mut self, cx: &mut Context<'_>) -> Instant {
        self.times_overtaken = self.times_overtaken.saturating_add(1);
        self.behind_the_first(1, cx)
    }

    /// The time to claim what was seen free, or to see whether it still is. Its last holder was overtaken by so many,
    /// if that is known.
    pub(crate) fn after_free(
        &mut self,
        last: Option<u32>,
        back_off: &mut BackOff,
        cx: &mut Context<'_>,
    ) -> Instant {
        if self.on_busy != Action::Wait {
            return self.behind_the_first(4, cx);
        }
        // It has changed hands.
        back_off.reset();
        if core::mem::replace(&mut self.deferred, false) {
            return cx.now;
        }
        self.times_overtaken = self.times_overtaken.saturating_add(1);
        let ahead = last.unwrap_or(0).saturating_sub(self.times_overtaken).min(MOST);
        if ahead == 0 {
            return cx.now;
        }
        self.deferred = true;
        self.next_action = self.on_busy;
        let step = cx.timing.back_off(0, cx.round_trip);
        let back = step * ahead + cx.rng.jitter(step);
        cx.now.after(back.min(Timing::MAX_BACK_OFF))
    }

    /// The time of the next try after a denial of a claim sent at `sent`: when the lease in the way ends, but
    /// after a back-off at the latest, unless the server is sure to tell that it was freed.
    pub(crate) fn after_denial(
        &mut self,
        holder: Option<&Holder>,
        sent: Instant,
        back_off: &mut BackOff,
        cx: &mut Context<'_>,
    ) -> Instant {
        let told = cx.notified_since.is_some_and(|since| since <= sent);
        if let Some(holder) = holder {
            self.observe(holder, told, back_off, cx.now);
        }
        let soonest = cx.now.after(cx.timing.back_off(0, cx.round_trip));
        let expiry = holder.map(|holder| cx.now.after(holder.expires_in));
        if let (Some(expiry), true, false) = (expiry, told, self.notified) {
            back_off.reset();
            return expiry.max(soonest);
        }
        self.notified = false;
        let full = back_off.full(cx.timing, cx.round_trip);
        let retry_at = match self.pace(cx.now).filter(|pace| *pace < full) {
            Some(pace) => cx.now.after(cx.rng.jitter(pace)),
            None => back_off.next(cx.now, cx.timing, cx.round_trip, cx.rng),
        };
        expiry.map_or(retry_at, |at| at.clamp(soonest, retry_at.max(soonest)))
    }

    /// For how long its process stays behind those that wait for what it has freed.
    pub(crate) fn cooldown(&self, step: Duration) -> Duration {
        // The word that a release leaves holds it back by itself.
        let overtaken = if self.on_busy == Action::Wait { 0 } else { self.times_overtaken };
        (step * overtaken.saturating_add(2).min(MOST)).min(Timing::MAX_BACK_OFF)
    }

    // -- parts ------------------------------------------------------------------------------------

    fn behind_the_first(&mut self, steps_a_round_trip: u32, cx: &mut Context<'_>) -> Instant {
        if self.is_front_waiter {
            return cx.now.max(cx.cooldown_until);
        }
        let step = cx.timing.back_off(0, cx.round_trip) / steps_a_round_trip;
        let back = held_back(self.times_overtaken, step);
        // Jitter for equals, but not so much that it reverses the order.
        cx.now.after(back / 2 + cx.rng.jitter(back / 2)).max(cx.cooldown_until)
    }

    /// Notes whether another has the lock than at the last denial, and since when; `told` if changes are
    /// notified.
    fn observe(&mut self, holder: &Holder, told: bool, back_off: &mut BackOff, now: Instant) {
        let taken_at = now.before(holder.held_for);
        let last = self.observed_hold.replace(Hold { seen_at: now, taken_at });
        if last.is_some_and(|last| holder.held_for >= now.since(last.seen_at)) {
            return;
        }
        self.is_front_waiter = !holder.wanted;
        let Some(last) = last else { return };
        // It changed hands meanwhile, and may soon again.
        back_off.reset();
        if self.on_busy == Action::Probe || (self.on_busy == Action::Acquire && !told) {
            self.times_overtaken = self.times_overtaken.saturating_add(1);
            self.last_tenure = Some(taken_at.since(last.taken_at));
        }
    }

    /// How long to wait between two looks at a lock that has changed hands.
    fn pace(&self, now: Instant) -> Option<Duration> {
        let (tenure, hold) = self.last_tenure.zip(self.observed_hold)?;
        let pace = tenure / LOOKS * 12u32.saturating_sub(self.times_overtaken).max(3) / 12;
        Some(pace.max(now.since(hold.taken_at) / 8))
    }

    /// The state that tells waiters apart for a search through states.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        sent_at: impl Fn(Instant) -> Instant,
        index: impl Fn(u64) -> u64,
    ) -> Self {
        let hold =
            |hold: Hold| Hold { seen_at: sent_at(hold.seen_at), taken_at: Instant::default() };
        Self {
            index: index(self.index),
            observed_hold: self.observed_hold.map(hold),
            last_tenure: None,
            times_overtaken: self.times_overtaken.min(1),
            ..self.clone()
        }
    }
}

/// For how long a waiter is held back that was overtaken this often.
fn held_back(overtaken: u32, step: Duration) -> Duration {
    let back = step * 128 / overtaken.saturating_mul(overtaken).max(1);
    if back < step { Duration::ZERO } else { back.min(step * MOST).min(Timing::MAX_BACK_OFF) }
}

/// Whether others are likely to wait for what a release freed, by its outcome. Where no waiter says that it
/// waits, and the server has no queue, an attempt that had to wait itself is not alone.
pub(crate) fn others_wait(
    outcome: &Outcome,
    kind: Option<Sessions>,
    waited: impl FnOnce() -> bool,
) -> bool {
    match outcome {
        Outcome::DoneContended => true,
        Outcome::Done => kind == Some(Sessions::Records) && waited(),
        _ => false,
    }
}

/// Names that others wait for and that this process has just freed: until when the others go first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cooldowns {
    by_name: BTreeMap<LockName, Instant>,
    /// The same by time, and what has been replaced since.
    by_time: BTreeSet<(Instant, LockName)>,
}

impl Cooldowns {
    /// The time until which the others go first; it may be over.
    pub(crate) fn until(&self, name: &LockName) -> Option<Instant> {
        self.by_name.get(name).copied()
    }

    /// The others go first until then. Forgets what is over.
    pub(crate) fn begin(&mut self, now: Instant, name: LockName, until: Instant) {
        while let Some((over, name)) = self.by_time.first()
            && *over <= now
        {
            if self.by_name.get(name) == Some(over) {
                self.by_name.remove(name);
            }
            self.by_time.pop_first();
        }
        self.by_name.insert(name.clone(), until);
        self.by_time.insert((until, name));
    }

    /// The state for a search through states, with each time as `time` sees it.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
    ) -> alloc::vec::Vec<(LockName, Instant)> {
        self.by_name.iter().map(|(name, until)| (name.clone(), time(*until))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_that_was_overtaken_more_often_is_held_back_less() {
        let step = Duration::from_millis(10);
        let back = |overtaken| held_back(overtaken, step).as_millis() as u32;
        let backs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, u32::MAX].map(back);
        assert_eq!(backs, [240, 240, 240, 142, 80, 51, 35, 26, 20, 15, 12, 10, 0, 0, 0]);
    }

    #[test]
    fn no_waiter_is_held_back_for_long_though_the_server_is_slow() {
        for overtaken in 0..20 {
            assert!(held_back(overtaken, Timing::MAX_BACK_OFF) <= Timing::MAX_BACK_OFF);
        }
    }
}
