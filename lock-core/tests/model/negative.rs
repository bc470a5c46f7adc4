//! What the promises rest on is needed: without it, two hold one lock.

use crate::schedules::nothing_breaks_in;
use crate::{advisory_of, consul_of, hastier, small, world, world_of};
use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::consul::FakeConsul;
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Check, Clock, Faults, Rate, Scope, Server, World, explore, random};
use std::time::Duration;

/// Only what users see: two holders, or a fence that does not rise.
const SEEN: [Check; 2] = [Check::Exclusion, Check::Fences];

/// How many schedules it takes to break the promise with a table.
fn broken(what: &str, make: impl Fn(Scope) -> Scope, table: &FakeTable) {
    breaks(what, |scope| world_of(table.clone(), make(scope)));
}

/// How many schedules it takes to break the promise.
fn breaks<S: Server>(what: &str, make: impl Fn(Scope) -> World<S>) {
    let world = |scope: Scope| make(Scope { checks: SEEN.into(), ..scope });
    for seed in 0..20_000 {
        let walked = random::walk(world, &random::script(seed, 120));
        if let Some(violation) = walked.violation {
            println!("{what}: schedule {}, step {}: {violation}", seed + 1, walked.steps);
            return;
        }
    }
    panic!("{what}: nothing broke");
}

#[test]
fn a_server_clock_that_steps_forward() {
    let stepping =
        |scope: Scope| Scope { faults: Faults { clock_steps: 2, ..scope.faults }, ..scope };
    broken("server clock stepped", stepping, &FakeTable::new());
}

#[test]
fn a_server_that_forgets() {
    let crashing =
        |scope: Scope| Scope { faults: Faults { server_crashes: 3, ..scope.faults }, ..scope };
    broken("server not durable", crashing, &FakeTable::new().not_durable());
}

/// As fast as allowed, with a client a tenth slower than that.
fn out_of_bounds(scope: Scope) -> Scope {
    let slow = Clock::new(Rate::new(9, 11), Duration::ZERO);
    let server = Clock::new(Rate::FAST, Duration::from_secs(500));
    Scope { clients: vec![slow; scope.clients.len()], server, ..scope }
}

#[test]
fn clock_rates_that_k_does_not_cover() {
    broken("clock rates out of bounds", out_of_bounds, &FakeTable::new());
}

// -- sessions ---------------------------------------------------------------------------------------

#[test]
fn clock_rates_that_k_does_not_cover_for_a_connection() {
    let world = |scope| advisory_of(FakeAdvisory::new(), out_of_bounds(scope));
    breaks("advisory, clock rates out of bounds", world);
}

#[test]
fn a_connection_ended_by_an_administrator() {
    let killing = |scope: Scope| Scope { faults: Faults { kills: 2, ..scope.faults }, ..scope };
    let world = |scope| advisory_of(FakeAdvisory::new(), killing(scope));
    breaks("advisory, connection ended", world);
}

#[test]
fn a_server_that_grants_right_after_a_start() {
    let crashing =
        |scope: Scope| Scope { faults: Faults { server_crashes: 3, ..scope.faults }, ..scope };
    let world = |scope| advisory_of(FakeAdvisory::new().graceless(), crashing(scope));
    breaks("advisory, no grace after a start", world);
}

#[test]
fn a_program_that_does_not_know_of_a_longer_ttl_than_its_own() {
    let crashing = |knows| {
        move |scope: Scope| {
            let faults = Faults { server_crashes: 3, ..scope.faults };
            advisory_of(FakeAdvisory::new(), hastier(Scope { faults, ..scope }, knows))
        }
    };
    breaks("advisory, two TTLs after a start", crashing(false));
    nothing_breaks_in(20_000, "advisory, two TTLs, both known", crashing(true));
}

#[test]
fn clock_rates_that_k_does_not_cover_for_a_session() {
    let world = |scope| {
        // Without the delay, which would make up for it.
        consul_of(FakeConsul::new().without_lock_delay(), out_of_bounds(scope))
    };
    breaks("consul, clock rates out of bounds", world);
}

#[test]
fn a_session_that_ends_early_without_a_lock_delay() {
    let killing = |scope: Scope| Scope { faults: Faults { kills: 2, ..scope.faults }, ..scope };
    let world = |scope| consul_of(FakeConsul::new().without_lock_delay(), killing(scope));
    breaks("consul, early end without lock-delay", world);
}

#[test]
fn the_shortest_ways_to_break_it() {
    let only = |scope: Scope| Scope { checks: SEEN.into(), cancels: false, ..scope };
    let found = explore(world(only(small(|scope| scope.faults.clock_steps = 1))), 100_000, 0);
    let (violation, trace) = found.violation.expect("a clock step breaks it");
    assert_eq!(violation.check, Check::Exclusion);
    println!("server clock stepped:\n{trace}  {violation}");

    let forgetting = world_of(
        FakeTable::new().not_durable(),
        only(small(|scope| scope.faults.server_crashes = 1)),
    );
    let found = explore(forgetting, 100_000, 0);
    let (violation, trace) = found.violation.expect("forgetting breaks it");
    println!("server not durable:\n{trace}  {violation}");
}
