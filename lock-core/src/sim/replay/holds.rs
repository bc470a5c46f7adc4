//! No two holds of a lock overlap, and their fences rise, whichever processes they are in.

use super::{Difference, Hold, Place};
use crate::fence::Fence;
use crate::name::LockName;
use crate::sim::invariants::{exclusion, fences};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Checks all holds of a place.
pub(super) fn check(place: &Place<'_>, mut holds: Vec<Hold>) -> Result<(), Difference> {
    holds.sort_by_key(|hold| hold.since);
    let mut latest = BTreeMap::new();
    let mut held: BTreeMap<&LockName, Vec<&Hold>> = BTreeMap::new();
    for hold in &holds {
        for (name, fence) in &hold.locks {
            let others = held.entry(name).or_default();
            others.retain(|other| hold.since < other.until);
            // One that was over before its holder heard of it is none.
            if hold.since < hold.until {
                others.push(hold);
            }
            let beliefs: Vec<_> = others.iter().map(|one| (name, one.at.0, one.mode)).collect();
            exclusion::check(&beliefs).map_err(|what| place.differs(hold.at, what))?;
            // Advisory locks that are shared have no order, and permits have their own.
            if *fence != Fence::default() {
                fences::granted(&mut latest, name, *fence, hold.mode)
                    .map_err(|what| place.differs(hold.at, what))?;
            }
        }
    }
    Ok(())
}
