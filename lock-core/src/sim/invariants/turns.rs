//! P6, counted in hand-offs: a table's waiters are let go in turn.
//!
//! Nobody that waits is passed over at once: for [`GRACE`] after it was freed, a lock is left to the next ticket. And when the
//! faults have stopped, nobody that waits is passed over again and again:
//!
//! * In turn, a contender of each other client goes first.
//! * A waiter that is gone is given up after a while, and then a ticket further behind may come before one that is nearer. That
//!   happens once for each ticket of the dead, for such a grant passes over theirs, too.
//! * It happens once more, because a waiter that is not notified looks by what it has seen last, and may sleep for longer than
//!   a grace after turns that took long.
//! * Each time it costs as many hand-offs as there are clients: the one that passed over the waiter, and those that go
//!   before its new ticket.
//!
//! A clock that was set back makes a free lock seem free in the future only. Nobody goes first then.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// How long a lock is left to the next ticket at least.
const GRACE: Duration = Duration::from_millis(20);

/// A lock was granted that had been free for so long, although these tickets had an earlier turn.
pub(in super::super) fn granted(free_for: Duration, passed_over: &[u64]) -> Result<(), String> {
    match passed_over {
        [ticket, ..] if free_for < GRACE => {
            Err(format!("ticket {ticket} was passed over {free_for:?} after the lock was freed"))
        }
        _ => Ok(()),
    }
}

/// The most hand-offs to others that a waiter sees, with so many clients, and so many tickets of the dead in the line.
pub(in super::super) fn most(clients: usize, dead: u64) -> u64 {
    let clients = clients as u64;
    clients - 1 + (dead + 1) * clients
}

/// A waiter has seen so many.
pub(in super::super) fn seen(hand_offs: u64, most: u64) -> Result<(), String> {
    if hand_offs > most {
        return Err(format!("{hand_offs} others were granted what a waiter has a ticket for"));
    }
    Ok(())
}
