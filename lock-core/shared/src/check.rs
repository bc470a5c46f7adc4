//! The check before each attempt: whether there is such a lock where the locks are kept.

use crate::settings::{Codec, labeled};
use lock_core::{ClaimError, LockName, Mode, TableName, Timing};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The check before each attempt. Cheap to clone. The default is for a lock table.
#[derive(Clone)]
pub struct Check {
    place: Arc<Place>,
    metrics_by_name: bool,
}

struct Place {
    codec: Codec,
    timing: Timing,
    /// The timing that the first connect showed, once it was made.
    shown: OnceLock<Timing>,
    /// The label of a holder without a label of its own.
    process: String,
}

impl Default for Check {
    fn default() -> Self {
        let codec = lock_core::sql::postgres::codec(TableName::default());
        Self::new(Codec::Table(Box::new(codec)), Timing::default(), String::new())
    }
}

impl Check {
    /// The check for locks kept by this `codec`, of a holder that is called `process`.
    pub fn new(codec: Codec, timing: Timing, process: String) -> Self {
        let place = Arc::new(Place { codec, timing, shown: OnceLock::new(), process });
        Self { place, metrics_by_name: false }
    }

    /// Takes the timing that the first connect showed.
    pub fn reached(&self, timing: Timing) {
        let _ = self.place.shown.set(timing);
    }

    /// The same, whose attempts are recorded with the lock's name.
    #[must_use]
    pub fn metrics_by_name(self, metrics_by_name: bool) -> Self {
        Self { metrics_by_name, ..self }
    }

    /// True if attempts are recorded with the lock's name.
    pub fn has_metrics_by_name(&self) -> bool {
        self.metrics_by_name
    }

    /// Fails if there is no lock of this name and mode.
    pub fn name(&self, name: &LockName, mode: Mode) -> Result<(), ClaimError> {
        self.place.codec.check(name, mode)
    }

    /// Fails if no lock can be kept for so long after its grant.
    pub fn keep(&self, keep: Duration) -> Result<(), ClaimError> {
        self.place.codec.check_keep(keep)
    }

    /// The lease times of a lock with a TTL of its own. Fails if no lock can have one, or not this one.
    pub fn timing(&self, ttl: Duration) -> Result<Timing, ClaimError> {
        match self.place.codec.has_own_ttls() {
            true => Ok(self.place.shown.get().unwrap_or(&self.place.timing).lasting(ttl)?),
            false => Err(ClaimError::NoOwnTtl),
        }
    }

    /// The label of a holder with a label of its own.
    pub fn holder(&self, label: &str) -> Arc<str> {
        lock_core::table::stored(&labeled(&self.place.process, Some(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::TimingError;

    /// The way to the server may take a request more time than the configuration could know.
    #[test]
    fn a_ttl_is_checked_by_what_the_first_connect_has_shown() {
        let check = Check::default();
        let second = Duration::from_secs(1);
        assert!(check.timing(second).is_ok());
        check.clone().reached(Timing::default().with_request(2 * second).expect("good"));
        let refused = check.timing(second);
        let is_told = matches!(refused, Err(ClaimError::Timing(TimingError::Request { .. })));
        assert!(is_told, "{refused:?}");
        assert_eq!(check.timing(60 * second).map(|timing| timing.request()), Ok(2 * second));
    }
}
