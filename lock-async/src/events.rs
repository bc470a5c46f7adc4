//! What is told to `tracing`: each with `lock.name`, once it is granted with `lock.fence`.

use lock_core::{Failure, Fence, Holder, LockName, LostReason, Release};
use std::time::Duration;

/// Somebody else has it, and it is waited for.
pub(crate) fn waiting(name: &LockName, holder: Option<&Holder>) {
    let holder = holder.map(|holder| holder.label.as_str());
    tracing::debug!(lock.name = %name, holder, "waiting");
}

/// `waited` after it was asked for.
pub(crate) fn acquired(name: &LockName, fence: Fence, waited: Duration) {
    tracing::debug!(lock.name = %name, lock.fence = fence.get(), ?waited, "acquired");
}

/// The server could not be asked; it is tried again.
pub(crate) fn trouble(name: &LockName, why: &Failure) {
    tracing::warn!(lock.name = %name, %why, "the server could not be asked");
}

/// `held` after it was acquired.
pub(crate) fn renewed(name: &LockName, fence: Fence, held: Duration) {
    tracing::trace!(lock.name = %name, lock.fence = fence.get(), ?held, "renewed");
}

/// The same; it is tried again.
pub(crate) fn renewal_failed(name: &LockName, fence: Fence, held: Duration, failure: &Failure) {
    tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %failure, "a renewal failed");
}

/// The same.
pub(crate) fn lost(name: &LockName, fence: Fence, held: Duration, reason: LostReason) {
    tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %reason, "lost");
}

/// The same.
pub(crate) fn released(name: &LockName, fence: Fence, held: Duration, release: &Release) {
    let fence = fence.get();
    let error = match release {
        Release::Freed => {
            tracing::debug!(lock.name = %name, lock.fence = fence, ?held, "released");
            return;
        }
        Release::Unconfirmed(why) => why.to_string(),
        _ => "the lock had been lost".to_string(),
    };
    tracing::warn!(lock.name = %name, lock.fence = fence, ?held, error, "a lock was not released as it should be");
}
