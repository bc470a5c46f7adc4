//! What servers and drivers rely on: claims sorted and each name once, no more requests under way
//! than allowed, one request at a time for each hold, one owner for each hold, and a time to give
//! it up that lies ahead.

use crate::request::{Action, Claim};
use crate::time::Instant;
use crate::timing::Timing;
use alloc::format;
use alloc::string::{String, ToString};

/// A request that is sent at `now` while the requests with the claims `others` are under way.
pub(in super::super) fn sent<'a>(
    action: Action,
    claims: &[Claim],
    others: impl Iterator<Item = &'a [Claim]>,
    in_flight: usize,
    now: Instant,
    deadline: Instant,
    timing: &Timing,
) -> Result<(), String> {
    let of_no_lock = match action {
        Action::Open
        | Action::KeepAlive
        | Action::Close
        | Action::Subscribe
        | Action::Unsubscribe
        | Action::Ping => true,
        Action::Renew
        | Action::Release
        | Action::Leave
        | Action::Acquire
        | Action::Probe
        | Action::Join
        | Action::Wait => false,
    };
    if claims.is_empty() != of_no_lock {
        return Err("a request about no lock".to_string());
    }
    if !claims.is_sorted_by(|a, b| a.name < b.name) {
        return Err(format!("claims not sorted, or a name twice: {claims:?}"));
    }
    let longest = match action {
        Action::Wait | Action::Subscribe => timing.request() + timing.wait(),
        _ => timing.request(),
    };
    if deadline <= now || deadline > now.after(longest) {
        return Err(format!("sent at {now:?}, to be given up at {deadline:?}"));
    }
    let mut under_way = 1;
    for other in others {
        under_way += 1;
        if let Some(twice) = claims.iter().find(|claim| other.contains(claim)) {
            return Err(format!("two requests about {twice:?} under way"));
        }
    }
    // A session is ended whatever else is under way.
    if under_way > in_flight && action != Action::Close {
        return Err(format!("{under_way} requests under way, {in_flight} allowed"));
    }
    Ok(())
}
