//! Waiters are let go in turn: counted in hand-offs.

use crate::schedules::nothing_breaks_in;
use crate::{deaf, in_turns, pinning, told, unwatched, world, world_of};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Scope, Server, World};

/// Many hand-offs follow upon each schedule, so fewer schedules are walked through.
fn all_have_their_turn<S: Server>(what: &str, world: impl Fn(Scope) -> World<S>) {
    nothing_breaks_in(1_000, what, |scope| world(in_turns(scope)));
}

#[test]
fn waiters_of_a_table_have_their_turn() {
    all_have_their_turn("turns at a table", world);
    all_have_their_turn("turns at a table, pinned", |scope| world(pinning(scope)));
}

#[test]
fn waiters_of_a_table_that_tells_have_their_turn() {
    all_have_their_turn("turns at a table that tells", told);
    all_have_their_turn("turns at a table that tells the deaf", deaf);
}

#[test]
fn waiters_of_a_watched_table_have_their_turn() {
    let watched = |scope| world_of(FakeTable::new().watched(), unwatched(scope));
    all_have_their_turn("turns at a watched table", watched);
}
