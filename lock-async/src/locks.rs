//! The places where locks are kept.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod from;
mod open;
#[cfg(any(feature = "sqlx-mysql", feature = "sqlx-postgres"))]
mod sqlx;

pub use lock_core::config::{Progress, Wait};
#[cfg(any(feature = "sqlx-mysql", feature = "sqlx-postgres"))]
pub use sqlx::SqlxPool;

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
use std::time::Duration;

/// A place where locks are kept: a table on a server, the server itself, or a file.
///
/// Cheap to clone; all clones and all guards share one task, which has one connection. With advisory
/// locks, each acquire that waits in the server's queue has a connection of its own besides, and keeps
/// its lock on it; with Consul, it has one as long as it waits. The task ends when the last clone and
/// the last guard are dropped, and with it the connections. Call [`shutdown`](Self::shutdown) before the
/// runtime ends: it waits until the locks of dropped guards are free.
#[derive(Clone)]
pub struct Locks {
    pub(crate) driver: Driver,
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
    /// [`Error`]: a URL that cannot be read, a server that cannot be reached or must not be used,
    /// no tokio runtime to run on. It needs a timer, and I/O for a server: build it with `enable_all`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the connection. A table that was missing may have been created, and
    /// a session in Consul, without locks, lives for up to two TTLs.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::open(url.parse::<Config>()?).await
    }

    pub(crate) fn with(driver: Driver, check: Check) -> Self {
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
    ///
    /// # Cancel safety
    /// Dropping the future gives the wait up, at any point: what the server granted meanwhile, or
    /// still grants, is released in the background. A place among the waiters of this process is
    /// lost.
    ///
    /// Poll the future on, or drop it: one that is kept unpolled may hold the lock; see [`Acquire`](Acquire#cancel-safety).
    pub async fn lock(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Guard, Error> {
        self.acquire(name).wait().await
    }

    /// Acquires the lock if it is free. Returns [`None`] if someone else holds it;
    /// [`acquire(name).no_wait()`](Acquire::no_wait) tells who.
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses or does not answer within two
    /// request budgets.
    ///
    /// # Cancel safety
    /// As for [`lock`](Self::lock).
    pub async fn try_lock(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).no_wait().wait().await)
    }

    /// Waits for the lock for `limit`. Returns [`None`] if someone else held it all that time;
    /// [`acquire(name).timeout(limit)`](Acquire::timeout) tells who.
    ///
    /// The server is asked once at least. It may resolve up to two request budgets later than
    /// `limit`, when the answer is slow to come. (`tokio::time::timeout` around
    /// [`lock`](Self::lock) is as safe, and ends on time, but without telling whether the server
    /// could be asked.)
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses or could not be asked.
    ///
    /// # Cancel safety
    /// As for [`lock`](Self::lock).
    pub async fn try_lock_for(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        limit: Duration,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).timeout(limit).wait().await)
    }

    /// Waits for the lock as [`lock`](Self::lock) does, to share it with any number of others. Nobody holds
    /// it exclusively meanwhile.
    ///
    /// # Errors
    /// [`Error`] as for [`lock`](Self::lock); [`Error::Claim`] where there are no shared locks: there
    /// are with PostgreSQL's advisory locks.
    ///
    /// # Cancel safety
    /// As for [`lock`](Self::lock).
    pub async fn lock_shared(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Guard, Error> {
        self.acquire(name).shared().wait().await
    }

    /// Shares the lock if nobody holds it exclusively. Returns [`None`] if someone does.
    ///
    /// # Errors
    /// [`Error`] as for [`try_lock`](Self::try_lock) and [`lock_shared`](Self::lock_shared).
    ///
    /// # Cancel safety
    /// As for [`lock`](Self::lock).
    pub async fn try_lock_shared(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).shared().no_wait().wait().await)
    }

    /// Waits for `limit` to share the lock. Returns [`None`] if someone else held it exclusively all that
    /// time.
    ///
    /// # Errors
    /// [`Error`] as for [`try_lock_for`](Self::try_lock_for) and
    /// [`lock_shared`](Self::lock_shared).
    ///
    /// # Cancel safety
    /// As for [`lock`](Self::lock).
    pub async fn try_lock_shared_for(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        limit: Duration,
    ) -> Result<Option<Guard>, Error> {
        unless_busy(self.acquire(name).shared().timeout(limit).wait().await)
    }

    /// Waits for the lock, calls `work` with it, and releases it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let locks = lock_async::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display())).await?;
    /// use lock_async::WithLockError;
    ///
    /// match locks.with_lock("nightly-report", async |guard| guard.fence()).await {
    ///     Ok(fence) => println!("done under the lock, with fence {fence}"),
    ///     Err(WithLockError::Lost { value, reason }) => eprintln!("{value} was not alone: {reason}"),
    ///     Err(other) => return Err(other.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WithLockError::Acquire`] as for [`lock`](Self::lock), without calling `work`.
    /// [`WithLockError::Lost`] and [`WithLockError::Unconfirmed`], with what `work` returned, if the
    /// lock was lost before `work` ended, or its release was not confirmed.
    ///
    /// # Cancel safety
    /// As for [`lock`](Self::lock) while waiting. Dropping the future later drops `work` where it
    /// is, and then releases the lock in the background.
    pub async fn with_lock<T>(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        work: impl AsyncFnOnce(&Guard) -> T,
    ) -> Result<T, WithLockError<T>> {
        self.acquire(name).with_lock(work).await
    }

    /// Calls `work` with the lock if it is free. Returns [`None`], without calling `work`, if someone else
    /// holds it.
    ///
    /// # Errors
    /// As for [`with_lock`](Self::with_lock), and [`try_lock`](Self::try_lock).
    ///
    /// # Cancel safety
    /// As for [`with_lock`](Self::with_lock).
    pub async fn try_with_lock<T>(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        work: impl AsyncFnOnce(&Guard) -> T,
    ) -> Result<Option<T>, WithLockError<T>> {
        done_unless_busy(self.acquire(name).no_wait().with_lock(work).await)
    }

    /// The time that a grant or a renewal counts: a little less than five sixths of the TTL.
    pub fn valid_for(&self) -> Duration {
        self.driver.valid_for()
    }

    /// Ends every acquire that waits, of all clones, with [`Error::Closed`], and every later one.
    /// Guards stay what they are. [`shutdown`](Self::shutdown) does so too, and waits for the rest.
    pub fn close(&self) {
        self.driver.close();
    }

    /// Ends the locks in order: call it last in `main`, also when that ends with an error.
    ///
    /// A dropped guard's release is sent by the task, and the task ends with the runtime. Without a
    /// shutdown, a lock whose guard is dropped right before the end of `main` stays taken until its lease
    /// ends, a whole TTL later.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let url = format!("sqlite:{}/locks.db", folder.path().display());
    /// # use lock_async::Locks;
    /// async fn run(locks: &Locks) -> Result<(), Box<dyn std::error::Error>> {
    ///     let guard = locks.lock("nightly-report").await?;
    ///     "7".parse::<u32>()?; // an error ends it here, and drops the guard
    ///     Ok(guard.release().await?)
    /// }
    ///
    /// let locks = Locks::connect(&url).await?;
    /// let result = run(&locks).await;
    /// locks.shutdown().await?;
    /// result
    /// # }
    /// ```
    ///
    /// Every acquire that waits, of all clones, ends with [`Error::Closed`], and so does every later one.
    /// The releases of dropped guards are sent and confirmed, the connections are closed, and the task
    /// ends. It resolves within two request budgets (see
    /// [`Config::request_timeout`]).
    ///
    /// A guard that is still there keeps its lock, which goes on being renewed. If it is dropped within
    /// that time, its release is waited for too; if later, the task releases the lock and ends then.
    ///
    /// It may be called again, on any clone, and then tells how many locks are left. In a fork, where nothing is held, it
    /// does nothing.
    ///
    /// # Errors
    /// [`ShutdownError`]: not all locks were freed, or it is not known.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the shutdown going on in the background; only how it went is not told.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.driver.shutdown().await
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}
