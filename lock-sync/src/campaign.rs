//! Leader election.

use crate::guard::Guard;
use crate::locks::Locks;
use lock_core::LockName;
use lock_core::config::Error;
use std::ops::ControlFlow;

impl Locks {
    /// Leads under the lock `name`, again and again: waits for the lock, calls `lead` with the guard, releases the lock once
    /// that has returned, and waits for it anew. Of all processes that campaign for one name, at most one leads at a time.
    ///
    /// The guard is the term of office. [`Guard::fence`] is its number, which is greater than that of each earlier term. If the
    /// lock is lost, the term is over: `lead` should look at [`Guard::is_held`], or be told by [`Guard::on_lost`], and
    /// return. Only then does this process campaign again.
    ///
    /// Ends when `lead` breaks, with its value. An [`Observer`](crate::Observer) tells others who leads, and in which term.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let locks = lock_sync::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display()))?;
    /// use std::ops::ControlFlow;
    ///
    /// # let (mut jobs, mut done) = (vec!["b", "a"], vec![]);
    /// let terms = locks.campaign("scheduler", |term| {
    ///     while term.is_held() {
    ///         let Some(job) = jobs.pop() else { return ControlFlow::Break(term.fence()) };
    ///         done.push((job, term.fence())); // what is written to refuses a lower fence
    ///     }
    ///     ControlFlow::Continue(()) // the term is over: campaign again
    /// })?;
    /// # assert_eq!(done, [("a", terms), ("b", terms)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`lock`](Self::lock), when it campaigns: the name is not one, the server refuses, or the `Locks` are closed. A
    /// release that failed ends nothing: the lease ends by itself.
    ///
    /// # Panics
    /// If `lead` panics, the lock is released first.
    pub fn campaign<T>(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        mut lead: impl FnMut(&Guard) -> ControlFlow<T>,
    ) -> Result<T, Error> {
        let name = name.try_into().map_err(Into::into)?;
        loop {
            let term = self.lock(&name)?;
            let led = lead(&term);
            let _ = term.release();
            if let ControlFlow::Break(value) = led {
                return Ok(value);
            }
        }
    }
}
