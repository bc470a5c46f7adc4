//! Every state of small worlds, with time going on for ever.

use crate::{scale, small, world_of};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Found, Scope, Sometimes, Wish, explore};
use std::time::Instant;

fn search(what: &str, scope: Scope, limit: usize) -> Found {
    let begin = Instant::now();
    let found = explore(world_of(FakeTable::new().silent(), scope), limit, 64);
    println!("{what}: {found}, {:.1?}", begin.elapsed());
    assert!(found.violation.is_none(), "{found}");
    found
}

/// Searches it all, and sees each of these.
fn exhaust(what: &str, scope: Scope, seen: &[Sometimes]) {
    let found = search(what, scope, usize::MAX);
    assert!(found.exhausted);
    for sometimes in seen {
        assert!(found.coverage.contains(*sometimes), "{what}: never {sometimes:?}");
    }
    assert!(!found.coverage.contains(Sometimes::LostByReply), "the server broke its word");
}

#[test]
fn two_clients_try() {
    let scope = small(|scope| {
        scope.wishes = [Wish::TRY].into();
        scope.cancels = false;
    });
    let seen = [Sometimes::AllAcquired, Sometimes::Refused, Sometimes::TakenOver];
    exhaust("2 clients that try", scope, &seen);
}

#[test]
fn two_clients_wait() {
    let seen = [
        Sometimes::AllAcquired,
        Sometimes::TakenOver,
        Sometimes::Renewed,
        Sometimes::LostByDeadline,
        Sometimes::LateGrantRefused,
        Sometimes::GrantedAfterTrouble,
        Sometimes::Unconfirmed,
    ];
    let scope = small(|scope| scope.cancels = false);
    exhaust("2 clients that wait", scope, &seen);
}

#[test]
fn two_clients_wait_and_give_up() {
    let scope = small(|_| ());
    exhaust("2 clients that wait or give up", scope, &[Sometimes::AbandonedGranted]);
}

#[test]
fn one_client_with_ghosts_duplicates_and_crashes() {
    let scope = small(|scope| {
        scope.clients.pop();
        scope.faults.ghosts = 2;
        scope.faults.duplicates = 1;
        scope.faults.client_crashes = 1;
    });
    let seen = [
        Sometimes::GhostTook,
        Sometimes::DuplicateExecuted,
        Sometimes::CrashedHolding,
        Sometimes::AbandonedGranted,
    ];
    exhaust("1 client, 2 ghosts, 1 duplicate, 1 crash", scope, &seen);
}

#[test]
fn rivals_in_one_client() {
    let scope = small(|scope| {
        scope.clients.pop();
        scope.acquires = 2;
    });
    exhaust("1 client, 2 rivals", scope, &[Sometimes::LocalRival, Sometimes::Freed]);
}

#[test]
fn rivals_in_two_clients() {
    let scope = small(|scope| {
        scope.acquires = 2;
        scope.cancels = false;
    });
    search("2 clients, 2 rivals each", scope, 30_000 * scale());
}

#[test]
fn three_clients() {
    let scope = small(|scope| {
        scope.clients.push(scope.clients[0]);
        scope.faults.ghosts = 1;
    });
    search("3 clients, 1 ghost", scope, 30_000 * scale());
}

#[test]
fn a_finer_grid() {
    let scope = small(|scope| scope.faults.ghosts = 1).finer();
    search("2 clients, 1 ghost, on a finer grid", scope, 30_000 * scale());
}
