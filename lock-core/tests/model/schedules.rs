//! Random schedules with all kinds of faults.

use crate::{
    advisory, consul, deaf, pinning, row_locks, scale, set_back, told, unwatched, watched,
    watched_and_told, world, world_of,
};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Coverage, Scope, Server, Sometimes, World, random};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// How many actions a schedule has at most.
const ACTIONS: usize = 120;

/// What only happens to attempts for several locks.
const OF_GROUPS: [Sometimes; 2] = [Sometimes::AllPermitsHeld, Sometimes::LostOneOfSeveral];

/// Walks through many schedules, and sees everything but `never`, and no lock that is kept.
fn nothing_breaks<S: Server>(what: &str, world: impl Fn(Scope) -> World<S>, never: &[Sometimes]) {
    let coverage = nothing_breaks_in(20_000, what, world);
    let never = [never, &OF_GROUPS, &[Sometimes::DeniedWhileKept]].concat();
    assert_eq!(coverage.missing(), never, "{what}");
}

/// The same with locks that are kept.
fn nothing_breaks_keeping<S: Server>(
    what: &str,
    world: impl Fn(Scope) -> World<S>,
    never: &[Sometimes],
) {
    let coverage = nothing_breaks_in(20_000, what, world);
    assert_eq!(coverage.missing(), [never, &OF_GROUPS].concat(), "{what}");
}

/// Walks through so many schedules: what was seen.
pub(crate) fn nothing_breaks_in<S: Server>(
    schedules: u64,
    what: &str,
    world: impl Fn(Scope) -> World<S>,
) -> Coverage {
    let begin = Instant::now();
    let schedules = schedules * scale() as u64;
    let mut coverage = Coverage::default();
    let (mut steps, mut simulated) = (0, Duration::ZERO);
    for seed in 0..schedules {
        let script = random::script(seed, ACTIONS);
        let walked = random::walk(&world, &script);
        if let Some(violation) = walked.violation {
            panic!("seed {seed}: {violation}\n{}", random::describe(&world, &script));
        }
        steps += walked.steps;
        simulated += walked.elapsed;
        coverage.merge(walked.coverage);
    }
    let took = begin.elapsed();
    let rate = steps as f64 / took.as_secs_f64();
    println!(
        "{what}: {schedules} schedules, {steps} steps, {:.0} simulated hours, {took:.1?}, {rate:.0} steps/s",
        simulated.as_secs_f64() / 3_600.0
    );
    coverage
}

#[test]
fn nothing_breaks_with_a_table() {
    // With a server that keeps its word, no lock is lost before its deadline.
    let never = [
        Sometimes::LostByReply,
        Sometimes::WaitedAtServer,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Delayed,
        Sometimes::Told,
    ];
    nothing_breaks("table", world, &never);
}

/// A claim of a lock that is pinned is delayed.
#[test]
fn nothing_breaks_with_tables_and_transactions_that_pin() {
    let never = [Sometimes::LostByReply, Sometimes::LostByDisconnect, Sometimes::Shared];
    let never = |more: &[Sometimes]| {
        let mut never = [&never[..], more].concat();
        never.sort();
        never
    };
    let nobody_tells = never(&[Sometimes::WaitedAtServer, Sometimes::Told]);
    nothing_breaks("table, pinned", |scope| world(pinning(scope)), &nobody_tells);
    let always_told = never(&[]);
    nothing_breaks("table that tells, pinned", |scope| told(pinning(scope)), &always_told);
    let stepped = |scope| watched(pinning(scope));
    nothing_breaks("watched table, pinned, clock stepped", stepped, &nobody_tells);
}

/// For shorter and for longer than a TTL.
#[test]
fn nothing_breaks_with_a_table_whose_locks_are_kept() {
    let never = |more: &[Sometimes]| {
        let never = [
            Sometimes::LostByReply,
            Sometimes::LostByDisconnect,
            Sometimes::Shared,
            Sometimes::Delayed,
        ];
        let mut never = [&never[..], more].concat();
        never.sort();
        never
    };
    let nobody_tells = never(&[Sometimes::WaitedAtServer, Sometimes::Told]);
    let always_told = never(&[]);
    for keep in [Duration::from_secs(3), Duration::from_secs(10)] {
        let scope = |scope| Scope { keep: Some(keep), ..scope };
        let what = format!("table, kept for {keep:?}");
        nothing_breaks_keeping(&what, |of| world(scope(of)), &nobody_tells);
        nothing_breaks_keeping(&format!("{what}, that tells"), |of| told(scope(of)), &always_told);
        let watched = |of| world_of(FakeTable::new().watched(), unwatched(scope(of)));
        nothing_breaks_keeping(&format!("{what}, watched"), watched, &nobody_tells);
    }
}

