//! P4: a lease ends with its attempt.
//!
//! Excused is what nobody can help, and what the TTL ends: leases of clients that died, leases that
//! were taken or renewed by a request that its client had given up, leases whose release the
//! server refused, and leases of sessions that their client does not keep any more.

use crate::name::Owner;
use crate::sim::server::Lease;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Each renewal moves the end of a lease by a microsecond at least, so that one may end so much later than its TTL allows.
pub(in super::super) const SLACK: Duration = Duration::from_micros(20);

/// `now` is the server's; `known` says whether an attempt of that owner has not ended.
pub(in super::super) fn check(
    leases: &[Lease],
    now: Instant,
    known: impl Fn(&Lease, Owner) -> bool,
) -> Result<(), String> {
    for lease in leases {
        if let Some(owner) = lease.holder(now)
            && !known(lease, owner)
        {
            return Err(format!("{:?} is still {owner:?}'s, whose attempt has ended", lease.name));
        }
    }
    Ok(())
}

/// In the end, when every attempt was released and a TTL has passed without faults.
pub(in super::super) fn settled(
    leases: &[Lease],
    now: Instant,
    attempts: usize,
) -> Result<(), String> {
    if attempts > 0 {
        return Err(format!("{attempts} attempts are not settled"));
    }
    check(leases, now, |_, _| false)
}
