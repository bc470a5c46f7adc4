//! One row of a lock table in memory.

use crate::fence::Fence;
use crate::name::Owner;
use crate::outcome::{Holder, Place};
use crate::request::{LeaseVersion, Turn};
use crate::table::GRACE;
use crate::time::Instant;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::time::Duration;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Whose lease it is; [`None`] after a release.
    pub owner: Option<Owner>,
    /// The last grant's fence.
    pub fence: u64,
    /// When the lease ends, on the server's clock.
    pub expires: Instant,
    /// How long it lasts when it is granted or renewed.
    pub ttl: Duration,
    /// When it was granted, on the server's clock.
    pub acquired: Instant,
    /// For people.
    pub holder: Arc<str>,
    /// The last ticket that was drawn.
    pub queue: u64,
    /// The last ticket that had its turn.
    pub served: u64,
}

impl Row {
    /// Has a lease end a TTL from now that ends later than it can. Not by the time at which the statement
    /// began, for it may have been renewed since.
    pub(super) fn correct(&mut self, clock: Option<Instant>) {
        if let Some(now) = clock
            && now.after(self.ttl + LATE) < self.expires
        {
            self.expires = now.after(self.ttl);
            self.acquired = self.acquired.min(now);
        }
    }

    /// It was released, and nobody has it.
    pub(super) fn is_kept(&self) -> bool {
        self.owner == Some(Owner::KEPT)
    }

    /// Leaves it taken until so long after its grant; false if that is over.
    pub(super) fn keep(&mut self, now: Instant, keep: Duration) -> bool {
        let ends = self.acquired.min(now).after(keep);
        let lasts = now < ends;
        self.owner = lasts.then_some(Owner::KEPT);
        if lasts {
            (self.expires, self.ttl) = (ends, ends.since(now));
        } else {
            self.expires = self.expires.min(now);
        }
        lasts
    }

    /// Whether it is the turn of a claim, if the row is free by `now`: nobody is ahead but those that have had the time to
    /// claim. The claim may have waited for the row since `now`, so that this was freed later; but not for a second, unless the
    /// clock was set back. Then nobody knows how long it has been free, and there are no turns.
    pub(in super::super) fn is_turn_of(&self, turn: Turn, now: Instant) -> bool {
        let Turn::Of(ticket) = turn else { return true };
        let ticket = ticket.unwrap_or(u64::MAX).min(self.queue + 1);
        let ahead = ticket.saturating_sub(self.served + 1);
        let graces = 4 * now.since(self.expires).as_micros() / self.taken_for().as_micros();
        now.after(LATE) < self.expires || ahead < 1 << graces.min(62)
    }

    /// The time for which it was taken, as it counts for those that wait.
    fn taken_for(&self) -> Duration {
        let [least, most] = GRACE;
        self.expires.since(self.acquired).clamp(4 * least, 4 * most)
    }

    /// When the first of those ahead is given up, once the row is free.
    pub(super) fn given_up_at(&self) -> Instant {
        self.expires.after(self.taken_for() / 4)
    }

    /// A claim was granted: those ahead of it have had their turn.
    pub(super) fn serve(&mut self, turn: Turn) {
        self.served = self.served.max(ticket(turn).min(self.queue));
    }

    /// The place of a claim that is denied. It draws a ticket if it has none that will have its turn.
    pub(in super::super) fn draw(&mut self, turn: Turn) -> Option<Place> {
        let (Turn::Of(drawn) | Turn::Loose(drawn)) = turn else { return None };
        let is_good = |ticket: &u64| (self.served + 1..=self.queue).contains(ticket);
        let ticket = drawn.filter(is_good).unwrap_or_else(|| {
            self.queue = self.queue.max(self.served) + 1;
            self.queue
        });
        Some(Place { ticket, ahead: ticket - self.served - 1 })
    }

    pub(super) fn is(&self, version: LeaseVersion) -> bool {
        self.owner.is_some() && self.version() == version
    }

    pub(super) fn version(&self) -> LeaseVersion {
        let expiry = i64::try_from(self.expires.as_micros()).unwrap_or(i64::MAX);
        LeaseVersion { fence: Fence::new(self.fence), expiry }
    }

    /// The words of a denial about the holder. A silent table says nothing but what is watched.
    pub(super) fn told(
        &self,
        now: Instant,
        place: Option<Place>,
        table: (bool, bool),
    ) -> Option<Holder> {
        let (tells_holder, watched) = table;
        // A kept lock ends by the table's clock, unless that was set back.
        let by_clock = self.is_kept() && self.expires <= now.after(self.ttl + LATE);
        let watched = (watched && !by_clock).then(|| (self.version(), self.ttl));
        let mut holder = Holder {
            label: self.holder.to_string(),
            held_for: now.since(self.acquired),
            expires_in: self.expires.since(now),
            place,
            kept: self.is_kept(),
            watched,
        };
        if !tells_holder {
            watched?;
            (holder.held_for, holder.expires_in) = (Duration::ZERO, Duration::ZERO);
            holder.place = None;
        }
        Some(holder)
    }
}

/// The ticket of a claim, 0 if it has none.
pub(super) fn ticket(turn: Turn) -> u64 {
    match turn {
        Turn::Of(ticket) | Turn::Loose(ticket) => ticket.unwrap_or_default(),
        Turn::Any => 0,
    }
}

/// By how much each renewal moves the expiry at least.
pub(super) const MICROSECOND: Duration = Duration::from_micros(1);
/// A lease that ends so much later than its TTL allows is a sign that the clock was set back.
const LATE: Duration = Duration::from_secs(1);
