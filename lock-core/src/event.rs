//! What the engine tells about an attempt.

use crate::error::{Failure, LostReason};
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::Holder;
use crate::sql::ConnectError;
use crate::time::Instant;
use alloc::sync::Arc;
use core::time::Duration;

/// Names one attempt to hold a lock, from [`Engine::acquire`](crate::Engine::acquire) to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct LockId(pub(crate) u64);

/// News of an attempt.
///
/// An attempt ends, for its caller, with one [`NotAcquired`](Event::NotAcquired) or, after
/// [`Engine::release`](crate::Engine::release), with one [`Released`](Event::Released). Nothing is
/// told about it afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The lock is held until `deadline` on the caller's clock, and longer if renewed.
    Granted {
        /// The attempt.
        id: LockId,
        /// The grant's fence.
        fence: Fence,
        /// From then on the lock must count as lost, whatever else was heard or not.
        deadline: Instant,
    },
    /// The lock is somebody else's; the attempt goes on. An attempt that asks the server is told at the
    /// first denial, after trouble, and when the holder changes, or that nobody is known to be one.
    ///
    /// An attempt that waits behind others of this engine is told once, as soon as it is known who has the
    /// lock: one of them, or whoever denied it to the first of them. If the server at first does not say who
    /// it is, it is told once more when one of them is granted it. Later changes are told to those that ask, so
    /// that what is told grows with the number of attempts, not with its square.
    Waiting {
        /// The attempt.
        id: LockId,
        /// Of [several locks at once](crate::Engine::acquire_all), the one that is somebody else's.
        of: Option<LockName>,
        /// The holder, if the server told or it is one of this engine's.
        holder: Option<Holder>,
        /// Nobody is known to have it, and the server does not give it away yet: see
        /// [`Outcome::Delayed`](crate::Outcome::Delayed). Only an attempt that asks the server knows that.
        withheld: bool,
    },
    /// The attempt has waited for longer than [`WarnAfter::wait`](crate::WarnAfter::wait), and goes on. Told once.
    WaitsLong {
        /// The attempt.
        id: LockId,
        /// How long it has waited.
        waited: Duration,
        /// Of [several locks at once](crate::Engine::acquire_all), the first that somebody else has, if that is known.
        of: Option<LockName>,
        /// The holder, if it is known; its times are those of now.
        holder: Option<Holder>,
    },
    /// The lock has been held for longer than [`WarnAfter::hold`](crate::WarnAfter::hold), and still is. Told once.
    HeldLong {
        /// The attempt.
        id: LockId,
        /// How long it has been held.
        held: Duration,
        /// The words about itself that are stored with the lock.
        label: Option<Arc<str>>,
    },
    /// The server could not be asked; the attempt goes on, and nothing needs to be done.
    Trouble {
        /// The attempt.
        id: LockId,
        /// The failure.
        failure: Failure,
    },
    /// The attempt ended without the lock. If the server may have granted it all the same, the
    /// engine frees it.
    NotAcquired {
        /// The attempt.
        id: LockId,
        /// Of [several locks at once](crate::Engine::acquire_all), the one that was not to be had.
        of: Option<LockName>,
        /// Why.
        why: NotAcquired,
    },
    /// The lease was renewed: the lock is held until `deadline`.
    Renewed {
        /// The attempt.
        id: LockId,
        /// Replaces the earlier deadline; never lies before it.
        deadline: Instant,
    },
    /// A renewal failed; it is tried again, and the deadline stays what it was.
    RenewalFailed {
        /// The attempt.
        id: LockId,
        /// The failure.
        failure: Failure,
        /// The time at which the lock will be lost if no renewal succeeds.
        deadline: Instant,
    },
    /// The lock is lost, for good. Told once. Stop what rests on it, then release the attempt.
    Lost {
        /// The attempt.
        id: LockId,
        /// Why.
        reason: LostReason,
    },
    /// The release that was asked for has ended.
    Released {
        /// The attempt.
        id: LockId,
        /// How.
        release: Release,
    },
}

/// Why an attempt ended without the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotAcquired {
    /// It was somebody else's, and the caller did not want to wait. The holder, if it is known and was
    /// not seen to free the lock since.
    Busy(Option<Holder>),
    /// It was somebody else's all the time that the caller wanted to wait. The same.
    TimedOut(Option<Holder>),
    /// Nobody is known to have it, and the server does not give it away yet: see
    /// [`Outcome::Delayed`](crate::Outcome::Delayed).
    Withheld,
    /// The server refused, or could not be asked in all that time.
    Failed(Failure),
    /// The [first connect](crate::Engine::handle_connect) was refused for good.
    Refused(ConnectError),
}

/// How a release ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Release {
    /// The server holds nothing for this attempt any more.
    Freed,
    /// There was nothing to free: the lease had been lost before, or was never granted.
    NotOurs,
    /// The place of the lease is no more: the lease had been lost by then.
    Gone(Failure),
    /// The server did not confirm it. The lease ends by itself when its TTL is over, or with its
    /// session, which takes no more claims and is closed when nothing else is held in it.
    Unconfirmed(Failure),
}
