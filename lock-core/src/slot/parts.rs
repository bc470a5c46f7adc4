//! Parts of a step that change no phase: what is told, what is noted, and when to try again.

use super::context::Context;
use super::sight::{Known, Sight};
use super::state::{Interest, Phase, Slot, Watched};
use crate::error::Failure;
use crate::event::{Event, NotAcquired};
use crate::outcome::Holder;
use crate::time::Instant;

impl Slot {
    pub(super) fn not_acquired(&mut self, cx: &mut Context<'_>) {
        if let (Phase::Queued, Some(ahead)) = (self.phase, cx.ahead.take()) {
            self.denied |= ahead.known > Known::Nothing;
            self.failure = ahead.failure;
            (self.holder, self.outdated, self.withheld) = (ahead.holder, false, ahead.withheld);
        }
        if !self.denied && self.told == Known::Nothing && self.failure.is_none() {
            // Not even the first answer came: that somebody has the lock is not known.
            self.failure = Some(Failure::Unknown("no answer came in time".into()));
        }
        let holder = self.holder.take().filter(|_| !self.outdated);
        let why = match (self.failure.take(), self.once) {
            (Some(failure), _) => NotAcquired::Failed(failure),
            (None, _) if self.withheld => NotAcquired::Withheld,
            (None, true) => NotAcquired::Busy(holder),
            (None, false) => NotAcquired::TimedOut(holder),
        };
        self.tell(Event::NotAcquired { id: cx.id, of: None, why }, cx);
        self.interest = Interest::None;
    }

    /// Watches the lease in the way, from the arrival of the first answer that tells of this version: the server may have
    /// read it just before.
    pub(super) fn watch(&mut self, holder: Option<&mut Holder>, now: Instant) {
        let Some(holder) = holder else { return };
        let Some((version, ttl)) = holder.watched else { return };
        let known = self.watched.filter(|known| known.version == version);
        let since = known.map_or(now, |known| known.since);
        self.watched = Some(Watched { version, since, ttl });
        holder.expires_in = since.after(ttl).since(now);
    }

    /// The holder has released the lock, which is kept until then.
    pub(super) fn hears_of_the_end(&mut self, at: Instant, cx: &mut Context<'_>) {
        let Some(holder) = self.holder.as_mut().filter(|holder| !holder.kept) else { return };
        (holder.expires_in, holder.kept) = (at.since(cx.now), true);
        self.tell_waiting(self.holder.clone(), cx);
    }

    /// In the queue: when the attempt ends without the lock. One that does not wait ends as soon as somebody is known to have
    /// it. If nothing is known, the attempts ahead have not been answered yet, and it is owed their answer.
    pub(super) fn queued_until(&self, cx: &Context<'_>) -> Instant {
        match (cx.is_held(), self.once) {
            (true, true) => cx.now,
            (true, false) => self.give_up,
            (false, _) => self.limit(),
        }
    }

    /// In the queue: tells who has the lock, if it is known now and was not told. Once, and once more if
    /// at first it was only known that somebody has it.
    pub(super) fn hears(&mut self, cx: &mut Context<'_>) {
        let Some(ahead) = cx.ahead.take().filter(|ahead| ahead.known > self.told) else { return };
        let Sight { known, holder, withheld, .. } = ahead;
        let nothing_new = self.told == Known::Held && holder.is_none();
        (self.told, self.withheld) = (known, withheld);
        self.holder.clone_from(&holder);
        self.outdated = true;
        if !self.once && !nothing_new {
            self.tell_waiting(holder, cx);
        }
    }

    /// Somebody has the lock, and this is as much as is known of who; the caller has not been told that much.
    pub(super) fn somebody_has_it(&mut self, cx: &mut Context<'_>) {
        if self.told == Known::Nothing {
            self.told = Known::Held;
            self.tell_waiting(None, cx);
        }
    }

    pub(super) fn tell_waiting(&self, holder: Option<Holder>, cx: &mut Context<'_>) {
        let (id, withheld) = (cx.id, self.withheld);
        self.tell(Event::Waiting { id, of: None, holder, withheld }, cx);
    }

    /// Its caller has another lock instead, and is told no more.
    pub(crate) fn forget_caller(&mut self) {
        self.interest = Interest::None;
    }

    /// The caller asks for the release. If its attempt had ended already, it is told no more.
    pub(super) fn no_more_of_it(&mut self) {
        if self.interest == Interest::Grant {
            self.interest = Interest::Release;
        }
    }

    /// A request was not answered, and the session lives on.
    pub(super) fn may_have_stragglers(&mut self, cx: &mut Context<'_>) {
        if cx.in_record() {
            self.stragglers_until = Some(cx.timing.surely_over(cx.now));
        }
    }

    /// When to try again after a failure.
    pub(super) fn back_off(&mut self, cx: &mut Context<'_>) -> Instant {
        self.back_off.next(cx.now, cx.timing, cx.round_trip, cx.rng)
    }

    /// The lease lasts longer now. That is told, or the grant that waited for it, unless this comes late itself.
    pub(super) fn extended(&mut self, deadline: Instant, cx: &mut Context<'_>) {
        let id = cx.id;
        match self.untold {
            Some(_) if cx.is_late(deadline) => {}
            Some(fence) => {
                self.untold = None;
                self.tell(Event::Granted { id, fence, deadline }, cx);
            }
            None => self.tell(Event::Renewed { id, deadline }, cx),
        }
    }

    /// The lease could not be extended.
    pub(super) fn not_extended(&self, failure: Failure, deadline: Instant, cx: &mut Context<'_>) {
        let id = cx.id;
        match self.untold {
            Some(_) => self.tell(Event::Trouble { id, failure }, cx),
            None => self.tell(Event::RenewalFailed { id, failure, deadline }, cx),
        }
    }

    pub(super) fn tell(&self, event: Event, cx: &mut Context<'_>) {
        if self.interest == Interest::Grant {
            cx.events.push_back(event);
        }
    }
}
