//! What must always hold, one file each.

pub(super) mod back_off;
pub(super) mod backed;
pub(super) mod exclusion;
pub(super) mod fences;
pub(super) mod kept;
pub(super) mod leaks;
pub(super) mod liveness;
pub(super) mod loss;
pub(super) mod permits;
pub(super) mod requests;
pub(super) mod revival;
pub(super) mod rows;
pub(super) mod together;
pub(super) mod told;
pub(super) mod turns;
pub(super) mod writes;

use alloc::string::String;
use core::fmt;

/// One of the things that are checked; [`sim`](super) says which promise each belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Check {
    /// At most one attempt for a name is held.
    Exclusion,
    /// An attempt that is held has the server's unexpired lease, with the fence it was told.
    Backed,
    /// Fences rise with the grants of a name.
    Fences,
    /// A loss is told as soon as the client is run, and no deadline is later than its request
    /// allows.
    Loss,
    /// No lease outlives its attempt, and in the end every attempt is settled.
    Leaks,
    /// A row changes only as its owner and the time allow.
    Rows,
    /// Events come in an order that makes sense; nothing is revived.
    Revival,
    /// What was denied or failed is not tried again at once.
    BackOff,
    /// When the faults stop, some waiter is granted.
    Liveness,
    /// A table's waiters are granted in turn: nobody that waits is passed over at once, and nobody again and again.
    Turns,
    /// Requests are as the server and the driver expect them, and local rivals keep their order.
    Requests,
    /// An attempt behind a hold of its own client was told that somebody has the lock.
    Told,
    /// Writes of transactions that have pinned a lock commit in the order of its fences.
    Writes,
    /// A semaphore has no more holders than permits, and each attempt claims one at a time.
    Permits,
    /// Several locks are held together only while each of them is.
    Together,
    /// A lock that is kept after its release is granted to nobody before its end.
    Kept,
}

impl Check {
    /// All of them.
    pub const ALL: [Check; 16] = [
        Check::Exclusion,
        Check::Backed,
        Check::Fences,
        Check::Loss,
        Check::Leaks,
        Check::Rows,
        Check::Revival,
        Check::BackOff,
        Check::Liveness,
        Check::Turns,
        Check::Requests,
        Check::Told,
        Check::Writes,
        Check::Permits,
        Check::Together,
        Check::Kept,
    ];
}

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which check found it.
    pub check: Check,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}
