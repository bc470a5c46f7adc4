//! What servers and drivers rely on: claims sorted and each name once, no more commands under way
//! than allowed, one command at a time for each hold, one owner for each hold, and a time to give
//! it up that lies ahead.

use crate::protocol::Claim;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::format;
use alloc::string::{String, ToString};

/// A command that is sent at `now` while the commands with the claims `others` are under way.
pub(in super::super) fn sent<'a>(
    claims: &[Claim],
    others: impl Iterator<Item = &'a [Claim]>,
    in_flight: usize,
    now: Instant,
    deadline: Instant,
    timing: &Timing,
) -> Result<(), String> {
    if claims.is_empty() {
        return Err("a command about nothing".to_string());
    }
    if !claims.is_sorted_by(|a, b| a.name < b.name) {
        return Err(format!("claims not sorted, or a name twice: {claims:?}"));
    }
    if deadline <= now || deadline > now.after(timing.request()) {
        return Err(format!("sent at {now:?}, to be given up at {deadline:?}"));
    }
    let mut under_way = 1;
    for other in others {
        under_way += 1;
        if let Some(twice) = claims.iter().find(|claim| other.contains(claim)) {
            return Err(format!("two commands about {twice:?} under way"));
        }
    }
    if under_way > in_flight {
        return Err(format!("{under_way} commands under way, {in_flight} allowed"));
    }
    Ok(())
}
