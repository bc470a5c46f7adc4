//! Which phase follows upon an answer. [`Slot::step`] changes it.

use super::context::Context;
use super::sight::Known;
use super::state::{Phase, Slot};
use crate::error::{Failure, LostReason};
use crate::event::{Event, Release};
use crate::outcome::{Holder, Outcome, Place};
use crate::request::{Action, SessionName};
use crate::time::Instant;

impl Slot {
    /// What the server said at the end of a wait, or at once.
    pub(super) fn waited(
        &mut self,
        sent: Instant,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) -> Phase {
        if cx.now.since(sent) >= cx.timing.wait() / 2 {
            // It did wait: asking it again at once is not asking again and again.
            self.back_off.reset();
        }
        match outcome {
            Outcome::Unchanged { index } => {
                if self.contention.waits_for().is_none() {
                    // Whatever earlier requests of ours did, the lock is another's now.
                    self.may_hold_until = None;
                }
                self.contention.unchanged(index, &mut self.back_off);
                let holder = self.holder.clone().filter(|_| !self.outdated);
                self.denied(holder, false, sent, cx)
            }
            Outcome::Free => {
                (self.outdated, self.withheld) = (true, false);
                if self.wanted() {
                    Phase::Waiting { retry_at: self.contention.free(&mut self.back_off, cx) }
                } else {
                    self.abandon(cx)
                }
            }
            outcome => self.claimed(sent, true, Ok(outcome), cx),
        }
    }

    pub(super) fn claimed(
        &mut self,
        sent: Instant,
        waiting: bool,
        answer: Result<Outcome, Failure>,
        cx: &mut Context<'_>,
    ) -> Phase {
        let now = cx.now;
        match answer {
            Ok(Outcome::Granted(fence)) => {
                self.may_hold_until = Some(cx.exposure());
                let deadline = cx.deadline(sent);
                if !self.wanted() {
                    return self.abandon(cx);
                }
                if deadline <= now {
                    // The grant may already have ended at the server. Claiming again as the same
                    // owner gets a whole lease, or tells who has it now.
                    return self.try_again(
                        Failure::Unknown("the grant came too late to count".into()),
                        cx,
                    );
                }
                self.granted_at = now;
                if waiting {
                    self.contention.granted_after(now.since(sent), cx);
                }
                self.back_off.reset();
                self.failure = None;
                if cx.is_late(deadline) {
                    self.untold = Some(fence);
                } else {
                    self.tell(Event::Granted { id: cx.id, fence, deadline }, cx);
                }
                Phase::Held { deadline, renew_at: cx.renew_at(sent), renewal_sent: None }
            }
            Ok(Outcome::Delayed) => {
                // It may be said of a lock that is ours, when the server has just started. And
                // nothing would tell when the delay is over.
                self.contention.delayed();
                self.denied(None, true, sent, cx)
            }
            Ok(Outcome::Reserved(place)) => self.reserved(place, sent, cx),
            Ok(Outcome::InLine { place, ahead }) => self.in_line(place, ahead, cx),
            Ok(Outcome::Busy(holder)) => {
                // Whatever earlier requests of ours did, the lock is another's now.
                self.may_hold_until = None;
                self.contention.busy();
                self.denied(holder, false, sent, cx)
            }
            Ok(_) => self.claimed(
                sent,
                waiting,
                Err(Failure::Unknown("the reply does not answer a claim".into())),
                cx,
            ),
            Err(failure) => {
                let joined = self.contention.next_action() == Action::Join;
                if let (Failure::Unknown(_), false, false) = (&failure, waiting, joined) {
                    self.may_hold_until = Some(cx.exposure());
                    self.may_have_stragglers(cx);
                }
                if let Failure::Gone(_) = failure {
                    self.may_hold_until = None;
                }
                let refused = matches!(failure, Failure::Rejected { retry: false, .. });
                if !self.wanted() {
                    self.failure = Some(failure);
                    return self.abandon(cx);
                }
                if refused {
                    self.failure = Some(failure);
                    self.not_acquired(cx);
                    return self.abandon(cx);
                }
                self.try_again(failure, cx)
            }
        }
    }

    /// Somebody has the lock, or it is withheld.
    fn denied(
        &mut self,
        mut holder: Option<Holder>,
        withheld: bool,
        sent: Instant,
        cx: &mut Context<'_>,
    ) -> Phase {
        self.watch(holder.as_mut(), cx.now);
        // After trouble, who has the lock is told anew: the one before may have been gone for long.
        let trouble = self.failure.take().is_some();
        let who = |holder: &Option<Holder>| holder.as_ref().map(|h| (h.label.clone(), h.kept));
        let first = self.told == Known::Nothing;
        let news =
            first || trouble || who(&self.holder) != who(&holder) || self.withheld != withheld;
        self.told = self.told.max(Known::by(holder.as_ref()));
        (self.denied, self.withheld) = (true, withheld);
        self.denied_at = cx.now;
        self.outdated = false;
        self.holder = holder;
        if !self.wanted() {
            return self.abandon(cx);
        }
        if self.once || self.give_up <= cx.now {
            self.not_acquired(cx);
            return self.abandon(cx);
        }
        if news {
            self.tell_waiting(self.holder.clone(), cx);
        }
        let (holder, back_off) = (self.holder.as_ref(), &mut self.back_off);
        Phase::Waiting { retry_at: self.contention.after_denial(holder, sent, back_off, cx) }
    }

