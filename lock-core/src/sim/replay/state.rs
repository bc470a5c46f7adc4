//! The model's table after some of the operations on one lock, and what the next may lead to.

use super::operation::{Done, Operation};
use super::search::{Known, Model};
use crate::engine::ConnectionId;
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::{Outcome, Place, Reply};
use crate::request::{Request, Turn};
use crate::sim::server::{Connection, Server};
use crate::sim::table::{FakeTable, Row};
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
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
    /// Operations that have seen that it is their turn, and have yet to lock the row.
    let_in: BTreeSet<usize>,
    done: Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Slack {
    acquired: Duration,
    expires: Duration,
}

impl Model for State {
    fn is_done(&self, which: usize) -> bool {
        self.done.has(which)
    }

    fn is_like(&self, other: &Self) -> bool {
        self.table == other.table
    }

    fn answer(
        &self,
        which: usize,
        operation: &Operation,
        told: &Outcome,
        known: &Known,
    ) -> Result<Vec<Self>, Outcome> {
        let turn = operation.claim().turn;
        if self.looked.contains(&which) {
            let drawn = self.draw(which, operation, told).ok_or(Outcome::Delayed)?;
            return Ok(Vec::from([drawn]));
        }
        // It was pinned, or it was denied and was free when its holder was looked for.
        if matches!(told, Outcome::Delayed | Outcome::Busy(None)) {
            return Ok(Vec::from([self.clone().with(which)]));
        }
        // It may have waited for the row since.
        let turn = match turn {
            Turn::Of(ticket) if self.let_in.contains(&which) => Turn::Loose(ticket),
            turn => turn,
        };
        let first = self.tried(operation, told, turn, turn != Turn::Any, known);
        // Others may come between its parts.
        let mut begun = self.clone();
        let begins = if self.may_look(operation, told, known) {
            begun.looked.insert(which)
        } else {
            self.may_let_in(operation, told, known) && begun.let_in.insert(which)
        };
        match (first, begins) {
            (Ok(next), true) => Ok(Vec::from([next.with(which), begun])),
            (Ok(next), false) => Ok(Vec::from([next.with(which)])),
            (Err(_), true) => Ok(Vec::from([begun])),
            (Err(says), false) => Err(says),
        }
    }

    fn unanswered(&self, which: usize, operation: &Operation, known: &Known) -> Option<Self> {
        let fence = known.fences.get(&operation.claim().owner).copied();
        let told = fence.map_or(Outcome::Delayed, |fence| Outcome::Granted(Fence::new(fence)));
        let turn = operation.claim().turn;
        let now = self.times(operation, &told, known).into_iter().next()?;
        let (next, _) = self.carried_out(operation, now, Duration::ZERO, turn, &told, known);
        (next.table != self.table).then(|| next.with(which))
    }

    fn shows(&self, operation: &Operation) -> String {
        format!("{:?}", self.row(&operation.claim().name))
    }
}

impl State {
    /// The empty table.
    pub(super) fn new(operations: &[Operation]) -> Self {
        Self {
            table: FakeTable::new(),
            slack: Slack::default(),
            looked: BTreeSet::new(),
            let_in: BTreeSet::new(),
            done: Done::of(operations),
        }
    }

    fn row(&self, name: &LockName) -> Option<&Row> {
        self.table.rows().get(name)
    }

    fn with(mut self, which: usize) -> Self {
        self.done.insert(which);
        self.looked.remove(&which);
        self.let_in.remove(&which);
        self
    }

    /// Whether an operation that has drawn a ticket may have seen its denial now, and draw later.
    fn may_look(&self, operation: &Operation, told: &Outcome, known: &Known) -> bool {
        let turn = operation.claim().turn;
        let drew = place(told).is_some_and(|place| place.ticket > 0 && !had(turn, place.ticket));
        let turn = if matches!(told, Outcome::Reserved(_)) { turn } else { Turn::Any };
        drew && self.tried(operation, told, turn, false, known).is_ok()
    }

    /// Whether an operation that was granted its lock may have seen now that it is its turn, and lock the row later.
    fn may_let_in(&self, operation: &Operation, told: &Outcome, known: &Known) -> bool {
        let claim = operation.claim();
        let (Outcome::Granted(fence), Turn::Of(_), true) =
            (told, claim.turn, known.looks_before_it_locks)
        else {
            return false;
        };
        let now = time(*fence);
        self.row(&claim.name).is_none_or(|row| {
            (row.owner.is_none() || row.expires <= now) && row.is_turn_of(claim.turn, now)
        })
    }

    fn draw(&self, which: usize, operation: &Operation, told: &Outcome) -> Option<Self> {
        let mut next = self.clone();
        let row = next.table.rows_mut().get_mut(&operation.claim().name)?;
        let drawn = row.draw(operation.claim().turn)?;
        (Some(drawn.ticket) == place(told).map(|place| place.ticket)).then(|| next.with(which))
    }

    /// The first time of the operation at which its answer is the one that was told, with the same ticket if it `draws` one. Of the
    /// row's times, the earliest are tried first.
    fn tried(
        &self,
        operation: &Operation,
        told: &Outcome,
        turn: Turn,
        draws: bool,
        known: &Known,
    ) -> Result<Self, Outcome> {
        let mut says = None;
        let expires = self.row(&operation.claim().name).map_or(Instant::END, |row| row.expires);
        for now in self.times(operation, told, known) {
            // It may have been freed just now, and be left to the next in the line.
            let just = now.since(expires).min(self.slack.expires);
            for late in [Duration::ZERO, self.slack.expires, just] {
                let (next, answer) = self.carried_out(operation, now, late, turn, told, known);
                if self.fits(operation, told, &answer, draws) {
                    return Ok(next);
                }
                says.get_or_insert(answer);
            }
        }
        Err(says.unwrap_or(Outcome::Delayed))
    }

    /// The times at which it may have been carried out, on the server's clock: that which was told, and the bounds.
    fn times(&self, operation: &Operation, told: &Outcome, known: &Known) -> Vec<Instant> {
        let row = self.row(&operation.claim().name);
        let told = match told {
            Outcome::Granted(fence) if known.fences_tell_time => Some(time(*fence)),
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
        known: &Known,
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
            exact = known.fences_tell_time && time(*fence) == now;
            let least = before.as_ref().map_or(0, |old| old.fence);
            // A fence of another clock is only greater.
            if let Outcome::Granted(real) = told
                && !known.fences_tell_time
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
    fn fits(&self, operation: &Operation, told: &Outcome, answer: &Outcome, draws: bool) -> bool {
        let ticket = |outcome| place(outcome).map(|place| place.ticket);
        if draws && ticket(told).is_some() && ticket(told) != ticket(answer) {
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

/// Whether a claim's ticket is this one.
fn had(turn: Turn, ticket: u64) -> bool {
    matches!(turn, Turn::Of(Some(own)) | Turn::Loose(Some(own)) if own == ticket)
}
