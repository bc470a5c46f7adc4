//! One hold attempt from its beginning to its end. **A phase changes in one place**, a total function of phase
//! and input, [`Slot::step`]; which one follows upon an answer says `answers`.
//!
//! ```text
//!                   acquire
//!                      |
//!                   Queued        a local rival has or wants the name; nothing is sent
//!                      | at the front
//!      denied,         v
//!      failed       Waiting <-----------+   for `retry_at`; a hint shortens it
//!     (back-off)       | sent           | granted too late, denied, failed
//!                      v                |
//!                   Claiming -----------+
//!                      | granted before the request's own deadline
//!                      v
//!       renewed     Held ------------------------------> Lost
//!      (deadline       |     deadline, or "not yours"      | release
//!      moves on)       | release                           |
//!                      v                                   |
//!                   Releasing <----------------------------+ <---- Draining
//!                      | freed, not ours, or surely over       |      ^ until no late request
//!                      +---------------------------------------|------+ can be carried out
//!                      v
//!                    Gone
//! ```
//!
//! The end of a session ends what attempts have in it: Held leads to Lost, Claiming to Waiting, the rest
//! to Gone.
//!
//! Giving up (release, or the wait running out) leads from Queued, Waiting and Claiming to Gone, but
//! through Releasing whenever the server may hold a lease for this owner: after an answer that
//! never came, nothing is assumed and nothing is forgotten.

mod answers;
mod context;
mod parts;
#[cfg(feature = "sim")]
mod project;
mod sight;
mod state;

use crate::error::{Failure, LostReason};
use crate::event::{Event, Release};
use crate::outcome::Outcome;
use crate::request::Action;
use state::{AT_ONCE, Interest};

pub(crate) use context::{Context, SessionView};
pub(crate) use sight::{Known, Sight};
pub(crate) use state::{Input, Phase, Slot};

