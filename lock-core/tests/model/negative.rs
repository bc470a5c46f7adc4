//! What the promises rest on is needed: without it, two hold one lock.

use crate::{small, world, world_of};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Check, Clock, Faults, Rate, Scope, explore, random};
use std::time::Duration;

/// Only what users see: two holders, or a fence that does not rise.
const SEEN: [Check; 2] = [Check::Exclusion, Check::Fences];

/// How many schedules it takes to break the promise.
fn broken(what: &str, make: impl Fn(Scope) -> Scope, table: &FakeTable) {
    let world = |scope| {
        let scope = Scope { checks: SEEN.into(), ..make(scope) };
        world_of(table.clone(), scope)
    };
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