/// No step of the server's clock breaks anything where leases are watched.
#[test]
fn nothing_breaks_with_a_table_that_is_watched() {
    let never = [
        Sometimes::LostByReply,
        Sometimes::WaitedAtServer,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Delayed,
        Sometimes::Told,
    ];
    nothing_breaks("watched table", watched, &never);
    let never = [
        Sometimes::LostByReply,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Delayed,
    ];
    nothing_breaks("watched table that tells", watched_and_told, &never);
}

#[test]
fn nothing_breaks_with_a_table_that_tells() {
    let never = [
        Sometimes::LostByReply,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Delayed,
    ];
    nothing_breaks("table that tells", told, &never);
}

/// Notifications are lost on each listening connection from some moment on, and nobody says so.
#[test]
fn nothing_breaks_with_a_table_that_tells_the_deaf() {
    let never = [
        Sometimes::LostByReply,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Delayed,
    ];
    nothing_breaks("table that tells the deaf", deaf, &never);
}

#[test]
fn nothing_breaks_with_advisory_locks() {
    // A connection carries out what it is asked in order and once, or not at all.
    let never = [
        Sometimes::LostByReply,
        Sometimes::DuplicateExecuted,
        Sometimes::StaleExecuted,
        Sometimes::LateGrantRefused,
        Sometimes::Told,
        Sometimes::FoundFree,
    ];
    nothing_breaks("advisory", advisory, &never);
}

/// Each lock has a connection of its own, which its release commits with all that it has.
#[test]
fn nothing_breaks_with_row_locks() {
    let never = [
        Sometimes::LostByReply,
        Sometimes::DuplicateExecuted,
        Sometimes::StaleExecuted,
        Sometimes::LateGrantRefused,
        Sometimes::Shared,
        Sometimes::Told,
        Sometimes::FoundFree,
    ];
    nothing_breaks("row locks", row_locks, &never);
    let set_back = |scope| row_locks(set_back(scope));
    nothing_breaks("row locks, clock set back", set_back, &never);
}

/// What it has granted before seems to last for ever; to those that want it, it does not.
#[test]
fn nothing_breaks_with_tables_and_a_clock_that_is_set_back() {
    let never = [
        Sometimes::LostByReply,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Delayed,
    ];
    let nobody_tells = [&never[..], &[Sometimes::WaitedAtServer, Sometimes::Told]].concat();
    let in_order = |mut never: Vec<Sometimes>| {
        never.sort();
        never
    };
    let table = |scope| world(set_back(scope));
    nothing_breaks("table, clock set back", table, &in_order(nobody_tells));
    let tells = |scope| told(set_back(scope));
    nothing_breaks("table that tells, clock set back", tells, &never);
}

/// The server starts in the future, by its own clock, or has.
#[test]
fn nothing_breaks_with_advisory_locks_and_a_clock_that_is_set_back() {
    let never = [
        Sometimes::LostByReply,
        Sometimes::DuplicateExecuted,
        Sometimes::StaleExecuted,
        Sometimes::LateGrantRefused,
        Sometimes::Told,
        Sometimes::FoundFree,
    ];
    let set_back = |scope| advisory(set_back(scope));
    nothing_breaks("advisory, clock set back", set_back, &never);
}

#[test]
fn nothing_breaks_with_consul() {
    let never = [
        Sometimes::DuplicateExecuted,
        Sometimes::StaleExecuted,
        Sometimes::LateGrantRefused,
        Sometimes::LostByDisconnect,
        Sometimes::Shared,
        Sometimes::Told,
    ];
    nothing_breaks("consul", consul, &never);
}

#[test]
fn a_script_always_leads_to_the_same_end() {
    for seed in 0..200 {
        let script = random::script(seed, ACTIONS);
        assert_eq!(random::walk(world, &script), random::walk(world, &script));
        assert_eq!(random::describe(world, &script), random::describe(world, &script));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Any bytes are a schedule; a failure shrinks to a short one.
    #[test]
    fn nothing_breaks_whatever_the_script(script in prop::collection::vec(any::<u8>(), 0..400)) {
        let walked = random::walk(world, &script);
        prop_assert!(walked.violation.is_none(), "{}", random::describe(world, &script));
    }
}
