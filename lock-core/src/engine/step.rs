//! What the engine does around one step of a slot.

use super::{Attempt, Engine, Place, Todo};
use crate::capabilities::Sessions;
use crate::contention::others_wait;
use crate::error::{Failure, LostReason};
use crate::event::LockId;
use crate::outcome::{Outcome, Reply};
use crate::request::Action;
use crate::session::SessionId;
use crate::slot::{Context, Input, Phase, SessionView};
use crate::time::Instant;
use alloc::vec::Vec;

/// Room for so much that remains to be done is kept.
const MANY: usize = 1024;
/// After so many refusals without a success between them, requests are no longer split.
const MOST_REFUSALS: u32 = 16;

impl Engine {
    /// Steps an attempt, and does all that follows.
    pub(super) fn step(&mut self, now: Instant, id: LockId, input: Input) {
        self.step_attempt(now, id, input);
        if !self.todo.is_empty() {
            self.apply_effects(now);
        }
    }

    /// Does what remains to be done, and what follows from that before what was to be done after it.
    pub(super) fn apply_effects(&mut self, now: Instant) {
        let mut done = 0;
        loop {
            self.todo[done..].reverse();
            let Some(next) = self.todo.pop() else { break };
            done = self.todo.len();
            match next {
                Todo::Attempt(id, input) => self.step_attempt(now, id, input),
                Todo::Release(id) => self.step_session(now, id, |lease, _| {
                    lease.release(now);
                    None
                }),
                Todo::Tidy(id) => self.tidy(id),
                Todo::Widen(id) if self.several.contains_key(&id) => self.want_rest(id),
                Todo::Widen(id) => self.widen(id),
            }
        }
        if self.todo.capacity() > MANY {
            self.todo = Vec::new();
        }
    }

    /// Steps an attempt and keeps the indexes true. That the next local rivals come to the front, and that
    /// a session is closed which is no longer needed, remains to be done.
    fn step_attempt(&mut self, now: Instant, id: LockId, input: Input) {
        let Some(mut attempt) = self.attempts.get_mut(&id) else { return };
        let mut ahead = None;
        if attempt.place == Place::Behind {
            ahead = self.ahead(now, id);
            let Some(again) = self.attempts.get_mut(&id) else { return };
            attempt = again;
        }
        let known = (self.unaware > 0).then(|| attempt.slot.known());
        let session = self.capabilities.sessions.map(|kind| SessionView {
            deadline: attempt.session.and_then(|id| self.sessions.get(&id)?.lease.deadline()),
            record: kind == Sessions::Records,
        });
        let (part_of, told) = (attempt.part_of, self.events.len());
        let own = attempt.own.as_ref().and_then(|own| own.timing.as_ref());
        let timing = own.unwrap_or(&self.config.timing);
        let before = self.last_attempts.of(now, &attempt.name);
        let mut cx = Context {
            id: part_of.unwrap_or(id),
            now,
            timing,
            session,
            notified_since: self.subscription.notified_since(),
            ahead,
            before,
            // A part of a semaphore that waits would keep the others from claiming.
            may_queue: self.idle_waiter.is_some() && part_of.is_none(),
            round_trip: self.round_trip,
            rng: &mut self.rng,
            events: &mut self.events,
        };
        if let Input::Answer(Ok(outcome)) = &input {
            // The claim of a row that is pinned takes its time, and would take it from all that are in the same statement.
            let takes_long = *outcome == Outcome::Delayed && self.capabilities.sessions.is_none();
            attempt.slot.among = if takes_long { 1 } else { usize::MAX };
        }
        let wanted = attempt.slot.wants();
        attempt.slot.step(input, &mut cx);
        // The phase it is in now may have a limit that has passed already.
        attempt.slot.tick(&mut cx);
        let phase = attempt.slot.phase;
        let leaves = !attempt.slot.contends() && attempt.place != Place::Left;
        let gave_up =
            wanted && !matches!(attempt.slot.phase, Phase::Held { .. }) && !attempt.slot.wants();
        let kept = attempt.slot.contention.ticket().filter(|_| gave_up);
        let knows_more = known.is_some_and(|known| attempt.slot.known() > known);
        if let Some(whole) = part_of {
            self.part_stepped(now, whole, id, told);
        }
        self.note_spans(now, told);
        let session = self.index(now, id);
        self.todo.extend(session.map(Todo::Tidy));
        if knows_more {
            self.tell_behind(id);
        }
        if let Some(ticket) = kept {
            self.keep_ticket(now, id, ticket);
        }
        if leaves {
            self.leave_queue(id);
        }
        if matches!(phase, Phase::Lost { .. } | Phase::Gone) {
            self.leave_session(id);
        }
        if phase == Phase::Gone {
            self.remove(id);
        }
    }

