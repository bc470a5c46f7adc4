//! The order of waiters: who claims a lock when it is freed, and what a waiter asks until then, and when. This
//! file and `line` are the whole policy; nothing that must be safe rests on it.
//!
//! A slot tells its [`Contention`] what it was told of the lock (denied, notified, seen free), and asks it when
//! to try again, and what to ask. The engine asks [`others_wait`] and keeps [`Cooldowns`].
//!
//! * A table's waiters stand in a [line](line::Line): they draw tickets, and the server lets them go in turn.
//! * Consul notifies all waiters at once, and knows no first. There, a holder that frees a lock leaves word of
//!   how often it was overtaken. A waiter that was overtaken as often is next, and claims at once; any other is
//!   held back by a round trip for each time that it lacks, and then sees first whether the lock is still free.
//! * A process that frees what others wait for stays behind them: in a line, it draws a ticket before it claims. Where the
//!   server has a queue, it joins that again without a try, if it wants the lock within a second; so a hand-off takes two
//!   statements. Elsewhere it waits for a while.
//!
//! No waiter is held back for long: not even if the first has died.

mod line;

use crate::back_off::BackOff;
use crate::capabilities::Sessions;
use crate::name::LockName;
use crate::outcome::{Holder, Outcome, Place};
use crate::request::{Action, Turn};
use crate::slot::Context;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use line::Line;

pub(crate) use line::Pace;

/// By how many steps at most a waiter is held back.
const MOST: u32 = 24;

/// The memory that an attempt has of its wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Contention {
    /// The request after a denial.
    on_busy: Action,
    /// The next request.
    next_action: Action,
    /// The place in the server's history at which the last wait ended.
    index: u64,
    /// Its place among a table's waiters.
    line: Line,
    /// The lock may have been freed while the claim was in flight.
    notified: bool,
    /// Hand-overs to others of which it was notified, or that it has seen.
    times_overtaken: u32,
    /// It has let others go first to what was freed.
    deferred: bool,
    /// It was granted the lock after a while in the server's queue.
    queued: bool,
}

impl Contention {
    /// Before the first claim.
    pub(crate) fn new(on_busy: Action) -> Self {
        Self {
            on_busy,
            next_action: Action::Acquire,
            index: 0,
            line: Line::default(),
            notified: false,
            times_overtaken: 0,
            deferred: false,
            queued: false,
        }
    }

