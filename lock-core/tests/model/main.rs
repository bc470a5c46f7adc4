//! The engine and the table protocol, model-checked: `cargo test -p lock-core --features sim`.
//!
//! `LOCK_MODEL_SCALE=50` makes the searches fifty times as long.
#![cfg(feature = "sim")]

mod exhaustive;
mod mutants;
mod negative;
mod schedules;
mod tables;

use lock_core::sim::table::FakeTable;
use lock_core::sim::{Scope, Server, World};
use lock_core::table::Table;

/// How much longer than usual the searches are to be.
fn scale() -> usize {
    std::env::var("LOCK_MODEL_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// A world around a server that speaks the table protocol.
fn world_of<S: Server<Protocol = Table>>(server: S, scope: Scope) -> World<S> {
    World::new(server, Table::new(scope.timing.ttl(), "somebody"), scope)
}

/// A world around a good lock table.
fn world(scope: Scope) -> World<FakeTable> {
    world_of(FakeTable::new(), scope)
}

/// The small scope, changed.
fn small(change: impl FnOnce(&mut Scope)) -> Scope {
    let mut scope = Scope::small();
    change(&mut scope);
    scope
}
