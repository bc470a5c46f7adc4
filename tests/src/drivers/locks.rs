//! Locks of either driver.

use super::{Acquire, Guard, wait};
use lock_sync::{Error, Fence, ShutdownError, WithLockError};
use std::ops::ControlFlow;
use std::time::Duration;

/// Locks of either driver; see the drivers' own.
#[derive(Clone)]
#[allow(missing_docs)]
pub enum Locks {
    Blocking(lock_sync::Locks),
    Tokio(lock_async::Locks),
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Locks {
    pub fn table(&self) -> Option<String> {
        let table = match self {
            Locks::Blocking(locks) => locks.table(),
            Locks::Tokio(locks) => locks.table(),
        };
        table.map(ToString::to_string)
    }

    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        match self {
            Locks::Blocking(locks) => locks.shutdown(),
            Locks::Tokio(locks) => wait(locks.shutdown()),
        }
    }

    pub fn lock(&self, name: &str) -> Result<Guard, Error> {
        match self {
            Locks::Blocking(locks) => locks.lock(name).map(Guard::Blocking),
            Locks::Tokio(locks) => wait(locks.lock(name)).map(Guard::tokio),
        }
    }

    pub fn try_lock(&self, name: &str) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => Ok(locks.try_lock(name)?.map(Guard::Blocking)),
            Locks::Tokio(locks) => Ok(wait(locks.try_lock(name))?.map(Guard::tokio)),
        }
    }

    pub fn try_lock_for(&self, name: &str, limit: Duration) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => Ok(locks.try_lock_for(name, limit)?.map(Guard::Blocking)),
            Locks::Tokio(locks) => Ok(wait(locks.try_lock_for(name, limit))?.map(Guard::tokio)),
        }
    }

    pub fn lock_shared(&self, name: &str) -> Result<Guard, Error> {
        match self {
            Locks::Blocking(locks) => locks.lock_shared(name).map(Guard::Blocking),
            Locks::Tokio(locks) => wait(locks.lock_shared(name)).map(Guard::tokio),
        }
    }

    pub fn try_lock_shared(&self, name: &str) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => Ok(locks.try_lock_shared(name)?.map(Guard::Blocking)),
            Locks::Tokio(locks) => Ok(wait(locks.try_lock_shared(name))?.map(Guard::tokio)),
        }
    }

    pub fn try_lock_shared_for(&self, name: &str, limit: Duration) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => {
                Ok(locks.try_lock_shared_for(name, limit)?.map(Guard::Blocking))
            }
            Locks::Tokio(locks) => {
                Ok(wait(locks.try_lock_shared_for(name, limit))?.map(Guard::tokio))
            }
        }
    }

    pub fn acquire(&self, name: &str) -> Acquire<'static> {
        match self {
            Locks::Blocking(locks) => Acquire::Blocking(locks.acquire(name)),
            Locks::Tokio(locks) => Acquire::Tokio(locks.acquire(name)),
        }
    }

    /// `lead` gets the term's fence and the guard's `is_held`.
    pub fn campaign<T>(
        &self,
        name: &str,
        mut lead: impl FnMut(Fence, &dyn Fn() -> bool) -> ControlFlow<T>,
    ) -> Result<T, Error> {
        match self {
            Locks::Blocking(locks) => {
                locks.campaign(name, |term| lead(term.fence(), &|| term.is_held()))
            }
            Locks::Tokio(locks) => wait(locks.campaign(name, async |term: &lock_async::Guard| {
                tokio::task::block_in_place(|| lead(term.fence(), &|| term.is_held()))
            })),
        }
    }

    /// `work` gets the guard's `is_held`.
    pub fn with_lock<T>(
        &self,
        name: &str,
        work: impl FnOnce(&dyn Fn() -> bool) -> T,
    ) -> Result<T, WithLockError<T>> {
        match self {
            Locks::Blocking(locks) => locks.with_lock(name, |guard| work(&|| guard.is_held())),
            Locks::Tokio(locks) => {
                let work = async |guard: &lock_async::Guard| work(&|| guard.is_held());
                wait(locks.with_lock(name, work))
            }
        }
    }

    /// `work` gets the guard's `is_held`.
    pub fn try_with_lock<T>(
        &self,
        name: &str,
        work: impl FnOnce(&dyn Fn() -> bool) -> T,
    ) -> Result<Option<T>, WithLockError<T>> {
        match self {
            Locks::Blocking(locks) => locks.try_with_lock(name, |guard| work(&|| guard.is_held())),
            Locks::Tokio(locks) => {
                let work = async |guard: &lock_async::Guard| work(&|| guard.is_held());
                wait(locks.try_with_lock(name, work))
            }
        }
    }

    pub fn close(&self) {
        match self {
            Locks::Blocking(locks) => locks.close(),
            Locks::Tokio(locks) => locks.close(),
        }
    }
}
