//! P6: what was denied or failed is not tried again at once, or a server that says "no" at once
//! would be asked without end.

use crate::name::Owner;
use crate::protocol::{Action, Claim};
use crate::sim::client::Refusal;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Half of the shortest back-off, which is what jitter leaves of it.
const LEAST: Duration = Duration::from_micros(500);

/// A command that is sent at `now`. One claim in it that may go is enough: others go along with it
/// for nothing.
pub(in super::super) fn sent(
    refused: &BTreeMap<(Action, Owner), Refusal>,
    now: Instant,
    action: Action,
    claims: &[Claim],
) -> Result<(), String> {
    let may_go = |claim: &Claim| match refused.get(&(action, claim.owner)) {
        // Who knows when the lease in the way ends need not wait for longer.
        Some(refusal) if refusal.informed => refusal.at < now,
        Some(refusal) => refusal.at.after(LEAST) <= now,
        None => true,
    };
    if claims.iter().any(may_go) {
        Ok(())
    } else {
        Err(format!("{action:?} of {claims:?} is tried again at {now:?}, too early"))
    }
}
