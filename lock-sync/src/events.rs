//! What is told to `tracing`: each with `lock.name`, once it is granted with `lock.fence`.
//!
//! A subscriber is foreign code: it may block, panic, or take a lock. None of these is called while a
//! mutex is held, nor on a thread that others rely on.

use crate::error::ReleaseError;
use lock_core::{Failure, Fence, Holder, LockName, LostReason};
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
pub(crate) fn trouble(name: &LockName, why: &str) {
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
pub(crate) fn lost(name: &LockName, fence: Fence, held: Duration, reason: &LostReason) {
    tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %reason, "lost");
}

/// The same.
pub(crate) fn released(
    name: &LockName,
    fence: Fence,
    held: Duration,
    release: &Result<(), ReleaseError>,
) {
    let fence = fence.get();
    match release {
        Ok(()) => tracing::debug!(lock.name = %name, lock.fence = fence, ?held, "released"),
        Err(error) => {
            tracing::warn!(lock.name = %name, lock.fence = fence, ?held, %error, "a lock was not released as it should be");
        }
    }
}

/// A bug: the driver has ended, and every guard was told that its lock is lost.
pub(crate) fn ended() {
    tracing::error!("a thread of the locks panicked: all of them count as lost");
}

/// The system has no thread to give.
pub(crate) fn no_thread(error: &std::io::Error) {
    tracing::warn!(%error, "no thread for a request: it is made on another's");
}

/// The subscriber was slower than what there was to tell.
pub(crate) fn missed(count: usize) {
    tracing::warn!(count, "events were left out: the subscriber is too slow");
}
