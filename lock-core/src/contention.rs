//! The order of waiters: who claims a lock when it is freed, and what a waiter asks until then, and when. This
//! file, `line` and `chain` are the whole policy; nothing that must be safe rests on it.
//!
//! A slot tells its [`Contention`] what it was told of the lock (denied, notified, seen free), and asks it when
//! to try again, and what to ask. The engine asks [`others_wait`] and keeps what the [last attempts](LastAttempts) have seen.
//!
//! * A table's waiters stand in a [line](line::Line): they draw tickets, and the server lets them go in turn.
//! * Consul's waiters stand in a [chain](chain::Chain): each waits for the end of the one just ahead.
//! * A process that frees what others wait for stays behind them: in a line or a chain, it takes its place before it claims.
//!   Where the server has a queue, it joins that again without a try, if it wants the lock within a second; so a hand-off
//!   takes two statements.
//!
//! No waiter is held back for long: not even if the first has died.

mod chain;
mod line;

use crate::back_off::BackOff;
use crate::capabilities::Sessions;
use crate::name::LockName;
use crate::outcome::{Holder, Outcome, Place};
use crate::request::{Action, SessionName, Turn};
use crate::slot::Context;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::{BTreeMap, BTreeSet};
use chain::Chain;
use core::time::Duration;
use line::Line;

pub(crate) use line::Pace;

/// For how many round trips a process stays behind those that wait for what it has freed.
const MOST: u32 = 24;

/// The memory that an attempt has of its wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Contention {
    /// The request after a denial.
    on_busy: Action,
    /// The next request.
    next_action: Action,
    /// Its place among a table's waiters.
    line: Line,
    /// Its place among Consul's.
    chain: Chain,
    /// The lock may have been freed while the claim was in flight: then how many were ahead.
    notified: Option<u64>,
    /// It was granted the lock after a while in the server's queue.
    queued: bool,
}

impl Contention {
    /// Before the first claim.
    pub(crate) fn new(on_busy: Action) -> Self {
        Self {
            on_busy,
            next_action: Action::Acquire,
            line: Line::default(),
            chain: Chain::default(),
            notified: None,
            queued: false,
        }
    }

    /// Its attempt waits for one of several locks, and has no place in the line of any.
    pub(crate) fn for_one_of_many(mut self) -> Self {
        self.line.loosen();
        self
    }

    /// Its attempt wants others as well, and may give this one up once it is denied: until then it draws no ticket.
    pub(crate) fn draws_once_denied(mut self) -> Self {
        self.line.draws_once_denied();
        self
    }

    /// It looks before it claims, where a look takes nothing and does not wait.
    pub(crate) fn looks_first(&mut self) {
        if !matches!(self.on_busy, Action::Wait | Action::Join) {
            self.next_action = Action::Probe;
        }
    }

    // -- what to ask ------------------------------------------------------------------------------

    /// The next request.
    pub(crate) fn next_action(&self) -> Action {
        self.next_action
    }

    /// Which waiters its request lets go first.
    pub(crate) fn turn(&self) -> Turn {
        if self.on_busy == Action::Join { self.chain.turn() } else { self.line.turn() }
    }

    /// Whether it is so close to its turn that it is to be notified.
    pub(crate) fn is_near(&self) -> bool {
        self.line.is_near()
    }

    /// The place in the server's history at which a wait is to begin.
    pub(crate) fn index(&self) -> u64 {
        self.chain.since()
    }

    /// The waiter whose end its wait is for, if it is not the lock's.
    pub(crate) fn waits_for(&self) -> Option<&SessionName> {
        self.chain.waits_for()
    }

    /// The waiter that it passed over to get the lock, for that let it lie.
    pub(crate) fn passed_over(&self) -> Option<&SessionName> {
        self.chain.passed_over()
    }

    /// Whether it may have an entry in its session that says that it waits.
    pub(crate) fn has_entry(&self) -> bool {
        self.chain.stands()
    }

    /// It was granted the lock after a while in the server's queue: others are likely to wait behind it.
    pub(crate) fn was_queued(&self) -> bool {
        self.queued
    }

    /// The pace at which it has seen others have their turn.
    pub(crate) fn pace(&self) -> Pace {
        self.line.pace()
    }

    // -- what it is told --------------------------------------------------------------------------

    /// Its request leaves.
    pub(crate) fn sent(&mut self) {
        if self.next_action == Action::Join {
            self.chain.joins();
        }
    }

    /// Another has the lock.
    pub(crate) fn busy(&mut self) {
        self.next_action = self.on_busy;
    }

    /// It has an entry that says that it waits, behind these.
    pub(crate) fn in_line(&mut self, place: Place, ahead: Option<(SessionName, u64)>) {
        self.next_action = Action::Wait;
        self.chain.stands_behind(place, ahead);
    }

    /// Its entry was removed.
    pub(crate) fn has_left(&mut self) {
        self.chain.has_left();
    }

