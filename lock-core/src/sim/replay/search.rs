//! An order of the operations on one lock in which the model's table gives all the answers.

use super::operation::{Operation, fences};
use super::state::{State, Terms};
use super::{Difference, Place};
use crate::name::Owner;
use crate::outcome::Outcome;
use crate::sim::hash::fingerprint;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// So many states are looked at for one lock.
const MOST: usize = 200_000;

/// The operations on one lock.
struct Search {
    /// In the order of sending.
    operations: Vec<Operation>,
    fences: BTreeMap<Owner, u64>,
    terms: Terms,
    /// The operation that no state which had come so far allowed, with the answer of the model's table.
    furthest: (usize, Option<(usize, Outcome, State)>),
}

/// Finds an order. Returns how many operations were answered, and how many of the others were carried out.
pub(super) fn check(
    place: &Place<'_>,
    mut operations: Vec<Operation>,
) -> Result<(usize, usize), Difference> {
    operations.sort_by_key(|operation| operation.sent);
    let terms = Terms { fences_tell_time: place.fences_tell_time() };
    let (fences, count) = (fences(&operations), operations.len());
    let answered = operations.iter().filter(|one| one.told.is_some()).count();
    let mut search = Search { operations, fences, terms, furthest: (0, None) };
    let mut seen = BTreeSet::new();
    let mut states = Vec::from([State::new(count)]);
    while let Some(state) = states.pop() {
        let done = |one: &usize| state.is_done(*one);
        let all = search.operations.iter().enumerate();
        if all.clone().all(|(at, one)| one.told.is_none() || state.is_done(at)) {
            return Ok((answered, (0..count).filter(done).count() - answered));
        }
        if seen.len() >= MOST {
            break;
        }
        let mut next = search.next(&state);
        next.retain(|state| seen.insert(fingerprint(state)));
        // The first of them is looked at first.
        states.extend(next.into_iter().rev());
    }
    let (_, furthest) = search.furthest;
    let Some((which, says, state)) = furthest else { return Ok((0, 0)) };
    let operation = &search.operations[which];
    let (request, told, row) =
        (&operation.request, &operation.told, state.row(&operation.claim().name));
    let gave_up = if seen.len() >= MOST { " (after the longest search that is made)" } else { "" };
    let what = format!(
        "{request:?} was answered {told:?}; the model's table has {row:?} and would answer {says:?}{gave_up}"
    );
    Err(place.differs(operation.at, what))
}

impl Search {
    /// The states that may follow, the likeliest first.
    fn next(&mut self, state: &State) -> Vec<State> {
        let open = |(at, _): &(usize, &Operation)| !state.is_done(*at);
        let all = || self.operations.iter().enumerate().filter(open);
        // All that was sent after the first answer takes effect after it.
        let first = all().map(|(_, one)| one.answered).min().unwrap_or(Instant::END);
        let mut may_be: Vec<_> = all().filter(|(_, one)| one.sent <= first).collect();
        may_be.sort_by_key(|(_, one)| one.answered);
        let (mut next, mut denied) = (Vec::new(), None);
        for (at, operation) in may_be {
            let Some(told) = &operation.told else {
                let fence = self.fences.get(&operation.claim().owner).copied();
                next.extend(state.unanswered(at, operation, fence, self.terms));
                continue;
            };
            match state.answer(at, operation, told, self.terms) {
                // Whatever follows may as well follow after it.
                Ok(after) if after.is_like(state) && after.is_done(at) => {
                    return Vec::from([after]);
                }
                Ok(after) => next.push(after),
                Err(says) => drop(denied.get_or_insert((at, says))),
            }
        }
        let done = (0..self.operations.len()).filter(|at| state.is_done(*at)).count() + 1;
        if let Some((at, says)) = denied
            && done > self.furthest.0
        {
            self.furthest = (done, Some((at, says, state.clone())));
        }
        next
    }
}
