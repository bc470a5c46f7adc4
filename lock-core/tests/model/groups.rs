//! Permits of semaphores, and several locks at once.

use crate::schedules::nothing_breaks_in;
use crate::{advisory, consul, pinning, told, world};
use lock_core::sim::{Scope, Server, Sometimes, Target, World};

/// How many schedules of each world.
const SCHEDULES: u64 = 3_000;

/// Two permits or three. Where there are three, some callers still go by two: the number was changed while in use.
pub(crate) fn semaphore(scope: Scope) -> Scope {
    let names = scope.names + 1;
    let mut targets = vec![Target::AnyOf((0..names).collect())];
    if names > 2 {
        targets.push(Target::AnyOf(vec![1, 0]));
    }
    Scope { names, targets, ..scope }
}

/// Sets that overlap, in different orders, and in the larger worlds one of the locks by itself.
pub(crate) fn several(scope: Scope) -> Scope {
    let names = scope.names + 1;
    let mut targets = vec![Target::AllOf(vec![0, 1]), Target::AllOf(vec![1, 0])];
    if names > 2 {
        targets = vec![
            Target::AllOf(vec![0, 1]),
            Target::AllOf(vec![2, 1]),
            Target::AllOf(vec![2, 0, 1]),
            Target::One(1),
        ];
    }
    Scope { names, targets, ..scope }
}

fn nothing_breaks<S: Server>(what: &str, world: impl Fn(Scope) -> World<S>, seen: &[Sometimes]) {
    let coverage = nothing_breaks_in(SCHEDULES, what, world);
    for sometimes in seen {
        assert!(coverage.contains(*sometimes), "{what}: never {sometimes:?}");
    }
}

#[test]
fn nothing_breaks_with_permits() {
    let seen = [Sometimes::AllPermitsHeld, Sometimes::LostByDeadline, Sometimes::CrashedHolding];
    nothing_breaks("permits, table", |scope| world(semaphore(scope)), &seen);
    nothing_breaks("permits, table that tells", |scope| told(semaphore(scope)), &seen);
    nothing_breaks("permits, advisory", |scope| advisory(semaphore(scope)), &seen);
    nothing_breaks("permits, consul", |scope| consul(semaphore(scope)), &seen);
}

#[test]
fn nothing_breaks_with_several_locks() {
    let seen = [Sometimes::AllAcquired, Sometimes::LostByDeadline, Sometimes::CrashedHolding];
    nothing_breaks("several, table", |scope| world(several(scope)), &seen);
    nothing_breaks("several, table that tells", |scope| told(several(scope)), &seen);
    nothing_breaks("several, advisory", |scope| advisory(several(scope)), &seen);
    nothing_breaks("several, consul", |scope| consul(several(scope)), &seen);
    let seen = [Sometimes::AllAcquired, Sometimes::LostOneOfSeveral, Sometimes::Delayed];
    nothing_breaks("several, pinned", |scope| world(pinning(several(scope))), &seen);
}
