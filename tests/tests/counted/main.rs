//! Statements counted at a server: nothing else may ask it meanwhile, so these tests have a process of their own.

mod chain;
mod crowd;
mod idle_waiters;
mod pin_costs;
mod prepared;
mod statements;