    /// Nobody has the lock, and nothing would tell when it is given away again.
    pub(crate) fn delayed(&mut self) {
        self.next_action = Action::Acquire;
    }

    /// Its claim has to be repeated.
    pub(crate) fn claims_again(&mut self) {
        self.next_action = Action::Acquire;
    }

    /// A wait has ended, up to `index` in the server's history, and what it was for is as it was.
    pub(crate) fn unchanged(&mut self, index: u64, back_off: &mut BackOff) {
        let (next_action, moved) = self.chain.unchanged(index);
        self.next_action = next_action;
        if moved {
            // It changed hands, and will again: as often as that, it is worth a look.
            back_off.reset();
        }
    }

    /// The server granted it, so long after it was sent to wait.
    pub(crate) fn granted_after(&mut self, waited: Duration, cx: &Context<'_>) {
        self.queued = cx.queues_at_server() && waited > cx.round_trip * 2;
    }

    /// It may have been freed while the claim is in flight. The ticket whose turn it is, if that is known.
    pub(crate) fn notified_in_flight(&mut self, ticket: Option<u64>) {
        let ahead = ticket.map_or(0, |ticket| self.line.ahead(ticket));
        self.notified = Some(self.notified.map_or(ahead, |known| known.min(ahead)));
    }

    /// The wait at the server ended with its session, and so did its entry. Whether it needs another.
    pub(crate) fn session_ended(&mut self) -> bool {
        let stood = self.chain.stands();
        if stood {
            self.next_action = self.on_busy;
        }
        self.chain.has_left();
        stood
    }

    // -- when to ask ------------------------------------------------------------------------------

    /// No local rival is in front any more. After the waiters for what its process has just freed it comes by taking its
    /// place among them, at once: in a line, in a chain, or in the server's queue. An attempt that does not wait claims.
    pub(crate) fn at_front(&mut self, once: bool, cx: &Context<'_>) {
        self.line.follows(&cx.before);
        if once || cx.before.cooldown_until <= cx.now {
            return;
        }
        self.line.lets_others_go_first();
        if !cx.queues_at_server() || cx.may_queue {
            self.next_action = self.on_busy;
        }
    }

    /// The time to claim what was freed, or is free in a moment, now that it is the turn of `ticket`: once those ahead have
    /// had the time to claim. It is no later than `retry_at`, unless the line has moved on.
    pub(crate) fn after_notification(
        &mut self,
        ticket: u64,
        free_at: Instant,
        retry_at: Instant,
        cx: &mut Context<'_>,
    ) -> Instant {
        let moved = self.line.hears(ticket, cx.now);
        let ahead = self.line.ahead(ticket);
        self.next_action = if ahead == 0 { Action::Acquire } else { self.on_busy };
        let turn = free_at.after(self.line.patience(ahead, cx));
        if moved && ahead > 0 && self.line.is_near() { turn } else { turn.min(retry_at) }
    }

    /// The time of the next request, now that what it looked at, or waited for, is free: of a claim, if that is the lock.
    pub(crate) fn free(&mut self, back_off: &mut BackOff, cx: &Context<'_>) -> Instant {
        let (next_action, ahead) = match self.on_busy {
            Action::Join => self.chain.free(),
            _ => (Action::Acquire, 0),
        };
        self.next_action = next_action;
        if next_action == Action::Acquire && self.on_busy == Action::Join {
            // It has changed hands.
            back_off.reset();
        }
        cx.now.after(self.line.patience(ahead, cx))
    }

    /// The time of the next try after a denial of a claim sent at `sent`: when the lease in the way ends, but
    /// after a while at the latest, unless the server is sure to tell that it was freed.
    pub(crate) fn after_denial(
        &mut self,
        holder: Option<&Holder>,
        sent: Instant,
        back_off: &mut BackOff,
        cx: &mut Context<'_>,
    ) -> Instant {
        if holder.is_some_and(|holder| self.line.sees_holder(holder, cx.now)) {
            // It changed hands meanwhile, and may soon again.
            back_off.reset();
        }
        let ends = holder.map(|holder| cx.now.after(holder.expires_in));
        let turn = ends.map(|at| at.after(self.line.patience(self.line.ahead_now(), cx)));
        self.next_look(turn, sent, back_off, cx)
    }

    /// The time of the next try for a lock that is free, and left to those ahead.
    pub(crate) fn after_reservation(
        &mut self,
        place: Place,
        sent: Instant,
        back_off: &mut BackOff,
        cx: &mut Context<'_>,
    ) -> Instant {
        self.next_action = self.on_busy;
        self.line.is_at(place, cx.now);
        let turn = cx.now.after(self.line.patience_left(cx));
        self.next_look(Some(turn), sent, back_off, cx)
    }

