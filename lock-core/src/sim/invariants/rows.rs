//! P5, at the server: a row changes only as its owner and the time allow.

use crate::name::Owner;
use crate::protocol::{Action, Claim};
use crate::sim::server::Lease;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

/// What one command has changed. `now` is the time that the server went by.
pub(in super::super) fn changed(
    before: &[Lease],
    after: &[Lease],
    now: Instant,
    action: Action,
    claims: &[Claim],
) -> Result<(), String> {
    for new in after {
        let asked = claims.iter().find(|claim| claim.name == new.name).map(|claim| claim.owner);
        match before.iter().find(|old| old.name == new.name) {
            Some(old) if old != new => one(old, new, now, action, asked)?,
            Some(_) => {}
            None if action == Action::Acquire && asked.is_some() && new.owner == asked => {}
            None => return Err(format!("{:?} came from nowhere", new.name)),
        }
    }
    match before.iter().find(|old| after.iter().all(|new| new.name != old.name)) {
        Some(gone) => Err(format!("{:?} is forgotten, and its fence with it", gone.name)),
        None => Ok(()),
    }
}

fn one(
    old: &Lease,
    new: &Lease,
    now: Instant,
    action: Action,
    asked: Option<Owner>,
) -> Result<(), String> {
    let name = &old.name;
    let holder = old.holder(now);
    if asked.is_none() {
        return Err(format!("{name:?} was changed by a command about others"));
    }
    if new.fence < old.fence {
        return Err(format!("{name:?} fell from fence {} to {}", old.fence, new.fence));
    }
    if holder.is_some() && asked != holder {
        return Err(format!("{asked:?} changed {name:?} ({action:?}), which is {holder:?}'s"));
    }
    match action {
        Action::Release if old.owner != asked => {
            Err(format!("{asked:?} released {name:?}, which was {:?}'s", old.owner))
        }
        Action::Renew if holder.is_none() => {
            Err(format!("{asked:?} renewed {name:?}, which had expired"))
        }
        Action::Renew | Action::Acquire if new.owner != asked => {
            Err(format!("{asked:?} asked for {name:?}, and {:?} got it", new.owner))
        }
        Action::Renew | Action::Acquire if holder.is_some() && new.expires < old.expires => {
            Err(format!("{name:?} was to last until {:?}, now {:?}", old.expires, new.expires))
        }
        Action::Acquire if old.owner != asked && new.fence <= old.fence => {
            Err(format!("{name:?} was granted anew with fence {}", new.fence))
        }
        _ => Ok(()),
    }
}
