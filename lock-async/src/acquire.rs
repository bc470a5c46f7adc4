//! The builder of an acquire.

use crate::driver::News;
use crate::guard::Guard;
use crate::locks::{Locks, Progress, Wait};
use crate::{clock, events};
use lock_core::config::{Error, WithLockError};
use lock_core::{LockName, Mode};
use lock_shared::wish::{Wish, with};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

type OnWaiting<'a> = Box<dyn FnMut(&Progress) + Send + 'a>;

/// An acquire that has not begun. Made by [`Locks::acquire`](crate::Locks::acquire), and awaited.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let locks = lock_async::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display())).await?;
/// use lock_async::{Error, Progress};
/// use std::time::Duration;
///
/// let acquired = locks
///     .acquire("nightly-report")
///     .timeout(Duration::from_secs(60))
///     .on_waiting(|news| match news {
///         Progress::Busy(busy) => println!("{busy}"), // someone else holds "nightly-report": …
///         Progress::Trouble(why) => println!("{why}; trying again"),
///         _ => println!("waiting"),
///     })
///     .await;
/// match acquired {
///     Ok(guard) => println!("holding the lock, with fence {}", guard.fence()),
///     Err(Error::Busy(busy)) => println!("{busy}"), // someone else holds "nightly-report": …
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
///
/// Awaited, it resolves to a [`Guard`].
///
/// # Errors
/// [`Error::Busy`], which names the holder, if someone else held the lock for the whole time. Another [`Error`] if
/// the name is not one, the server refuses, or it could not be asked in that time.
///
/// # Cancel safety
/// Dropping the future ends the wait, at any point: what the server granted meanwhile, or still grants, is
/// released in the background. A place among the waiters of this process is lost.
///
/// Poll the future on, or drop it. A future that is kept and not polled any more, as after a `select!` on `&mut future`,
/// still waits. If the lock is granted meanwhile, the future holds it, the lock is renewed until the future is dropped, and
/// [`Locks::shutdown`](crate::Locks::shutdown) counts it as a guard.
#[must_use = "nothing is asked for before it is awaited"]
pub struct Acquire<'a> {
    locks: Locks,
    wish: Result<Wish, Error>,
    on_waiting: Option<OnWaiting<'a>>,
}

impl<'a> Acquire<'a> {
    pub(crate) fn new(locks: Locks, wish: Result<Wish, Error>) -> Self {
        Self { locks, wish, on_waiting: None }
    }

    fn with(self, set: impl FnOnce(&mut Wish)) -> Self {
        Self { wish: with(self.wish, set), ..self }
    }

    /// Wants to share the lock with any number of others. Nobody holds it exclusively meanwhile.
    ///
    /// It ends with [`Error::Claim`] where there are no shared locks: there are with PostgreSQL's advisory locks.
    pub fn shared(self) -> Self {
        self.mode(Mode::Shared)
    }

    /// Wants the lock in this mode. The default is [`Mode::Exclusive`].
    pub fn mode(self, mode: Mode) -> Self {
        self.with(|wish| wish.mode = mode)
    }

    /// Wants one of `count` permits of the semaphore with this name: at most so many hold one at a time. 0 counts as 1.
    ///
    /// Each permit is a lock of its own, with its own fence; [`Guard::permit`] is its number, from 1. All who use the
    /// semaphore should give the same `count`. With a greater one, more get a permit at once. With a smaller one, those
    /// that are held beyond it are not taken away, and count no more when they come back. The lock of the semaphore's name
    /// is another lock.
    ///
    /// On a table, a free permit takes one statement, and looking for one takes one more for all of them. Elsewhere each
    /// permit is asked for by itself, and a waiter waits for each with a connection of its own, so keep `count` small
    /// there.
    ///
    /// It ends with [`Error::Claim`] for shared locks, and for permits of several.
    pub fn permits(self, count: u32) -> Self {
        Self { wish: self.wish.and_then(|wish| wish.of_permits(count)), ..self }
    }

    /// Wants the lock `name`, too: all or none. Call it again for more.
    ///
    /// They are acquired in one statement where all are free. Sets of locks never wait for each other, in whatever order
    /// they are named: whoever waits for a lock holds none that sorts after it. There is one limit for all, and if one is
    /// lost, the guard is. [`Guard::fences`] has the fence of each.
    ///
    /// It ends with [`Error::Claim`] for shared locks, and for permits of several.
    pub fn and(self, name: impl TryInto<LockName, Error: Into<Error>>) -> Self {
        Self { wish: self.wish.and_then(|wish| wish.and(name)), ..self }
    }

    /// Keeps the lock for at least `time` from its grant, by the server's clock: when it is released sooner, the release leaves it taken until
    /// then, and this process need not wait for that. So one of many machines runs a job that their clocks start at slightly
    /// different times. Without `keep_for`, a release frees the lock at once.
    ///
    /// Until its end, a lock that is kept is nobody's. It is not renewed, and nobody acquires it, this process included; a waiter is
    /// told when it ends, and [`Holder::kept`](lock_core::Holder::kept) says so. [`Admin::list`](crate::Admin::list) shows it, and
    /// [`Admin::break_hold`](crate::Admin::break_hold) frees it. The guard's release succeeds as usual, and a drop of the guard does the same. A
    /// process that dies leaves the lock to its TTL, as always, whether that ends before or after `time`. On SQLite, no lock
    /// is kept over a restart of the machine. See [`Guard::cancel_keep`].
    ///
    /// It ends with [`Error::Claim`] where a lock is gone with its connection or session: with advisory locks and Consul; with
    /// `protocol=node-distributed-lock`; and for more than 24 hours. Nothing is sent then.
    pub fn keep_for(self, time: Duration) -> Self {
        self.with(|wish| wish.keep = Some(time))
    }

