//! Simulated clients, network and server, and searches for schedules that break a promise.
mod action;
mod apply;
mod client;
mod clock;
mod coverage;
mod drive;
mod explore;
mod flaw;
mod hash;
mod invariants;
mod network;
pub mod random;
mod scope;
mod server;
mod settle;
pub mod table;
mod trace;
mod world;

pub use action::{Action, Way};
pub use clock::{Clock, Rate};
pub use coverage::{Coverage, Sometimes};
pub use explore::{Found, explore};
pub use flaw::Flaw;
pub use invariants::{Check, Violation};
pub use scope::{Faults, Scope, Wish};
pub use server::{Connection, Lease, Server};
pub use world::World;
