//! Distributed lock protocols as a pure state machine: no clock, no thread, no randomness, no I/O.
//!
//! Programs use `lock-sync` or `lock-async`, which drive it. A driver of your own needs this crate alone:
//!
//! ```toml
//! [dependencies]
//! lock-core = "0.1"
//! ```
//!
//! ```text
//!   your script or service
//!        |  lock, release                         ^  guard, lost
//!        v                                        |
//!   driver (lock-sync, lock-async): owns the clock, the connection and the threads
//!        |  acquire · release                     ^  poll_event · poll_timeout
//!        |  handle_reply · handle_timeout         |  poll_close(now) · poll_request(now)
//!        v                                        |
//!   Engine                  queues, deadlines, retry, renewal, sessions, cancellation, loss
//!        |  Request                               ^  Reply
//!        v                                        |
//!   sql: the statements of each dialect, and what their rows mean; http: requests and answers
//! ```
//!
//! | protocol | a lock is | it lives | waiting |
//! |---|---|---|---|
//! | [`table`] | a row with an expiry | as long as it is renewed | notified of the release (PostgreSQL), or polling with back-off |
//! | [`advisory`] | a server's own lock | as long as the connection is kept alive | in the server's queue |
//! | [`consul`] | a key that a session has locked | as long as the session is renewed | told when the key changes |
//!
//! # The contract
//!
//! | | the engine promises | if |
//! |---|---|---|
//! | P1 | At any moment, at most one attempt for a name is held, over all engines. | Clock *rates* stay within 5/6 ([`Timing`]). Table: the server keeps what it committed, and its clock is not stepped forward. Advisory: nobody terminates the holder's connection at the server. Consul: the lock-delay is not shorter than the lease. |
//! | P2 | The [`Fence`] of a later grant is greater. | As P1. Table: or the row still exists. Advisory: the server's clock does not go back. |
//! | P3 | [`Event::Lost`] comes no later than the deadline of the last grant or renewal, without an answer from the server. | The driver calls `handle_timeout` in time, and compares the deadline itself when a caller asks whether the lock is held. |
//! | P4 | No attempt, however it ends, keeps a name locked for longer than one TTL, or than the server needs to see that its connection is gone. | |
//! | P5 | No lock is taken before it expires, revived after it was lost, or released by another owner. | As P1. |
//! | P6 | If holders release or expire and the server answers, some waiter is granted. | |
//!
//! The driver sends each request when it takes it, answers each request exactly once, closes each connection that
//! [`Engine::poll_close`] names, answers [`Failure::Unknown`] whenever it cannot know the outcome, and passes times
//! of a clock that counts suspended time.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `config` | the module `config`: settings and errors that both drivers have |
//! | `record` | the module `record`: the calls of an engine as lines of text, for the project's own tests |
//! | `sim` | the module `sim`: the model checker |
//!
//! # Example
//!
//! This driver talks to a table that is always free:
//!
//! ```
//! use lock_core::{Config, Engine, Event, Fence, Instant, LockName, Outcome, Reply, Request, Timing, table};
//!
//! let timing = Timing::default();
//! let mut engine = Engine::new(table::capabilities("me", false), Config::new(timing, 42));
//! let now = Instant::from_nanos(0);
//!
//! let id = engine.acquire(now, LockName::new("nightly-report")?, false, None);
//! let dispatch = engine.poll_request(now).expect("a claim is due");
//! assert!(matches!(dispatch.request, Request::Acquire { .. }));
//!
//! let reply = Reply::one(Outcome::Granted(Fence::new(7)));
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
mod back_off;
mod capabilities;
#[cfg(feature = "config")]
pub mod config;
pub mod consul;
mod contention;
pub mod duration;
mod engine;
mod error;
mod event;
mod fence;
pub mod http;
mod lease;
mod name;
mod outcome;
mod pace;
mod pin;
#[cfg(feature = "record")]
pub mod record;
mod request;
mod rng;
mod session;
#[cfg(feature = "sim")]
pub mod sim;
mod slot;
pub mod sql;
pub mod table;
mod time;
mod timing;

pub use capabilities::{Capabilities, Sessions};
pub use engine::{
    Config, ConnectionId, Dispatch, DispatchId, Engine, Reached, Wanted, WarnAfter, Which,
};
pub use error::{ClaimError, Code, Failure, LostReason, NameError, TableError, TimingError};
pub use event::{Event, LockId, NotAcquired, Release};
pub use fence::Fence;
pub use name::{LockName, Owner, TableName};
pub use outcome::{Holder, News, Notification, Outcome, Place, Reply};
pub use pace::{Judgment, Pace};
pub use pin::{NotPinnable, PinError, PinParam, PinStatement};
pub use request::{Action, Claim, LeaseVersion, Mode, Request, SessionName, Turn};
pub use time::Instant;
pub use timing::Timing;
