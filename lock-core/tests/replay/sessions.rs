//! The same where locks belong to connections, or to sessions of Consul.

use crate::machine::{Fault, Machine, Place};
use crate::{day_at, difference};
use lock_core::Event;
use lock_core::sim::Server;
use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::consul::FakeConsul;
use lock_core::sim::replay::{Depth, Replayed, Trace, check};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3);

/// One driver dies, and the other gets the lock when the server has ended the session of the dead.
fn after_a_death<S: Place>(server: S, end: impl Fn(&mut Machine<S>)) -> Vec<Trace> {
    let mut machine = Machine::new(server, None);
    let (a, b) = (machine.driver(), machine.driver());
    machine.want(a);
    machine.pass_until(a, |event| matches!(event, Event::Granted { .. }));
    machine.want(b);
    machine.pass_for(TTL / 10);
    machine.kill(a);
    end(&mut machine);
    machine.pass_until(b, |event| matches!(event, Event::Granted { .. }));
    machine.traces()
}

fn replayed(traces: &[Trace]) -> Replayed {
    check(traces, Depth::Answers).unwrap_or_else(|difference| panic!("{difference}"))
}

macro_rules! lawful {
    ($($name:ident: $server:expr)*) => {
        $(#[test]
        fn $name() {
            let Replayed { holds, claims, given_up, .. } = replayed(&day_at($server, None));
            assert_eq!((holds, given_up), (4, 0));
            assert!(claims >= 10, "4 grants and releases, and at least 2 denials: {claims}");
        })*
    };
}

lawful! {
    advisory_locks_are_as_the_model: FakeAdvisory::new()
    consuls_sessions_are_as_the_model: FakeConsul::new()
}

#[test]
fn a_connection_ends_some_time_after_its_client() {
    let traces = after_a_death(FakeAdvisory::new(), |_| {});
    assert_eq!(replayed(&traces).unanswered, 1, "the end of the connection");
}

#[test]
fn a_session_of_consul_ends_some_time_after_its_client() {
    let traces = after_a_death(FakeConsul::new(), |machine| {
        machine.pass_for(TTL);
        let now = machine.at_server();
        machine.server.make_move(now, 0);
    });
    assert_eq!(replayed(&traces).unanswered, 1, "the end of the session");
}

/// The holds do not overlap: that of the dead is over by the clock, and only the server knows better.
#[test]
fn a_grant_within_consuls_lock_delay_is_found() {
    let traces = after_a_death(FakeConsul::new().without_lock_delay(), |machine| {
        let now = machine.at_server();
        machine.server.kill(now, 0);
    });
    let told = difference(&traces);
    assert!(told.contains("would answer Delayed"), "{told}");
}

macro_rules! found {
    ($($name:ident: $server:expr, $fault:ident, $text:literal)*) => {
        $(#[test]
        fn $name() {
            let told = difference(&day_at($server, Some(Fault::$fault)));
            assert!(told.contains($text), "{told}");
        })*
    };
}

found! {
    a_second_grant_while_the_connection_lives_is_found: FakeAdvisory::new(), SecondGrant, "at once"
    a_second_grant_while_the_session_lives_is_found: FakeConsul::new(), SecondGrant, "at once"
    a_release_that_the_server_did_not_carry_out_is_found: FakeAdvisory::new(), NoRelease, "the model's server has"
    a_release_that_consul_did_not_carry_out_is_found: FakeConsul::new(), NoRelease, "was granted with fence"
    a_fence_of_an_advisory_lock_that_falls_is_found: FakeAdvisory::new(), LowFence, "was granted with fence"
    a_fence_of_consul_that_falls_is_found: FakeConsul::new(), LowFence, "was granted with fence"
    a_release_of_an_advisory_lock_that_is_anothers_is_found: FakeAdvisory::new(), NotOwner, "the model's server has"
    a_release_of_a_key_that_is_anothers_is_found: FakeConsul::new(), NotOwner, "the model's server has"
}
