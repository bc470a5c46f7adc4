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
//! A denied claim marks the row, so that the holder learns on the release that there is a waiter. The waiter is
//! then notified, or looks from time to time:
//!
//! ```text
//!   probe     row absent, or owner absent, or expired, or owner = me   -> it may be free
//!             otherwise: who has it, and whether somebody waited before
//! ```
//!
//! The owner is a number that is never used for a second hold, so it identifies one hold: a late
//! duplicate of an earlier hold's request cannot touch the row of a newer one.

use crate::capabilities::Capabilities;
use crate::request::Action;
use alloc::sync::Arc;

/// The longest label that is stored, in bytes.
pub const MAX_LABEL_BYTES: usize = 255;

/// A table whose rows are stored with `label`, of which a [longer text](stored) is cut. On a server that `notifies`
/// waiters, on a connection of its own, a waiter claims again at once when it is told; elsewhere it looks first.
pub fn capabilities(label: &str, notifies: bool) -> Capabilities {
    Capabilities {
        shared: false,
        batch: usize::MAX,
        label: Some(stored(label)),
        sessions: None,
        on_busy: if notifies { Action::Acquire } else { Action::Probe },
        keeps: true,
        notifies,
    }
}

/// The label as it is stored: at most [`MAX_LABEL_BYTES`], with spaces for control characters.
pub fn stored(label: &str) -> Arc<str> {
    let mut ends = (0..=MAX_LABEL_BYTES.min(label.len())).rev();
    let end = ends.find(|end| label.is_char_boundary(*end)).unwrap_or(0);
    label[..end].replace(char::is_control, " ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_line_of_bounded_length() {
        assert_eq!(&*stored("host\n1\u{0}"), "host 1 ");
        assert_eq!(stored(&"é".repeat(200)).len(), 254, "cut at a character's boundary");
    }
}
