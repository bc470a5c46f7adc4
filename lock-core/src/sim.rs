//! A model checker for lock protocols: real engines, a simulated network and server, and searches
//! for schedules that break a promise. Feature `sim`.
//!
//! ```text
//!   explore, random::walk          choose among  World::actions()
//!        |                                            |
//!        v                                            v
//!   World::apply(action)   Engine | Engine | ...   requests, replies   impl Server
//!        |                 each with its clock     late, lost, twice   with its clock
//!        v
//!   invariants             after every action, and when everything has come to rest
//! ```
//!
//! Everything that is not determined is an [`Action`]: which request is carried out when, or never,
//! or long after its client gave it up; when a reply arrives; how late a client is run; who
//! crashes; which sessions end early; how far time goes on. Clocks run at the corners of what
//! [`Timing`](crate::Timing) allows. The server understands requests, no SQL and no HTTP.
//!
//! # What is checked
//!
//! | promise | checks | in words |
//! |---|---|---|
//! | P1 | [`Exclusion`](Check::Exclusion), [`Backed`](Check::Backed) | at most one attempt for a name is held at any real time; each that is held has the server's lease |
//! | P2 | [`Fences`](Check::Fences) | of two grants of a name the later has the greater fence |
//! | P3 | [`Loss`](Check::Loss) | a client that is run has told every loss; no hold lasts beyond `c0 + k·ttl` of its request |
//! | P4 | [`Leaks`](Check::Leaks) | no lease outlives its attempt, save by what only the TTL or the end of its session can end; in the end nothing is left |
//! | P5 | [`Rows`](Check::Rows), [`Revival`](Check::Revival) | nothing is stolen, renewed or released by another, or revived |
//! | P6 | [`BackOff`](Check::BackOff), [`Liveness`](Check::Liveness) | failures back off; when faults stop, a waiter is granted within 3.2 TTL |
//! | | [`Turns`](Check::Turns) | a table's waiters are let go in turn: nobody is passed over at once, and when faults stop, nobody by too many hand-offs |
//! | | [`Told`](Check::Told) | an attempt behind a hold of its own client knows that somebody has the lock |
//! | semaphores | [`Permits`](Check::Permits) | never more holders than permits; an attempt claims one at a time, and none while it has one |
//! | several locks | [`Together`](Check::Together) | all that was wanted is held, and only while the server has the lease of each |
//! | pins | [`Writes`](Check::Writes) | writes of users' transactions that have pinned a lock commit in the order of its fences |
//! | kept | [`Kept`](Check::Kept) | a lock that is kept after its release is granted to nobody before its end, and kept no longer |
//! | all | [`Requests`](Check::Requests) | what servers and drivers rely on in requests |
//!
//! # Servers
//!
//! [`table::FakeTable`], [`advisory::FakeAdvisory`] and [`consul::FakeConsul`] are the three
//! protocols' servers. The author of a backend checks another kind of server by implementing
//! [`Server`] for a value that behaves like theirs, and then shows that the value tells the truth:
//! by running the same requests on it and on the real thing.
//!
//! [`Sometimes`] says what a search has seen, so that no check passes because nothing happened.
//! [`Flaw`] seeds mistakes into the driver, to see that the checks bite.
//!
//! # Example
//!
//! Every state of a world with one client, and a hundred random schedules of larger ones:
//!
//! ```
//! use lock_core::sim::{Scope, World, explore, random, table::FakeTable};
//! use lock_core::table;
//!
//! let capabilities = table::capabilities("somebody", false);
//! let world = |scope: Scope| World::new(FakeTable::new(), capabilities.clone(), scope);
//! let mut scope = Scope::small();
//! scope.clients.truncate(1);
//! let found = explore(world(scope), 10_000, 1);
//! assert!(found.exhausted && found.violation.is_none(), "{found}");
//!
//! for seed in 0..100 {
//!     let script = random::script(seed, 100);
//!     assert_eq!(random::walk(world, &script).violation, None);
//! }
//! ```

mod action;
pub mod advisory;
mod apply;
mod client;
mod clock;
pub mod consul;
mod coverage;
mod drive;
mod explore;
mod flaw;
mod hash;
mod hear;
mod invariants;
mod network;
mod owners;
mod project;
pub mod random;
#[cfg(feature = "record")]
pub mod replay;
mod scope;
mod server;
mod settle;
pub mod table;
mod target;
mod trace;
mod turns;
mod users;
mod world;

pub use action::{Action, Way};
pub use clock::{Clock, Rate};
pub use coverage::{Coverage, Sometimes};
pub use explore::{Found, explore};
pub use flaw::Flaw;
pub use invariants::{Check, Violation};
pub use scope::{Faults, Scope, Wish};
pub use server::{Connection, Lease, Line, Server};
pub use target::Target;
pub use world::World;
