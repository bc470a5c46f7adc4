//! Tickets that are drawn some time after the denial, and lines that are kept to.

use crate::difference;
use crate::machine::Machine;
use lock_core::sim::replay::{Depth, Trace, check};
use lock_core::sim::table::FakeTable;
use lock_core::{Event, LockId};

fn is_grant(event: &Event) -> bool {
    matches!(event, Event::Granted { .. })
}

/// The holder has the lock, and the waiter wants it.
fn one_holds() -> (Machine<FakeTable>, LockId) {
    let mut machine = Machine::new(FakeTable::new(), None);
    for _ in [HOLDER, WAITER, TAKER] {
        machine.driver();
    }
    let held = machine.want(HOLDER);
    machine.pass_until(HOLDER, is_grant);
    machine.want(WAITER);
    (machine, held)
}

const HOLDER: usize = 0;
const WAITER: usize = 2;
const TAKER: usize = 1;

/// The holder releases it, and the taker has it.
fn the_taker_has_it(machine: &mut Machine<FakeTable>, held: LockId) -> LockId {
    machine.release(HOLDER, held);
    let held = machine.want(TAKER);
    machine.pass_until(TAKER, is_grant);
    held
}

/// The taker releases it, and the waiter has it.
fn the_waiter_has_it(mut machine: Machine<FakeTable>, held: LockId) -> Vec<Trace> {
    machine.release(TAKER, held);
    machine.pass_until(WAITER, is_grant);
    machine.traces()
}

#[test]
fn a_ticket_may_be_drawn_when_another_has_taken_the_lock() {
    let (mut machine, held) = one_holds();
    let denied = machine.look(WAITER);
    let held = the_taker_has_it(&mut machine, held);
    machine.draw(WAITER, denied);
    let traces = the_waiter_has_it(machine, held);
    let replayed = check(&traces, Depth::Answers).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!((replayed.holds, replayed.given_up), (3, 0));
}

#[test]
fn a_grant_to_one_that_comes_last_is_found() {
    let (mut machine, held) = one_holds();
    machine.pass_until(WAITER, |event| matches!(event, Event::Waiting { .. }));
    // The server forgets the ticket for a moment.
    machine.row().queue = 0;
    let held = the_taker_has_it(&mut machine, held);
    machine.row().queue = 1;
    let told = difference(&the_waiter_has_it(machine, held));
    assert!(told.contains("would answer Reserved"), "{told}");
}
