//! Actions for operators: listing, showing, breaking and purging locks.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod from;
mod observer;
mod open;

pub use observer::Observer;

use crate::Config;
use crate::process::Process;
use lock_core::admin::{AdminRequest, AdminResponse, Listing, LockState, Purging};
use lock_core::config::Error;
use lock_core::{Fence, LockName};
use std::fmt;
use std::time::Duration;

/// A connection that answers an operator's requests.
pub(crate) trait AdminBackend: Send {
    fn execute(&mut self, request: &AdminRequest) -> Result<AdminResponse, Error>;

    /// Blocks for up to `up_to`, or until the server tells that the lock may have changed, or that it tells from now on. Then it
    /// returns true. It never tells of another lock than the first.
    fn wait(&mut self, name: &LockName, up_to: Duration) -> bool;
}

/// Looks at the locks of a place, and frees them by hand: for tools and operators.
///
/// It has a connection of its own, takes no lock itself, and creates nothing: not a table, and not a file. Each
/// call is answered within a few times 10 s, or the time of a request if one was chosen ([`Config::request_timeout`]), and blocks as long. It belongs
/// to the process that connected: in a fork of it, calls fail with [`Error::Forked`].
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}/locks.db", folder.path().display());
/// use lock_sync::{Admin, Locks};
///
/// let guard = Locks::connect(&url)?.lock("nightly-report")?;
/// let mut admin = Admin::connect(&url)?;
/// for lock in admin.list()? {
///     let holder = lock.hold.map(|hold| hold.label).unwrap_or_default();
///     println!("{} is held by {holder}, fence {}", lock.name, lock.fence);
/// }
/// // Its holder is told that it has lost, and the next fence is higher than this one.
/// let raised = admin.break_hold("nightly-report", guard.fence())?;
/// assert!(raised > Some(guard.fence()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Admin {
    /// The connection. `None` only during the drop.
    place: Option<Box<dyn AdminBackend>>,
    process: Process,
}

impl Admin {
    /// [Opens](Self::open) what the URL names.
    ///
    /// # Errors
    /// [`Error`]: a URL that cannot be read, a server that cannot be reached or must not be used, a table
    /// (`?table=…`) or an SQLite file that does not exist.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::open(url.parse::<Config>()?)
    }

    pub(crate) fn with(place: Box<dyn AdminBackend>) -> Self {
        Self { place: Some(place), process: Process::current() }
    }

    fn execute(&mut self, request: &AdminRequest) -> Result<AdminResponse, Error> {
        match &mut self.place {
            Some(place) if self.process.is_current() => place.execute(request),
            _ => Err(Error::Forked),
        }
    }

    /// As [`AdminBackend::wait`].
    fn wait(&mut self, name: &LockName, up_to: Duration) -> bool {
        match &mut self.place {
            Some(place) if self.process.is_current() => place.wait(name, up_to),
            _ => false,
        }
    }

    /// Returns the locks that are held, in the order of their names as bytes. More than a few hundred locks
    /// are not one snapshot.
    ///
    /// # Errors
    /// [`Error`] if the server refuses or does not answer.
    pub fn list(&mut self) -> Result<Vec<LockState>, Error> {
        let mut listing = Listing::new();
        while let Some(request) = listing.poll_request() {
            listing.handle_response(self.execute(&request)?);
        }
        Ok(listing.finish()?)
    }

    /// Returns the state of a lock. [`None`] means that the lock has no row, and so is free.
    ///
    /// # Errors
    /// [`Error`] if the name is not one, or the server refuses or does not answer.
    pub fn status(
        &mut self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Option<LockState>, Error> {
        let name = name.try_into().map_err(Into::into)?;
        Ok(self.execute(&AdminRequest::Status { name })?.lock()?)
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
    pub fn break_hold(
        &mut self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        fence: Fence,
    ) -> Result<Option<Fence>, Error> {
        let name = name.try_into().map_err(Into::into)?;
        Ok(self.execute(&AdminRequest::Break { name, fence })?.raised()?)
    }

    /// Removes the rows of locks that are free and were last granted longer than `unused` ago. Returns their
    /// number. Their fences go on rising, by the server's clock.
    ///
    /// # Errors
    /// [`Error::Purge`] if `unused` is less than an [hour](lock_core::admin::SHORTEST), and with Consul,
    /// which has nothing to purge; another if the server refuses (it takes the right to `DELETE`, which locks do not need)
    /// or does not answer.
    pub fn purge(&mut self, unused: Duration) -> Result<usize, Error> {
        let mut purging = Purging::new(unused)?;
        while let Some(request) = purging.poll_request() {
            purging.handle_response(self.execute(&request)?);
        }
        Ok(purging.finish()?)
    }
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
