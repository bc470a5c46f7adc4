//! What the tests against real servers and real processes have in common.

pub mod place;
pub mod proxy;
pub mod servers;
pub mod targets;
pub mod withlock;
