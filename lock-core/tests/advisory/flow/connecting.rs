//! A connection without a request: it is opened and checked, and its pace is judged.

use super::super::{TTL, postgres_setup};
use super::{NOW, acquire, does, good_table, opened, unknown};
use lock_core::sql::advisory::{Key, postgres as locks};
use lock_core::sql::{ConnectError, Do, Flow, Made, Refusal, Rows, postgres};
use lock_core::{Failure, TableName, Timing};
use std::time::Duration;

/// Too slow for leases of this TTL.
const SLOW: Duration = Duration::from_secs(10);
const FAST: Duration = Duration::from_millis(1);

fn table() -> Flow {
    Flow::table(postgres::codec(TableName::default()))
}

/// The steps until there is nothing to do: opening takes `opens`, each statement `runs`.
fn timed(flow: &mut Flow, opens: Duration, runs: Duration, answers: &[Rows]) -> Vec<&'static str> {
    let (mut done, mut answers) = (Vec::new(), answers.iter());
    while let Some(step) = flow.poll_step() {
        if matches!(step, Do::Open) {
            done.push("open");
            flow.opened(Ok(Made { id: Some(77), brought: false, shared: false }), opens);
        } else {
            done.push("run");
            flow.ran(Ok(answers.next().expect("an answer").clone()), runs);
        }
    }
    done
}

#[test]
fn it_is_opened_and_checked_once() {
    let mut flow = table();
    flow.connect(false);
    assert_eq!(does(&mut flow, vec![Ok(good_table())]), ["open", "run"]);
    assert_eq!(flow.connected(), Ok(()));
    let timing = Timing::new(TTL * 2).expect("good");
    let judged = flow.judge(timing).expect("fast").expect("known");
    assert_eq!((judged.ttl(), judged.request()), (timing.ttl(), timing.request()));
    flow.connect(true);
    assert!(flow.poll_step().is_none(), "it is open");
    assert_eq!(flow.connected(), Ok(()));
    flow.connect(false);
    assert!(matches!(flow.poll_step(), Some(Do::Open)), "it is so no longer");
}

#[test]
fn what_kept_it_from_opening_is_told_as_it_is() {
    for refused in
        [ConnectError::Failed(unknown()), ConnectError::NoWay("it was handed over".to_string())]
    {
        let mut flow = table();
        flow.connect(false);
        assert!(matches!(flow.poll_step(), Some(Do::Open)));
        flow.opened(Err(refused.clone()), FAST);
        assert!(flow.poll_step().is_none());
        assert_eq!(flow.connected(), Err(refused));
    }
    let mut flow = table();
    flow.connect(false);
    does(&mut flow, vec![Ok(vec![])]);
    assert_eq!(flow.connected(), Err(ConnectError::UnsafeServer(Refusal::UnexpectedResponse)));
    flow.connect(true);
    assert!(matches!(flow.poll_step(), Some(Do::Open)), "what was refused is not ready");
}

#[test]
fn what_was_not_finished_is_not_connected() {
    let mut flow = table();
    flow.connect(false);
    assert!(matches!(flow.poll_step(), Some(Do::Open)));
    assert!(matches!(flow.connected(), Err(ConnectError::Failed(Failure::NotSent(_)))));
}

#[test]
fn a_table_is_known_by_its_flow_and_an_advisory_lock_has_none() {
    let codec = postgres::codec(TableName::default());
    let mut flow = table();
    assert_eq!(flow.codec(), Some(&codec));
    assert!(!flow.is_session());
    flow.begin(acquire(), NOW, false);
    does(&mut flow, vec![Ok(good_table()), Err(unknown())]);
    assert_ne!(flow.codec(), Some(&codec), "the server told whose rights are needed");
    assert_eq!(flow.another().codec(), flow.codec(), "the table that was found");
    assert!(opened().codec().is_none() && opened().is_session());
    assert!(opened().another().is_session());
}

#[test]
fn a_slow_way_is_measured_again_before_it_is_refused() {
    let timing = Timing::new(TTL).expect("good");
    let mut flow = table();
    flow.connect(false);
    assert_eq!(timed(&mut flow, FAST, SLOW, &[good_table()]), ["open", "run"]);
    for _ in 0..2 {
        assert_eq!(flow.judge(timing), Ok(None), "it may have been a stall");
        let done = timed(&mut flow, FAST, SLOW, &[good_table()]);
        assert_eq!(done, ["run"], "on the same connection");
        assert_eq!(flow.connected(), Ok(()));
    }
    assert!(flow.judge(timing).is_err());
}

#[test]
fn a_connection_that_was_slow_to_open_is_opened_again() {
    let timing = Timing::new(TTL).expect("good");
    for (mut flow, checks) in [
        (table(), vec![good_table()]),
        (Flow::advisory(locks::codec(Key::Hash), TTL), postgres_setup()),
    ] {
        flow.connect(false);
        let mut opens = timed(&mut flow, SLOW, FAST, &checks);
        let mut again = 0;
        while flow.judge(timing) == Ok(None) && again < 3 {
            opens = timed(&mut flow, FAST, FAST, &checks);
            again += 1;
        }
        assert_eq!(opens[0], "open", "after {again}");
        assert!(again > 0 && matches!(flow.judge(timing), Ok(Some(_))), "after {again}");
    }
}