impl Slot {
    /// The one transition function: every pair of phase and input is decided here.
    pub(crate) fn step(&mut self, input: Input, cx: &mut Context<'_>) {
        let now = cx.now;
        self.phase = match (self.phase, input) {
            (phase, Input::Tick) => self.in_time(phase, cx),

            // -- the caller, and local rivals ---------------------------------------------------
            (Phase::Queued, Input::Front) => {
                self.contention.at_front(self.once, cx);
                Phase::Waiting { retry_at: now }
            }
            (Phase::Queued | Phase::Waiting { .. }, Input::Release(_)) => {
                self.no_more_of_it();
                self.abandon(cx)
            }
            (phase @ Phase::Claiming { .. }, Input::Release(_)) => {
                self.no_more_of_it();
                self.stop_waiting(phase, cx)
            }
            (Phase::Held { renewal_sent, .. }, Input::Release(keep)) => {
                self.keep = keep.filter(|_| self.untold.is_none());
                self.failure = None;
                self.no_more_of_it();
                Phase::Releasing { retry_at: now, in_flight: renewal_sent.map(|_| Action::Renew) }
            }
            (Phase::Lost { renewing }, Input::Release(keep)) => {
                self.keep = keep;
                self.no_more_of_it();
                if renewing || self.exposed(now) {
                    let in_flight = renewing.then_some(Action::Renew);
                    Phase::Releasing { retry_at: now, in_flight }
                } else {
                    self.gone(Release::NotOurs, cx)
                }
            }
            (Phase::Waiting { retry_at }, Input::Hint) => {
                self.outdated = true;
                Phase::Waiting { retry_at: retry_at.min(now) }
            }
            (phase @ Phase::Claiming { .. }, Input::Hint) => {
                self.contention.notified_in_flight(None);
                phase
            }
            (Phase::Waiting { retry_at }, Input::Freed(ticket)) => {
                self.outdated = true;
                let retry_at = self.contention.after_notification(ticket, now, retry_at, cx);
                Phase::Waiting { retry_at }
            }
            (Phase::Waiting { retry_at }, Input::FreeAt(ticket, at)) => {
                self.hears_of_the_end(at, cx);
                let next = self.contention.after_notification(ticket, at, retry_at, cx);
                Phase::Waiting { retry_at: next.min(retry_at) }
            }
            (phase @ Phase::Claiming { .. }, Input::Freed(ticket) | Input::FreeAt(ticket, _)) => {
                self.contention.notified_in_flight(Some(ticket));
                phase
            }

            // -- the session --------------------------------------------------------------------
            (Phase::Held { deadline, renew_at, renewal_sent }, Input::Kept(until)) => {
                let deadline = deadline.max(until);
                self.extended(deadline, cx);
                Phase::Held { deadline, renew_at, renewal_sent }
            }
            (phase @ Phase::Held { deadline, .. }, Input::KeepFailed(failure)) => {
                self.not_extended(failure, deadline, cx);
                phase
            }
            (phase @ Phase::Waiting { .. }, Input::NoSession(failure)) => {
                self.no_session(phase, failure, cx)
            }
            (phase, Input::SessionEnded(lost)) => self.session_ended(phase, lost, cx),

            // -- the place ----------------------------------------------------------------------
            (Phase::Held { renewal_sent, .. }, Input::PlaceGone(failure)) => {
                self.lose(LostReason::Gone { failure }, renewal_sent.is_some(), cx)
            }

            // -- requests leaving ---------------------------------------------------------------
            (Phase::Waiting { .. }, Input::Sent { waiting }) => {
                self.contention.sent();
                Phase::Claiming { sent: now, waiting }
            }
            (Phase::Held { deadline, renew_at, .. }, Input::Sent { .. }) => {
                Phase::Held { deadline, renew_at, renewal_sent: Some(now) }
            }
            (Phase::Releasing { retry_at, .. }, Input::Sent { .. }) => {
                Phase::Releasing { retry_at, in_flight: Some(self.ends_by(now)) }
            }

            // -- a request for several that was refused: whoever it was about tries again among fewer -----
            (Phase::Claiming { .. }, Input::Refused { among }) if self.wanted() => {
                self.among = among;
                Phase::Waiting { retry_at: now }
            }
            (Phase::Claiming { .. }, Input::Refused { .. }) => self.abandon(cx),
            (Phase::Held { deadline, .. }, Input::Refused { among }) => {
                self.among = among;
                self.may_hold_until = Some(cx.exposure());
                Phase::Held { deadline, renew_at: now, renewal_sent: None }
            }
            (
                Phase::Releasing { in_flight: Some(Action::Release), .. },
                Input::Refused { among },
            ) => {
                self.among = among;
                Phase::Releasing { retry_at: now, in_flight: None }
            }
            (Phase::Releasing { in_flight: Some(Action::Leave), .. }, Input::Refused { among }) => {
                self.among = among;
                Phase::Releasing { retry_at: now, in_flight: None }
            }
            // A renewal was not done, as far as is known.
            (Phase::Releasing { in_flight: Some(_), .. }, Input::Refused { .. }) => {
                self.may_hold_until = Some(cx.exposure());
                Phase::Releasing { retry_at: now, in_flight: None }
            }
            (Phase::Lost { renewing: true }, Input::Refused { .. }) => {
                self.may_hold_until = Some(cx.exposure());
                Phase::Lost { renewing: false }
            }
            (phase, Input::Refused { .. }) => phase,

            // -- answers to a claim -------------------------------------------------------------
            (Phase::Claiming { sent, waiting: true }, Input::Answer(Ok(answer))) => {
                self.waited(sent, answer, cx)
            }
            (Phase::Claiming { sent, waiting }, Input::Answer(answer)) => {
                self.claimed(sent, waiting, answer, cx)
            }

            // -- answers to a renewal -----------------------------------------------------------
            (Phase::Held { deadline, renewal_sent: Some(sent), .. }, Input::Answer(answer)) => {
                self.renewed(deadline, sent, answer, cx)
            }

            // It comes too late to revive the lock, but it may have extended the lease.
            (Phase::Lost { renewing: true }, Input::Answer(answer)) => {
                if answer != Ok(Outcome::NotOwner) {
                    self.may_hold_until = Some(cx.exposure());
                }
                Phase::Lost { renewing: false }
            }

            // -- answers while releasing --------------------------------------------------------
            (Phase::Releasing { in_flight: Some(Action::Release), .. }, Input::Answer(answer)) => {
                self.released(answer, cx)
            }
            (Phase::Releasing { in_flight: Some(Action::Leave), .. }, Input::Answer(answer)) => {
                self.left(answer, cx)
            }
            // A renewal that was under way when the release was asked for revives nothing.
            (Phase::Releasing { in_flight: Some(_), .. }, Input::Answer(_)) => {
                self.may_hold_until = Some(cx.exposure());
                Phase::Releasing { retry_at: now, in_flight: None }
            }

            // -- everything else changes nothing ------------------------------------------------
            // An attempt whose own request was not answered yet will hear of it with that answer.
            (phase, Input::PlaceGone(_)) => phase,
            (phase, Input::Front | Input::Sent { .. }) => phase,
            (phase, Input::Answer(_) | Input::Release(_)) => phase,
            (phase, Input::Hint | Input::Freed(_) | Input::FreeAt(..)) => phase,
            (phase, Input::Kept(_) | Input::KeepFailed(_) | Input::NoSession(_)) => phase,
        };
    }

