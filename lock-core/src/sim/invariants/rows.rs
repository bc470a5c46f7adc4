//! P5, at the server: a row changes only as its owner and the time allow.

use crate::name::Owner;
use crate::request::{Action, Claim, Mode};
use crate::sim::server::Lease;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

/// What one request has changed. `now` is the time that the server went by; where its clock was set back,
/// the lease of another may be made to end sooner, but no sooner than at `floor`: in a TTL.
pub(in super::super) fn changed(
    before: &[Lease],
    after: &[Lease],
    now: Instant,
    action: Action,
    claims: &[Claim],
    floor: Instant,
) -> Result<(), String> {
    let corrected = |old: &Lease, new: &Lease| {
        let same = Lease { expires: old.expires, ..new.clone() } == *old;
        let others = claims.iter().any(|one| one.name == old.name && Some(one.owner) != old.owner);
        let denied = matches!(action, Action::Acquire | Action::Probe);
        same && others && denied && floor <= new.expires && new.expires < old.expires
    };
    for new in after {
        let asked = claims.iter().find(|claim| claim.name == new.name).map(|claim| claim.owner);
        match before.iter().find(|old| old.name == new.name) {
            Some(old) if corrected(old, new) => {}
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

/// The same where leases belong to sessions: a lease goes only by a release of its owner or with its
/// session, and nobody gets what another has.
pub(in super::super) fn changed_in_session(
    before: &[Lease],
    after: &[Lease],
    now: Instant,
    action: Action,
    claims: &[Claim],
) -> Result<(), String> {
    let of_session = matches!(action, Action::Open | Action::Close);
    for old in before.iter().filter(|old| old.holder(now).is_some()) {
        let same = |new: &&Lease| {
            (&new.name, new.owner, new.session) == (&old.name, old.owner, old.session)
        };
        let asked = claims.iter().any(|claim| Some(claim.owner) == old.owner);
        let best = after.iter().filter(same).max_by_key(|new| new.fence == old.fence);
        match best {
            Some(new) if new.fence != old.fence => {
                return Err(format!("{:?} was granted to its holder again", old.name));
            }
            Some(new) if new.expires < old.expires && !of_session => {
                let Lease { name, expires, .. } = old;
                return Err(format!(
                    "{name:?} was to last until {expires:?}, now {:?}",
                    new.expires
                ));
            }
            None if !(of_session || asked && action == Action::Release) => {
                return Err(format!(
                    "{action:?} of {claims:?} took {:?} from {:?}",
                    old.name, old.owner
                ));
            }
            _ => {}
        }
    }
    for (at, new) in after.iter().enumerate().filter(|(_, new)| new.holder(now).is_some()) {
        let excludes = |other: &&Lease| {
            other.name == new.name
                && other.holder(now).is_some()
                && (other.mode == Mode::Exclusive || new.mode == Mode::Exclusive)
        };
        if let Some(other) = after[..at].iter().find(excludes) {
            return Err(format!("{:?} is {:?}'s and {:?}'s", new.name, other.owner, new.owner));
        }
        let waited_for = !matches!(action, Action::Acquire | Action::Wait | Action::KeepAlive);
        let asked = claims.iter().any(|claim| Some(claim.owner) == new.owner);
        let had = before.iter().any(|old| old.name == new.name && old.owner == new.owner);
        if !had && !asked && !waited_for {
            return Err(format!(
                "{:?} became {:?}'s by {action:?} of {claims:?}",
                new.name, new.owner
            ));
        }
    }
    Ok(())
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
        return Err(format!("{name:?} was changed by a request about others"));
    }
    if new.fence < old.fence {
        return Err(format!("{name:?} fell from fence {} to {}", old.fence, new.fence));
    }
    if holder.is_some() && asked != holder {
        return Err(format!("{asked:?} changed {name:?} ({action:?}), which is {holder:?}'s"));
    }
    match action {
        Action::Probe => Err(format!("{asked:?} looked at {name:?}, and it changed")),
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
