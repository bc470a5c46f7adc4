//! A lock table as it should be, in memory: what real ones are compared with.

use lock_core::table::{Acquired, Command, Reply};
use lock_core::{Claim, Fence, Holder, LockName, Owner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A lock table whose clock is an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fake {
    rows: BTreeMap<LockName, Row>,
    boot: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    owner: Option<Owner>,
    fence: u64,
    boot: u64,
    expires_us: u64,
    acquired_us: u64,
    holder: Arc<str>,
}

impl Fake {
    /// The machine starts anew: its clock may begin anywhere, and no earlier holder is alive.
    pub fn reboot(&mut self) {
        self.boot += 1;
    }

    /// Does `command` at the server's time `now`, in µs.
    pub fn apply(&mut self, command: &Command, now: u64) -> Reply {
        let until = |ttl: &Duration| now + u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
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
        let old = self.rows.get(&claim.name);
        if let Some(row) = old
            && row.owner.is_some()
            && row.owner != owner
            && self.counts(row, now)
        {
            return Acquired::Busy(Some(Holder {
                label: row.holder.to_string(),
                held_for: Duration::from_micros(now.saturating_sub(row.acquired_us)),
                expires_in: Duration::from_micros(row.expires_us - now),
            }));
        }
        let (fence, acquired_us) = match old {
            Some(row) if row.owner == owner => (row.fence, row.acquired_us),
            Some(row) => (now.max(row.fence + 1), now),
            None => (now, now),
        };
        let (boot, expires_us, holder) = (self.boot, until, holder.clone());
        let row = Row { owner, fence, boot, expires_us, acquired_us, holder };
        self.rows.insert(claim.name.clone(), row);
        Acquired::Granted(Fence::new(fence))
    }

    fn renew(&mut self, lease: &Claim, now: u64, until: u64) -> bool {
        let Some(row) = self.rows.get(&lease.name) else { return false };
        let ours = row.owner == Some(lease.owner) && self.counts(row, now);
        if ours && let Some(row) = self.rows.get_mut(&lease.name) {
            row.expires_us = row.expires_us.max(until);
        }
        ours
    }

    fn release(&mut self, lease: &Claim) -> bool {
        let row = self.rows.get_mut(&lease.name);
        row.and_then(|row| row.owner.take_if(|owner| *owner == lease.owner)).is_some()
    }

    fn counts(&self, row: &Row, now: u64) -> bool {
        row.boot == self.boot && row.expires_us > now
    }
}
