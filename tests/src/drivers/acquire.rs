//! Builders of either driver.

use super::{Guard, wait};
use lock_sync::{Error, Mode, Progress, Wait};
use std::future::IntoFuture;
use std::time::Duration;

/// A builder of either driver; see the drivers' own.
#[must_use]
#[allow(missing_docs)]
pub enum Acquire<'a> {
    Blocking(lock_sync::Acquire<'a>),
    Tokio(lock_async::Acquire<'a>),
}

/// Does the same to a builder of either driver.
macro_rules! both {
    ($acquire:expr, $it:ident => $done:expr) => {
        match $acquire {
            Acquire::Blocking($it) => Acquire::Blocking($done),
            Acquire::Tokio($it) => Acquire::Tokio($done),
        }
    };
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl<'a> Acquire<'a> {
    pub fn shared(self) -> Self {
        both!(self, it => it.shared())
    }

    pub fn mode(self, mode: Mode) -> Self {
        both!(self, it => it.mode(mode))
    }

    pub fn permits(self, count: u32) -> Self {
        both!(self, it => it.permits(count))
    }

    pub fn and(self, name: &str) -> Self {
        both!(self, it => it.and(name))
    }

    pub fn keep_for(self, time: Duration) -> Self {
        both!(self, it => it.keep_for(time))
    }

    pub fn ttl(self, ttl: Duration) -> Self {
        both!(self, it => it.ttl(ttl))
    }

    pub fn label(self, label: &str) -> Self {
        both!(self, it => it.label(label))
    }

    pub fn timeout(self, limit: Duration) -> Self {
        both!(self, it => it.timeout(limit))
    }

    pub fn no_wait(self) -> Self {
        both!(self, it => it.no_wait())
    }

    pub fn wait_limit(self, limit: Wait) -> Self {
        both!(self, it => it.wait_limit(limit))
    }

    pub fn on_waiting<'b>(self, call: impl FnMut(&Progress) + Send + 'b) -> Acquire<'b> {
        both!(self, it => it.on_waiting(call))
    }

    pub fn wait(self) -> Result<Guard, Error> {
        match self {
            Acquire::Blocking(acquire) => acquire.wait().map(Guard::Blocking),
            Acquire::Tokio(acquire) => wait(acquire.into_future()).map(Guard::tokio),
        }
    }
}
