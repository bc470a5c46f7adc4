//! The model's table after some of the operations on one lock, and what the next may lead to.

use super::operation::Operation;
use crate::engine::ConnectionId;
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::{Outcome, Place, Reply};
use crate::request::{Request, Turn};
use crate::sim::server::{Connection, Server};
use crate::sim::table::{FakeTable, Row};
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

/// The parts of a statement read the clock one after the other.
const MOMENT: Duration = Duration::from_millis(5);
const CONNECTION: Connection = Connection { client: 0, number: 0, id: ConnectionId::MAIN };

/// The table, and what was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) table: FakeTable,
    /// The row's times are known up to these: they are so much later at most.
    slack: Slack,
    /// Operations that have seen their denial, and have yet to draw their ticket.
    looked: BTreeSet<usize>,
    /// A bit for each operation.
    done: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Slack {
    acquired: Duration,
    expires: Duration,
}

/// The terms of a place.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// A fence is what the server's clock shows, if that is greater than the last.
    pub(super) fences_tell_time: bool,
}

impl State {
    /// The empty table.
    pub(super) fn new(operations: usize) -> Self {
        Self {
            table: FakeTable::new(),
            slack: Slack::default(),
            looked: BTreeSet::new(),
            done: [0].repeat(operations.div_ceil(64)),
        }
    }

    pub(super) fn is_done(&self, which: usize) -> bool {
        self.done[which / 64] >> (which % 64) & 1 == 1
    }

    pub(super) fn row(&self, name: &LockName) -> Option<&Row> {
        self.table.rows().get(name)
    }

