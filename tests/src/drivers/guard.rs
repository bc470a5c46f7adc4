//! Guards of either driver.

use super::wait;
use lock_sync::{Fence, LockName, LostReason, Mode, ReleaseError};
use std::time::Duration;

/// A guard of either driver; see the drivers' own.
#[allow(missing_docs)]
pub enum Guard {
    Blocking(lock_sync::Guard),
    Tokio(Box<lock_async::Guard>),
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Guard {
    pub(super) fn tokio(guard: lock_async::Guard) -> Self {
        Guard::Tokio(Box::new(guard))
    }

    pub fn name(&self) -> &LockName {
        match self {
            Guard::Blocking(guard) => guard.name(),
            Guard::Tokio(guard) => guard.name(),
        }
    }

    pub fn mode(&self) -> Mode {
        match self {
            Guard::Blocking(guard) => guard.mode(),
            Guard::Tokio(guard) => guard.mode(),
        }
    }

    pub fn fence(&self) -> Fence {
        match self {
            Guard::Blocking(guard) => guard.fence(),
            Guard::Tokio(guard) => guard.fence(),
        }
    }

    pub fn permit(&self) -> Option<u32> {
        match self {
            Guard::Blocking(guard) => guard.permit(),
            Guard::Tokio(guard) => guard.permit(),
        }
    }

    pub fn fences(&self) -> Vec<(String, Fence)> {
        let own = |(name, fence): (&lock_sync::LockName, Fence)| (name.to_string(), fence);
        match self {
            Guard::Blocking(guard) => guard.fences().map(own).collect(),
            Guard::Tokio(guard) => guard.fences().map(own).collect(),
        }
    }

    pub fn is_held(&self) -> bool {
        match self {
            Guard::Blocking(guard) => guard.is_held(),
            Guard::Tokio(guard) => guard.is_held(),
        }
    }

    pub fn lost_reason(&self) -> Option<LostReason> {
        match self {
            Guard::Blocking(guard) => guard.lost_reason(),
            Guard::Tokio(guard) => guard.lost_reason(),
        }
    }

    pub fn remaining(&self) -> Duration {
        match self {
            Guard::Blocking(guard) => guard.remaining(),
            Guard::Tokio(guard) => guard.remaining(),
        }
    }

    pub fn valid_for(&self) -> Duration {
        match self {
            Guard::Blocking(guard) => guard.valid_for(),
            Guard::Tokio(guard) => guard.valid_for(),
        }
    }

    pub fn wait_lost(&self, limit: Duration) -> Option<LostReason> {
        match self {
            Guard::Blocking(guard) => guard.wait_lost(limit),
            Guard::Tokio(guard) => {
                wait(async { tokio::time::timeout(limit, guard.lost()).await.ok() })
            }
        }
    }

    pub fn on_lost(&self, call: impl FnOnce(LostReason) + Send + 'static) {
        match self {
            Guard::Blocking(guard) => guard.on_lost(call),
            Guard::Tokio(guard) => guard.on_lost(call),
        }
    }

    pub fn kept_for(&self) -> Option<Duration> {
        match self {
            Guard::Blocking(guard) => guard.kept_for(),
            Guard::Tokio(guard) => guard.kept_for(),
        }
    }

    pub fn cancel_keep(&mut self) {
        match self {
            Guard::Blocking(guard) => guard.cancel_keep(),
            Guard::Tokio(guard) => guard.cancel_keep(),
        }
    }

    pub fn release(self) -> Result<(), ReleaseError> {
        match self {
            Guard::Blocking(guard) => guard.release(),
            Guard::Tokio(guard) => wait(guard.release()),
        }
    }
}
