//! The engine and the table protocol, model-checked: `cargo test -p lock-core --features sim`.
//!
//! `LOCK_MODEL_SCALE=50` makes the searches fifty times as long.
#![cfg(feature = "sim")]

mod exhaustive;
mod groups;
mod mutants;
mod negative;
mod schedules;
mod tables;
mod turns;

use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::consul::FakeConsul;
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Check, Scope, Server, Wish, World};
use lock_core::sql::advisory::sql_lock;
use lock_core::{Timing, advisory, consul, table};
use std::time::Duration;

/// How much longer than usual the searches are to be.
fn scale() -> usize {
    std::env::var("LOCK_MODEL_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// A world around a server that speaks the table protocol.
fn world_of<S: Server>(server: S, scope: Scope) -> World<S> {
    World::new(server, table::capabilities("somebody", false), scope)
}

/// A world around a good one.
fn world(scope: Scope) -> World<FakeTable> {
    world_of(FakeTable::new(), scope)
}

/// The same where the server notifies waiters of what was freed.
fn told(scope: Scope) -> World<FakeTable> {
    World::new(FakeTable::new().telling(), table::capabilities("somebody", true), scope)
}

/// The same where notifications may be lost.
fn deaf(scope: Scope) -> World<FakeTable> {
    let table = table::capabilities("somebody", true);
    World::new(FakeTable::new().losing_notifications(), table, scope)
}

/// A world around a server with advisory locks.
fn advisory_of<S: Server>(server: S, scope: Scope) -> World<S> {
    World::new(server, advisory::capabilities(advisory::WAITING, None), scope)
}

/// A world around a good one, in which some want to share.
fn advisory(scope: Scope) -> World<FakeAdvisory> {
    let mut wishes = scope.wishes.clone();
    wishes.push(Wish::WAIT.shared());
    advisory_of(FakeAdvisory::new(), Scope { wishes, ..scope })
}

/// A world around a server on which a lock is an open transaction, so that a connection has one at most.
fn row_locks_of<S: Server>(server: S, scope: Scope) -> World<S> {
    World::new(server, sql_lock::capabilities(None), scope)
}

/// A world around a good one.
fn row_locks(scope: Scope) -> World<FakeAdvisory> {
    row_locks_of(FakeAdvisory::new().one_lock(), scope)
}

/// A world around a server that speaks the Consul protocol.
fn consul_of<S: Server>(server: S, scope: Scope) -> World<S> {
    World::new(server, consul::capabilities("somebody"), scope)
}

/// A world around a good one, in which sessions end early.
fn consul(mut scope: Scope) -> World<FakeConsul> {
    scope.faults.kills = scope.faults.hints;
    consul_of(FakeConsul::new(), scope)
}

/// A table whose leases are watched, on a server whose clock is stepped forward and set back.
fn watched(scope: Scope) -> World<FakeTable> {
    world_of(FakeTable::new().watched(), stepped(scope))
}

/// The same where the server notifies waiters of what was freed.
fn watched_and_told(scope: Scope) -> World<FakeTable> {
    let table = FakeTable::new().watched().telling();
    World::new(table, table::capabilities("somebody", true), stepped(scope))
}

/// Without the checks that leases end by themselves, and that nobody else ends them.
fn unwatched(mut scope: Scope) -> Scope {
    scope.checks.retain(|check| !matches!(check, Check::Rows | Check::Leaks));
    scope
}

/// The same, and the server's clock is stepped forward and set back now and then.
fn stepped(mut scope: Scope) -> Scope {
    scope.faults.clock_steps = 3;
    set_back(unwatched(scope))
}

/// The same, and the server's clock is set back now and then.
fn set_back(mut scope: Scope) -> Scope {
    scope.faults.set_backs = 2;
    scope
}

/// The same with two locks, and TTLs of two lengths.
fn mixed(mut scope: Scope) -> Scope {
    scope.names = 2;
    scope.wishes = [Wish::WAIT, Wish::WAIT.lasting(scope.timing.ttl() * 2)].into();
    scope
}

/// The last client is another program, with a shorter TTL. It may know that of the others.
fn hastier(scope: Scope, knows: bool) -> Scope {
    let timing = Timing::new(Duration::from_secs(4)).and_then(|timing| {
        let longest = if knows { scope.timing.ttl() } else { timing.ttl() };
        timing.with_request(scope.timing.request())?.with_longest_ttl(longest)
    });
    Scope { last: Some(timing.expect("good")), ..scope }
}

/// The same, and users pin locks in transactions.
fn pinning(scope: Scope) -> Scope {
    Scope { transactions: 6, ..scope }
}

/// The same, and callers want locks kept after their release, for longer than a TTL.
fn keeping(scope: Scope) -> Scope {
    Scope { keep: Some(Duration::from_secs(10)), ..scope }
}

/// The same, and callers want locks again and again when the faults have stopped.
fn in_turns(scope: Scope) -> Scope {
    Scope { rounds: 6, ..scope }
}

/// The small scope, changed.
fn small(change: impl FnOnce(&mut Scope)) -> Scope {
    let mut scope = Scope::small();
    change(&mut scope);
    scope
}
