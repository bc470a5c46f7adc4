//! What rows say. Each of these is `None` if they are anything else.

use crate::fence::Fence;
use crate::outcome::{Holder, Place};
use crate::request::LeaseVersion;
use crate::sql::{Rows, Value};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// A lease that ends later than it can, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Late {
    pub(super) name: String,
    pub(super) fence: i64,
    pub(super) expiry: i64,
}

/// Rows of (name, fence).
pub(super) fn granted(rows: Rows) -> Option<BTreeMap<String, Fence>> {
    rows.into_iter()
        .map(|row| match <[Value; 2]>::try_from(row).ok()? {
            [Value::Text(name), Value::Int(fence)] => {
                Some((name, Fence::new(u64::try_from(fence).ok()?)))
            }
            _ => None,
        })
        .collect()
}

/// A lock that is not free for a waiter, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    /// Its holder, or its last one. The waiter's place has the ticket 0 if it is to draw one.
    pub(super) holder: Holder,
    /// Nobody has it, and it is left to those ahead.
    pub(super) reserved: bool,
}

/// The same where leases are watched, and each of them is given as a late one, with its TTL as what is left.
pub(super) fn watched(rows: Rows) -> Option<(BTreeMap<String, Seen>, Vec<Late>)> {
    let (mut all, watched) = seen(rows)?;
    for Late { name, fence, expiry } in watched {
        let (fence, seen) = (Fence::new(u64::try_from(fence).ok()?), all.get_mut(&name)?);
        let holder = &mut seen.holder;
        holder.watched = Some((LeaseVersion { fence, expiry }, holder.expires_in));
    }
    Some((all, Vec::new()))
}

/// Rows of (name, holder, µs held, µs left, the waiter's ticket or 0, how many tickets are ahead, fence, expiry if it is
/// late or 0, 1 if it is kept and nobody has it or 2 if it is free and left to others).
pub(super) fn seen(rows: Rows) -> Option<(BTreeMap<String, Seen>, Vec<Late>)> {
    let span = |us: i64| Duration::from_micros(u64::try_from(us).unwrap_or(0));
    let (mut all, mut late) = (BTreeMap::new(), Vec::new());
    for row in rows {
        match <[Value; 9]>::try_from(row).ok()? {
            [
                Value::Text(name),
                Value::Text(label),
                Value::Int(held),
                Value::Int(left),
                Value::Int(ticket),
                Value::Int(ahead),
                Value::Int(fence),
                Value::Int(expiry),
                Value::Int(state @ 0..=2),
            ] => {
                if expiry != 0 && state != 2 {
                    late.push(Late { name: name.clone(), fence, expiry });
                }
                let (held_for, expires_in, kept) = (span(held), span(left), state == 1);
                let [ticket, ahead] = [ticket, ahead].map(|n| u64::try_from(n).unwrap_or(0));
                let place = Some(Place { ticket, ahead });
                let holder = Holder { label, held_for, expires_in, place, kept, watched: None };
                all.insert(name, Seen { holder, reserved: state == 2 });
            }
            _ => return None,
        }
    }
    Some((all, late))
}

/// A name and its owner, as rows have them.
pub(super) type Pair = (String, String);

/// Rows of (name, owner).
pub(super) fn pairs(rows: Rows) -> Option<BTreeSet<Pair>> {
    rows.into_iter()
        .map(|row| match <[Value; 2]>::try_from(row).ok()? {
            [Value::Text(name), Value::Text(owner)] => Some((name, owner)),
            _ => None,
        })
        .collect()
}

/// Rows of (name, whether somebody waits): what was freed. No name is in a request twice.
pub(super) fn wanted(rows: Rows) -> Option<BTreeMap<String, bool>> {
    rows.into_iter()
        .map(|row| match <[Value; 2]>::try_from(row).ok()? {
            [Value::Text(name), Value::Int(wanted @ 0..=1)] => Some((name, wanted != 0)),
            _ => None,
        })
        .collect()
}

/// Rows of (name, owner, fence, whether somebody waits).
pub(super) fn mine(rows: Rows) -> Option<BTreeMap<Pair, (Fence, bool)>> {
    rows.into_iter()
        .map(|row| match <[Value; 4]>::try_from(row).ok()? {
            [Value::Text(name), Value::Text(owner), Value::Int(fence), Value::Int(wanted)] => {
                Some(((name, owner), (Fence::new(u64::try_from(fence).ok()?), wanted != 0)))
            }
            _ => None,
        })
        .collect()
}

/// One row of one number.
pub(super) fn number(rows: Rows) -> Option<i64> {
    let [row] = <[Vec<Value>; 1]>::try_from(rows).ok()?;
    match row[..] {
        [Value::Int(number)] if number >= 0 => Some(number),
        _ => None,
    }
}
