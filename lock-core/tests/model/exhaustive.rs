//! Every state of small worlds, with time going on for ever.

use crate::{advisory_of, consul_of, row_locks, scale, small, stepped, world_of};
use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::consul::FakeConsul;
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Found, Scope, Server, Sometimes, Target, Wish, World, explore};
use lock_core::{Instant, table};
use std::time;

fn search<S: Server>(what: &str, world: World<S>, limit: usize) -> Found {
    let begin = time::Instant::now();
    let found = explore(world, limit, 64);
    println!("{what}: {found}, {:.1?}", begin.elapsed());
    assert!(found.violation.is_none(), "{found}");
    found
}

/// Searches it all, and sees each of these.
fn exhaust_world<S: Server>(what: &str, world: World<S>, seen: &[Sometimes]) -> Found {
    let found = search(what, world, usize::MAX);
    assert!(found.exhausted);
    for sometimes in seen {
        assert!(found.coverage.contains(*sometimes), "{what}: never {sometimes:?}");
    }
    found
}

/// The same for a table.
fn exhaust(what: &str, scope: Scope, seen: &[Sometimes]) {
    let found = exhaust_world(what, silent(scope), seen);
    assert!(!found.coverage.contains(Sometimes::LostByReply), "the server broke its word");
}

/// Searches a world that takes minutes: all of it if searches are to be long.
fn exhaust_if_long<S: Server>(what: &str, world: World<S>, seen: &[Sometimes]) {
    if scale() < 50 {
        search(what, world, 30_000 * scale());
    } else {
        exhaust_world(what, world, seen);
    }
}

