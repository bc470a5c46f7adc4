//! P6: when the faults stop and every holder releases, somebody who waits is granted in time.

use crate::name::LockName;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::{BTreeMap, BTreeSet};
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

/// How long a lock in a table may be nobody's while somebody waits for it. Where notifications are lost
/// that is: a quarter of a TTL and an eighth of that until the next probe, a request's time until it is
/// overdue, and then the longest back-off and as much for earlier waiters; by the slowest clock.
fn untaken(timing: &Timing) -> Duration {
    let back_off = timing.back_off(u32::MAX, Duration::ZERO);
    (timing.wait() * 9 / 8 + timing.request() + back_off * 2) * 6 / 5
}

/// `free` are the locks that somebody waits for and nobody has, since when.
pub(in super::super) fn taken(
    free: &BTreeMap<LockName, Instant>,
    now: Instant,
    timing: &Timing,
) -> Result<(), String> {
    let late = free.iter().find(|(_, since)| now.since(**since) > untaken(timing));
    match late {
        Some((name, since)) => {
            let passed = now.since(*since);
            Err(format!("for {passed:?} nobody took {name:?}, which was free, and somebody waits"))
        }
        None => Ok(()),
    }
}
