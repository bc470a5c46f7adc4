//! A waiter's place in the line for a lock of a table.
//!
//! The server lets waiters go in turn: see [`table`](crate::table). What is decided here is when a waiter asks, so that
//! one claims what was freed, and the others ask nothing:
//!
//! * Where the server notifies, those near the front are notified whose turn it is. The others are not, for a
//!   notification wakes all that listen. Where a hold takes [long](SLOW), notifications are rare, and all are notified.
//! * A waiter that is not notified looks in proportion to its distance and to the time that a turn takes: once in seven
//!   eighths of what is ahead, once in half of it if it is near, and [`LOOKS`] times in a turn when it is the next.
//! * That time is the mean of many turns, and is known to the next attempt of the same process if that follows soon: a few
//!   turns say little, for one that is missed takes ten times as long. Whoever expects them all to be so slow comes late, and
//!   misses its own. So whoever has seen few looks once in a third of what is ahead.
//! * Where all begin at once, the first turns are slow, for the server is busy with their claims. So each waiter begins as if a
//!   turn took 2 ms at most, and twice as much with each look.
//! * Those ahead may have died. Whoever is notified of nothing more looks once they have had the time to claim, by the
//!   [server's rule](GRACE): whoever comes later is passed over by those that came after it.
//!   Nobody sleeps for more than a second without being notified, unless those ahead have more time than that to claim.
//! * While nothing changes, all look less often by and by: an eighth of that time apart.

use super::Before;
use crate::outcome::{Holder, Place};
use crate::request::Turn;
use crate::slot::Context;
use crate::table::GRACE;
use crate::time::Instant;
use crate::timing::Timing;
use core::time::Duration;

/// A waiter with fewer ahead of it is to be notified.
const NEAR: u64 = 8;
/// A waiter with as many ahead of it need not be. Between the two, it stays as it was.
const FAR: u64 = 16;
/// Where a hold takes so long, each waiter is to be notified, until one takes less than half of that.
const SLOW: Duration = Duration::from_millis(500);
/// Of how many turns the mean is known, about. Older ones count ever less.
const MEMORY: u32 = 256;
/// How often the next in line looks in the time of a turn.
const LOOKS: u32 = 6;

/// The place of one waiter, and what it knows of the line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    order: Order,
    place: Option<Place>,
    /// The ticket of an attempt before it, which it takes over.
    kept: Option<u64>,
    is_near: bool,
    /// The last thing that it was told.
    seen: Option<Seen>,
    pace: Pace,
    /// How often it has looked.
    looks: u32,
    /// How often in a row it was told that nobody has the lock, and that it is left to those ahead, who did not claim it.
    reserved: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Order {
    /// It draws a ticket, and waits for its turn.
    #[default]
    Strict,
    /// It draws a ticket, and takes what is free.
    Loose,
    /// It takes what is free, and draws a ticket once it was denied.
    Late,
}

/// How far the line had come at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Seen {
    /// When that was told.
    at: Instant,
    /// When it had come so far.
    since: Instant,
    /// The last ticket that had its turn; unknown where there are none.
    served: Option<u64>,
}

/// How long turns take, as far as it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pace {
    time: Duration,
    turns: u32,
    /// The same of what was seen last.
    last: Option<Duration>,
}

impl Seen {
    /// Whether the same hold goes on: one that began after this was seen is another. One that begins in the server's future
    /// says nothing: its clock was set back.
    fn is_still(self, holder: &Holder, now: Instant) -> bool {
        holder.held_for.is_zero() || holder.held_for >= now.since(self.at)
    }
}

impl Pace {
    /// So many turns took so long.
    fn add(&mut self, time: Duration, turns: u64) {
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        self.last = time.checked_div(turns);
        self.time += time;
        self.turns = self.turns.saturating_add(turns);
        while self.turns > MEMORY {
            (self.time, self.turns) = (self.time / 2, self.turns / 2);
        }
    }

    /// Whether so many turns were seen that the mean can be relied on.
    fn is_known(self) -> bool {
        self.turns >= MEMORY / 2
    }

    /// How long it takes until the next has its turn: whoever expects too little only looks once more.
    fn turn(self) -> Option<Duration> {
        let mean = self.time.checked_div(self.turns)?;
        Some(self.last.map_or(mean, |last| mean.min(last)))
    }
}

