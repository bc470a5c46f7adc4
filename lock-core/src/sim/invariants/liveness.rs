//! P6: when the faults stop and every holder releases, somebody who waits is granted in time.

use crate::name::LockName;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// How long it may take. A TTL for a lease that nobody gives back, counted by the slowest clock,
/// and as much again for requests that hang; the rest is back-off.
pub(in super::super) fn bound(timing: &Timing) -> Duration {
    timing.ttl() * 32 / 10
}

/// `waiting` are the locks that somebody waited for when the faults stopped and that nobody has
/// been granted since.
pub(in super::super) fn check(
    waiting: &BTreeSet<LockName>,
    since: Instant,
    now: Instant,
    timing: &Timing,
) -> Result<(), String> {
    let passed = now.since(since);
    match waiting.first() {
        Some(name) if passed > bound(timing) => {
            Err(format!("for {passed:?} nobody was granted {name:?}, and somebody waits"))
        }
        _ => Ok(()),
    }
}
