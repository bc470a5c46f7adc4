//! The table protocol: a lock is a row with an owner, a fence and an expiry.
//!
//! Every transition is **one statement** that commits by itself, and every comparison with the time
//! uses the server's clock, read while the statement runs:
//!
//! ```text
//!   acquire   row absent, or owner absent, or expired, or owner = me
//!             -> owner = me, expiry = now + ttl, fence = max(fence + 1, now in µs)
//!                (owner = me already: the fence stays, the expiry never moves back)
//!   renew     owner = me and not expired   -> expiry = max(expiry, now + ttl)
//!   release   owner = me                   -> owner = nobody; the row stays, for its fence
//! ```
//!
//! # Waiters
//!
//! They draw tickets, and are let go in turn. Nothing that must be safe rests on that: a row is granted as above, and tickets
//! only deny it for a moment.
//!
//! ```text
//!   queue     the last ticket that was drawn     served    the last that had its turn
//!
//!   denied    a waiter without a ticket that will have its turn draws one: queue = queue + 1
//!   granted   served = max(served, the ticket)
//!   released  with queue > served: where the server notifies, all that listen are told that it is the turn of served + 1
//!
//!   acquire   of a row that is free, with tickets ahead of the claim's own: denied, until those have had the time to claim
//!   probe     the same rule: it may be free, or another has it, or it is left to so many tickets
//! ```
//!
//! A row that was freed is left to the next ticket for a quarter of the time for which it was taken, 20 ms at least and
//! 250 ms at most; after that to two tickets, then to four, to eight, and so on. A claim that has waited for the row goes by an
//! earlier time, and finds it freed later: that counts as just now, up to a second. More than that is a clock that was set back, and
//! then whoever claims it first has it. So waiters that have died or given up cost a moment for each
//! doubling of their number, and never the lock. An attempt that follows within a second on one of the same process that gave up
//! takes its ticket over, so a caller that tries again and again leaves none behind. Whoever has no ticket comes after all that have one, and whoever does not wait takes what is free. A waiter that
//! slept through its turn, and a row whose history went backwards (it was removed, or restored), lead to a new ticket.
//!
//! The owner is a number that is never used for a second hold, so it identifies one hold: a late
//! duplicate of an earlier hold's request cannot touch the row of a newer one.

use crate::capabilities::Capabilities;
use crate::request::Action;
use alloc::sync::Arc;
use core::time::Duration;

/// How long a row that was freed is left to the next ticket, at least and at most: a quarter of the time for which it was taken.
/// The statements have the same numbers.
pub(crate) const GRACE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// The longest label that is stored, in bytes.
pub const MAX_LABEL_BYTES: usize = 255;

/// A table whose rows are stored with `label`, of which a [longer text](stored) is cut. On a server that `notifies`
/// waiters, on a connection of its own, a waiter is told when it is its turn; elsewhere it looks from time to time.
pub fn capabilities(label: &str, notifies: bool) -> Capabilities {
    Capabilities {
        shared: false,
        batch: usize::MAX,
        label: Some(stored(label)),
        sessions: None,
        on_busy: Action::Probe,
        keeps: true,
        notifies,
    }
}

/// True for a character that may change how a terminal shows the rest of a line: a control character, or one that turns the
/// direction of writing.
pub fn is_unprintable(c: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}'];
    c.is_control()
        || turns.contains(&c)
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The label as it is stored: at most [`MAX_LABEL_BYTES`], with spaces for [control characters and their like](is_unprintable).
pub fn stored(label: &str) -> Arc<str> {
    let mut ends = (0..=MAX_LABEL_BYTES.min(label.len())).rev();
    let end = ends.find(|end| label.is_char_boundary(*end)).unwrap_or(0);
    label[..end].replace(is_unprintable, " ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_line_of_bounded_length() {
        assert_eq!(&*stored("host\n1\u{0}"), "host 1 ");
        // It turns the rest of the line around.
        assert_eq!(&*stored("a\u{202e}b\u{2066}c\u{200f}é 🔒"), "a b c é 🔒");
        assert_eq!(stored(&"é".repeat(200)).len(), 254, "cut at a character's boundary");
    }
}
