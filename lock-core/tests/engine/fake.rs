//! A correct lock table in memory, whose clock is an argument.

use lock_core::table::{Acquired, Command, Reply};
use lock_core::{Claim, Fence, Holder, LockName, Owner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Fake(BTreeMap<LockName, Row>);

struct Row {
    owner: Option<Owner>,
    fence: u64,
    expires_us: u64,
    acquired_us: u64,
    holder: Arc<str>,
}

impl Fake {
    /// Does `command` at the server's time `now`, in µs.
    pub(crate) fn apply(&mut self, command: &Command, now: u64) -> Reply {
        let until = |ttl: &Duration| now + u64::try_from(ttl.as_micros()).expect("a short TTL");
        match command {
            Command::Acquire { claims, ttl, holder } => Reply::Acquired(
                claims.iter().map(|c| self.acquire(c, now, until(ttl), holder)).collect(),
            ),
            Command::Renew { leases, ttl } => Reply::Changed(
                leases.iter().map(|lease| self.renew(lease, now, until(ttl))).collect(),
            ),
            Command::Release { leases } => {
                Reply::Changed(leases.iter().map(|lease| self.release(lease)).collect())
            }
        }
    }

    fn acquire(&mut self, claim: &Claim, now: u64, until: u64, holder: &Arc<str>) -> Acquired {
        let owner = Some(claim.owner);
        let (fence, acquired_us, expires_us) = match self.0.get(&claim.name) {
            None => (now, now, until),
            Some(row) if row.owner == owner => {
                (row.fence, row.acquired_us, until.max(row.expires_us))
            }
            Some(row) if row.owner.is_none() || row.expires_us <= now => {
                (now.max(row.fence + 1), now, until)
            }
            Some(row) => {
                return Acquired::Busy(Some(Holder {
                    label: row.holder.to_string(),
                    held_for: Duration::from_micros(now - row.acquired_us),
                    expires_in: Duration::from_micros(row.expires_us - now),
                }));
            }
        };
        let row = Row { owner, fence, expires_us, acquired_us, holder: holder.clone() };
        self.0.insert(claim.name.clone(), row);
        Acquired::Granted(Fence::new(fence))
    }

    fn renew(&mut self, lease: &Claim, now: u64, until: u64) -> bool {
        match self.0.get_mut(&lease.name) {
            Some(row) if row.owner == Some(lease.owner) && row.expires_us > now => {
                row.expires_us = row.expires_us.max(until);
                true
            }
            _ => false,
        }
    }

    fn release(&mut self, lease: &Claim) -> bool {
        let row = self.0.get_mut(&lease.name);
        row.and_then(|row| row.owner.take_if(|owner| *owner == lease.owner)).is_some()
    }
}
