//! Both drivers behind one blocking face, so that one test body shows each of them, and both at
//! once on one table.

use crate::place::Place;
use lock_sync::{
    Error, Fence, LockName, LostReason, Mode, Progress, ReleaseError, Wait, WithLockError,
};
use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Whose locks they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// lock-sync's.
    Blocking,
    /// lock-async's.
    Tokio,
    /// One connection lock-sync's, the next lock-async's.
    Mixed,
}

/// A place, and the driver that is used there.
pub struct Driven {
    place: Place,
    driver: Driver,
    turn: AtomicUsize,
}

impl Driven {
    /// A place for this driver.
    pub fn new(driver: Driver, place: Place) -> Self {
        Self { place, driver, turn: AtomicUsize::new(0) }
    }

    /// The same place with another driver.
    #[must_use]
    pub fn driven_by(self, driver: Driver) -> Self {
        Self { driver, ..self }
    }

    /// A connection of its own, as another process would have.
    pub fn locks(&self, ttl: Duration) -> Locks {
        self.labelled(ttl, "")
    }

    /// The same, for a holder with this label.
    pub fn labelled(&self, ttl: Duration, label: &str) -> Locks {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // With a short TTL, a disk that stands still for a moment is enough to get no answer in time.
        for _ in 0..4 {
            match self.connect(turn, ttl, label) {
                Err(Error::Unavailable(_)) => std::thread::sleep(ttl / 2),
                connected => return connected.expect("connected"),
            }
        }
        self.connect(turn, ttl, label).expect("connected")
    }

    /// The same, where that may not be possible.
    ///
    /// # Errors
    /// What the driver says.
    pub fn try_labelled(&self, ttl: Duration, label: &str) -> Result<Locks, Error> {
        self.connect(self.turn.fetch_add(1, Ordering::Relaxed), ttl, label)
    }

    fn connect(&self, turn: usize, ttl: Duration, label: &str) -> Result<Locks, Error> {
        match self.driver {
            Driver::Tokio => self.tokio(ttl, label),
            Driver::Mixed if turn % 2 == 1 => self.tokio(ttl, label),
            _ => self.place.config(ttl).label(label).connect().map(Locks::Blocking),
        }
    }

    fn tokio(&self, ttl: Duration, label: &str) -> Result<Locks, Error> {
        let connecting = tokio_config(&self.place, ttl).label(label).connect();
        wait(connecting).map(Locks::Tokio).map_err(error)
    }
}

/// Connects to what a URL names. Both drivers at once have no connection in common.
///
/// # Errors
/// What the driver says.
pub fn connect(driver: Driver, url: &str) -> Result<Locks, Error> {
    match driver {
        Driver::Tokio => wait(lock_async::Locks::connect(url)).map(Locks::Tokio).map_err(error),
        _ => lock_sync::Locks::connect(url).map(Locks::Blocking),
    }
}

/// What [`Place::config`] is for lock-sync.
pub fn tokio_config(place: &Place, ttl: Duration) -> lock_async::Config {
    let config: lock_async::Config = place.whole_url().parse().expect("a good URL");
    config.ttl(ttl)
}

