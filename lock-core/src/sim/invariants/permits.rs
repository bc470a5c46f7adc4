//! Semaphores: never more holders than permits, and no attempt that takes more than one.

use crate::event::LockId;
use crate::fence::Fence;
use crate::name::LockName;
use alloc::format;
use alloc::string::String;

/// So many believe to hold a permit, of so many that there are.
pub(in super::super) fn holders(holders: usize, permits: usize) -> Result<(), String> {
    if holders > permits {
        return Err(format!("{holders} hold a permit of {permits}"));
    }
    Ok(())
}

/// Each holder was granted one of the semaphore's locks.
pub(in super::super) fn held(
    permits: &[LockName],
    holds: &[(LockName, Fence)],
) -> Result<(), String> {
    match holds {
        [(name, _)] if permits.contains(name) => Ok(()),
        _ => Err(format!("{holds:?} are held of {permits:?}")),
    }
}

/// An attempt that sends a claim has so many under way, and has been granted a permit or not.
pub(in super::super) fn claimed(id: LockId, claims: usize, holds: bool) -> Result<(), String> {
    if holds {
        return Err(format!("{id:?} has a permit, and claims another"));
    }
    if claims > 1 {
        return Err(format!("{id:?} claims {claims} permits at once"));
    }
    Ok(())
}