impl Default for Line {
    fn default() -> Self {
        Self {
            order: Order::Strict,
            place: None,
            kept: None,
            is_near: true,
            seen: None,
            pace: Pace::default(),
            looks: 0,
            reserved: 0,
        }
    }
}

impl Line {
    pub(super) fn loosen(&mut self) {
        self.order = Order::Loose;
    }

    pub(super) fn draws_once_denied(&mut self) {
        self.order = Order::Late;
    }

    pub(super) fn turn(&self) -> Turn {
        let ticket = self.place.map(|place| place.ticket).or(self.kept);
        match self.order {
            Order::Strict => Turn::Of(ticket),
            Order::Loose => Turn::Loose(ticket),
            Order::Late if self.seen.is_none() => Turn::Any,
            Order::Late => Turn::Of(ticket),
        }
    }

    pub(super) fn is_near(&self) -> bool {
        self.is_near
    }

    /// Whether a release is sure to be told for it.
    pub(super) fn has_ticket(&self) -> bool {
        self.place.is_some()
    }

    /// The pace at which it has seen the line go on.
    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    // -- what it is told --------------------------------------------------------------------------

    /// An attempt before it has seen this.
    pub(super) fn follows(&mut self, before: &Before) {
        (self.pace, self.kept) = (before.pace, before.ticket);
    }

    /// Its process has just freed the lock, and others wait.
    pub(super) fn lets_others_go_first(&mut self) {
        if self.order == Order::Late {
            self.order = Order::Strict;
        }
    }

    /// Another has the lock. Whether that is news.
    pub(super) fn sees_holder(&mut self, holder: &Holder, now: Instant) -> bool {
        let same = self.seen.is_some_and(|seen| seen.is_still(holder, now));
        let since = match self.seen {
            Some(seen) if same => seen.since,
            _ => now.before(holder.held_for),
        };
        if let Some(place) = holder.place {
            self.stands_at(place, now.since(since));
        }
        let served = self.place.map(|place| place.ticket.saturating_sub(place.ahead + 1));
        let known = self.seen.is_some();
        self.reserved = 0;
        self.has_come_to(Seen { at: now, since, served }, !same);
        known && !same
    }

    /// Nobody has the lock, and it is left to those ahead.
    pub(super) fn is_at(&mut self, place: Place, now: Instant) {
        self.stands_at(place, self.age(now));
        let served = Some(place.ticket.saturating_sub(place.ahead + 1));
        // Where the line moves on, those ahead are alive.
        let moves = self.seen.is_some_and(|seen| seen.served != served);
        self.reserved = if moves { 0 } else { self.reserved.saturating_add(1) };
        self.has_come_to(Seen { at: now, since: now, served }, false);
    }

    /// It is the turn of this ticket. Whether the line has moved on.
    pub(super) fn hears(&mut self, ticket: u64, now: Instant) -> bool {
        let Some(place) = self.place else { return false };
        self.reserved = 0;
        let ahead = self.ahead(ticket);
        if ahead >= place.ahead {
            return false;
        }
        self.stands_at(Place { ahead, ..place }, self.age(now));
        let served = Some(ticket.saturating_sub(1));
        self.has_come_to(Seen { at: now, since: now, served }, false);
        true
    }

    /// The time since it has seen that the line had come so far.
    fn age(&self, now: Instant) -> Duration {
        self.seen.map_or(Duration::ZERO, |seen| now.since(seen.since))
    }

    /// It has this place, and a hold took so long, or takes so long by now.
    fn stands_at(&mut self, place: Place, hold: Duration) {
        let first = self.place.is_none_or(|known| known.ticket != place.ticket);
        let (limit, slow) = if first || self.is_near { (FAR, SLOW / 2) } else { (NEAR, SLOW) };
        self.is_near = place.ahead < limit || hold >= slow;
        self.place = Some(place);
    }

    fn has_come_to(&mut self, new: Seen, changed_hands: bool) {
        let Some(old) = self.seen.replace(new) else { return };
        let turns = match (old.served, new.served) {
            (Some(old), Some(new)) => new.saturating_sub(old),
            _ => u64::from(changed_hands),
        };
        if turns > 0 {
            self.pace.add(new.since.since(old.since), turns);
        } else if !changed_hands {
            // The turn goes on.
            self.seen = Some(Seen { since: old.since, ..new });
        }
    }

