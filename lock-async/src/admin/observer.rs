//! Observing an election.

use super::Admin;
use crate::clock;
use lock_core::LockName;
use lock_core::admin::{Leader, Observation};
use lock_core::config::Error;
use std::fmt;
use std::time::Duration;

impl Admin {
    /// Observes who leads under the lock `name`, over the connection of this `Admin`.
    ///
    /// # Errors
    /// [`Error`] if the name is not one.
    pub fn observe(
        self,
        name: impl TryInto<LockName, Error: Into<Error>>,
    ) -> Result<Observer, Error> {
        let name = name.try_into().map_err(Into::into)?;
        let state = Observation::new(Observation::INTERVAL);
        Ok(Observer { admin: self, name, state })
    }
}

/// Tells who leads under a lock, each time that it changes: the holder that [campaigns](crate::Locks::campaign), or any
/// other. It takes no lock, needs only the right to read, and has one connection, which it makes anew after an outage.
///
/// Consul tells it of each change. PostgreSQL tells it when a table's lock is freed for someone who waits, such as the
/// standby of an election, over connections of the `Admin`'s own. Whatever the server does not tell, the observer finds out
/// by looking: when the leader's lease ends unrenewed, and at [intervals](Self::interval). Each look is one `SELECT`. A term
/// that begins and ends between two looks is not told.
///
/// Advisory locks have no names and no memory at the server, and cannot be observed: [`Admin::open`] refuses them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}/locks.db", folder.path().display());
/// use lock_async::{Admin, Locks};
///
/// # let locks = Locks::connect(&url).await?;
/// let mut observer = Admin::connect(&url).await?.observe("scheduler")?;
/// assert_eq!(observer.changed().await?, None); // nobody leads
/// # let guard = locks.lock("scheduler").await?;
/// if let Some(leader) = observer.changed().await? {
///     println!("{} leads, in term {}", leader.label, leader.term);
/// #   assert_eq!(leader.term, guard.fence());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Observer {
    admin: Admin,
    name: LockName,
    state: Observation,
}

impl Observer {
    /// Looks at least so often, at the shortest every 20 ms. The default is a second. The next look is due at once.
    #[must_use = "the observer is returned"]
    pub fn interval(self, interval: Duration) -> Self {
        Self { state: Observation::new(interval), ..self }
    }

    /// Waits until something else is known than was told last, and returns it: the leader, or [`None`] if nobody leads. The
    /// first call returns who leads now.
    ///
    /// # Errors
    /// [`Error`]: who leads is not known, because the server does not answer or refuses. It is told once, after two
    /// looks without an answer, so within an interval and a few times 10 s, or the time of a request if one was chosen
    /// ([`Config::request_timeout`](crate::Config::request_timeout)). Call again: the observer goes on looking, and the next change is that somebody or
    /// nobody leads. [`Error::Forked`] is told at each call in a fork.
    ///
    /// # Cancel safety
    /// Dropping the future loses no change: the next call tells it. So it may be one branch of a `select!` in a loop. A look
    /// that is dropped under way begins anew, over a new connection: a loop that drops each call sooner than a look takes
    /// is told nothing.
    pub async fn changed(&mut self) -> Result<Option<Leader>, Error> {
        loop {
            if !self.admin.process.is_current() {
                return Err(Error::Forked);
            }
            let pause = self.state.next_look().since(clock::now());
            if pause.is_zero() {
                let answer = self.admin.status(&self.name).await;
                if let Some(change) = self.state.handle_answer(clock::now(), answer) {
                    return change;
                }
            } else if self.admin.wait(&self.name, pause).await {
                self.state.handle_hint(clock::now());
            }
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::{Config, Locks};

    #[tokio::test]
    async fn an_observer_looks_once_a_second_unless_told_otherwise() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config::sqlite(folder.path().join("locks.db"));
        drop(Locks::open(config.clone()).await.expect("the table is made"));
        let admin = Admin::open(config).await.expect("connected");
        let observer = admin.observe("a").expect("a name");
        assert_eq!(observer.state, Observation::new(Duration::from_secs(1)));
    }
}
