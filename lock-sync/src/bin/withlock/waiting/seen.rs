//! What was last seen of a lock's holder.

use crate::report::printable;
use lock_sync::Holder;
use std::time::{Duration, Instant};

/// A holder, and the moment at which it was seen.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) label: String,
    held_for: Duration,
    /// The end of a lock that was released, and is kept.
    pub(super) kept_until: Option<Instant>,
    at: Instant,
}

impl Seen {
    pub(super) fn new(holder: &Holder) -> Self {
        // The label is foreign text: control characters must not reach the terminal.
        let label = printable(&holder.label);
        let at = Instant::now();
        let kept_until = holder.kept.then(|| at.checked_add(holder.expires_in)).flatten();
        Self { label, held_for: holder.held_for, kept_until, at }
    }

    /// How long a lock that nobody has is still kept, in seconds that have begun.
    pub(super) fn kept_for(&self) -> Option<Duration> {
        let left = self.kept_until?.saturating_duration_since(Instant::now());
        Some(Duration::from_secs(left.as_secs() + 1))
    }

    pub(super) fn held_for(&self) -> Duration {
        self.held_for.saturating_add(self.at.elapsed())
    }
}
