//! One hold attempt from its beginning to its end. **Everything that changes a phase is in this
//! file**, in one total function of phase and input, [`Slot::step`].
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
//!                   Releasing <----------------------------+ <---- Lingering
//!                      | freed, not ours, or surely over       |      ^ until no late request
//!                      +---------------------------------------|------+ can be carried out
//!                      v
//!                    Gone
//! ```
//!
//! A session lives the same life, with open for claim and keep for renew. The end of a session
//! ends what attempts have in it: Held leads to Lost, Claiming to Waiting, the rest to Gone.
//!
//! Giving up (release, or the wait running out) leads from Queued, Waiting and Claiming to Gone, but
//! through Releasing whenever the server may hold a lease for this owner: after an answer that
//! never came, nothing is assumed and nothing is forgotten.

mod parts;
mod state;
mod turn;

use crate::error::{Failure, LostReason};
use crate::event::{Event, Release};
use crate::protocol::{Action, Holder, Verdict};
use crate::time::Instant;
use state::Audience;

pub(crate) use state::{Bond, Context, Input, Phase, Slot};

impl Slot {
    /// The one transition function: every pair of phase and input is decided here.
    pub(crate) fn step(&mut self, input: Input, cx: &mut Context<'_>) {
        let now = cx.now;
        self.phase = match (self.phase, input) {
            // -- time ---------------------------------------------------------------------------
            (Phase::Queued | Phase::Waiting { .. }, Input::Tick) if self.limit() <= now => {
                self.not_acquired(cx);
                self.abandon(cx)
            }
            (phase @ Phase::Claiming { .. }, Input::Tick)
                if self.wanted() && self.limit() <= now =>
            {
                self.not_acquired(cx);
                self.stop_waiting(phase, cx)
            }
            // In a session, it is the session that is lost.
            (Phase::Held { deadline, renewal_sent, .. }, Input::Tick)
                if deadline <= now && cx.bond.is_none() =>
            {
                let last_failure = self.failure.take();
                self.lose(LostReason::Deadline { last_failure }, renewal_sent.is_some(), cx)
            }
            // While a command is under way, the server may yet do it.
            (Phase::Releasing { in_flight: None, .. }, Input::Tick) if !self.exposed(now) => {
                let failure =
                    self.failure.take().unwrap_or(Failure::Unknown("no answer came".into()));
                self.gone(Release::Unconfirmed(failure), cx)
            }
            (Phase::Lingering { until }, Input::Tick) if until <= now => {
                self.ghosts_until = None;
                self.exposed_until = Some(cx.exposure());
                Phase::Releasing { retry_at: now, in_flight: None }
            }
            (phase, Input::Tick) => phase,

            // -- the caller, and local rivals ---------------------------------------------------
            (Phase::Queued, Input::Rival) if self.once => {
                self.not_acquired(cx);
                self.abandon(cx)
            }
            (Phase::Queued, Input::Front) => Phase::Waiting { retry_at: self.comes_to_front(cx) },
            (Phase::Queued | Phase::Waiting { .. }, Input::Release) => {
                self.no_more_of_it();
                self.abandon(cx)
            }
            (phase @ Phase::Claiming { .. }, Input::Release) => {
                self.no_more_of_it();
                self.stop_waiting(phase, cx)
            }
            (Phase::Held { renewal_sent, .. }, Input::Release) => {
                self.failure = None;
                self.no_more_of_it();
                Phase::Releasing { retry_at: now, in_flight: renewal_sent.map(|_| Action::Renew) }
            }
            (Phase::Lost { renewing }, Input::Release) => {
                self.no_more_of_it();
                if renewing || self.exposed(now) {
                    let in_flight = renewing.then_some(Action::Renew);
                    Phase::Releasing { retry_at: now, in_flight }
                } else {
                    self.gone(Release::NotOurs, cx)
                }
            }
            (Phase::Waiting { retry_at }, Input::Hint) => {
                Phase::Waiting { retry_at: retry_at.min(self.turn(cx)) }
            }
            (phase @ Phase::Claiming { .. }, Input::Hint) => {
                self.passed = self.passed.saturating_add(1);
                self.hinted = true;
                phase
            }

            // -- the session --------------------------------------------------------------------
            (Phase::Held { deadline, renew_at, renewal_sent }, Input::Kept(until)) => {
                let deadline = deadline.max(until);
                self.tell(Event::Renewed { id: cx.id, deadline }, cx);
                Phase::Held { deadline, renew_at, renewal_sent }
            }
            (phase @ Phase::Held { deadline, .. }, Input::KeepFailed(failure)) => {
                self.tell(Event::RenewalFailed { id: cx.id, failure, deadline }, cx);
                phase
            }
            (phase @ Phase::Waiting { .. }, Input::NoSession(failure)) => {
                self.no_session(phase, failure, cx)
            }
            (phase, Input::SessionEnded(lost)) => self.session_ended(phase, lost, cx),

            // -- the place ----------------------------------------------------------------------
            (Phase::Held { renewal_sent, .. }, Input::PlaceGone) => {
                self.lose(LostReason::Gone, renewal_sent.is_some(), cx)
            }

            // -- commands leaving ---------------------------------------------------------------
            (Phase::Waiting { .. }, Input::Sent { waiting }) => {
                Phase::Claiming { sent: now, waiting }
            }
            (Phase::Held { deadline, renew_at, .. }, Input::Sent { .. }) => {
                Phase::Held { deadline, renew_at, renewal_sent: Some(now) }
            }
            (Phase::Releasing { retry_at, .. }, Input::Sent { .. }) => {
                Phase::Releasing { retry_at, in_flight: Some(Action::Release) }
            }

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
                if answer != Ok(Verdict::NotOurs) {
                    self.exposed_until = Some(cx.exposure());
                }
                Phase::Lost { renewing: false }
            }

            // -- answers while releasing --------------------------------------------------------
            (Phase::Releasing { in_flight: Some(Action::Release), .. }, Input::Answer(answer)) => {
                self.released(answer, cx)
            }
            // A renewal that was under way when the release was asked for revives nothing.
            (Phase::Releasing { in_flight: Some(_), .. }, Input::Answer(_)) => {
                self.exposed_until = Some(cx.exposure());
                Phase::Releasing { retry_at: now, in_flight: None }
            }

            // -- everything else changes nothing ------------------------------------------------
            // An attempt whose own request was not answered yet will hear of it with that answer.
            (phase, Input::PlaceGone) => phase,
            (phase, Input::Rival | Input::Front | Input::Sent { .. }) => phase,
            (phase, Input::Answer(_) | Input::Release | Input::Hint) => phase,
            (phase, Input::Kept(_) | Input::KeepFailed(_) | Input::NoSession(_)) => phase,
        };
    }

    /// What the server said at the end of a wait, or at once.
    fn waited(&mut self, sent: Instant, verdict: Verdict, cx: &mut Context<'_>) -> Phase {
        if cx.now.since(sent) >= cx.timing.wait() / 2 {
            // It did wait: asking it again at once is not asking again and again.
            self.failures = 0;
        }
        match verdict {
            Verdict::Unchanged { since } => {
                if self.since > 0 && since > self.since {
                    // It changed hands, and will again: as often as that, it is worth a look.
                    self.failures = 0;
                    self.passed = self.passed.saturating_add(1);
                }
                self.held_back = false;
                // A history that goes backwards is another history: start over.
                self.since = if since < self.since { 0 } else { since };
                let holder = self.holder.clone();
                self.claimed(sent, true, Ok(Verdict::Busy { holder }), cx)
            }
            Verdict::Free { passed } => {
                self.since = 0;
                self.next = Action::Acquire;
                if self.wanted() {
                    Phase::Waiting { retry_at: self.found(passed, cx) }
                } else {
                    self.abandon(cx)
                }
            }
            verdict => self.claimed(sent, true, Ok(verdict), cx),
        }
    }

    fn claimed(
        &mut self,
        sent: Instant,
        waiting: bool,
        answer: Result<Verdict, Failure>,
        cx: &mut Context<'_>,
    ) -> Phase {
        let now = cx.now;
        match answer {
            Ok(Verdict::Granted { fence }) => {
                self.exposed_until = Some(cx.exposure());
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
                self.failures = 0;
                self.failure = None;
                self.tell(Event::Granted { id: cx.id, fence, deadline }, cx);
                Phase::Held { deadline, renew_at: cx.renew_at(sent), renewal_sent: None }
            }
            Ok(Verdict::Delayed) => {
                // It may be said of a lock that is ours, when the server has just started. And
                // nothing would tell when the delay is over.
                self.next = Action::Acquire;
                self.denied(None, sent, cx)
            }
            Ok(Verdict::Busy { holder }) => {
                // Whatever earlier requests of ours did, the lock is another's now.
                self.exposed_until = None;
                self.next = self.again;
                self.denied(holder, sent, cx)
            }
            Ok(_) => self.claimed(
                sent,
                waiting,
                Err(Failure::Unknown("the reply does not answer a claim".into())),
                cx,
            ),
            Err(failure) => {
                if let (Failure::Unknown(_), false) = (&failure, waiting) {
                    self.exposed_until = Some(cx.exposure());
                    self.may_have_ghosts(cx);
                }
                if let Failure::Gone(_) = failure {
                    self.exposed_until = None;
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

    fn denied(&mut self, holder: Option<Holder>, sent: Instant, cx: &mut Context<'_>) -> Phase {
        self.failure = None;
        let label = |holder: &Option<Holder>| holder.as_ref().map(|h| h.label.clone());
        let news = !self.denied || label(&self.holder) != label(&holder);
        self.denied = true;
        self.holder = holder;
        if !self.wanted() {
            return self.abandon(cx);
        }
        if self.once || self.give_up <= cx.now {
            self.not_acquired(cx);
            return self.abandon(cx);
        }
        if news {
            self.tell(Event::Waiting { id: cx.id, holder: self.holder.clone() }, cx);
        }
        Phase::Waiting { retry_at: self.after_denial(sent, cx) }
    }

    fn renewed(
        &mut self,
        deadline: Instant,
        sent: Instant,
        answer: Result<Verdict, Failure>,
        cx: &mut Context<'_>,
    ) -> Phase {
        let now = cx.now;
        match answer {
            // After the deadline the loss is final, even if the server still renewed.
            Ok(Verdict::Done) if now < deadline => {
                self.failures = 0;
                self.failure = None;
                self.exposed_until = Some(cx.exposure());
                let deadline = deadline.max(cx.deadline(sent));
                self.tell(Event::Renewed { id: cx.id, deadline }, cx);
                Phase::Held { deadline, renew_at: cx.renew_at(sent), renewal_sent: None }
            }
            Ok(Verdict::NotOurs) => self.lose(LostReason::Taken, false, cx),
            Ok(Verdict::Done) => {
                let last_failure = self.failure.take();
                self.lose(LostReason::Deadline { last_failure }, false, cx)
            }
            Err(Failure::Gone(_)) => self.lose(LostReason::Gone, false, cx),
            // Nothing is lost yet: the lease counts until the deadline it has.
            answer => {
                if let Err(failure) = answer {
                    self.failure = Some(failure.clone());
                    self.tell(Event::RenewalFailed { id: cx.id, failure, deadline }, cx);
                }
                self.exposed_until = Some(cx.exposure());
                Phase::Held { deadline, renew_at: self.back_off(cx), renewal_sent: None }
            }
        }
    }

    fn released(&mut self, answer: Result<Verdict, Failure>, cx: &mut Context<'_>) -> Phase {
        match answer {
            Ok(Verdict::Done | Verdict::Wanted) => self.gone(Release::Freed, cx),
            Ok(Verdict::NotOurs) if self.release_unsure => self.gone(Release::Freed, cx),
            Ok(Verdict::NotOurs) => self.gone(Release::NotOurs, cx),
            Ok(_) => self.gone(
                Release::Unconfirmed(Failure::Unknown(
                    "the reply does not answer a release".into(),
                )),
                cx,
            ),
            Err(failure @ Failure::Rejected { retry: false, .. }) => {
                self.gone(Release::Unconfirmed(failure), cx)
            }
            Err(Failure::Gone(_)) => self.gone(Release::Gone, cx),
            Err(failure) => {
                if let Failure::Unknown(_) = failure {
                    self.release_unsure = true;
                    self.may_have_ghosts(cx);
                }
                self.failure = Some(failure);
                Phase::Releasing { retry_at: self.back_off(cx), in_flight: None }
            }
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
        self.exposed_until = None;
        self.ghosts_until = None;
        self.since = 0;
        let (reason, failure) = match lost {
            Some((reason, failure)) => (reason, Some(failure)),
            None => (LostReason::Disconnected { last_failure: None }, None),
        };
        let release = failure.clone().map_or(Release::Freed, Release::Unconfirmed);
        match phase {
            Phase::Held { .. } => self.lose(reason, false, cx),
            Phase::Claiming { .. } if self.wanted() => {
                self.next = Action::Acquire;
                let closed = || Failure::Unknown("the session was closed".into());
                self.try_again(failure.unwrap_or_else(closed), cx)
            }
            Phase::Claiming { .. } | Phase::Releasing { .. } if self.always_exposed => {
                Phase::Releasing { retry_at: cx.now, in_flight: None }
            }
            Phase::Claiming { .. } | Phase::Releasing { .. } => self.gone(release, cx),
            Phase::Lingering { .. } => Phase::Gone,
            phase => phase,
        }
    }

    // -- parts of a step --------------------------------------------------------------------------

    /// Ends the attempt, after freeing what the server may hold for it.
    fn abandon(&mut self, cx: &mut Context<'_>) -> Phase {
        if self.audience == Audience::Holder {
            self.audience = Audience::Nobody;
        }
        if self.exposed(cx.now) {
            Phase::Releasing { retry_at: cx.now, in_flight: None }
        } else {
            self.gone(Release::Freed, cx)
        }
    }

    fn gone(&mut self, release: Release, cx: &mut Context<'_>) -> Phase {
        if self.audience == Audience::Releaser {
            cx.events.push_back(Event::Released { id: cx.id, release });
        }
        self.audience = Audience::Nobody;
        match self.ghosts_until {
            Some(until) if cx.now < until => Phase::Lingering { until },
            _ => Phase::Gone,
        }
    }

    /// Nobody wants what is waited for at the server. A wait that cannot be granted is forgotten; a
    /// connection in the server's queue is closed, by the engine, and so ends the attempt.
    fn stop_waiting(&mut self, phase: Phase, cx: &mut Context<'_>) -> Phase {
        match phase {
            Phase::Claiming { waiting: true, .. } if cx.in_record() => self.abandon(cx),
            phase => phase,
        }
    }

    fn lose(&mut self, reason: LostReason, renewing: bool, cx: &mut Context<'_>) -> Phase {
        if matches!(reason, LostReason::Taken | LostReason::Gone) {
            self.exposed_until = None;
        }
        self.tell(Event::Lost { id: cx.id, reason }, cx);
        Phase::Lost { renewing }
    }

    fn try_again(&mut self, failure: Failure, cx: &mut Context<'_>) -> Phase {
        self.tell(Event::Trouble { id: cx.id, failure: failure.clone() }, cx);
        self.failure = Some(failure);
        Phase::Waiting { retry_at: self.back_off(cx) }
    }
}