    /// Hands each attempt its part of an answer.
    pub(super) fn claims_answered(
        &mut self,
        now: Instant,
        session: Option<SessionId>,
        action: Action,
        ids: &[LockId],
        reply: Result<Reply, Failure>,
    ) {
        let outcomes = reply.and_then(|reply| reply.outcomes(action, ids.len()));
        match &outcomes {
            Ok(_) => self.refusals = 0,
            Err(failure) if failure.may_be_of_one() => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refused_together(now, ids) {
                    return;
                }
            }
            Err(_) => {}
        }
        if let Some(session) = session {
            if let Ok(outcomes) = &outcomes
                && outcomes.contains(&Outcome::NoSession)
            {
                self.lose_session(now, session, LostReason::Taken);
                return;
            }
            if let Err(failure) = &outcomes
                && self.fails(now, session, action, failure)
            {
                return;
            }
        }
        let waits = |id: &LockId| self.attempts.get(id).is_some_and(|one| one.slot.is_claiming());
        if action == Action::Wait && !ids.iter().any(waits) {
            // It stopped waiting, and has sent another request meanwhile, whose answer this is not.
            return;
        }
        match outcomes {
            Ok(outcomes) => {
                for (id, outcome) in ids.iter().copied().zip(outcomes) {
                    let waited = || self.attempts.get(&id).is_some_and(|one| one.slot.has_waited());
                    if others_wait(&outcome, self.capabilities.sessions, waited) {
                        self.yield_to_others(now, id);
                    }
                    self.step(now, id, Input::Answer(Ok(outcome)));
                }
            }
            Err(failure) => {
                // It was refused for its own sake, and would take the others of a request with it.
                if let [id] = ids
                    && failure.may_be_of_one()
                    && let Some(attempt) = self.attempts.get_mut(id)
                {
                    attempt.slot.among = 1;
                }
                for id in ids {
                    self.step(now, *id, Input::Answer(Err(failure.clone())));
                }
                if let Failure::Gone(_) = failure {
                    self.place_gone(now, &failure);
                }
            }
        }
    }

    /// The server refused a statement about several, perhaps because of a single one: a row with a trigger, say,
    /// or one that somebody else has locked. It is tried again in eighths, those that are refused in
    /// eighths of these, until the refusal is about one. With one among 512 that takes at most 24
    /// statements, where to try one by one takes 512. A server that refuses [`MOST_REFUSALS`] in a row refuses all:
    /// then each attempt is told. False if so, or if the refusal is about one.
    fn refused_together(&mut self, now: Instant, ids: &[LockId]) -> bool {
        if ids.len() < 2 || self.refusals > MOST_REFUSALS {
            return false;
        }
        let among = ids.len().div_ceil(8);
        for id in ids {
            self.step(now, *id, Input::Refused { among });
        }
        true
    }

    /// No lease is left, whichever of them the failed request was about.
    fn place_gone(&mut self, now: Instant, failure: &Failure) {
        let held = |attempt: &Attempt| matches!(attempt.slot.phase, Phase::Held { .. });
        let attempts = self.attempts.iter().filter(|(_, attempt)| held(attempt));
        let ids: Vec<LockId> = attempts.map(|(id, _)| *id).collect();
        for id in ids {
            self.step(now, id, Input::PlaceGone(failure.clone()));
        }
    }
}
