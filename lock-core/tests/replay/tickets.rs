//! Claims that others come between, and lines that are kept to.

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
    let claim = machine.send(WAITER);
    let denied = machine.lock_the_row(WAITER, &claim);
    let held = the_taker_has_it(&mut machine, held);
    machine.draw(WAITER, &claim, denied);
    let traces = the_waiter_has_it(machine, held);
    let replayed = check(&traces, Depth::Answers).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!((replayed.holds, replayed.given_up), (3, 0));
}

#[test]
fn a_claim_may_wait_for_the_row_when_it_has_seen_that_it_is_its_turn() {
    let mut machine = Machine::new(FakeTable::new(), None);
    for _ in [HOLDER, TAKER, WAITER] {
        machine.driver();
    }
    let held = machine.want(HOLDER);
    machine.pass_until(HOLDER, is_grant);
    machine.release(HOLDER, held);
    machine.pass_until(HOLDER, |event| matches!(event, Event::Released { .. }));
    // Nobody is ahead of it.
    let taken = machine.want(TAKER);
    let claim = machine.send(TAKER);
    let held = machine.want(HOLDER);
    machine.pass_until(HOLDER, is_grant);
    machine.want(WAITER);
    machine.pass_until(WAITER, |event| matches!(event, Event::Waiting { .. }));
    machine.release(HOLDER, held);
    machine.kill(WAITER);
    machine.pass_until(HOLDER, |event| matches!(event, Event::Released { .. }));
    let granted = machine.lock_the_row(TAKER, &claim);
    machine.answer(TAKER, &claim, granted);
    machine.pass_until(TAKER, is_grant);
    machine.release(TAKER, taken);
    machine.pass_until(TAKER, |event| matches!(event, Event::Released { .. }));
    let replayed = check(&machine.traces(), Depth::Answers);
    let replayed = replayed.unwrap_or_else(|told| panic!("{told}"));
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
