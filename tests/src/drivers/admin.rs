//! Either driver's way for operators.

use super::{Driver, wait};
use lock_sync::{Config, Error, Fence, Leader, LockName};
use std::time::Duration;

/// Either driver's way for operators; see the drivers' own.
#[allow(missing_docs)]
pub enum Admin {
    Blocking(lock_sync::Admin),
    Tokio(lock_async::Admin),
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Admin {
    /// Connects to the place of the URL.
    pub fn connect(driver: Driver, url: &str, ttl: Duration) -> Self {
        let config: Config = url.parse().expect("a good URL");
        let config = config.ttl(ttl);
        match driver {
            Driver::Tokio => {
                Admin::Tokio(wait(lock_async::Admin::open(config)).expect("connected"))
            }
            _ => Admin::Blocking(lock_sync::Admin::open(config).expect("connected")),
        }
    }

    pub fn list(&mut self) -> Result<Vec<lock_sync::LockState>, Error> {
        match self {
            Admin::Blocking(admin) => admin.list(),
            Admin::Tokio(admin) => wait(admin.list()),
        }
    }

    pub fn status(&mut self, name: &str) -> Result<Option<lock_sync::LockState>, Error> {
        match self {
            Admin::Blocking(admin) => admin.status(name),
            Admin::Tokio(admin) => wait(admin.status(name)),
        }
    }

    pub fn break_hold(
        &mut self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        fence: Fence,
    ) -> Result<Option<Fence>, Error> {
        match self {
            Admin::Blocking(admin) => admin.break_hold(name, fence),
            Admin::Tokio(admin) => wait(admin.break_hold(name, fence)),
        }
    }

    pub fn observe(self, name: &str, interval: Duration) -> Observer {
        match self {
            Admin::Blocking(admin) => {
                Observer::Blocking(admin.observe(name).expect("a name").interval(interval))
            }
            Admin::Tokio(admin) => {
                Observer::Tokio(admin.observe(name).expect("a name").interval(interval))
            }
        }
    }

    pub fn purge(&mut self, unused: Duration) -> Result<usize, Error> {
        match self {
            Admin::Blocking(admin) => admin.purge(unused),
            Admin::Tokio(admin) => wait(admin.purge(unused)),
        }
    }
}

/// Either driver's observer.
#[allow(missing_docs)]
pub enum Observer {
    Blocking(lock_sync::Observer),
    Tokio(lock_async::Observer),
}

impl Observer {
    /// The next change, if there is one within this time.
    pub fn changed_within(&mut self, timeout: Duration) -> Option<Result<Option<Leader>, Error>> {
        match self {
            Observer::Blocking(observer) => observer.changed_within(timeout),
            Observer::Tokio(observer) => {
                wait(async { tokio::time::timeout(timeout, observer.changed()).await.ok() })
            }
        }
    }
}
