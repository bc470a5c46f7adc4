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
    /// lock is lost, the term is over: `lead` should select on [`Guard::lost`], and return. It is not cancelled, for it may
    /// have something to put in order. Only then does this process campaign again.
    ///
    /// Ends when `lead` breaks, with its value. An [`Observer`](crate::Observer) tells others who leads, and in which term.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let locks = lock_async::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display())).await?;
    /// # async fn work() {}
    /// use std::ops::ControlFlow;
    ///
    /// let leading = tokio::spawn(async move {
    ///     locks
    ///         .campaign("scheduler", async |term| {
    ///             tokio::select! {
    ///                 () = work() => ControlFlow::Break(()),
    ///                 _ = term.lost() => ControlFlow::Continue(()), // the term is over: campaign again
    ///             }
    ///         })
    ///         .await
    /// });
    /// # leading.await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// In a task that is spawned, a closure that uses variables from outside takes them along: `async move |term| …`. One that borrows them
    /// makes a future that the compiler does not take for [`Send`].
    ///
    /// # Errors
    /// As for [`lock`](Self::lock), when it campaigns: the name is not one, the server refuses, or the `Locks` are closed. A
    /// release that failed ends nothing: the lease ends by itself.
    ///
    /// # Cancel safety
    /// Dropping the future drops what `lead` is doing, and then releases the lock in the background.
    pub async fn campaign<T>(
        &self,
        name: impl TryInto<LockName, Error: Into<Error>>,
        mut lead: impl AsyncFnMut(&Guard) -> ControlFlow<T>,
    ) -> Result<T, Error> {
        let name = name.try_into().map_err(Into::into)?;
        loop {
            let term = self.lock(&name).await?;
            let led = lead(&term).await;
            let _ = term.release().await;
            if let ControlFlow::Break(value) = led {
                return Ok(value);
            }
        }
    }
}
