//! The common parts of the tests against real servers and real processes.
#![allow(clippy::missing_panics_doc)] // A helper that panics makes its test fail.

pub mod advisory;
pub mod bb8_postgres;
pub mod consul;
#[cfg(doctest)]
mod docs;
pub mod drivers;
pub mod fail_over;
pub mod galera;
pub mod history;
mod kinds;
pub mod multiplexer;
pub mod observer;
pub mod place;
pub mod proxy;
pub mod raw;
pub mod recorder;
pub mod servers;
pub mod stalled;
pub mod table;
pub mod traces;
pub mod transcript;
pub mod user;
pub mod withlock;

/// The README's examples are compiled here, because this crate has both drivers.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
