//! Actions for operators: listing, showing, breaking and purging locks.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod from;
mod observer;
mod open;
#[cfg(any(feature = "sqlx-mysql", feature = "sqlx-postgres"))]
mod sqlx;

pub use observer::Observer;

use crate::Config;
use crate::process::Process;
use lock_core::admin::{AdminRequest, AdminResponse, Listing, LockState, Purging};
use lock_core::config::Error;
use lock_core::{Fence, LockName};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::runtime::{Handle, Id};

/// A connection that answers an operator's requests.
pub(crate) trait AdminBackend: Send {
    fn execute<'a>(&'a mut self, request: &'a AdminRequest) -> Executing<'a>;

    /// It is used on another runtime from now on: see [`Session::moved`](crate::backend::Session::moved).
    fn moved(&mut self);

    /// Waits for up to `up_to`, or until the server tells that the lock may have changed, or that it tells from now on. Then it
    /// returns true. It never tells of another lock than the first.
    fn wait<'a>(&'a mut self, name: &'a LockName, up_to: Duration) -> Waiting<'a>;
}

/// Dropped before its end, it leaves the connection in step, or ends it.
pub(crate) type Executing<'a> =
    Pin<Box<dyn Future<Output = Result<AdminResponse, Error>> + Send + 'a>>;

/// Dropped before its end, it has lost nothing: the next tells it.
pub(crate) type Waiting<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Looks at the locks of a place, and frees them by hand: for tools and operators.
///
/// It has a connection of its own, takes no lock itself, and creates nothing: not a table, and not a file. Each
/// call is answered within a few times 10 s, or the time of a request if one was chosen ([`Config::request_timeout`]), on the runtime that it is awaited on,
/// which needs its timer, and its I/O for a server. On another runtime than the call before, it connects anew, unless the connection is the caller's. It belongs
/// to the process that connected: in a fork of it, calls fail with [`Error::Forked`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}/locks.db", folder.path().display());
/// use lock_async::{Admin, Locks};
///
/// let guard = Locks::connect(&url).await?.lock("nightly-report").await?;
/// let mut admin = Admin::connect(&url).await?;
/// for lock in admin.list().await? {
///     let holder = lock.hold.map(|hold| hold.label).unwrap_or_default();
///     println!("{} is held by {holder}, fence {}", lock.name, lock.fence);
/// }
/// // Its holder is told that it has lost, and the next fence is higher than this one.
/// let raised = admin.break_hold("nightly-report", guard.fence()).await?;
/// assert!(raised > Some(guard.fence()));
/// # Ok(())
/// # }
/// ```
pub struct Admin {
    /// The connection. `None` only during the drop.
    place: Option<Box<dyn AdminBackend>>,
    process: Process,
    /// The runtime that it was used on last, if it was one.
    runtime: Option<Id>,
}

impl Admin {
    /// [Opens](Self::open) what the URL names.
    ///
    /// # Errors
    /// [`Error`]: a URL that cannot be read, a server that cannot be reached or must not be used, a table
    /// (`?table=…`) or an SQLite file that does not exist.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::open(url.parse::<Config>()?).await
    }

    pub(crate) fn with(place: Box<dyn AdminBackend>) -> Self {
        Self { place: Some(place), process: Process::current(), runtime: runtime() }
    }

    async fn execute(&mut self, request: &AdminRequest) -> Result<AdminResponse, Error> {
        match self.place() {
            Some(place) => place.execute(request).await,
            None => Err(Error::Forked),
        }
    }

    /// As [`AdminBackend::wait`].
    async fn wait(&mut self, name: &LockName, up_to: Duration) -> bool {
        match self.place() {
            Some(place) => place.wait(name, up_to).await,
            None => false,
        }
    }

    /// The connection, for use on this runtime. [`None`] in a fork.
    fn place(&mut self) -> Option<&mut Box<dyn AdminBackend>> {
        let place = self.place.as_mut().filter(|_| self.process.is_current())?;
        let here = runtime();
        if std::mem::replace(&mut self.runtime, here) != here {
            place.moved();
        }
        Some(place)
    }

    /// Returns the locks that are held, in the order of their names as bytes. More than a few hundred locks
    /// are not one snapshot.
    ///
    /// # Errors
    /// [`Error`] if the server refuses or does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn list(&mut self) -> Result<Vec<LockState>, Error> {
        let mut listing = Listing::new();
        while let Some(request) = listing.poll_request() {
            listing.handle_response(self.execute(&request).await?);
        }
        Ok(listing.finish()?)
    }

    /// Returns the state of a lock. [`None`] means that the lock has no row, and so is free.
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses or does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn status(
        &mut self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Option<LockState>, Error> {
        let name = name.try_into().map_err(Into::into)?;
        Ok(self.execute(&AdminRequest::Status { name }).await?.lock()?)
    }

    /// Ends the hold of `name` that has this `fence`, and raises the lock's fence. Returns the new fence, or
    /// [`None`] if that hold had already ended.
    ///
    /// The holder learns of it at its next renewal, at most a third of its TTL later. Until then, it still
    /// believes that it holds the lock, while someone else may have acquired it. If that must not happen,
    /// give the new fence to the protected resource first.
    ///
    /// In Consul, this ends the holder's session, with all its locks. The lock is free after the lock-delay.
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses or does not answer. After
    /// [`Error::Unavailable`] it may have been done.
    ///
    /// # Cancel safety
    /// Dropping the future ends nothing that the server has begun: whether it was done is not told.
    pub async fn break_hold(
        &mut self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        fence: Fence,
    ) -> Result<Option<Fence>, Error> {
        let name = name.try_into().map_err(Into::into)?;
        Ok(self.execute(&AdminRequest::Break { name, fence }).await?.raised()?)
    }

    /// Removes the rows of locks that are free and were last granted longer than `unused` ago. Returns their
    /// number. Their fences go on rising, by the server's clock.
    ///
    /// # Errors
    /// [`Error::Purge`] if `unused` is less than an [hour](lock_core::admin::SHORTEST), and with Consul,
    /// which has nothing to purge; another if the server refuses (it takes the right to `DELETE`, which locks do not need)
    /// or does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future ends nothing that the server has begun: whether it was done is not told.
    pub async fn purge(&mut self, unused: Duration) -> Result<usize, Error> {
        let mut purging = Purging::new(unused)?;
        while let Some(request) = purging.poll_request() {
            purging.handle_response(self.execute(&request).await?);
        }
        Ok(purging.finish()?)
    }
}

fn runtime() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

/// In a fork, the connection belongs to the parent, so not even a goodbye may be sent on it.
impl Drop for Admin {
    fn drop(&mut self) {
        if !self.process.is_current() {
            std::mem::forget(self.place.take());
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
