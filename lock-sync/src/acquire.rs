//! The builder of an acquire.

use crate::cancel::Cancel;
use crate::driver::Acquired;
use crate::guard::Guard;
use crate::locks::{Locks, Progress, Wait};
use crate::{clock, events};
use lock_core::config::{Error, WithLockError};
use lock_core::{LockName, Mode};
use lock_shared::metrics::Attempt;
use lock_shared::wish::{Wish, with};
use std::fmt;
use std::time::Duration;

type OnWaiting<'a> = Box<dyn FnMut(&Progress) + 'a>;

/// An acquire that has not begun. Made by [`Locks::acquire`](crate::Locks::acquire), and ended by
/// [`wait`](Self::wait).
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let locks = lock_sync::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display()))?;
/// use lock_sync::{Error, Progress};
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
///     .wait();
/// match acquired {
///     Ok(guard) => println!("holding the lock, with fence {}", guard.fence()),
///     Err(Error::Busy(busy)) => println!("{busy}"), // someone else holds "nightly-report": …
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is asked for before `wait`"]
pub struct Acquire<'a> {
    locks: Locks,
    wish: Result<Wish, Error>,
    cancel: Option<Cancel>,
    on_waiting: Option<OnWaiting<'a>>,
}

impl<'a> Acquire<'a> {
    pub(crate) fn new(locks: Locks, wish: Result<Wish, Error>) -> Self {
        Self { locks, wish, cancel: None, on_waiting: None }
    }

    fn with(self, set: impl FnOnce(&mut Wish)) -> Self {
        Self { wish: with(self.wish, set), ..self }
    }

    /// Wants to share the lock with any number of others. Nobody holds it exclusively meanwhile.
    ///
    /// [`wait`](Self::wait) ends with [`Error::Claim`] where there are no shared locks: there are with PostgreSQL's
    /// advisory locks.
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
    /// [`wait`](Self::wait) ends with [`Error::Claim`] for shared locks, and for permits of several.
    pub fn permits(self, count: u32) -> Self {
        Self { wish: self.wish.and_then(|wish| wish.of_permits(count)), ..self }
    }

    /// Wants the lock `name`, too: all or none. Call it again for more.
    ///
    /// They are acquired in one statement where all are free. Sets of locks never wait for each other, in whatever order
    /// they are named: whoever waits for a lock holds none that sorts after it. There is one limit for all, and if one is
    /// lost, the guard is. [`Guard::fences`] has the fence of each.
    ///
    /// [`wait`](Self::wait) ends with [`Error::Claim`] for shared locks, and for permits of several.
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
    /// [`wait`](Self::wait) ends with [`Error::Claim`] where a lock is gone with its connection or session: with advisory locks and Consul; with
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
    /// [`wait`](Self::wait) ends with [`Error::Claim`] where the TTL belongs to something else: to the connection with advisory locks, to the
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

    /// Waits for at most `limit`, which begins with [`wait`](Self::wait).
    ///
    /// The server is asked at least once. If its answer is slow, the wait ends up to two request budgets later than
    /// `limit`.
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
    /// It runs on the thread that waits. If it panics, the wait ends, and leaves no lock behind.
    pub fn on_waiting<'b>(self, call: impl FnMut(&Progress) + 'b) -> Acquire<'b> {
        let Self { locks, wish, cancel, .. } = self;
        Acquire { locks, wish, cancel, on_waiting: Some(Box::new(call)) }
    }

    /// Lets `cancel` end the wait, with [`Error::Cancelled`]. It ends at once, also if it has not begun, or when the
    /// request that its thread is making is answered, within a request's time limit. What the server granted
    /// meanwhile, or still grants, is released in the background.
    pub fn cancelled_by(self, cancel: &Cancel) -> Self {
        Self { cancel: Some(cancel.clone()), ..self }
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// [`Error::Busy`], which names the holder, if someone else held the lock for the whole time. Another [`Error`] if
    /// the name is not one, the server refuses, or it could not be asked in that time.
    pub fn wait(mut self) -> Result<Guard, Error> {
        let Locks { driver, check, pins } = self.locks;
        let wish = self.wish?.checked(&check)?;
        let attempt = Attempt::begin(&wish);
        let began = clock::now();
        let progress: &mut dyn FnMut(&Progress) = match &mut self.on_waiting {
            Some(call) => call,
            None => &mut |_| {},
        };
        let acquired = match driver.acquire(&wish, self.cancel.as_ref(), progress) {
            Acquired::Granted(granted) => {
                let (fence, waited) = (granted.held.fence(), clock::now().since(began));
                // Whatever a subscriber does from here on, the guard releases the lock.
                let guard = Guard::new(driver, wish, granted, pins);
                events::acquired(guard.name(), fence, waited);
                Ok(guard)
            }
            Acquired::Not(why, of) => Err(wish.denied(why, of)),
            Acquired::Cancelled => Err(Error::Cancelled),
            Acquired::Forked => Err(Error::Forked),
            // A panic is resumed by the driver.
            Acquired::Closed | Acquired::Panicked(_) => Err(Error::Closed),
        };
        attempt.ended(&acquired);
        acquired
    }

    /// Waits for the lock, calls `work` with it, and releases it.
    ///
    /// # Errors
    /// As for [`Locks::with_lock`](crate::Locks::with_lock), and [`WithLockError::Acquire`] as for
    /// [`wait`](Self::wait).
    pub fn with_lock<T>(self, work: impl FnOnce(&Guard) -> T) -> Result<T, WithLockError<T>> {
        let guard = self.wait()?;
        let value = work(&guard);
        WithLockError::after(value, guard.release())
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("wish", &self.wish).finish_non_exhaustive()
    }
}