    /// Whether both have the same table. Then nothing has changed for the operations to come.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.table == other.table
    }

    fn with(mut self, which: usize) -> Self {
        self.done[which / 64] |= 1 << (which % 64);
        self.looked.remove(&which);
        self
    }

    /// The states in which an operation was carried out next and its answer is the one that was told; otherwise the answer of
    /// the model's table.
    pub(super) fn answer(
        &self,
        which: usize,
        operation: &Operation,
        told: &Outcome,
        terms: Terms,
    ) -> Result<Self, Outcome> {
        let turn = operation.claim().turn;
        if self.looked.contains(&which) {
            return self.draw(which, operation, told).ok_or(Outcome::Delayed);
        }
        // It was pinned, or it was denied and was free when its holder was looked for.
        if matches!(told, Outcome::Delayed | Outcome::Busy(None)) {
            return Ok(self.clone().with(which));
        }
        let first = self.tried(operation, told, turn, terms);
        if let Ok(next) = first {
            return Ok(next.with(which));
        }
        // The ticket is drawn by a statement of its own.
        if place(told).is_some_and(|place| place.ticket > 0) {
            let turn = if matches!(told, Outcome::Reserved(_)) { turn } else { Turn::Any };
            if self.tried(operation, told, turn, terms).is_ok() {
                let mut next = self.clone();
                next.looked.insert(which);
                return Ok(next);
            }
        }
        first.map(|next| next.with(which))
    }

    fn draw(&self, which: usize, operation: &Operation, told: &Outcome) -> Option<Self> {
        let mut next = self.clone();
        let row = next.table.rows_mut().get_mut(&operation.claim().name)?;
        let drawn = row.draw(operation.claim().turn)?;
        (Some(drawn.ticket) == place(told).map(|place| place.ticket)).then(|| next.with(which))
    }

    /// The first time of the operation at which its answer is the one that was told. Of the row's times, the earliest are tried
    /// first.
    fn tried(
        &self,
        operation: &Operation,
        told: &Outcome,
        turn: Turn,
        terms: Terms,
    ) -> Result<Self, Outcome> {
        let mut says = None;
        let expires = self.row(&operation.claim().name).map_or(Instant::END, |row| row.expires);
        for now in self.times(operation, told, terms) {
            // It may have been freed just now, and be left to the next in the line.
            let just = now.since(expires).min(self.slack.expires);
            for late in [Duration::ZERO, self.slack.expires, just] {
                let (next, answer) = self.carried_out(operation, now, late, turn, told, terms);
                if self.fits(operation, told, &answer, turn) {
                    return Ok(next);
                }
                says.get_or_insert(answer);
            }
        }
        Err(says.unwrap_or(Outcome::Delayed))
    }

    /// The times at which it may have been carried out, on the server's clock: that which was told, and the bounds.
    fn times(&self, operation: &Operation, told: &Outcome, terms: Terms) -> Vec<Instant> {
        let row = self.row(&operation.claim().name);
        let told = match told {
            Outcome::Granted(fence) if terms.fences_tell_time => Some(time(*fence)),
            Outcome::Busy(Some(holder)) => row.map(|row| row.acquired.after(holder.held_for)),
            _ => None,
        };
        let bounds = [operation.earliest, operation.latest];
        let told = told.filter(|at| operation.contains(*at));
        told.into_iter().chain(bounds.into_iter().filter(|at| *at < Instant::END)).collect()
    }

    fn carried_out(
        &self,
        operation: &Operation,
        now: Instant,
        late: Duration,
        turn: Turn,
        told: &Outcome,
        terms: Terms,
    ) -> (Self, Outcome) {
        let (mut next, mut request) = (self.clone(), operation.request.clone());
        let name = operation.claim().name.clone();
        request.claims_mut()[0].turn = turn;
        if let Some(row) = next.table.rows_mut().get_mut(&name) {
            row.expires = row.expires.after(late);
        }
        let before = next.row(&name).cloned();
        let Reply::Outcomes(answers) = next.table.apply(now, CONNECTION, &request) else {
            return (next, Outcome::Delayed);
        };
        let mut answer = answers.into_iter().next().unwrap_or(Outcome::Delayed);
        let is_new = |row: &Row| before.as_ref().is_none_or(|old| old.fence < row.fence);
        let Some(row) = next.table.rows_mut().get_mut(&name) else { return (next, answer) };
        let mut exact = false;
        if let (Outcome::Granted(fence), true) = (&answer, is_new(row)) {
            exact = terms.fences_tell_time && time(*fence) == now;
            let least = before.as_ref().map_or(0, |old| old.fence);
            // A fence of another clock is only greater.
            if let Outcome::Granted(real) = told
                && !terms.fences_tell_time
                && real.get() > least
            {
                (row.fence, answer) = (real.get(), Outcome::Granted(*real));
            }
        }
        let slack = if exact { Duration::ZERO } else { operation.width() };
        if before.as_ref().map(|old| old.acquired) != Some(row.acquired) {
            next.slack.acquired = slack;
        }
        if before.as_ref().map(|old| old.expires) == Some(row.expires) {
            row.expires = row.expires.before(late);
        } else {
            let kept = matches!(request, Request::Keep { .. });
            next.slack.expires = if kept { slack.max(self.slack.acquired) } else { slack };
        }
        (next, answer)
    }

    /// Whether an answer is the one that was told, up to what is not known of the times.
    fn fits(&self, operation: &Operation, told: &Outcome, answer: &Outcome, turn: Turn) -> bool {
        let ticket = |outcome| place(outcome).map(|place| place.ticket);
        let draws = turn != Turn::Any && ticket(told).is_some();
        if draws && ticket(told) != ticket(answer) {
            return false;
        }
        let near = |one: Duration, other: Duration, slack: Duration| {
            one.abs_diff(other) <= slack + operation.width() + MOMENT
        };
        match (told, answer) {
            (Outcome::Busy(Some(told)), Outcome::Busy(Some(says))) => {
                (&told.label, told.kept) == (&says.label, says.kept)
                    && near(told.held_for, says.held_for, self.slack.acquired)
                    && near(told.expires_in, says.expires_in, self.slack.expires)
            }
            (Outcome::Reserved(_), Outcome::Reserved(_)) => true,
            // A ticket may be drawn between a release's two statements.
            (Outcome::Done, Outcome::DoneContended) => true,
            (told, answer) => told == answer,
        }
    }

    /// The state after an operation that nobody knows the fate of, if it changes anything.
    pub(super) fn unanswered(
        &self,
        which: usize,
        operation: &Operation,
        fence: Option<u64>,
        terms: Terms,
    ) -> Option<Self> {
        let told = fence.map_or(Outcome::Delayed, |fence| Outcome::Granted(Fence::new(fence)));
        let turn = operation.claim().turn;
        let now = self.times(operation, &told, terms).into_iter().next()?;
        let (next, _) = self.carried_out(operation, now, Duration::ZERO, turn, &told, terms);
        (next.table != self.table).then(|| next.with(which))
    }
}

fn time(fence: Fence) -> Instant {
    Instant::from_nanos(fence.get().saturating_mul(1_000))
}

/// The place in the line that an outcome tells.
fn place(outcome: &Outcome) -> Option<Place> {
    match outcome {
        Outcome::Reserved(place) => Some(*place),
        Outcome::Busy(Some(holder)) => holder.place,
        _ => None,
    }
}