    // -- how long it waits ------------------------------------------------------------------------

    /// How many are ahead of it when it is the turn of `ticket`.
    pub(super) fn ahead(&self, ticket: u64) -> u64 {
        self.place.map_or(0, |place| place.ticket.saturating_sub(ticket))
    }

    /// How many are ahead of it, as far as it knows.
    pub(super) fn ahead_now(&self) -> u64 {
        self.place.map_or(0, |place| place.ahead)
    }

    /// How long so many ahead may take until one of them has claimed what is free. In each grace, as many more are given up.
    /// Whoever keeps to no order lets them go first by a round trip each.
    pub(super) fn patience(&self, ahead: u64, cx: &Context<'_>) -> Duration {
        if self.order == Order::Loose {
            let ahead = u32::try_from(ahead.min(FAR)).unwrap_or_default();
            return cx.timing.back_off(0, cx.round_trip) * ahead;
        }
        self.grace() * graces(ahead)
    }

    /// How long those ahead may still take, once it was told that what is free is left to them: at least one grace more. That may
    /// be longer than it thinks, and has to be met before it is over for those behind, too; so it looks after ever longer
    /// parts of the time for which it has waited.
    pub(super) fn patience_left(&self, cx: &Context<'_>) -> Duration {
        let ahead = self.ahead_now();
        let Some(again) = self.reserved.checked_sub(1) else { return self.patience(ahead, cx) };
        let doublings = again / graces(ahead).max(1);
        let [_, most] = GRACE;
        (self.grace() * (1 << doublings.min(4))).min(most)
    }

    /// How long the server leaves what was freed to the next ticket: as long as turns take, so long it was taken, about.
    fn grace(&self) -> Duration {
        let [least, most] = GRACE;
        (self.pace.turn().unwrap_or_default() / 4).clamp(least, most)
    }

    /// How long to wait until the next look, once it is known how long a turn takes. With `told`, it is notified when it is
    /// near.
    pub(super) fn looks_after(&mut self, told: bool, cx: &Context<'_>) -> Option<Duration> {
        let (turn, seen) = self.pace.turn().zip(self.seen)?;
        let (ahead, age) = (self.ahead_now(), cx.now.since(seen.since));
        let [_, most] = GRACE;
        if ahead == 0 {
            // What is freed is left to it for no longer.
            return Some((turn / LOOKS).max(age / 8).min(most));
        }
        let until_near = if told { ahead.saturating_sub(NEAR / 2).max(1) } else { ahead };
        let turns = u32::try_from(until_near).unwrap_or(u32::MAX);
        let longest = self.patience(ahead, cx).max(Timing::MAX_BACK_OFF);
        let all = turn.saturating_mul(turns);
        let pause = if !self.pace.is_known() {
            all / 3
        } else if told || ahead >= NEAR {
            all / 8 * 7
        } else {
            all / 2
        };
        self.looks = self.looks.saturating_add(1);
        let trusted = cx.timing.back_off(self.looks, Duration::ZERO).saturating_mul(turns);
        Some(pause.min(trusted).max(age / 8).min(longest))
    }

    /// Its ticket, if it was told of one.
    pub(super) fn ticket(&self) -> Option<u64> {
        self.place.map(|place| place.ticket)
    }

    /// The state that tells waiters apart for a search through states, with each ticket as `ticket` sees it. How long turns
    /// take is left out: what follows from it is too short to be seen on a grid.
    #[cfg(feature = "sim")]
    pub(super) fn project(
        &self,
        sent_at: impl Fn(Instant) -> Instant,
        ticket: impl Fn(u64) -> u64,
    ) -> Self {
        let place = self.place.map(|place| Place { ticket: ticket(place.ticket), ..place });
        let seen = |seen: Seen| {
            let served = seen.served.map(&ticket);
            Seen { at: sent_at(seen.at), since: Instant::default(), served }
        };
        let (kept, seen) = (self.kept.map(&ticket), self.seen.map(seen));
        Self { place, kept, seen, pace: Pace::default(), looks: 0, reserved: 0, ..self.clone() }
    }
}

/// The number of graces until so many are given up.
fn graces(ahead: u64) -> u32 {
    u64::BITS - ahead.leading_zeros()
}
