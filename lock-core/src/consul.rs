//! The session protocol: a lock is a key in Consul that a session has locked.
//!
//! One session carries all locks of a client, and one renewal keeps them all:
//!
//! ```text
//!   create    a session with a TTL and a lock-delay
//!   renew     reset its TTL                             404: it is gone, and so is every lock
//!   lock      the key is free or ours -> ours; the entry's ModifyIndex is the fence
//!   unlock    ours -> free, at once
//!   watch     answer when a key has changed since an index, or after a time
//!   join      make a key of one's own in the lock's line, and read who is ahead
//!   leave     delete that key
//!   destroy   the session, when no lock is left
//! ```
//!
//! Before its first lock a client asks whether it would get one: see [`Setup`](crate::http::consul::Setup).
//!
//! Waiters are let go in turn: each watches the key of the one just ahead, which goes with a release, or with its
//! session. Nothing that must be safe rests on that.
//!
//! A session ends when its TTL is over, but also earlier, when the agent that it was made at is
//! thought dead. Then the keys that it had stay locked for the *lock-delay*. So a hold counts until
//! `c0 + k·min(TTL, lock-delay)` of the last renewal that was answered, which is what
//! [`lease`] says: make the engine's [`Timing`](crate::Timing) of that.
//!
//! # What goes wrong with Consul's locks, and where it is handled
//!
//! | | handled by |
//! |---|---|
//! | the client goes on when its session may have ended | the lease above: lost at the deadline, without hearing from Consul |
//! | 404 on renewal is taken for an error that will pass | [`NoSession`](crate::Outcome::NoSession): lost at once; errors and timeouts change nothing before the deadline |
//! | the session is destroyed before the key is unlocked, and the next one waits for the lock-delay | the engine closes a session when nothing is left in it |
//! | held, lock-delay and invalid session are taken for one another | three outcomes: [`Busy`](crate::Outcome::Busy) waits for a change, [`Delayed`](crate::Outcome::Delayed) asks again after a time because nothing tells when the delay ends, [`NoSession`](crate::Outcome::NoSession) ends the session |
//! | an answer to `lock` never came; it may be carried out later | the claim is repeated in the same session, which changes nothing if it was; the session takes no other claims from then on, and what is given up in it is unlocked twice: at once, and when a late request must have arrived |
//! | an answer to `unlock` never came; carried out late, it would free the successor's lock | the same: the successor is in another session |
//! | asking again and again slips past the lock-delay | a waiter asks again only after a watch has seen the key free |
//! | all that wait for one key are told at once, and whoever is lucky gets it | each waits for the key of the one ahead in the line; who unlocks deletes its own in the same transaction |
//! | the one ahead sleeps, or its key was made late and nobody knows of it | who waits for it looks at the lock from time to time, passes it over, and has its key deleted |
//! | a server that restarts begins old lock-delays anew, also for who has the key by now | the delay is waited for; a claim that was not answered and is given up is unlocked twice, see above |
//! | the blocking query's index goes backwards, or is zero | the codec: [`Unchanged`](crate::Outcome::Unchanged) always has an index to go on with |
//! | LockIndex falls when somebody writes the key | the fence is ModifyIndex, and fixed at the grant |
//! | one session is re-entrant | rivals for one name queue in the engine, also while the first is still releasing |
//! | a plain write or delete of the key by others | not covered, like a `DELETE` in a table |

use crate::capabilities::{Capabilities, Sessions};
use crate::request::Action;
use core::time::Duration;

/// The shortest TTL that Consul accepts.
pub const MIN_TTL: Duration = Duration::from_secs(10);
/// The longest TTL that Consul accepts.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest lock-delay that Consul accepts.
pub const MAX_LOCK_DELAY: Duration = Duration::from_secs(60);

/// A Consul whose keys show `label` for people to read. A transaction is all or nothing, and one lock's denial is not
/// another's, so each lock takes a request of its own.
pub fn capabilities(label: &str) -> Capabilities {
    Capabilities {
        shared: false,
        batch: 1,
        label: Some(label.into()),
        sessions: Some(Sessions::Records),
        on_busy: Action::Join,
        keeps: false,
        notifies: false,
    }
}

/// How long a lock is surely protected after its session with a TTL of `ttl` was renewed. The engine's
/// [`Timing`](crate::Timing) is to be made of that, and so the lock-delay is.
pub fn lease(ttl: Duration) -> Duration {
    ttl.min(MAX_LOCK_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_counts_for_no_longer_than_it_stays_locked_after_its_session() {
        assert_eq!(lease(Duration::from_secs(100)), Duration::from_secs(60));
        assert_eq!(lease(MIN_TTL), Duration::from_secs(10));
        assert_eq!(MAX_TTL, Duration::from_secs(86_400));
    }
}
