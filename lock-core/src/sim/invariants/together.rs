//! Several locks at once: they are held only while each of them is.

use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::sim::server::Lease;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

/// Each holder was granted all that it wanted.
pub(in super::super) fn held(
    wanted: &[LockName],
    holds: &[(LockName, Fence)],
) -> Result<(), String> {
    let held = |name: &&LockName| holds.iter().any(|(held, _)| held == *name);
    match wanted.iter().find(|name| !held(name)) {
        Some(missing) => Err(format!("{wanted:?} are held, but not {missing:?}")),
        None => Ok(()),
    }
}

/// The server has the lease of a lock that counts as held. `now` is the server's; `owned` says whether the client has
/// claimed as that owner.
pub(in super::super) fn kept(
    leases: &[Lease],
    now: Instant,
    name: &LockName,
    fence: Fence,
    owned: impl Fn(Owner) -> bool,
) -> Result<(), String> {
    let same = |lease: &&Lease| lease.name == *name && lease.fence == fence;
    match leases.iter().find(same).map(|lease| lease.holder(now)) {
        Some(Some(owner)) if owned(owner) => Ok(()),
        Some(Some(owner)) => Err(format!("{name:?} is held, and {owner:?}'s")),
        Some(None) => Err(format!("{name:?} is held, and free at the server")),
        None => Err(format!("{name:?} is held with {fence:?}, which the server does not know")),
    }
}
