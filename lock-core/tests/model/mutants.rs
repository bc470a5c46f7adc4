//! Seeded bugs: each must be caught by the check that is named here, with no other one looking.

use crate::exhaustive::{third_client, with_tickets};
use crate::tables::{BadTable, Bug};
use crate::{in_turns, keeping, mixed, pinning, set_back, world_of};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Check, Flaw, Scope, Server, World, explore, random};

/// No bug may survive so many schedules.
const SCHEDULES: u64 = 20_000;

/// The first schedule that catches it, as (schedule, steps, by which check).
fn caught<S: Server>(make: impl Fn(Scope) -> World<S>) -> Option<(u64, usize, Check)> {
    (0..SCHEDULES).find_map(|seed| {
        let walked = random::walk(&make, &random::script(seed, 120));
        walked.violation.map(|violation| (seed + 1, walked.steps, violation.check))
    })
}

fn row(name: &str, caught: Option<(u64, usize, Check)>, by: Check) {
    let Some((schedule, steps, check)) = caught else { panic!("{name} survived") };
    println!("{name:36} {check:?} in schedule {schedule}, step {steps}");
    assert_eq!(check, by, "{name}");
}

fn table(bug: Bug, by: Check) {
    let caught = caught(|scope| {
        let scope = if bug.is_about_clocks() { set_back(scope) } else { scope };
        let scope = if bug == Bug::OneTtlForAll { mixed(scope) } else { scope };
        let scope = if bug.is_about_pins() { pinning(scope) } else { scope };
        let scope = if bug.is_about_turns() { in_turns(scope) } else { scope };
        let scope = if bug.is_about_keeping() { keeping(scope) } else { scope };
        world_of(BadTable { bug, table: FakeTable::new() }, Scope { checks: vec![by], ..scope })
    });
    row(&format!("{bug:?}"), caught, by);
}

fn driver(flaw: Flaw, by: Check) {
    let caught = caught(|scope| {
        world_of(FakeTable::new(), Scope { flaw: Some(flaw), checks: vec![by], ..scope })
    });
    row(&format!("{flaw:?}"), caught, by);
}

/// Only by what users see, whichever comes first: two holders at once, or a fence that does not rise.
fn seen_by_users(flaw: Flaw) {
    let caught = caught(|scope| {
        let checks = [Check::Exclusion, Check::Fences].into();
        world_of(FakeTable::new(), Scope { flaw: Some(flaw), checks, ..scope })
    });
    let by = caught.map_or(Check::Exclusion, |(_, _, check)| check);
    row(&format!("{flaw:?}, seen by users"), caught, by);
}

#[test]
fn bugs_of_tables() {
    let caught_by = |bug| match bug {
        Bug::ClaimRaisesOwnFence | Bug::LeaseTooShort | Bug::RepliesInWrongOrder => Check::Backed,
        Bug::CorrectsToNow | Bug::OneTtlForAll => Check::Exclusion,
        Bug::OwnClaimIsBusy | Bug::CorrectsNothing | Bug::LeftToTheDead => Check::Liveness,
        Bug::ReleaseKeepsOwner => Check::Leaks,
        bug if bug.is_about_turns() => Check::Turns,
        bug if bug.is_about_pins() => Check::Writes,
        bug if bug.is_about_keeping() => Check::Kept,
        _ => Check::Rows,
    };
    let rare = |bug: &Bug| matches!(bug, Bug::RenewShortens | Bug::CorrectsByAnEarlierTime);
    Bug::ALL.into_iter().filter(|bug| !rare(bug)).for_each(|bug| table(bug, caught_by(bug)));
}

/// It takes two renewals of one lease at once, one of them waiting at the server: rare in random
/// schedules, but a search cannot miss it.
#[test]
fn a_renewal_that_shortens() {
    let mut scope = Scope::small().finer();
    scope.clients.pop();
    scope.cancels = false;
    scope.faults.ghosts = 1;
    scope.faults.stale_reads = 1;
    let table = BadTable { bug: Bug::RenewShortens, table: FakeTable::new().silent() };
    let found = explore(world_of(table, scope), 1_000_000, 0);
    let (violation, _) = found.violation.expect("RenewShortens survived");
    println!("RenewShortens: {violation}, after {} states, step {}", found.states, found.depth + 1);
    assert_eq!(violation.check, Check::Rows);
}

/// It needs no luck: in a small world, each way is tried.
#[test]
fn a_ticket_that_goes_first() {
    let table = BadTable { bug: Bug::AnyTicketFirst, table: FakeTable::new() };
    let world = with_tickets(table, false, 1, |scope| {
        third_client(scope);
        scope.checks = vec![Check::Turns];
    });
    let found = explore(world, 1_000_000, 0);
    let (violation, _) = found.violation.expect("AnyTicketFirst survived");
    println!(
        "AnyTicketFirst: {violation}, after {} states, step {}",
        found.states,
        found.depth + 1
    );
    assert_eq!(violation.check, Check::Turns);
}

/// It takes a lease that was renewed while the statement that ends it waited: as rare.
#[test]
fn a_correction_by_an_earlier_time() {
    let mut scope = set_back(Scope::small());
    scope.faults.set_backs = 1;
    scope.faults.stale_reads = 1;
    scope.cancels = false;
    scope.checks = vec![Check::Exclusion];
    let bug = Bug::CorrectsByAnEarlierTime;
    let found =
        explore(world_of(BadTable { bug, table: FakeTable::new().silent() }, scope), 3_000_000, 0);
    let (violation, _) = found.violation.expect("CorrectsByAnEarlierTime survived");
    println!("{bug:?}: {violation}, after {} states, step {}", found.states, found.depth + 1);
    assert_eq!(violation.check, Check::Exclusion);
}

#[test]
fn bugs_of_drivers() {
    for flaw in Flaw::ALL {
        let by = match flaw {
            Flaw::DeadlineFromReply => Check::Loss,
            Flaw::UnknownAsNotSent | Flaw::NewOwnerOnRetry | Flaw::AnswerForgotten => Check::Leaks,
            Flaw::RepliesCrossed | Flaw::OwnerReused => Check::Fences,
            Flaw::ClientsClock => Check::Rows,
            Flaw::SuspendNotCounted | Flaw::HeldCached | Flaw::HeldWhileReleasing => Check::Backed,
            Flaw::DropWithoutRelease => Check::Liveness,
            _ => Check::Exclusion,
        };
        driver(flaw, by);
    }
}

#[test]
fn bugs_of_drivers_break_the_first_promise() {
    for flaw in [
        Flaw::DeadlineFromReply,
        Flaw::ClientsClock,
        Flaw::SuspendNotCounted,
        Flaw::HeldCached,
        Flaw::HeldWhileReleasing,
    ] {
        seen_by_users(flaw);
    }
}