    /// The time of the next try for a lock that those ahead have had the time to claim by `turn`, if that is known.
    fn next_look(
        &mut self,
        turn: Option<Instant>,
        sent: Instant,
        back_off: &mut BackOff,
        cx: &mut Context<'_>,
    ) -> Instant {
        let notified = self.notified.take();
        let told = cx.notified_since.is_some_and(|since| since <= sent);
        let told = told && notified != Some(0) && self.line.has_ticket();
        let soonest = cx.now.after(cx.timing.back_off(0, cx.round_trip));
        if let (Some(at), true) = (turn, told && self.line.is_near()) {
            back_off.reset();
            if self.line.ahead_now() == 0 {
                // By then it is free.
                self.next_action = Action::Acquire;
            }
            // What it was notified of meanwhile may be newer than the answer: then those ahead have so long to claim.
            let heard = notified.map(|ahead| cx.now.after(self.line.patience(ahead, cx)));
            let at = at.min(heard.unwrap_or(at));
            return at.max(soonest);
        }
        let retry_at = match self.line.looks_after(told, cx) {
            // Those in a line are apart already.
            Some(pause) if self.line.has_ticket() => cx.now.after(pause),
            Some(pause) => cx.now.after(cx.rng.jitter(pause)),
            None => back_off.next(cx.now, cx.timing, cx.round_trip, cx.rng),
        };
        turn.map_or(retry_at, |at| at.min(retry_at).max(soonest))
    }

    /// For how long its process stays behind those that wait for what it has freed: in the line, or in the server's queue,
    /// if there is one.
    pub(crate) fn cooldown(&self, kind: Option<Sessions>, step: Duration) -> Duration {
        if matches!(kind, Some(Sessions::Connections { .. })) {
            return Timing::MAX_BACK_OFF;
        }
        (step * MOST).min(Timing::MAX_BACK_OFF)
    }

    /// Its ticket in a table's line, if it was told of one.
    pub(crate) fn ticket(&self) -> Option<u64> {
        self.line.ticket()
    }

    /// The state that tells waiters apart for a search through states.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        sent_at: impl Fn(Instant) -> Instant,
        index: impl Fn(u64) -> u64,
        ticket: impl Fn(u64) -> u64,
    ) -> Self {
        let (line, chain) = (self.line.project(sent_at, ticket), self.chain.project(index));
        Self { line, chain, ..self.clone() }
    }
}

/// Whether others are likely to wait for what a release freed, by its outcome. In a server's queue no waiter says that it
/// waits, and an attempt that had to wait itself is not alone.
pub(crate) fn others_wait(
    outcome: &Outcome,
    kind: Option<Sessions>,
    waited: impl FnOnce() -> bool,
) -> bool {
    match outcome {
        Outcome::DoneContended => true,
        Outcome::Done => matches!(kind, Some(Sessions::Connections { .. })) && waited(),
        _ => false,
    }
}

/// The memory of this process of its last attempts for a lock, for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Before {
    /// One has freed what others wait for: they go first until then.
    pub(crate) cooldown_until: Instant,
    /// The pace at which the last has seen others have their turn.
    pub(crate) pace: Pace,
    /// The ticket of one that gave up. Callers that try for a moment again and again would else leave
    /// a ticket behind each time, and the others would wait for it.
    pub(crate) ticket: Option<u64>,
}

/// That memory for each name, until it is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LastAttempts {
    by_name: BTreeMap<LockName, (Instant, Before)>,
    /// The same by time, and what has been replaced since.
    by_time: BTreeSet<(Instant, LockName)>,
}

impl LastAttempts {
    /// The memory for `name`, empty if it is forgotten.
    pub(crate) fn of(&self, now: Instant, name: &LockName) -> Before {
        let recent = self.by_name.get(name).filter(|(until, _)| now < *until);
        recent.map(|(_, before)| *before).unwrap_or_default()
    }

    /// Remembers `before` until then. Forgets the memories whose time is over.
    pub(crate) fn begin(&mut self, now: Instant, name: LockName, until: Instant, before: Before) {
        while let Some((over, name)) = self.by_time.first()
            && *over <= now
        {
            if self.by_name.get(name).is_some_and(|(until, _)| until == over) {
                self.by_name.remove(name);
            }
            self.by_time.pop_first();
        }
        self.by_name.insert(name.clone(), (until, before));
        self.by_time.insert((until, name));
    }

    /// The state for a search through states, with each time as `time` and each ticket as `ticket` sees it.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        ticket: &dyn Fn(&LockName, u64) -> u64,
    ) -> alloc::vec::Vec<(LockName, [Instant; 2], Option<u64>)> {
        let seen = |(name, (until, before)): (&LockName, &(Instant, Before))| {
            let ticket = before.ticket.map(|number| ticket(name, number));
            (name.clone(), [*until, before.cooldown_until].map(time), ticket)
        };
        self.by_name.iter().map(seen).collect()
    }
}