impl Deref for Driven {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// What lock-sync and lock-async make of a URL, or have to say against it.
pub fn read(url: &str) -> (Result<String, String>, Result<String, String>) {
    let blocking = url.parse::<lock_sync::Config>().map_err(|error| error.to_string());
    let tokio = url.parse::<lock_async::Config>().map_err(|error| error.to_string());
    (blocking.map(|config| format!("{config:?}")), tokio.map(|config| format!("{config:?}")))
}

/// Waits on a runtime that all tests share.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
    // Inside of `with_lock` this is called on the runtime's own ground.
    tokio::task::block_in_place(|| RUNTIME.block_on(work))
}

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

    pub fn lock(&self, name: &str) -> Result<Guard, Error> {
        match self {
            Locks::Blocking(locks) => locks.lock(name).map(Guard::Blocking),
            Locks::Tokio(locks) => wait(locks.lock(name)).map(Guard::tokio).map_err(error),
        }
    }

    pub fn try_lock(&self, name: &str) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => Ok(locks.try_lock(name)?.map(Guard::Blocking)),
            Locks::Tokio(locks) => Ok(wait(locks.try_lock(name)).map_err(error)?.map(Guard::tokio)),
        }
    }

    pub fn try_lock_for(&self, name: &str, limit: Duration) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => Ok(locks.try_lock_for(name, limit)?.map(Guard::Blocking)),
            Locks::Tokio(locks) => {
                Ok(wait(locks.try_lock_for(name, limit)).map_err(error)?.map(Guard::tokio))
            }
        }
    }

    pub fn lock_shared(&self, name: &str) -> Result<Guard, Error> {
        match self {
            Locks::Blocking(locks) => locks.lock_shared(name).map(Guard::Blocking),
            Locks::Tokio(locks) => wait(locks.lock_shared(name)).map(Guard::tokio).map_err(error),
        }
    }

    pub fn try_lock_shared(&self, name: &str) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => Ok(locks.try_lock_shared(name)?.map(Guard::Blocking)),
            Locks::Tokio(locks) => {
                Ok(wait(locks.try_lock_shared(name)).map_err(error)?.map(Guard::tokio))
            }
        }
    }

    pub fn try_lock_shared_for(&self, name: &str, limit: Duration) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => {
                Ok(locks.try_lock_shared_for(name, limit)?.map(Guard::Blocking))
            }
            Locks::Tokio(locks) => {
                Ok(wait(locks.try_lock_shared_for(name, limit)).map_err(error)?.map(Guard::tokio))
            }
        }
    }

    pub fn acquire(
        &self,
        name: &str,
        how_long: Wait,
        progress: &mut (dyn FnMut(&Progress) + Send),
    ) -> Result<Option<Guard>, Error> {
        self.acquire_as(name, Mode::Exclusive, how_long, progress)
    }

    pub fn acquire_as(
        &self,
        name: &str,
        mode: Mode,
        how_long: Wait,
        progress: &mut (dyn FnMut(&Progress) + Send),
    ) -> Result<Option<Guard>, Error> {
        match self {
            Locks::Blocking(locks) => {
                Ok(locks.acquire_as(name, mode, how_long, progress)?.map(Guard::Blocking))
            }
            Locks::Tokio(locks) => {
                let how_long = match how_long {
                    Wait::Never => lock_async::Wait::Never,
                    Wait::For(limit) => lock_async::Wait::For(limit),
                    Wait::Forever => lock_async::Wait::Forever,
                };
                let mut progress = |news: &lock_async::Progress| match news {
                    lock_async::Progress::Busy(holder) => progress(&Progress::Busy(holder.clone())),
                    lock_async::Progress::Trouble(why) => progress(&Progress::Trouble(why.clone())),
                    other => panic!("{other:?}"),
                };
                let acquired = wait(locks.acquire_as(name, mode, how_long, &mut progress));
                Ok(acquired.map_err(error)?.map(Guard::tokio))
            }
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
                wait(locks.with_lock(name, work)).map_err(with_error)
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
                wait(locks.try_with_lock(name, work)).map_err(with_error)
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

/// A guard of either driver; see the drivers' own.
#[allow(missing_docs)]
pub enum Guard {
    Blocking(lock_sync::Guard),
    Tokio(Arc<lock_async::Guard>),
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Guard {
    fn tokio(guard: lock_async::Guard) -> Self {
        Guard::Tokio(Arc::new(guard))
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

    pub fn is_held(&self) -> bool {
        match self {
            Guard::Blocking(guard) => guard.is_held(),
            Guard::Tokio(guard) => guard.is_held(),
        }
    }

    pub fn lost(&self) -> Option<LostReason> {
        match self {
            Guard::Blocking(guard) => guard.lost(),
            Guard::Tokio(guard) => guard.lost_reason(),
        }
    }

    pub fn remaining(&self) -> Duration {
        match self {
            Guard::Blocking(guard) => guard.remaining(),
            Guard::Tokio(guard) => guard.remaining(),
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

    /// With lock-async: a task that awaits `lost`, and ends with the lock's loss.
    pub fn on_lost(&self, call: impl FnOnce(LostReason) + Send + 'static) {
        match self {
            Guard::Blocking(guard) => guard.on_lost(call),
            Guard::Tokio(guard) => {
                let guard = guard.clone();
                let watch = async move { call(guard.lost().await) };
                wait(async { drop(tokio::spawn(watch)) });
            }
        }
    }

    /// Those who were to be called on a loss must have been.
    pub fn release(self) -> Result<(), ReleaseError> {
        match self {
            Guard::Blocking(guard) => guard.release(),
            Guard::Tokio(guard) => {
                let mut shared = Some(guard);
                let mut alone = None;
                crate::proxy::eventually(|| {
                    match Arc::try_unwrap(shared.take().expect("put back")) {
                        Ok(guard) => alone = Some(guard),
                        Err(guard) => shared = Some(guard),
                    }
                    alone.is_some()
                });
                let guard = alone.expect("nobody waits for its loss any more");
                wait(guard.release()).map_err(|error| match error {
                    lock_async::ReleaseError::Lost(reason) => ReleaseError::Lost(reason),
                    lock_async::ReleaseError::Unconfirmed { reason, within } => {
                        ReleaseError::Unconfirmed { reason, within }
                    }
                    other => panic!("{other}"),
                })
            }
        }
    }
}

/// Either driver's way for operators; see the drivers' own.
#[allow(missing_docs)]
pub enum Admin {
    Blocking(lock_sync::Admin),
    Tokio(lock_async::Admin),
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Admin {
    /// To what the URL names.
    pub fn connect(driver: Driver, url: &str, ttl: Duration) -> Self {
        if driver == Driver::Tokio {
            let config: lock_async::Config = url.parse().expect("a good URL");
            Admin::Tokio(wait(config.ttl(ttl).connect_admin()).expect("connected"))
        } else {
            let config: lock_sync::Config = url.parse().expect("a good URL");
            Admin::Blocking(config.ttl(ttl).connect_admin().expect("connected"))
        }
    }

    pub fn list(&mut self) -> Result<Vec<lock_sync::LockState>, Error> {
        match self {
            Admin::Blocking(admin) => admin.list(),
            Admin::Tokio(admin) => wait(admin.list()).map_err(error),
        }
    }

    pub fn status(&mut self, name: &str) -> Result<Option<lock_sync::LockState>, Error> {
        match self {
            Admin::Blocking(admin) => admin.status(name),
            Admin::Tokio(admin) => wait(admin.status(name)).map_err(error),
        }
    }

    pub fn break_hold(&mut self, name: &str, fence: Fence) -> Result<Option<Fence>, Error> {
        match self {
            Admin::Blocking(admin) => admin.break_hold(name, fence),
            Admin::Tokio(admin) => wait(admin.break_hold(name, fence)).map_err(error),
        }
    }

    pub fn purge(&mut self, unused: Duration) -> Result<usize, Error> {
        match self {
            Admin::Blocking(admin) => admin.purge(unused),
            Admin::Tokio(admin) => wait(admin.purge(unused)).map_err(error),
        }
    }
}

fn with_error<T>(failed: lock_async::WithLockError<T>) -> WithLockError<T> {
    match failed {
        lock_async::WithLockError::Acquire(why) => WithLockError::Acquire(error(why)),
        lock_async::WithLockError::Lost { value, reason } => WithLockError::Lost { value, reason },
        lock_async::WithLockError::Unconfirmed { value, reason, within } => {
            WithLockError::Unconfirmed { value, reason, within }
        }
        other => panic!("{other}"),
    }
}

/// What lock-sync would have said.
pub fn error(error: lock_async::Error) -> Error {
    match error {
        lock_async::Error::Name(error) => Error::Name(error),
        lock_async::Error::Claim(error) => Error::Claim(error),
        lock_async::Error::Unfit(refusal) => Error::Unfit(refusal),
        lock_async::Error::Unavailable(why) => Error::Unavailable(why),
        lock_async::Error::Refused(why) => Error::Refused(why),
        lock_async::Error::Closed => Error::Closed,
        lock_async::Error::Forked => Error::Forked,
        lock_async::Error::Purge(error) => Error::Purge(error),
        lock_async::Error::Config(lock_async::ConfigError::Tls(why)) => {
            Error::Config(lock_sync::ConfigError::Tls(why))
        }
        lock_async::Error::Config(lock_async::ConfigError::Url(why)) => {
            Error::Config(lock_sync::ConfigError::Url(why))
        }
        lock_async::Error::Config(lock_async::ConfigError::File { path, reason }) => {
            Error::Config(lock_sync::ConfigError::File { path, reason })
        }
        other => panic!("{other}"),
    }
}
