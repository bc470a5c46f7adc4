//! The outcomes of a request, from what its rows say.

use super::rows::Pair;
use crate::fence::Fence;
use crate::outcome::{Holder, Outcome};
use crate::request::Claim;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub(super) fn pair(claim: &Claim) -> Pair {
    (claim.name.to_string(), claim.owner.to_string())
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

pub(super) fn seen(claims: &[Claim], holders: &BTreeMap<String, Holder>) -> Vec<Outcome> {
    let entry = |claim: &Claim| match holders.get(claim.name.as_str()) {
        Some(holder) => Outcome::Busy(Some(holder.clone())),
        None => Outcome::Free { times_overtaken: None },
    };
    claims.iter().map(entry).collect()
}

pub(super) fn acquired(
    claims: &[Claim],
    granted: &BTreeMap<String, Fence>,
    holders: &BTreeMap<String, Holder>,
) -> Vec<Outcome> {
    let entry = |claim: &Claim| match granted.get(claim.name.as_str()) {
        Some(fence) => Outcome::Granted(*fence),
        None => Outcome::Busy(holders.get(claim.name.as_str()).cloned()),
    };
    claims.iter().map(entry).collect()
}
