//! Distributed lock protocols as a pure state machine: no clock, no thread, no randomness, no I/O.
//!
//! ```text
//!   your script or service
//!        |  lock, release                         ^  guard, lost
//!        v                                        |
//!   driver (lock-sync, lock-async): owns the clock, the connection and the threads
//!        |  acquire · release                     ^  poll_event
//!        |  handle_reply · handle_timeout         |  poll_command(now) · poll_timeout
//!        v                                        |
//!   Engine<P: Protocol>     queues, deadlines, retry, renewal, sessions, cancellation, loss
//!        |  semantic commands                     ^  semantic replies
//!        v                                        |
//!   sql: the statements of each dialect, and what their rows mean; http: requests and answers
//! ```
//!
//! | protocol | a lock is | it lives | waiting |
//! |---|---|---|---|
//! | [`table`] | a row with an expiry | as long as it is renewed | told when it is freed (PostgreSQL), or looks again, ever more rarely |
//! | [`advisory`] | a server's own lock | as long as the connection is kept | in the server's queue |
//! | [`consul`] | a key that a session has locked | as long as the session is renewed | told when the key changes |
//!
//! # The contract
//!
//! | | the engine promises | if |
//! |---|---|---|
//! | P1 | at any moment at most one attempt for a name is held, over all engines | clock *rates* stay within 5/6 ([`Timing`]); table: the server keeps what it committed, and its clock is not stepped forward; advisory: nobody ends the holder's connection at the server; Consul: the lock-delay is not shorter than the lease |
//! | P2 | a later grant's [`Fence`] is greater | as P1; table: or the row still exists; advisory: the server's clock does not go back |
//! | P3 | [`Event::Lost`] is told no later than the deadline of the last grant or renewal, without hearing from the server | the driver calls `handle_timeout` in time, and checks the deadline itself when it asks "held?" |
//! | P4 | no attempt, however it ends, keeps a name locked for longer than one TTL, or than the server takes to see that its connection is gone | |
//! | P5 | nothing is stolen before it expired, revived after it was lost, or released by another | as P1 |
//! | P6 | if holders release or expire and the server answers, some waiter is granted | |
//!
//! The driver, in turn: sends each command when it takes it, answers each exactly once, says
//! [`Failure::Unknown`] whenever it cannot know, and feeds a clock that counts suspended time.
//!
//! # Features
//!
//! `sim` adds the model checker, as the module `sim`.
//!
//! # Example
//!
//! A driver in a few lines, with a table that is always free:
//!
//! ```
//! use lock_core::table::{Acquired, Command, Reply, Table};
//! use lock_core::{Config, Engine, Event, Fence, Instant, LockName, Timing};
//!
//! let timing = Timing::default();
//! let mut engine = Engine::new(Table::new(timing.ttl(), "me"), Config::new(timing, 42));
//! let now = Instant::from_nanos(0);
//!
//! let id = engine.acquire(now, LockName::new("nightly-report")?, false, None);
//! let dispatch = engine.poll_command(now).expect("a claim is due");
//! assert!(matches!(dispatch.command, Command::Acquire { .. }));
//!
//! let reply = Reply::Acquired([Acquired::Granted(Fence::new(7))].into());
//! engine.handle_reply(now, dispatch.id, Ok(reply));
//! let deadline = now.after(timing.valid());
//! assert_eq!(engine.poll_event(), Some(Event::Granted { id, fence: Fence::new(7), deadline }));
//!
//! // Nobody renewed it: at the deadline it is lost.
//! engine.handle_timeout(deadline);
//! assert!(matches!(engine.poll_event(), Some(Event::Lost { .. })));
//! # Ok::<(), lock_core::NameError>(())
//! ```
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

pub mod admin;
pub mod advisory;
#[cfg(feature = "config")]
pub mod config;
pub mod consul;
pub mod duration;
mod engine;
mod error;
mod event;
mod fence;
pub mod http;
mod name;
mod pace;
mod protocol;
mod rng;
mod session;
#[cfg(feature = "sim")]
pub mod sim;
mod slot;
pub mod sql;
pub mod table;
mod time;
mod timing;

pub use engine::{Config, Dispatch, DispatchId, Engine, Lane};
pub use error::{ClaimError, Code, Failure, LostReason, NameError, TableError, TimingError};
pub use event::{Event, LockId, NotAcquired, Release};
pub use fence::Fence;
pub use name::{LockName, Owner, TableName};
pub use pace::{Judgment, Pace};
pub use protocol::{
    Action, Claim, Holder, Mode, News, Notification, Protocol, Sessions, Verdict, Wait,
};
pub use time::Instant;
pub use timing::Timing;
