//! The places where locks are kept.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod from;
mod open;

pub use lock_core::config::{Progress, Wait};

use crate::Config;
use crate::acquire::Acquire;
use crate::driver::Driver;
use crate::guard::Guard;
use lock_core::config::{Error, ShutdownError, WithLockError};
use lock_core::{LockName, TableName};
use lock_shared::check::Check;
use lock_shared::pin::Pins;
use lock_shared::wish::{Wish, done_unless_busy, unless_busy};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A place where locks are kept: a table on a server, the server itself, or a file.
///
/// Cheap to clone. All clones share one connection, and do not wait for one another's locks. With advisory
/// locks, each acquire that waits in the server's queue has a connection of its own, and keeps its lock on
/// it. With Consul, it has one while it waits.
#[derive(Clone)]
pub struct Locks {
    pub(crate) driver: Arc<Driver>,
    pub(crate) check: Check,
    pub(crate) pins: Pins,
}

impl Locks {
    /// [Opens](Self::open) what the URL names, with the defaults of [`Config`].
    ///
    /// `postgres://user:password@host/database`, `mysql://…` and `mariadb://…` keep locks in a
    /// table, created on first use, or with `?protocol=advisory` as locks of the server's own;
    /// `consul://host:8500` keeps them in Consul; `sqlite:path/to/file.db` in a file, for the
    /// processes of one machine.
    ///
    /// # Errors
    /// [`Error`]: a URL that cannot be read, a server that cannot be reached or must not be used.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::open(url.parse::<Config>()?)
    }

    pub(crate) fn with(driver: Arc<Driver>, check: Check) -> Self {
        Self { driver, check, pins: Pins::default() }
    }

    pub(crate) fn kept_in(self, pins: Pins) -> Self {
        Self { pins, ..self }
    }

    /// The table that the locks are kept in, with the schema (on MySQL and MariaDB the database) in which
    /// the server has it for this user. Another user's `search_path` may lead to another schema, and so to
    /// other locks: then [name](crate::Config::table) the schema. [`None`] with SQLite, and where there is no
    /// table.
    pub fn table(&self) -> Option<&TableName> {
        self.pins.table()
    }

    /// Begins to describe an acquire of the lock `name`, which is a `&str`, a `String` or a [`LockName`]. Without more,
    /// it is exclusive and waits as long as it takes; see [`Acquire`].
    pub fn acquire(&self, name: impl TryInto<LockName, Error: Into<Error>>) -> Acquire<'static> {
        Acquire::new(self.clone(), Wish::new(name))
    }

    /// Waits for the lock as long as it takes, also through restarts of the server and switch-overs. A
    /// standby or a read-only server on the way is tried again, and so is a server that turns out to have no table when it is
    /// connected to. A table that is dropped while its server stays connected ends the wait.
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses.
    pub fn lock(&self, name: impl TryInto<LockName, Error: Into<Error>>) -> Result<Guard, Error> {
        self.acquire(name).wait()
    }

    /// Acquires the lock if it is free. Returns [`None`] if someone else holds it;
    /// [`acquire(name).no_wait()`](Acquire::no_wait) tells who.
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses or does not answer within two
    /// request budgets.
    pub fn try_lock(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).no_wait().wait())
    }

    /// Waits for the lock for `limit`. Returns [`None`] if someone else held it all that time;
    /// [`acquire(name).timeout(limit)`](Acquire::timeout) tells who.
    ///
    /// The server is asked at least once. If its answer is slow, this returns up to two request budgets later
    /// than `limit`.
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses or could not be asked.
    pub fn try_lock_for(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        limit: Duration,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).timeout(limit).wait())
    }

    /// Waits for the lock as [`lock`](Self::lock) does, to share it with any number of others. Nobody holds
    /// it exclusively meanwhile.
    ///
    /// # Errors
    /// [`Error`] as for [`lock`](Self::lock); [`Error::Claim`] where there are no shared locks: there
    /// are with PostgreSQL's advisory locks.
    pub fn lock_shared(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Guard, Error> {
        self.acquire(name).shared().wait()
    }

    /// Shares the lock if nobody holds it exclusively. Returns [`None`] if someone does.
    ///
    /// # Errors
    /// [`Error`] as for [`try_lock`](Self::try_lock) and [`lock_shared`](Self::lock_shared).
    pub fn try_lock_shared(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).shared().no_wait().wait())
    }

    /// Waits for `limit` to share the lock. Returns [`None`] if someone else held it exclusively all that
    /// time.
    ///
    /// # Errors
    /// [`Error`] as for [`try_lock_for`](Self::try_lock_for) and
    /// [`lock_shared`](Self::lock_shared).
    pub fn try_lock_shared_for(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        limit: Duration,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).shared().timeout(limit).wait())
    }

    /// Waits for the lock, calls `work` with it, and releases it.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let locks = lock_sync::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display()))?;
    /// use lock_sync::WithLockError;
    ///
    /// match locks.with_lock("nightly-report", |guard| guard.fence()) {
    ///     Ok(fence) => println!("done under the lock, with fence {fence}"),
    ///     Err(WithLockError::Lost { value, reason }) => eprintln!("{value} was not alone: {reason}"),
    ///     Err(other) => return Err(other.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WithLockError::Acquire`] as for [`lock`](Self::lock), without calling `work`.
    /// [`WithLockError::Lost`] and [`WithLockError::Unconfirmed`], with what `work` returned, if the
    /// lock was lost before `work` ended, or its release was not confirmed.
    pub fn with_lock<T>(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        work: impl FnOnce(&Guard) -> T,
    ) -> Result<T, WithLockError<T>> {
        self.acquire(name).with_lock(work)
    }

    /// Calls `work` with the lock if it is free. Returns [`None`], without calling `work`, if someone else
    /// holds it.
    ///
    /// # Errors
    /// As for [`with_lock`](Self::with_lock), and [`try_lock`](Self::try_lock).
    pub fn try_with_lock<T>(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        work: impl FnOnce(&Guard) -> T,
    ) -> Result<Option<T>, WithLockError<T>> {
        done_unless_busy(self.acquire(name).no_wait().with_lock(work))
    }

    /// The time that a grant or a renewal counts: a little less than five sixths of the TTL.
    pub fn valid_for(&self) -> Duration {
        self.driver.valid_for()
    }

    /// Calls `call` at a moment when no request is under way, or when one has taken all its time; the first connect
    /// has a second for that. For a process that stops itself: stopped in the middle of a request, it would keep an
    /// SQLite file locked for everybody else.
    ///
    /// Meanwhile no other thread begins a request, unless it is inside such a call itself: none takes or frees one of these
    /// locks, and none is renewed. Whether locks are held can be asked as ever.
    pub fn between_requests(&self, mut call: impl FnMut()) {
        self.driver.between_requests(&mut call);
    }

    /// Ends every waiting acquire of all clones with [`Error::Closed`], and every later one. Guards keep
    /// their locks. [`shutdown`](Self::shutdown) does so too, and waits for the rest.
    pub fn close(&self) {
        self.driver.close();
    }

    /// Ends the locks in order: for the end of `main`, where other threads may still wait for locks or hold them.
    ///
    /// Every acquire that waits, of all clones, ends with [`Error::Closed`], and so does every later one.
    /// Releases in the background are sent and confirmed. A guard that is still there keeps its lock,
    /// which goes on being renewed; if it is dropped in time, its release is waited for too.
    ///
    /// It returns within two request budgets (see [`Config::request_timeout`]), and may be called again, on any
    /// clone, to tell how many locks are left. The connections are closed when the last clone and the last guard are
    /// dropped. In a fork, where nothing is held, it does nothing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let locks = lock_sync::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display()))?;
    /// let clone = locks.clone();
    /// let worker = std::thread::spawn(move || {
    ///     while let Ok(guard) = clone.lock("queue") { // ends with Error::Closed
    ///         guard.release_in_background();
    ///     }
    /// });
    /// locks.shutdown()?;
    /// # worker.join().expect("no panic");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ShutdownError`]: not all locks were freed, or it is not known.
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.driver.shutdown()
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}
