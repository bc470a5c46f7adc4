//! The events for `tracing`: each with `lock.name`, once it is granted with `lock.fence`.
//!
//! A subscriber is foreign code: it may block, panic, or take a lock. A driver calls none of these while it
//! holds a mutex, nor on a thread that others rely on.

/// Writes these functions into the driver: an event's target is the module that tells it, and people filter by
/// the driver's name.
#[doc(hidden)]
#[macro_export]
macro_rules! events {
    () => {
        /// News while it is waited for.
        pub(crate) fn progress(name: &::lock_core::LockName, news: &::lock_core::config::Progress) {
            match news {
                ::lock_core::config::Progress::Busy(holder) => {
                    let holder = holder.as_ref().map(|holder| holder.label.as_str());
                    tracing::debug!(lock.name = %name, holder, "waiting");
                }
                ::lock_core::config::Progress::Trouble(why) => {
                    tracing::warn!(lock.name = %name, %why, "the server could not be asked");
                }
                _ => {}
            }
        }

        /// `waited` after it was asked for.
        pub(crate) fn acquired(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            waited: ::std::time::Duration,
        ) {
            tracing::debug!(lock.name = %name, lock.fence = fence.get(), ?waited, "acquired");
        }

        /// `held` after it was acquired.
        pub(crate) fn renewed(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
        ) {
            tracing::trace!(lock.name = %name, lock.fence = fence.get(), ?held, "renewed");
        }

        /// The same; it is tried again.
        pub(crate) fn renewal_failed(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
            failure: &::lock_core::Failure,
        ) {
            tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %failure, "a renewal failed");
        }

        /// The same.
        pub(crate) fn lost(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
            reason: &::lock_core::LostReason,
        ) {
            tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %reason, "lost");
        }

        /// Free, or not, `held` after it was acquired.
        pub(crate) fn released<E: ::std::fmt::Display>(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
            release: &Result<(), E>,
        ) {
            let fence = fence.get();
            match release {
                Ok(()) => tracing::debug!(lock.name = %name, lock.fence = fence, ?held, "released"),
                Err(error) => {
                    tracing::warn!(lock.name = %name, lock.fence = fence, ?held, %error, "a lock was not released as it should be");
                }
            }
        }
    };
}