    /// Nobody has the lock, and others go first.
    fn reserved(&mut self, place: Place, sent: Instant, cx: &mut Context<'_>) -> Phase {
        self.failure = None;
        (self.denied, self.outdated, self.withheld) = (true, true, false);
        if !self.wanted() {
            return self.abandon(cx);
        }
        if self.give_up <= cx.now {
            self.not_acquired(cx);
            return self.abandon(cx);
        }
        self.somebody_has_it(cx);
        let back_off = &mut self.back_off;
        Phase::Waiting { retry_at: self.contention.after_reservation(place, sent, back_off, cx) }
    }

    /// It stands in the line, and waits.
    fn in_line(
        &mut self,
        place: Place,
        ahead: Option<(SessionName, u64)>,
        cx: &mut Context<'_>,
    ) -> Phase {
        self.failure = None;
        self.withheld = false;
        let is_behind = ahead.is_some();
        self.contention.in_line(place, ahead);
        if !self.wanted() {
            return self.abandon(cx);
        }
        if is_behind && !self.denied {
            (self.denied, self.outdated) = (true, true);
        }
        if self.give_up <= cx.now {
            self.not_acquired(cx);
            return self.abandon(cx);
        }
        if is_behind {
            self.somebody_has_it(cx);
        }
        Phase::Waiting { retry_at: cx.now }
    }

    pub(super) fn renewed(
        &mut self,
        deadline: Instant,
        sent: Instant,
        answer: Result<Outcome, Failure>,
        cx: &mut Context<'_>,
    ) -> Phase {
        let now = cx.now;
        match answer {
            Ok(Outcome::Done) if now < deadline => {
                self.back_off.reset();
                self.failure = None;
                self.may_hold_until = Some(cx.exposure());
                let deadline = deadline.max(cx.deadline(sent));
                self.extended(deadline, cx);
                Phase::Held { deadline, renew_at: cx.renew_at(sent), renewal_sent: None }
            }
            Ok(Outcome::NotOwner) => self.lose(LostReason::Taken, false, cx),
            // After the deadline the loss is final, even if the server still renewed: the lock may have been another's in
            // between, and this owner's again by a request that came late, with another fence.
            Ok(Outcome::Done) => {
                self.may_hold_until = Some(cx.exposure());
                let last_failure = self.failure.take();
                self.lose(LostReason::Deadline { last_failure }, false, cx)
            }
            Err(failure @ Failure::Gone(_)) => self.lose(LostReason::Gone { failure }, false, cx),
            // Nothing is lost yet: the lease counts until the deadline it has.
            answer => {
                if let Err(failure) = answer {
                    self.failure = Some(failure.clone());
                    self.not_extended(failure, deadline, cx);
                }
                self.may_hold_until = Some(cx.exposure());
                Phase::Held { deadline, renew_at: self.back_off(cx), renewal_sent: None }
            }
        }
    }

    pub(super) fn released(
        &mut self,
        answer: Result<Outcome, Failure>,
        cx: &mut Context<'_>,
    ) -> Phase {
        match answer {
            Ok(Outcome::Done | Outcome::DoneContended) => {
                self.contention.has_left();
                self.gone(Release::Freed, cx)
            }
            Ok(Outcome::NotOwner) => {
                let ours = self.release_unsure;
                let gone = self.gone(if ours { Release::Freed } else { Release::NotOurs }, cx);
                if !self.contention.has_entry() {
                    return gone;
                }
                // Nothing was changed, so its entry in the line is still there.
                self.may_hold_until = None;
                Phase::Releasing { retry_at: cx.now, in_flight: None }
            }
            Ok(_) => self.gone(
                Release::Unconfirmed(Failure::Unknown(
                    "the reply does not answer a release".into(),
                )),
                cx,
            ),
            Err(failure @ Failure::Rejected { retry: false, .. }) => {
                self.gone(Release::Unconfirmed(failure), cx)
            }
            Err(failure @ Failure::Gone(_)) => self.gone(Release::Gone(failure), cx),
            Err(failure) => {
                if let Failure::Unknown(_) = failure {
                    self.release_unsure = true;
                    self.may_have_stragglers(cx);
                }
                self.failure = Some(failure);
                Phase::Releasing { retry_at: self.back_off(cx), in_flight: None }
            }
        }
    }

    /// It stands in the line no more. As long as it does, those behind it wait for nothing, so it tries again.
    pub(super) fn left(&mut self, answer: Result<Outcome, Failure>, cx: &mut Context<'_>) -> Phase {
        if let Err(
            Failure::NotSent(_) | Failure::Unknown(_) | Failure::Rejected { retry: true, .. },
        ) = &answer
        {
            return Phase::Releasing { retry_at: self.back_off(cx), in_flight: None };
        }
        self.contention.has_left();
        self.gone(Release::Freed, cx)
    }
}
