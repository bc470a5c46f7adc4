//! An order of the operations on one lock in which the model's server gives all the answers.

use super::operation::{Operation, fences};
use super::{Difference, Place};
use crate::name::Owner;
use crate::outcome::Outcome;
use crate::sim::hash::fingerprint;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::hash::Hash;

/// So many states are looked at for one lock.
const MOST: usize = 200_000;

/// The model's server after some of the operations on one lock.
pub(super) trait Model: Clone + Hash {
    /// Whether an operation was carried out.
    fn is_done(&self, which: usize) -> bool;

    /// Whether both have the same locks. Then nothing has changed for the operations to come.
    fn is_like(&self, other: &Self) -> bool;

    /// The states in which an operation, or a part of it, was carried out next and its answer is the one that was told, the
    /// likeliest first; otherwise the answer of the model's server.
    fn answer(
        &self,
        which: usize,
        operation: &Operation,
        told: &Outcome,
        known: &Known,
    ) -> Result<Vec<Self>, Outcome>;

    /// The state after an operation that nobody knows the fate of, if it changes anything.
    fn unanswered(&self, which: usize, operation: &Operation, known: &Known) -> Option<Self>;

    /// Whether an operation must wait for another, which was sent first.
    fn follows(_operation: &Operation, _other: &Operation) -> bool {
        false
    }

    /// What it has of the lock, for people.
    fn shows(&self, operation: &Operation) -> String;
}

/// Things that are known of all operations on a lock.
pub(super) struct Known {
    /// The fence of each owner's grant, as far as it was told.
    pub(super) fences: BTreeMap<Owner, u64>,
    /// A fence is what the server's clock shows, if that is greater than the last.
    pub(super) fences_tell_time: bool,
    /// Whose turn it is decides the row as it was before a claim has locked it.
    pub(super) looks_before_it_locks: bool,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) claims: usize,
    pub(super) unanswered: usize,
    /// After the longest search that is made.
    pub(super) gave_up: bool,
}

/// An operation, the answer of the model's server, and what that had.
type Furthest<M> = (usize, Outcome, M);

/// The operations on one lock.
struct Search<M> {
    /// In the order of sending.
    operations: Vec<Operation>,
    known: Known,
    /// How many operations came before one that no state which had come so far allowed.
    furthest: Option<(usize, Furthest<M>)>,
}

/// Finds an order, from the state before all operations.
pub(super) fn check<M: Model>(
    place: &Place<'_>,
    begin: M,
    mut operations: Vec<Operation>,
) -> Result<Found, Difference> {
    operations.sort_by_key(|operation| operation.sent);
    let fences_tell_time = place.fences_tell_time();
    let looks_before_it_locks = place.looks_before_it_locks();
    let known = Known { fences: fences(&operations), fences_tell_time, looks_before_it_locks };
    let count = operations.len();
    let claims = operations.iter().filter(|one| one.told.is_some()).count();
    let mut search = Search { operations, known, furthest: None };
    let mut seen = BTreeSet::new();
    let mut states = Vec::from([begin]);
    while let Some(state) = states.pop() {
        let done = |one: &usize| state.is_done(*one);
        let all = search.operations.iter().enumerate();
        if all.clone().all(|(at, one)| one.told.is_none() || state.is_done(at)) {
            let unanswered = (0..count).filter(done).count() - claims;
            return Ok(Found { claims, unanswered, gave_up: false });
        }
        if seen.len() >= MOST {
            return Ok(Found { gave_up: true, ..Found::default() });
        }
        let mut next = search.next(&state);
        next.retain(|state| seen.insert(fingerprint(state)));
        // The first of them is looked at first.
        states.extend(next.into_iter().rev());
    }
    let Some((_, (which, says, state))) = search.furthest else {
        let what = "no order of the requests about its lock is within their times".to_string();
        return Err(place.differs(search.operations[0].at, what));
    };
    let operation = &search.operations[which];
    let (request, told, has) = (&operation.request, &operation.told, state.shows(operation));
    let what = format!(
        "{request:?} was answered {told:?}; the model's server has {has} and would answer {says:?}"
    );
    Err(place.differs(operation.at, what))
}

impl<M: Model> Search<M> {
    /// The states that may follow, the likeliest first.
    fn next(&mut self, state: &M) -> Vec<M> {
        let open = |(at, _): &(usize, &Operation)| !state.is_done(*at);
        let all = || self.operations.iter().enumerate().filter(open);
        // All that was sent after the first answer takes effect after it.
        let first = all().map(|(_, one)| one.answered).min().unwrap_or(Instant::END);
        let mut may_be: Vec<_> = all().filter(|(_, one)| one.sent <= first).collect();
        may_be.retain(|(_, one)| !all().any(|(_, other)| M::follows(one, other)));
        may_be.sort_by_key(|(_, one)| one.answered);
        let (mut next, mut denied) = (Vec::new(), None);
        for (at, operation) in may_be {
            let Some(told) = &operation.told else {
                next.extend(state.unanswered(at, operation, &self.known));
                continue;
            };
            match state.answer(at, operation, told, &self.known) {
                // Whatever follows may as well follow after it.
                Ok(after)
                    if after.iter().any(|after| after.is_like(state) && after.is_done(at)) =>
                {
                    return after;
                }
                Ok(after) => next.extend(after),
                Err(says) => drop(denied.get_or_insert((at, says))),
            }
        }
        let done = (0..self.operations.len()).filter(|at| state.is_done(*at)).count() + 1;
        if let Some((at, says)) = denied
            && self.furthest.as_ref().is_none_or(|(most, _)| *most < done)
        {
            self.furthest = Some((done, (at, says, state.clone())));
        }
        next
    }
}
