//! Locks that are kept after their release: nobody is granted one before its end, and none is kept for longer than that.

use crate::name::{LockName, Owner};
use crate::request::{Action, Claim};
use crate::sim::server::Lease;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// The locks that callers want kept, and the end of each; times are the server's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in super::super) struct Kept {
    /// The last owner of each lock, and the time of its grant.
    pub(in super::super) granted: BTreeMap<LockName, (Owner, Instant)>,
    /// The owners whose locks their callers have released, to be kept.
    pub(in super::super) wanted: BTreeSet<Owner>,
    /// The end of what is kept.
    pub(in super::super) until: BTreeMap<LockName, Instant>,
}

impl Kept {
    /// The changes that one request has made at a server that went by `now`, where callers want `keep`.
    pub(in super::super) fn changed(
        &mut self,
        before: &[Lease],
        after: &[Lease],
        now: Instant,
        (action, claims): (Action, &[Claim]),
        keep: Duration,
    ) -> Result<(), String> {
        for new in after {
            let name = &new.name;
            let old = before.iter().find(|old| old.name == *name);
            let was = old.and_then(|old| old.owner);
            if was == new.owner {
                continue;
            }
            match new.owner {
                Some(owner) if owner != Owner::KEPT => {
                    self.granted.insert(name.clone(), (owner, now));
                    if let Some(until) = self.until.remove(name).filter(|until| now < *until) {
                        return Err(format!(
                            "{name:?} was granted at {now:?}, and is kept until {until:?}"
                        ));
                    }
                }
                left => {
                    let asked = claims.iter().any(|claim| Some(claim.owner) == was);
                    let wanted = was.is_some_and(|owner| self.wanted.contains(&owner));
                    let Some((_, granted)) = self.granted.get(name) else { continue };
                    if action != Action::Release || !asked || !wanted {
                        continue;
                    }
                    let ends = (*granted).min(now).after(keep);
                    match left {
                        None if now < ends => {
                            return Err(format!("{name:?} was freed at {now:?}, before {ends:?}"));
                        }
                        Some(_) if new.expires != ends => {
                            let kept = new.expires;
                            return Err(format!("{name:?} is kept until {kept:?}, not {ends:?}"));
                        }
                        None => {}
                        Some(_) => drop(self.until.insert(name.clone(), ends)),
                    }
                }
            }
        }
        Ok(())
    }
}
