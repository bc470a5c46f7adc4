//! P6: when the faults stop and every holder releases, somebody who waits is granted in time.

use crate::name::LockName;
use crate::sim::target::Kind;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// How long it may take. A TTL for a lease that nobody gives back, counted by the slowest clock,
/// and as much again for requests that hang; the rest is back-off.
pub(in super::super) fn bound(timing: &Timing) -> Duration {
    timing.ttl() * 32 / 10
}

/// A lock that somebody waits for, or several of which any one will do, or all are wanted.
pub(in super::super) type Awaited = (Kind, Vec<LockName>);

/// `waiting` is what somebody waited for when the faults stopped, and of which nobody has been granted anything since.
pub(in super::super) fn check(
    waiting: &BTreeSet<Awaited>,
    since: Instant,
    now: Instant,
    timing: &Timing,
) -> Result<(), String> {
    let passed = now.since(since);
    match waiting.first() {
        Some((_, names)) if passed > bound(timing) => {
            Err(format!("for {passed:?} nobody was granted {names:?}, and somebody waits"))
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

/// `free` is what somebody waits for and could have, since when.
pub(in super::super) fn taken(
    free: &BTreeMap<Awaited, Instant>,
    now: Instant,
    timing: &Timing,
) -> Result<(), String> {
    let late = free.iter().find(|(_, since)| now.since(**since) > untaken(timing));
    match late {
        Some(((_, names), since)) => {
            let passed = now.since(*since);
            Err(format!("for {passed:?} nobody took {names:?}, which was free, and somebody waits"))
        }
        None => Ok(()),
    }
}