fn silent(scope: Scope) -> World<FakeTable> {
    world_of(FakeTable::new().silent(), scope)
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
fn two_clients_try_and_users_pin() {
    let scope = small(|scope| {
        scope.wishes = [Wish::TRY].into();
        scope.cancels = false;
        scope.transactions = 2;
    });
    let seen = [Sometimes::AllAcquired, Sometimes::Delayed, Sometimes::TakenOver];
    exhaust_if_long("2 clients that try, 2 transactions", silent(scope), &seen);
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
    search("2 clients, 2 rivals each", silent(scope), 30_000 * scale());
    let scope = small(|scope| {
        scope.acquires = 2;
        try_only(scope);
        scope.cancels = false;
    });
    exhaust_if_long("2 clients, 2 rivals each, that try", silent(scope), &[Sometimes::LocalRival]);
}

#[test]
fn three_clients() {
    let scope = small(|scope| {
        scope.clients.push(scope.clients[0]);
        scope.faults.ghosts = 1;
    });
    search("3 clients, 1 ghost", silent(scope), 30_000 * scale());
}

#[test]
fn a_finer_grid() {
    let scope = small(|scope| scope.faults.ghosts = 1).finer();
    search("2 clients, 1 ghost, on a finer grid", silent(scope), 30_000 * scale());
}

// -- sessions ---------------------------------------------------------------------------------------

/// With sessions, time going on for ever would also open sessions for ever.
fn opens(opens: u8, change: impl FnOnce(&mut Scope)) -> Scope {
    small(|scope| {
        scope.opens = opens;
        scope.cancels = false;
        change(scope);
    })
}

fn try_only(scope: &mut Scope) {
    scope.wishes = [Wish::TRY].into();
}

#[test]
fn two_clients_try_advisory_locks() {
    let seen = [Sometimes::AllAcquired, Sometimes::Refused, Sometimes::LostByDeadline];
    let world = advisory_of(FakeAdvisory::new(), opens(1, try_only));
    exhaust_world("advisory, 2 clients that try, 1 connection each", world, &seen);
    let world = advisory_of(FakeAdvisory::new(), opens(2, try_only));
    exhaust_if_long("advisory, 2 clients that try, 2 connections each", world, &seen);
}

#[test]
fn two_clients_wait_for_advisory_locks() {
    let seen = [Sometimes::AllAcquired, Sometimes::RenewedPastTtl, Sometimes::GrantedAfterTrouble];
    let world = advisory_of(FakeAdvisory::new(), opens(1, |_| ()));
    exhaust_world("advisory, 2 clients that wait, 1 connection each", world, &seen);
    let seen = [Sometimes::WaitedAtServer, Sometimes::TakenOver];
    let world = advisory_of(FakeAdvisory::new(), opens(2, |_| ()));
    exhaust_if_long("advisory, 2 clients that wait, 2 connections each", world, &seen);
}

#[test]
fn two_clients_share_advisory_locks() {
    let world = advisory_of(
        FakeAdvisory::new(),
        opens(1, |scope| scope.wishes = [Wish::TRY, Wish::TRY.shared()].into()),
    );
    let seen = [Sometimes::Shared, Sometimes::Refused];
    exhaust_if_long("advisory, 2 clients that try, shared or not", world, &seen);
}

#[test]
fn two_clients_wait_for_row_locks() {
    let seen = [Sometimes::AllAcquired, Sometimes::RenewedPastTtl, Sometimes::GrantedAfterTrouble];
    exhaust_world("row locks, 2 clients, 1 connection each", row_locks(opens(1, |_| ())), &seen);
    let seen = [Sometimes::WaitedAtServer, Sometimes::TakenOver];
    let world = row_locks(opens(2, |_| ()));
    exhaust_if_long("row locks, 2 clients, 2 connections each", world, &seen);
}

/// They hold two locks at once, each on a connection of its own.
#[test]
fn one_client_has_two_row_locks() {
    let two = |scope: &mut Scope| {
        scope.clients.pop();
        (scope.names, scope.acquires) = (2, 2);
    };
    let seen = [Sometimes::AllAcquired, Sometimes::Freed];
    exhaust_world("row locks, 1 client, 2 names", row_locks(opens(2, two)), &seen);
}

#[test]
fn rivals_in_one_client_with_sessions() {
    let rivals = |scope: &mut Scope| {
        scope.clients.pop();
        scope.acquires = 2;
        scope.cancels = true;
        scope.faults.ghosts = 1;
        scope.faults.client_crashes = 1;
    };
    let seen = [Sometimes::LocalRival, Sometimes::Freed, Sometimes::GhostExecuted];
    let world = advisory_of(FakeAdvisory::new(), opens(2, rivals));
    exhaust_world("advisory, 1 client, 2 rivals, 1 ghost, 1 crash", world, &seen);
    let world = consul_of(FakeConsul::new(), opens(2, rivals));
    exhaust_if_long("consul, 1 client, 2 rivals, 1 ghost, 1 crash", world, &seen);
}

#[test]
fn one_client_with_consul() {
    let alone = |scope: &mut Scope| {
        scope.clients.pop();
        scope.cancels = true;
        scope.faults.ghosts = 2;
        scope.faults.kills = 1;
    };
    let seen = [Sometimes::GhostTook, Sometimes::LostByReply, Sometimes::AbandonedGranted];
    let world = consul_of(FakeConsul::new(), opens(2, alone));
    exhaust_world("consul, 1 client, 2 sessions, 2 ghosts, 1 early end", world, &seen);
}

#[test]
fn two_clients_try_consul() {
    let seen = [Sometimes::AllAcquired, Sometimes::Refused, Sometimes::TakenOver];
    let world = consul_of(FakeConsul::new(), opens(1, try_only));
    exhaust_if_long("consul, 2 clients that try, 1 session each", world, &seen);
}

#[test]
fn two_clients_wait_for_consul() {
    let world = consul_of(FakeConsul::new(), opens(1, |_| ()));
    search("consul, 2 clients that wait, 1 session each", world, 30_000 * scale());
}

/// Leases that are watched, on a server whose clock is stepped forward by a TTL: each schedule of so many steps of time.
/// The versions of leases never come again, so without an end the search has none.
#[test]
fn two_clients_watch() {
    let world = |steps| {
        let mut scope = stepped(small(|scope| scope.cancels = false));
        scope.horizon = scope.grid.map(|grid| Instant::default().after(grid * steps));
        (scope.faults.clock_steps, scope.faults.set_backs) = (1, 0);
        world_of(FakeTable::new().watched().silent(), scope)
    };
    let seen = [Sometimes::AllAcquired, Sometimes::TakenOver, Sometimes::LostByDeadline];
    exhaust_world("watched, 2 clients that wait", world(4), &seen);
    exhaust_if_long("watched, 2 clients that wait, longer", world(5), &seen);
}

// -- waiters with tickets ---------------------------------------------------------------------------

/// A table whose waiters draw tickets, for so many steps of time: a reply that never arrives leaves a ticket behind, so
/// without an end the search has none.
pub(crate) fn with_tickets<S: Server>(
    table: S,
    tells: bool,
    steps: u32,
    change: impl FnOnce(&mut Scope),
) -> World<S> {
    let scope = small(|scope| {
        (scope.cancels, scope.rounds) = (false, 3);
        scope.horizon = scope.grid.map(|grid| Instant::default().after(grid * steps));
        change(scope);
    });
    World::new(table, table::capabilities("somebody", tells), scope)
}

pub(crate) fn third_client(scope: &mut Scope) {
    scope.clients.push(scope.clients[0]);
}

#[test]
fn two_clients_with_tickets() {
    let world = |steps| with_tickets(FakeTable::new(), false, steps, |_| ());
    let seen = [Sometimes::AllAcquired, Sometimes::TakenOver, Sometimes::LostByDeadline];
    exhaust_world("tickets, 2 clients that wait", world(3), &seen);
    exhaust_if_long("tickets, 2 clients that wait, longer", world(4), &seen);
    let world = |steps| with_tickets(FakeTable::new(), false, steps, |scope| scope.acquires = 2);
    let seen = [Sometimes::AllAcquired, Sometimes::Freed, Sometimes::FoundFree];
    exhaust_world("tickets, 2 clients that wait twice", world(1), &seen);
    exhaust_if_long("tickets, 2 clients that wait twice, longer", world(2), &seen);
}

#[test]
fn three_clients_with_tickets() {
    let world = with_tickets(FakeTable::new(), false, 1, third_client);
    let seen = [Sometimes::AllAcquired, Sometimes::Freed, Sometimes::FoundFree];
    exhaust_world("tickets, 3 clients that wait", world, &seen);
}

#[test]
fn two_clients_with_tickets_that_are_told() {
    let world = with_tickets(FakeTable::new().telling(), true, 1, |_| ());
    let seen = [Sometimes::AllAcquired, Sometimes::Told, Sometimes::Freed];
    exhaust_world("tickets, 2 clients that are told", world, &seen);
}

// -- permits, and several locks at once -------------------------------------------------------------

/// A world with these targets and two locks, for so many steps of time: parts are made again and again, so without an end
/// the search has none.
fn grouped(targets: &[Target], steps: u32, change: impl FnOnce(&mut Scope)) -> World<FakeTable> {
    let scope = small(|scope| {
        (scope.names, scope.targets, scope.cancels) = (2, targets.to_vec(), false);
        scope.horizon = scope.grid.map(|grid| Instant::default().after(grid * steps));
        change(scope);
    });
    silent(scope)
}

/// Both permits, from either end: which one an engine asks for first is its own choice.
fn both() -> [Target; 2] {
    [Target::AnyOf(vec![0, 1]), Target::AnyOf(vec![1, 0])]
}

#[test]
fn two_clients_want_permits() {
    let seen = [Sometimes::AllPermitsHeld, Sometimes::Denied, Sometimes::TakenOver];
    let world = grouped(&both(), 2, try_only);
    exhaust_world("2 permits, 2 clients that try", world, &seen);
    let world = grouped(&both(), 2, |_| ());
    exhaust_if_long("2 permits, 2 clients that wait", world, &seen);
    let world = grouped(&both(), 2, |scope| {
        scope.clients.push(scope.clients[0]);
        try_only(scope);
    });
    exhaust_if_long("2 permits, 3 clients that try", world, &seen);
}

#[test]
fn two_clients_want_two_locks() {
    let seen = [Sometimes::AllAcquired, Sometimes::LateGrantRefused, Sometimes::TakenOver];
    let set = Target::AllOf(vec![0, 1]);
    let world = grouped(std::slice::from_ref(&set), 3, |_| ());
    exhaust_world("2 locks at once, 2 clients that wait", world, &seen);
    let world = grouped(std::slice::from_ref(&set), 4, |_| ());
    exhaust_if_long("2 locks at once, 2 clients that wait, longer", world, &seen);
    let world = grouped(&[set, Target::One(1)], 3, |_| ());
    exhaust_if_long("2 locks at once or 1 of them, 2 clients that wait", world, &seen);
}

#[test]
fn rivals_in_one_client_want_two_locks() {
    let world = grouped(&[Target::AllOf(vec![0, 1]), Target::One(1)], 3, |scope| {
        scope.clients.pop();
        (scope.acquires, scope.faults.ghosts) = (2, 1);
    });
    let seen = [Sometimes::LocalRival, Sometimes::LostOneOfSeveral, Sometimes::GhostTook];
    exhaust_world("2 locks at once or 1 of them, 1 client, 2 rivals, 1 ghost", world, &seen);
}
