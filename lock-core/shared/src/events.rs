//! The events for `tracing`. Each has `lock.name`. Those after a grant have `lock.fence`.
//!
//! A subscriber is foreign code: it may block, panic, or acquire a lock. A driver calls none of these
//! functions while it holds a mutex, or on a thread that others rely on.

/// Defines the functions in the driver, because an event's target is the module that emits it, and people
/// filter by the driver's name.
#[doc(hidden)]
#[macro_export]
macro_rules! events {
    () => {
        /// A part of the configuration is ignored.
        pub(crate) fn ignored(plan: &$crate::plan::Plan) {
            if let Some(why) = &plan.warning {
                tracing::warn!(%why, "a part of the configuration is ignored");
            }
        }

        /// A report to a waiter.
        pub(crate) fn progress(name: &::lock_core::LockName, news: &::lock_core::config::Progress) {
            match news {
                ::lock_core::config::Progress::Busy(busy) => {
                    let holder = busy.holder.as_ref().map(|holder| holder.label.as_str());
                    tracing::debug!(lock.name = %busy.name, holder, "waiting");
                }
                ::lock_core::config::Progress::Trouble(why) => {
                    tracing::warn!(lock.name = %name, %why, "the server could not be asked");
                }
                _ => {}
            }
        }

        /// The wait goes on, and has lasted long.
        pub(crate) fn waits_long(
            name: &::lock_core::LockName,
            waited: ::std::time::Duration,
            holder: Option<&::lock_core::Holder>,
        ) {
            let held = holder.map(|holder| ::tracing::field::debug(holder.held_for));
            let holder = holder.map(|holder| holder.label.as_str());
            tracing::warn!(lock.name = %name, ?waited, holder, holder.held = held, "waiting for long");
        }

        /// The lock is still held, and has been for long.
        pub(crate) fn held_long(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
            label: Option<&str>,
        ) {
            tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, label, "held for long");
        }

        /// The lock was granted, `waited` after the call.
        pub(crate) fn acquired(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            waited: ::std::time::Duration,
        ) {
            tracing::debug!(lock.name = %name, lock.fence = fence.get(), ?waited, "acquired");
        }

        /// The lease was renewed, `held` after the grant.
        pub(crate) fn renewed(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
        ) {
            tracing::trace!(lock.name = %name, lock.fence = fence.get(), ?held, "renewed");
        }

        /// A renewal failed, `held` after the grant. The driver tries again.
        pub(crate) fn renewal_failed(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
            failure: &::lock_core::Failure,
        ) {
            tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %failure, "renewal failed");
        }

        /// The lock was lost, `held` after the grant.
        pub(crate) fn lost(
            name: &::lock_core::LockName,
            fence: ::lock_core::Fence,
            held: ::std::time::Duration,
            reason: &::lock_core::LostReason,
        ) {
            tracing::warn!(lock.name = %name, lock.fence = fence.get(), ?held, %reason, "lost");
        }

        /// The release ended, `held` after the grant.
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
                    tracing::warn!(lock.name = %name, lock.fence = fence, ?held, %error, "release failed");
                }
            }
        }

        /// The subscriber was too slow, and that many events were dropped.
        pub(crate) fn missed(missed: usize) {
            tracing::warn!(missed, "the subscriber is too slow: events were left out");
        }
    };
}

/// Defines a subscriber of a driver's tests, which writes down each warning: its text and fields. What others tell
/// meanwhile is not asked for.
#[cfg(feature = "testing")]
#[doc(hidden)]
#[macro_export]
macro_rules! listener {
    () => {
        #[derive(Clone, Default)]
        struct Listener(::std::sync::Arc<::std::sync::Mutex<String>>);

        impl tracing::field::Visit for Listener {
            fn record_debug(
                &mut self,
                field: &tracing::field::Field,
                value: &dyn ::std::fmt::Debug,
            ) {
                let text = format!("{}={value:?};", field.name());
                self.0.lock().expect("unpoisoned").push_str(&text);
            }
        }

        impl tracing::Subscriber for Listener {
            fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
                true
            }

            fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
                Some(tracing::level_filters::LevelFilter::WARN)
            }

            fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
                tracing::span::Id::from_u64(1)
            }

            fn event(&self, event: &tracing::Event<'_>) {
                event.record(&mut self.clone());
            }

            fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
            fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
            fn enter(&self, _: &tracing::span::Id) {}
            fn exit(&self, _: &tracing::span::Id) {}
        }
    };
}