    /// Wants the lock with a TTL of its own, 1 s to 24 h, instead of [that of all locks](crate::Config::ttl). It is renewed
    /// every third of it, and if its holder dies, others wait as long. [`Guard::valid_for`] is what counts of it.
    ///
    /// While a lock with a short TTL is wanted or held, all requests have less time: see
    /// [`Config::request_timeout`](crate::Config::request_timeout).
    ///
    /// It ends with [`Error::Claim`] where the TTL belongs to something else: to the connection with advisory locks, to the
    /// session with Consul, to all users of the table of node-distributed-lock. So it does for a TTL that is too short for
    /// the time of a request, or for the way to the server.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|wish| wish.ttl = Some(ttl))
    }

    /// Wants the lock with a label of its own, instead of [that of all locks](crate::Config::label), for people who wait
    /// for it. It is stored beside host and process id. With advisory locks, only those that wait in the same process
    /// are told it.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.with(|wish| wish.label = Some(label.into()))
    }

    /// Waits for at most `limit`, which begins when the future is first polled.
    ///
    /// The server is asked at least once. If its answer is slow, the wait ends up to two request budgets later than
    /// `limit`. (`tokio::time::timeout` around it is as safe, and ends on time, but does not tell whether the server
    /// could be asked, or who holds the lock.)
    pub fn timeout(self, limit: Duration) -> Self {
        self.wait_limit(Wait::For(limit))
    }

    /// Does not wait for a lock that someone else holds. The server is asked once.
    pub fn no_wait(self) -> Self {
        self.wait_limit(Wait::Never)
    }

    /// Waits as `limit` says. The default is [`Wait::Forever`].
    pub fn wait_limit(self, limit: Wait) -> Self {
        self.with(|wish| wish.wait = limit)
    }

    /// Calls `call` with news while waiting: who holds the lock, and errors after which the server is asked again.
    /// It runs in the future that waits. If it panics, the wait ends, and leaves no lock behind.
    pub fn on_waiting<'b>(self, call: impl FnMut(&Progress) + Send + 'b) -> Acquire<'b> {
        let Self { locks, wish, .. } = self;
        Acquire { locks, wish, on_waiting: Some(Box::new(call)) }
    }

    /// Waits for the lock, calls `work` with it, and releases it.
    ///
    /// # Errors
    /// As for [`Locks::with_lock`](crate::Locks::with_lock), and [`WithLockError::Acquire`] as if it was awaited.
    ///
    /// # Cancel safety
    /// As for [`Locks::with_lock`](crate::Locks::with_lock).
    pub async fn with_lock<T>(
        self,
        work: impl AsyncFnOnce(&Guard) -> T,
    ) -> Result<T, WithLockError<T>> {
        let guard = self.wait().await?;
        let value = work(&guard).await;
        WithLockError::after(value, guard.release().await)
    }

    /// Waits for the lock. The same as to await it, without the box that the future's name takes.
    pub(crate) async fn wait(self) -> Result<Guard, Error> {
        let Self { locks: Locks { driver, check, pins }, wish, mut on_waiting } = self;
        let wish = Arc::new(wish?.checked(&check)?);
        let recorded = lock_shared::metrics::Attempt::begin(&wish);
        let began = clock::now();
        let mut attempt = driver.acquire(&wish);
        let acquired = loop {
            match attempt.news().await {
                News::Progress(news) => {
                    events::progress(&wish.name, &news);
                    if let Some(call) = &mut on_waiting {
                        call(&news);
                    }
                }
                News::Granted(granted) => {
                    let guard = Guard::new(attempt, &wish, granted, pins);
                    events::acquired(guard.name(), guard.fence(), clock::now().since(began));
                    break Ok(guard);
                }
                News::Not(why, of) => break Err(wish.denied(why, of)),
                News::Closed if driver.is_forked() => break Err(Error::Forked),
                News::Closed => break Err(Error::Closed),
            }
        };
        recorded.ended(&acquired);
        acquired
    }
}

impl<'a> IntoFuture for Acquire<'a> {
    type Output = Result<Guard, Error>;
    type IntoFuture = Acquiring<'a>;

    fn into_future(self) -> Acquiring<'a> {
        Acquiring(Box::pin(self.wait()))
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("wish", &self.wish).finish_non_exhaustive()
    }
}

/// The future of an [`Acquire`]. It borrows nothing but what [`on_waiting`](Acquire::on_waiting) got, so that a task of
/// its own can await it.
///
/// # Cancel safety
/// Dropping it ends the wait, at any point, and leaves no lock behind. Kept unpolled, it may hold the lock; see
/// [`Acquire`](Acquire#cancel-safety).
#[must_use = "futures do nothing unless polled"]
pub struct Acquiring<'a>(Pin<Box<dyn Future<Output = Result<Guard, Error>> + Send + 'a>>);

impl Future for Acquiring<'_> {
    type Output = Result<Guard, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Acquiring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquiring").finish_non_exhaustive()
    }
}
