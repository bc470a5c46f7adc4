//! The metrics of both drivers, for the crate `metrics`. Without the feature, the types are empty and their methods do
//! nothing.
//!
//! A recorder is foreign code: it may block, panic, or acquire a lock. An acquire and a release are recorded on the thread of
//! their caller, after the driver's work is done. Renewals and losses are queued, which allocates nothing, and recorded on a thread
//! of their own. A driver may queue them while it holds a mutex.

#[cfg(feature = "metrics")]
mod names;
#[cfg(feature = "metrics")]
mod queue;
#[cfg(feature = "metrics")]
mod recorded;
#[cfg(not(feature = "metrics"))]
mod unrecorded;

#[cfg(feature = "metrics")]
pub use names::describe;
#[cfg(feature = "metrics")]
pub use recorded::{Attempt, Hold};
#[cfg(not(feature = "metrics"))]
pub use unrecorded::{Attempt, Hold, describe};
