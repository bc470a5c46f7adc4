//! P3: a hold never counts for longer than the request behind it allows, and as soon as a client is
//! run it tells what it has lost.

use crate::event::LockId;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::format;
use alloc::string::String;

/// After a client was run: an attempt whose caller was told "held until `told`".
pub(in super::super) fn told(
    id: LockId,
    told: Option<Instant>,
    held_until: Option<Instant>,
    now: Instant,
) -> Result<(), String> {
    match (told, held_until) {
        (Some(told), Some(until)) if told == until && now < until => Ok(()),
        (Some(_), Some(until)) if until <= now => {
            Err(format!("{id:?} was lost at {until:?}, and at {now:?} nobody is told"))
        }
        _ => Err(format!("{id:?} is held until {held_until:?}, and its caller thinks {told:?}")),
    }
}

/// After an engine was called: how the end of a hold has moved. `sent` is when the request was
/// sent whose reply was handed in by that call, at `now`. Of `several` locks, some may have been granted long before.
pub(in super::super) fn moved(
    id: LockId,
    before: Option<Instant>,
    after: Option<Instant>,
    sent: Option<Instant>,
    now: Instant,
    timing: &Timing,
    several: bool,
) -> Result<(), String> {
    let Some(until) = after.filter(|_| after > before) else { return Ok(()) };
    let Some(sent) = sent else {
        return Err(format!("{id:?} is held until {until:?}, and no reply says so"));
    };
    // Not `timing.valid()`: this is the bound that it must keep.
    if until > sent.after(timing.ttl() * 5 / 6) {
        return Err(format!("{id:?} is held until {until:?} by a request of {sent:?}"));
    }
    // No caller is handed a lock that is due for renewal at once.
    let least = timing.valid() - timing.ttl() / 3;
    if before.is_none() && !several && until.since(now) < least {
        return Err(format!("{id:?} is granted until {until:?}, at {now:?}"));
    }
    Ok(())
}
