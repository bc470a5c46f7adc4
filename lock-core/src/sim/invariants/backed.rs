//! P1, stronger: whoever believes to hold a lock has the server's lease for it. This finds with one
//! client what exclusion finds only when another comes at the right moment.

use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::sim::server::Lease;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

/// `now` is the server's.
pub(in super::super) fn check(
    leases: &[Lease],
    now: Instant,
    name: &LockName,
    owner: Option<Owner>,
    fence: Option<Fence>,
) -> Result<(), String> {
    // One that shares a lock may have it twice: an old connection lives on for a while.
    let of_name = leases.iter().filter(|lease| lease.name == *name);
    let likeness = |lease: &&Lease| (lease.owner == owner, Some(lease.fence) == fence);
    let Some(lease) = of_name.max_by_key(likeness) else {
        return Err(format!("{name:?} is held, and the server knows nothing of it"));
    };
    if lease.holder(now).is_none() {
        return Err(format!("{name:?} is held, and free at the server"));
    }
    if lease.owner != owner {
        return Err(format!("{name:?} is held by {owner:?}, at the server by {:?}", lease.owner));
    }
    if Some(lease.fence) != fence {
        return Err(format!("{name:?} is held with {fence:?}, the server has {:?}", lease.fence));
    }
    Ok(())
}
