//! Each bug of the table is found by its check, with no other one looking; without a bug, nothing
//! is found.

use lock_mutants::sim::advisory::FakeAdvisory;
use lock_mutants::sim::consul::{Entry, FakeConsul, Known};
use lock_mutants::sim::table::FakeTable;
use lock_mutants::sim::{Check, Scope, Server, Target, Violation, Wish, World, explore, random};
use lock_mutants::sql::advisory::sql_lock;
use lock_mutants::{
    Fence, Instant, LockName, MUTANTS, Mutant, Owner, SessionName, Shown, advisory, consul, switch,
    table,
};
use std::time::Duration;

/// No bug may survive so many schedules.
const SCHEDULES: u64 = 20_000;

fn table(scope: Scope) -> World<FakeTable> {
    World::new(FakeTable::new(), table::capabilities("somebody", false), scope)
}

fn told(scope: Scope) -> World<FakeTable> {
    World::new(FakeTable::new().telling(), table::capabilities("somebody", true), scope)
}

fn watched(mut scope: Scope) -> World<FakeTable> {
    (scope.faults.clock_steps, scope.faults.set_backs) = (3, 2);
    World::new(FakeTable::new().watched(), table::capabilities("somebody", false), scope)
}

fn kept(scope: Scope) -> World<FakeTable> {
    table(Scope { keep: Some(Duration::from_secs(10)), ..scope })
}

/// Callers want the lock again and again when the faults have stopped.
fn in_turns(scope: Scope) -> Scope {
    Scope { rounds: 6, ..scope }
}

fn deaf(scope: Scope) -> World<FakeTable> {
    let table = table::capabilities("somebody", true);
    World::new(FakeTable::new().losing_notifications(), table, scope)
}

fn advisory(mut scope: Scope) -> World<FakeAdvisory> {
    scope.wishes.push(Wish::WAIT.shared());
    World::new(FakeAdvisory::new(), advisory::capabilities(advisory::WAITING, None), scope)
}

fn row_locks(scope: Scope) -> World<FakeAdvisory> {
    World::new(FakeAdvisory::new().one_lock(), sql_lock::capabilities(None), scope)
}

fn consul(mut scope: Scope) -> World<FakeConsul> {
    scope.faults.kills = scope.faults.hints;
    World::new(FakeConsul::new(), consul::capabilities("somebody"), scope)
}

/// Two or three permits, all of which callers want one of.
fn permits(scope: Scope) -> Scope {
    let names = scope.names + 1;
    Scope { names, targets: vec![Target::AnyOf((0..names).collect())], ..scope }
}

/// Sets that overlap, in different orders.
fn several(scope: Scope) -> Scope {
    let sets = [vec![0, 1], vec![2, 1], vec![2, 0, 1]];
    Scope { names: 3, targets: sets.map(Target::AllOf).into(), ..scope }
}

/// One client whose requests may be carried out late, and a lock that somebody has who is gone.
fn small_consul(check: Check) -> World<FakeConsul> {
    let mut scope = Scope::small();
    scope.clients.pop();
    scope.opens = 2;
    scope.cancels = false;
    scope.faults.ghosts = 1;
    scope.checks = [check].into();
    let ttl = scope.timing.ttl();
    let session = SessionName::from("99");
    let expires = scope.server.read(Instant::from_nanos(0)).after(ttl);
    let gone = Known { ttl, expires, lock_delay: Duration::ZERO, number: 99 };
    let taken = Entry {
        session: Some(session.clone()),
        owner: Owner::new(0),
        fence: Fence::new(1),
        modify_index: 1,
        delayed: None,
        delay: None,
    };
    let mut server = FakeConsul::new();
    server.sessions_mut().insert(session, gone);
    server.keys_mut().insert(LockName::new("lock-0").expect("good"), taken);
    World::new(server, consul::capabilities("somebody"), scope)
}

/// Which check finds something first, and where.
fn caught<S: Server>(
    check: Check,
    make: impl Fn(Scope) -> World<S>,
) -> Option<(Violation, String)> {
    let make = |scope| make(Scope { checks: [check].into(), ..scope });
    (0..SCHEDULES).find_map(|seed| {
        let walked = random::walk(make, &random::script(seed, 120));
        let place = format!("schedule {}, step {}", seed + 1, walked.steps);
        walked.violation.map(|violation| (violation, place))
    })
}

fn searched<S: Server>(world: World<S>) -> Option<(Violation, String)> {
    let found = explore(world, 3_000_000, 1);
    let place = format!("{} states, step {}", found.states, found.depth + 1);
    found.violation.map(|(violation, _)| (violation, place))
}

fn find(mutant: &Mutant) -> Option<(Violation, String)> {
    let named = |check: &&Check| format!("{check:?}") == mutant.check;
    let check = *Check::ALL.iter().find(named).expect("a check's name");
    match mutant.shown_by {
        Shown::Table => caught(check, table),
        Shown::TableThatTells => caught(check, told),
        Shown::TableThatTellsTheDeaf => caught(check, deaf),
        Shown::TableThatIsWatched => caught(check, watched),
        Shown::TableInTurns => caught(check, |scope| table(in_turns(scope))),
        Shown::TableInTurnsThatTells => caught(check, |scope| told(in_turns(scope))),
        Shown::TableThatKeeps => caught(check, kept),
        Shown::Advisory => caught(check, advisory),
        Shown::AdvisorySetBack => caught(check, |mut scope| {
            scope.faults.set_backs = 2;
            advisory(scope)
        }),
        Shown::RowLocks => caught(check, row_locks),
        Shown::Consul => caught(check, consul),
        Shown::Permits => caught(check, |scope| table(permits(scope))),
        Shown::PermitsAdvisory => caught(check, |scope| advisory(permits(scope))),
        Shown::Several => caught(check, |scope| table(several(scope))),
        Shown::ConsulSearched => searched(small_consul(check)),
    }
}

#[test]
fn each_bug_is_found() {
    let mut survivors = Vec::new();
    for mutant in MUTANTS.into_iter().flatten() {
        switch(mutant.name);
        match find(mutant) {
            Some((violation, place)) => {
                println!("{:62} {:9} {place}", mutant.name, format!("{:?}", violation.check));
            }
            None => survivors.push(mutant.name),
        }
    }
    switch("");
    assert!(survivors.is_empty(), "survived: {survivors:#?}");
}

#[test]
fn the_copy_without_a_bug_is_good() {
    switch("");
    for seed in 0..500 {
        let script = random::script(seed, 120);
        assert_eq!(random::walk(table, &script).violation, None);
        assert_eq!(random::walk(advisory, &script).violation, None);
        assert_eq!(random::walk(consul, &script).violation, None);
    }
}
