//! P6: what was denied or failed is not tried again at once, or a server that says "no" at once
//! would be asked without end. Nor is it tried every few milliseconds for as long as another holds it.

use crate::name::Owner;
use crate::request::{Action, Claim};
use crate::sim::client::Refusal;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Half of the shortest back-off, which is what jitter leaves of it.
const LEAST: Duration = Duration::from_micros(500);

/// More looks in a TTL than any waiter needs: some ten after each change of hands, and then one a second.
const TOO_MANY: u32 = 300;

/// A waiter has asked so often within a TTL.
pub(in super::super) fn looked(looks: u32, claim: &Claim) -> Result<(), String> {
    if looks < TOO_MANY {
        return Ok(());
    }
    Err(format!("{claim:?} is asked for {looks} times within a TTL"))
}

/// A request that is sent at `now`, for these owners; a session is one. One that may go is enough:
/// others go along with it for nothing.
pub(in super::super) fn sent(
    refused: &BTreeMap<(Action, Owner), Refusal>,
    now: Instant,
    action: Action,
    owners: &[Owner],
) -> Result<(), String> {
    let may_go = |owner: &Owner| match refused.get(&(action, *owner)) {
        // Who knows when the lease in the way ends need not wait for longer.
        Some(refusal) if refusal.informed => refusal.at < now,
        Some(refusal) => refusal.at.after(LEAST) <= now,
        None => true,
    };
    if owners.iter().any(may_go) {
        Ok(())
    } else {
        Err(format!("{action:?} of {owners:?} is tried again at {now:?}, too early"))
    }
}
