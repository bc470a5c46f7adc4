//! The outcomes of a request, from what its rows say.

use super::rows::{Pair, Seen};
use crate::fence::Fence;
use crate::outcome::{Holder, Outcome, Place};
use crate::request::{Claim, Turn};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub(super) fn pair(claim: &Claim) -> Pair {
    (String::from(claim.name.as_str()), claim.owner.to_string())
}

/// The outcome of a release: [`None`] if the lease was not its owner's, otherwise whether others wait for it.
pub(super) fn freed(wanted: Option<bool>) -> Outcome {
    match wanted {
        None => Outcome::NotOwner,
        Some(false) => Outcome::Done,
        Some(true) => Outcome::DoneContended,
    }
}

pub(super) fn renewed(ours: bool) -> Outcome {
    if ours { Outcome::Done } else { Outcome::NotOwner }
}

/// Which leases were ours.
pub(super) fn changed(claims: &[Claim], is_ours: impl Fn(&Pair) -> bool) -> Vec<Outcome> {
    claims.iter().map(|claim| renewed(is_ours(&pair(claim)))).collect()
}

pub(super) fn probed(claims: &[Claim], seen: &BTreeMap<String, Seen>) -> Vec<Outcome> {
    let entry = |claim: &Claim| match seen.get(claim.name.as_str()) {
        Some(seen) => not_free(claim, seen),
        None => Outcome::Free,
    };
    claims.iter().map(entry).collect()
}

pub(super) fn acquired(
    claims: &[Claim],
    granted: &BTreeMap<String, Fence>,
    seen: &BTreeMap<String, Seen>,
) -> Vec<Outcome> {
    let entry = |claim: &Claim| match granted.get(claim.name.as_str()) {
        Some(fence) => Outcome::Granted(*fence),
        None => match seen.get(claim.name.as_str()) {
            Some(seen) => not_free(claim, seen),
            None => Outcome::Busy(None),
        },
    };
    claims.iter().map(entry).collect()
}

/// Of a claim whose row is locked: somebody has the lock if its lease has not ended.
pub(super) fn locked(claims: &[Claim], seen: &BTreeMap<String, Seen>) -> Outcome {
    match acquired(claims, &BTreeMap::new(), seen).pop() {
        Some(held @ Outcome::Busy(Some(_))) => held,
        _ => Outcome::Delayed,
    }
}

fn not_free(claim: &Claim, seen: &Seen) -> Outcome {
    let place = seen.holder.place.filter(|_| claim.turn != Turn::Any);
    match (seen.reserved, place) {
        (true, Some(place)) => Outcome::Reserved(place),
        (true, None) => Outcome::Busy(None),
        (false, place) => Outcome::Busy(Some(Holder { place, ..seen.holder.clone() })),
    }
}

/// The place that was told, if its waiter is to draw a ticket.
pub(super) fn to_be_drawn(outcome: &mut Outcome) -> Option<&mut Place> {
    let place = match outcome {
        Outcome::Reserved(place) => Some(place),
        Outcome::Busy(Some(holder)) => holder.place.as_mut(),
        _ => None,
    };
    place.filter(|place| place.ticket == 0)
}

/// The outcomes without the places of those that could draw no ticket.
pub(super) fn drawn(outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let settled = |mut outcome: Outcome| match (to_be_drawn(&mut outcome).is_some(), outcome) {
        (true, Outcome::Busy(Some(holder))) => {
            Outcome::Busy(Some(Holder { place: None, ..holder }))
        }
        (true, _) => Outcome::Busy(None),
        (false, outcome) => outcome,
    };
    outcomes.into_iter().map(settled).collect()
}