    /// Its process has just freed the lock for others that wait: it joins them.
    pub(crate) fn starts_behind(&mut self) {
        self.next_action = self.on_busy;
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
        if self.on_busy != Action::Wait {
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
        self.line.turn()
    }

    /// Whether it is so close to its turn that it is to be notified.
    pub(crate) fn is_near(&self) -> bool {
        self.line.is_near()
    }

    /// The place in the server's history at which a wait is to begin.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// It was granted the lock after a while in the server's queue: others are likely to wait behind it.
    pub(crate) fn was_queued(&self) -> bool {
        self.queued
    }

    /// The pace at which it has seen others have their turn.
    pub(crate) fn pace(&self) -> Pace {
        self.line.pace()
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

    /// The server granted it, so long after it was sent to wait.
    pub(crate) fn granted_after(&mut self, waited: Duration, cx: &Context<'_>) {
        self.queued = cx.queues_at_server() && waited > cx.round_trip * 2;
    }

    /// It was seen free.
    pub(crate) fn free(&mut self) {
        self.index = 0;
        self.next_action = Action::Acquire;
    }

    /// It may have been freed.
    pub(crate) fn hinted(&mut self) {
        self.times_overtaken = self.times_overtaken.saturating_add(1);
    }

    /// It may have been freed while the claim is in flight. The ticket whose turn it is, if that is known.
    pub(crate) fn notified_in_flight(&mut self, ticket: Option<u64>) {
        self.notified |= ticket.is_none_or(|ticket| self.line.ahead(ticket) == 0);
    }

    /// The wait at the server ended with its session.
    pub(crate) fn session_ended(&mut self) {
        self.index = 0;
    }

    // -- when to ask ------------------------------------------------------------------------------

    /// The time to claim, now that no local rival is in front any more: after the waiters for what its process has
    /// just freed. In a line, it is the server that lets them go first, and a ticket is drawn at once; where the server has
    /// a queue, it stands behind them there at once. An attempt that does not wait asks at once, too.
    pub(crate) fn at_front(&mut self, once: bool, give_up: Instant, cx: &Context<'_>) -> Instant {
        self.line.expects(cx.pace);
        if once || cx.cooldown_until <= cx.now {
            return cx.now;
        }
        let queues = cx.queues_at_server();
        if self.on_busy == Action::Probe || (queues && cx.may_queue) {
            self.next_action = self.on_busy;
        }
        if self.on_busy == Action::Probe || queues {
            return cx.now;
        }
        cx.now.max(cx.cooldown_until.min(give_up))
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

    /// The time to claim what was seen free, or to see whether it still is. Its last holder was overtaken by so many,
    /// if that is known.
    pub(crate) fn after_free(
        &mut self,
        last: Option<u32>,
        back_off: &mut BackOff,
        cx: &mut Context<'_>,
    ) -> Instant {
        if self.on_busy != Action::Wait {
            return cx.now;
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
        self.next_look(ends, sent, back_off, cx)
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
        self.next_look(Some(cx.now), sent, back_off, cx)
    }

    /// The time of the next try for a lock that is free at `free_at`, if that is known.
    fn next_look(
        &mut self,
        free_at: Option<Instant>,
        sent: Instant,
        back_off: &mut BackOff,
        cx: &mut Context<'_>,
    ) -> Instant {
        let notified = core::mem::take(&mut self.notified);
        let told = cx.notified_since.is_some_and(|since| since <= sent);
        let told = told && !notified && self.line.has_ticket();
        let soonest = cx.now.after(cx.timing.back_off(0, cx.round_trip));
        let turn = free_at.map(|at| at.after(self.line.patience(self.line.ahead_now(), cx)));
        if let (Some(at), true) = (turn, told && self.line.is_near()) {
            back_off.reset();
            if self.line.ahead_now() == 0 {
                // By then it is free.
                self.next_action = Action::Acquire;
            }
            return at.max(soonest);
        }
        let retry_at = match self.line.looks_after(told, cx) {
            Some(pause) => cx.now.after(pause),
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
        // The word that a Consul release leaves holds it back by itself.
        let steps = if self.on_busy == Action::Probe { MOST } else { 2 };
        (step * steps).min(Timing::MAX_BACK_OFF)
    }

    /// Its ticket in a table's line, if it was told of one.
    #[cfg(feature = "sim")]
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
        Self {
            index: index(self.index),
            line: self.line.project(sent_at, ticket),
            times_overtaken: self.times_overtaken.min(1),
            ..self.clone()
        }
    }
}

/// Whether others are likely to wait for what a release freed, by its outcome. Where no waiter says that it
/// waits, an attempt that had to wait itself is not alone.
pub(crate) fn others_wait(
    outcome: &Outcome,
    kind: Option<Sessions>,
    waited: impl FnOnce() -> bool,
) -> bool {
    match outcome {
        Outcome::DoneContended => true,
        Outcome::Done => kind.is_some() && waited(),
        _ => false,
    }
}

/// Names that others wait for and that this process has just freed: until when the others go first, and at what pace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cooldowns {
    by_name: BTreeMap<LockName, (Instant, Pace)>,
    /// The same by time, and what has been replaced since.
    by_time: BTreeSet<(Instant, LockName)>,
}

impl Cooldowns {
    /// The time until which the others go first; it may be over.
    pub(crate) fn until(&self, name: &LockName) -> Option<Instant> {
        self.by_name.get(name).map(|(until, _)| *until)
    }

    /// The pace at which the last attempt has seen others have their turn.
    pub(crate) fn pace(&self, name: &LockName) -> Pace {
        self.by_name.get(name).map(|(_, pace)| *pace).unwrap_or_default()
    }

    /// The others go first until then. Forgets what is over.
    pub(crate) fn begin(&mut self, now: Instant, name: LockName, until: Instant, pace: Pace) {
        while let Some((over, name)) = self.by_time.first()
            && *over <= now
        {
            if self.by_name.get(name).is_some_and(|(until, _)| until == over) {
                self.by_name.remove(name);
            }
            self.by_time.pop_first();
        }
        self.by_name.insert(name.clone(), (until, pace));
        self.by_time.insert((until, name));
    }

    /// The state for a search through states, with each time as `time` sees it.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
    ) -> alloc::vec::Vec<(LockName, Instant)> {
        self.by_name.iter().map(|(name, (until, _))| (name.clone(), time(*until))).collect()
    }
}
