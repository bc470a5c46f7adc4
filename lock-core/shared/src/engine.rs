//! The engine as drivers have it: lock-core's, or with the feature `record`, the same with a recorder.

#[cfg(feature = "record")]
mod recorded;

#[cfg(not(feature = "record"))]
pub use lock_core::Engine;
#[cfg(feature = "record")]
pub use recorded::{Engine, file_name};

use lock_core::{Instant, LockId};

/// A guard was made, or its lease was renewed: it counts until then.
#[inline]
pub fn guard_counts(engine: &mut Engine, id: LockId, until: Instant) {
    #[cfg(feature = "record")]
    engine.guard_counts(id, until);
    #[cfg(not(feature = "record"))]
    let _ = (engine, id, until);
}