    /// Lets time pass, as [`Input::Tick`] does.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        self.phase = self.in_time(self.phase, cx);
    }

    /// The phase that follows from time alone.
    fn in_time(&mut self, phase: Phase, cx: &mut Context<'_>) -> Phase {
        let now = cx.now;
        match phase {
            Phase::Queued if self.queued_until(cx) <= now => {
                self.not_acquired(cx);
                self.abandon(cx)
            }
            Phase::Waiting { .. } if self.limit() <= now => {
                self.not_acquired(cx);
                self.abandon(cx)
            }
            Phase::Claiming { .. } if self.wanted() && self.limit() <= now => {
                self.not_acquired(cx);
                self.stop_waiting(phase, cx)
            }
            Phase::Held { renewal_sent, .. }
                if self.untold.is_some() && self.wanted() && self.answer_deadline <= now =>
            {
                self.untold = None;
                self.not_acquired(cx);
                match renewal_sent {
                    Some(_) => Phase::Releasing { retry_at: now, in_flight: Some(Action::Renew) },
                    None => self.abandon(cx),
                }
            }
            // Nobody relies on it yet, and its renewal will tell whether it is claimed again.
            Phase::Held { renewal_sent: Some(_), .. } if self.untold.is_some() => phase,
            // In a session, it is the session that is lost.
            Phase::Held { deadline, renewal_sent, .. }
                if deadline <= now && cx.session.is_none() =>
            {
                let last_failure = self.failure.take();
                self.lose(LostReason::Deadline { last_failure }, renewal_sent.is_some(), cx)
            }
            // While a request is under way, the server may yet do it.
            Phase::Releasing { in_flight: None, .. }
                if !self.exposed(now) && !self.contention.has_entry() =>
            {
                let failure =
                    self.failure.take().unwrap_or(Failure::Unknown("no answer came".into()));
                self.gone(Release::Unconfirmed(failure), cx)
            }
            Phase::Draining { until } if until <= now => {
                self.stragglers_until = None;
                self.may_hold_until = Some(cx.exposure());
                Phase::Releasing { retry_at: now, in_flight: None }
            }
            Phase::Queued => {
                self.hears(cx);
                phase
            }
            // It was not granted the lock at once: somebody else has it.
            Phase::Claiming { sent, .. }
                if self.wanted() && self.waits_undenied() && sent.after(AT_ONCE) <= now =>
            {
                self.denied = true;
                self.somebody_has_it(cx);
                phase
            }
            _ => phase,
        }
    }

    /// It could not be opened.
    fn no_session(&mut self, phase: Phase, failure: Failure, cx: &mut Context<'_>) -> Phase {
        if !self.wanted() {
            return phase;
        }
        let refused = matches!(failure, Failure::Rejected { retry: false, .. });
        if refused {
            self.failure = Some(failure);
            self.not_acquired(cx);
            return self.abandon(cx);
        }
        self.tell(Event::Trouble { id: cx.id, failure: failure.clone() }, cx);
        self.failure = Some(failure);
        phase
    }

    /// It was closed, or lost: the server has nothing in it any more, or will soon have nothing
    /// that anybody could help.
    fn session_ended(
        &mut self,
        phase: Phase,
        lost: Option<(LostReason, Failure)>,
        cx: &mut Context<'_>,
    ) -> Phase {
        self.may_hold_until = None;
        self.stragglers_until = None;
        let joins_anew = self.contention.session_ended();
        let (reason, failure) = match lost {
            Some((reason, failure)) => (reason, Some(failure)),
            None => (LostReason::Disconnected { last_failure: None }, None),
        };
        let release = failure.clone().map_or(Release::Freed, Release::Unconfirmed);
        match phase {
            Phase::Held { .. } => self.lose(reason, false, cx),
            Phase::Claiming { .. } if self.wanted() => {
                self.contention.claims_again();
                let closed = || Failure::Unknown("the session was closed".into());
                self.try_again(failure.unwrap_or_else(closed), cx)
            }
            Phase::Claiming { .. } | Phase::Releasing { .. } => self.gone(release, cx),
            Phase::Draining { .. } => Phase::Gone,
            // Or a server that ends each session at once would be asked without end.
            Phase::Waiting { retry_at } if joins_anew && self.wanted() => {
                Phase::Waiting { retry_at: retry_at.max(self.back_off(cx)) }
            }
            phase => phase,
        }
    }

    // -- parts of a step --------------------------------------------------------------------------

    /// Ends the attempt, after freeing what the server may hold for it, and its entry in the line.
    pub(super) fn abandon(&mut self, cx: &mut Context<'_>) -> Phase {
        if self.interest == Interest::Grant {
            self.interest = Interest::None;
        }
        if self.exposed(cx.now) || self.contention.has_entry() {
            // It was that of a claim.
            self.failure = None;
            Phase::Releasing { retry_at: cx.now, in_flight: None }
        } else {
            self.gone(Release::Freed, cx)
        }
    }

    pub(super) fn gone(&mut self, release: Release, cx: &mut Context<'_>) -> Phase {
        if self.interest == Interest::Release {
            cx.events.push_back(Event::Released { id: cx.id, release });
        }
        self.interest = Interest::None;
        match self.stragglers_until {
            Some(until) if cx.now < until => Phase::Draining { until },
            _ => Phase::Gone,
        }
    }

    /// Nobody wants what is waited for at the server. A wait that cannot be granted is forgotten; a
    /// connection in the server's queue is closed, by the engine, and so ends the attempt.
    pub(super) fn stop_waiting(&mut self, phase: Phase, cx: &mut Context<'_>) -> Phase {
        match phase {
            Phase::Claiming { waiting: true, .. } if cx.in_record() => self.abandon(cx),
            phase => phase,
        }
    }

    pub(super) fn lose(
        &mut self,
        reason: LostReason,
        renewing: bool,
        cx: &mut Context<'_>,
    ) -> Phase {
        if matches!(reason, LostReason::Taken | LostReason::Gone { .. }) {
            self.may_hold_until = None;
        }
        if self.untold.take().is_some() && self.wanted() {
            // Nobody was told of the grant: it is claimed again.
            self.contention.claims_again();
            let why = alloc::format!("the grant came too late to count: {reason}");
            return self.try_again(Failure::Unknown(why), cx);
        }
        self.tell(Event::Lost { id: cx.id, reason }, cx);
        Phase::Lost { renewing }
    }

    pub(super) fn try_again(&mut self, failure: Failure, cx: &mut Context<'_>) -> Phase {
        self.tell(Event::Trouble { id: cx.id, failure: failure.clone() }, cx);
        self.failure = Some(failure);
        Phase::Waiting { retry_at: self.back_off(cx) }
    }
}
