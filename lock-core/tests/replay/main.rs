//! Traces against the model: those of lawful drivers pass, and each fault of a driver or a server is found.

mod machine;
mod sessions;
mod tickets;

use lock_core::record::Call;
use lock_core::sim::replay::{Depth, Replayed, Trace, check};
use lock_core::sim::table::FakeTable;
use lock_core::{Event, Instant};
use machine::{Fault, Machine, Place};
use std::time::Duration;

fn day(fault: Option<Fault>) -> Vec<Trace> {
    day_at(FakeTable::new(), fault)
}

/// Two drivers want one lock in turn. Each of them renews it once, and one waits for the other.
fn day_at<S: Place>(server: S, fault: Option<Fault>) -> Vec<Trace> {
    let mut machine = Machine::new(server, fault);
    let (a, b) = (machine.driver(), machine.driver());
    for _ in 0..2 {
        let ours = machine.want(a);
        machine.pass_until(a, |event| matches!(event, Event::Granted { .. }));
        let theirs = machine.want(b);
        machine.pass_until(b, |event| matches!(event, Event::Waiting { .. }));
        machine.pass_until(a, |event| matches!(event, Event::Renewed { .. }));
        // The waiter looks at the renewed lease.
        machine.pass_for(Duration::from_millis(1_500));
        machine.release(a, ours);
        machine.pass_until(b, |event| matches!(event, Event::Granted { .. }));
        machine.pass_until(b, |event| matches!(event, Event::Renewed { .. }));
        machine.release(b, theirs);
        machine.pass(Duration::from_millis(100));
    }
    machine.traces()
}

fn difference(traces: &[Trace]) -> String {
    check(traces, Depth::Answers).expect_err("the model cannot do that").to_string()
}

/// The place of the first line whose call is like that.
fn first(trace: &Trace, is: impl Fn(&Call) -> bool) -> usize {
    trace.lines.iter().position(|line| is(&line.call)).expect("there is one")
}

fn is_request(call: &Call) -> bool {
    matches!(call, Call::PollRequest(Some(_)))
}

fn is_reply(call: &Call) -> bool {
    matches!(call, Call::Reply(..))
}

#[test]
fn lawful_drivers_and_an_honest_server_are_as_the_model() {
    let traces = day(None);
    let Replayed { holds, claims, unanswered, .. } =
        check(&traces, Depth::Answers).expect("as the model");
    assert_eq!((holds, unanswered), (4, 0));
    assert!(claims >= 16, "4 grants, renewals and releases, and at least 2 denials: {claims}");
}

#[test]
fn the_time_does_not_go_back() {
    let mut traces = day(None);
    let at = first(&traces[1], is_reply);
    traces[1].lines[at].now = Some(Instant::from_nanos(1));
    let told = difference(&traces);
    assert!(told.starts_with(&format!("driver 1, line {}: the time went back", at + 2)), "{told}");
}

#[test]
fn a_time_that_has_not_come_is_found() {
    let mut traces = day(None);
    let at = first(&traces[0], is_request);
    let line = &mut traces[0].lines[at];
    line.now = Some(line.read.after(Duration::from_nanos(1)));
    assert!(difference(&traces).contains("has the time of"));
}

#[test]
fn a_request_is_answered_once() {
    let mut traces = day(None);
    let at = first(&traces[0], is_reply);
    let twice = traces[0].lines[at].clone();
    traces[0].lines.insert(at + 1, twice);
    assert!(difference(&traces).contains("is answered twice"));
}

#[test]
fn nothing_is_answered_that_was_not_sent() {
    let mut traces = day(None);
    let at = first(&traces[0], is_request);
    traces[0].lines.remove(at);
    assert!(difference(&traces).contains("was never sent, and it is answered"));
}

#[test]
fn an_engine_says_the_same_again() {
    let mut traces = day(None);
    let at =
        first(&traces[0], |call| matches!(call, Call::Event(text) if text.starts_with("Granted")));
    let Call::Event(text) = &mut traces[0].lines[at].call else { unreachable!() };
    *text = text.replace("Fence(", "Fence(1");
    assert!(difference(&traces).contains("and the engine says"));
}

#[test]
fn a_guard_does_not_count_for_longer_than_the_engine_says() {
    let mut traces = day(None);
    let at = first(&traces[0], |call| matches!(call, Call::Guard(..)));
    let Call::Guard(_, until) = &mut traces[0].lines[at].call else { unreachable!() };
    *until = until.after(Duration::from_nanos(1));
    assert!(difference(&traces).contains("the guard of"));
}

#[test]
fn a_trace_ends_where_its_process_was_killed() {
    let traces = day(None);
    let text = machine::text(&traces[0]);
    for end in (1..text.len()).rev().step_by(997) {
        let Some(cut) = Trace::read("cut", &text[..end]) else { continue };
        // What the other did until then.
        let killed = cut.lines.last().map(|line| line.read).unwrap_or_default();
        let mut other = traces[1].clone();
        other.lines.retain(|line| line.read <= killed);
        check(&[cut, other], Depth::Answers).expect("its last request may have been carried out");
    }
}

#[test]
fn a_trace_with_a_line_that_is_none_ends_before_it() {
    let traces = day(None);
    let text = machine::text(&traces[0]);
    let read = Trace::read("driver 0", &text).expect("a trace");
    assert_eq!(read, traces[0]);
    let lines = Trace::read("driver 0", &text.replacen("\"Timeout\"", "\"Nothing\"", 1));
    assert!(lines.expect("a trace").lines.len() < traces[0].lines.len());
}

/// Each of them leaves traces that each engine agrees with.
macro_rules! found {
    ($($name:ident: $fault:ident, $text:literal)*) => {
        $(#[test]
        fn $name() {
            let told = difference(&day(Some(Fault::$fault)));
            assert!(told.contains($text), "{told}");
        })*
    };
}

found! {
    a_driver_that_counts_from_the_reply_is_found: CountsFromReply, "before it was asked for or after the answer"
    a_fence_that_is_too_low_is_found: LowFence, "was granted with fence"
    a_fence_that_is_too_high_is_found: HighFence, "was granted with fence"
    a_second_grant_of_one_lock_is_found: SecondGrant, "at once"
    a_renewal_that_was_not_carried_out_is_found: NoRenewal, "the model's server has"
    a_release_that_was_not_carried_out_is_found: NoRelease, "the model's server has"
    a_ticket_that_was_not_drawn_is_found: WrongTicket, "the model's server has"
    another_holder_than_the_one_there_is_found: WrongHolder, "the model's server has"
    a_release_of_what_is_anothers_is_found: NotOwner, "the model's server has"
}
