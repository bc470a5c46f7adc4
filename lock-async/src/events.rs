//! What is told to `tracing`: each with `lock.name`, once it is granted with `lock.fence`.

use lock_core::{Fence, Holder, LockName, LostReason, Release};
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

/// It is held for `remaining` more.
pub(crate) fn renewed(name: &LockName, fence: Fence, remaining: Duration) {
    tracing::trace!(lock.name = %name, lock.fence = fence.get(), ?remaining, "renewed");
}

/// It is lost in `remaining` if no renewal succeeds.
pub(crate) fn renewal_failed(
    name: &LockName,
    fence: Fence,
    remaining: Duration,
    failure: &lock_core::Failure,
) {
    tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?remaining, %failure, "a renewal failed");
}

/// `held` after it was acquired.
pub(crate) fn lost(name: &LockName, fence: Fence, held: Duration, reason: LostReason) {
    tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %reason, "lost");
}

/// `held` after it was acquired.
pub(crate) fn released(name: &LockName, fence: Fence, held: Duration, release: &Release) {
    let fence = fence.get();
    match release {
        Release::Freed => {
            tracing::debug!(lock.name = %name, lock.fence = fence, ?held, "released");
        }
        Release::Unconfirmed(why) => {
            tracing::warn!(lock.name = %name, lock.fence = fence, ?held, %why, "released, but that was not confirmed");
        }
        _ => {
            tracing::warn!(
                lock.name = %name,
                lock.fence = fence,
                ?held,
                "it had been lost when it was released"
            );
        }
    }
}
