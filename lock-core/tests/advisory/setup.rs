//! What a connection goes through, and why it is refused.

use super::{SINCE, TTL, all, claims, int, mysql_setup, postgres_setup, set_up, text};
use lock_core::Failure;
use lock_core::sql::advisory::{Codec, Key, Prefix, Session, mysql, postgres};
use lock_core::sql::{self, Refusal, Rows, Statement, Step, Value};
use lock_core::{Request, SessionName};
use std::time::Duration;

fn on_postgres() -> Codec {
    postgres::codec(Key::Hash)
}

fn on_mysql() -> Codec {
    mysql::codec(Prefix::default())
}

/// What comes of `answers` with one of them changed.
fn changed(codec: &Codec, answers: Vec<Rows>, at: usize, rows: Rows) -> Step {
    let mut answers = answers;
    answers[at] = rows;
    let (step, session) = set_up(codec, Some(77), answers);
    assert_eq!(session.is_some(), step == Step::Ready);
    step
}

fn refused(why: Refusal) -> Step {
    let message = why.to_string();
    assert!(!message.contains('\n') && message.len() < 120, "{message}");
    Step::Refuse(why)
}

#[test]
fn a_good_server_is_ready() {
    assert_eq!(set_up(&on_postgres(), None, postgres_setup()).0, Step::Ready);
    for version in ["8.0.11", "9.7.4-2", "10.6.1-MariaDB"] {
        assert_eq!(set_up(&on_mysql(), Some(77), mysql_setup(version)).0, Step::Ready);
    }
    for (_, session) in all() {
        assert_eq!(session.id(), 77, "what the server calls it");
    }
}

#[test]
fn postgres_is_refused_where_locks_would_not_be_leases() {
    let with = |at, rows| changed(&on_postgres(), postgres_setup(), at, rows);
    let check = |version, standby, mark| {
        with(0, vec![vec![int(version), int(standby), int(1), text(mark), text("on")]])
    };
    assert_eq!(check(139_999, 0, ""), refused(Refusal::KeepsIdle));
    assert_eq!(check(140_000, 1, ""), refused(Refusal::Standby));
    assert_eq!(check(140_000, 0, "another's"), refused(Refusal::Pooled));
    let alone = vec![int(140_000), int(0), int(1), text(""), text("")];
    assert_eq!(with(0, vec![alone.clone()]), refused(Refusal::Pooled), "the first of a pool");
    let mut brought = on_postgres().setup(TTL, None).handed(true);
    brought.step(None);
    brought.step(Some(Err(sql::postgres::statement_failed(Some("25P01"), "outside"))));
    assert!(
        matches!(brought.step(Some(Ok(vec![alone]))), Step::Run(_)),
        "its settings are its own"
    );
    for found in [vec![int(78), text("mark")], vec![int(77), text("")], vec![int(77), Value::Null]]
    {
        assert_eq!(with(2, vec![found]), refused(Refusal::Pooled));
    }
    assert_eq!(set_up(&on_postgres(), Some(78), postgres_setup()).0, refused(Refusal::Pooled));
}

#[test]
fn mysql_is_refused_where_locks_would_not_be_leases() {
    let good = || mysql_setup("8.0.11");
    let with = |at, rows| changed(&on_mysql(), good(), at, rows);
    let find = |column: usize, value: Value| {
        let mut rows = good().remove(3);
        rows[0][column] = value;
        with(3, rows)
    };
    assert_eq!(find(2, text("5.7.44")), refused(Refusal::UnsupportedVersion));
    assert_eq!(find(2, text("10.5.1-MariaDB")), refused(Refusal::UnsupportedVersion));
    for read_only in ["1", "ON", "READ_ONLY", ""] {
        assert_eq!(find(3, text(read_only)), refused(Refusal::ReadOnly));
    }
    assert_eq!(find(5, int(1)), Step::Ready, "it has moved");
    for standing in [0, -1] {
        assert_eq!(find(5, int(standing)), refused(Refusal::FrozenClock));
    }
    assert_eq!(find(1, Value::Null), refused(Refusal::Pooled));
    assert_eq!(find(0, int(78)), refused(Refusal::Pooled));
    // The greeting has 32 bits of it.
    assert_eq!(find(0, int((1 << 32) + 77)), Step::Ready);
    let variable = |at, value: &str| with(at, vec![vec![text("name"), text(value)]]);
    assert_eq!(variable(4, "ON"), refused(Refusal::SeveralPrimaries));
    assert_eq!(variable(4, "OFF"), Step::Ready);
    assert_eq!(variable(5, "OFF"), refused(Refusal::SeveralPrimaries));
    assert_eq!(variable(5, "ON"), Step::Ready);
}

#[test]
fn nonsense_is_refused() {
    for (codec, good) in [(on_postgres(), postgres_setup()), (on_mysql(), mysql_setup("8.0.11"))] {
        // What is only set is not looked at.
        let looked_at: &[usize] = if good.len() == 4 { &[0, 1, 2] } else { &[2, 3, 4, 5] };
        let row = vec![text("x"); 6];
        for at in looked_at {
            for rows in [vec![row.clone()], vec![row.clone(), row.clone()], vec![vec![]]] {
                let step = changed(&codec, good.clone(), *at, rows.clone());
                assert_eq!(step, refused(Refusal::UnexpectedResponse), "{at} {rows:?}");
            }
        }
    }
}

/// How such a server has run is not known: for less than nothing, by its own account.
#[test]
fn a_server_whose_clock_was_set_back_since_its_start_is_ready() {
    for uptime in ["-3600", "18446744073709548016"] {
        let mut answers = mysql_setup("8.0.11");
        answers[2] = vec![vec![text("Uptime"), text(uptime)]];
        let (step, session) = set_up(&on_mysql(), Some(77), answers);
        assert_eq!(step, Step::Ready, "{uptime}");
        // As if it had just started.
        assert_eq!(earliest(&on_mysql(), &session.expect("ready"), TTL), SINCE + 39_000_000);
    }
    for (codec, session) in all() {
        assert_eq!(earliest(&codec, &session, TTL), SINCE + 30_000_000);
        assert_eq!(earliest(&codec, &session, Duration::ZERO), i64::MIN, "whatever it says");
    }
}

/// The time before which a try is granted nothing.
fn earliest(codec: &Codec, session: &Session, grace: Duration) -> i64 {
    let request = Request::Acquire {
        session: SessionName::default(),
        claims: claims(&["a"]),
        ttl: Duration::from_secs(30),
        min_uptime: grace,
        label: "".into(),
    };
    let statement = codec.encode(&request, session).poll_statement().expect("a try");
    match statement.params[2] {
        Value::Int(at) => at,
        ref other => panic!("{other:?}"),
    }
}

/// The statement whose text contains `what`.
fn statement(codec: &Codec, ttl: Duration, answers: Vec<Rows>, what: &str) -> Statement {
    let mut setup = codec.setup(ttl, None);
    let mut answers = answers.into_iter();
    let mut step = setup.step(None);
    while let Step::Run(statement) = step {
        if statement.text.contains(what) {
            return statement;
        }
        step = setup.step(answers.next().map(Ok));
    }
    panic!("no such statement");
}

#[test]
fn the_server_counts_no_less_than_the_client() {
    let idle = |ttl| {
        let statement = statement(&on_postgres(), ttl, postgres_setup(), "idle_session_timeout");
        statement.params
    };
    let [ms, us] = [Duration::from_millis, Duration::from_micros];
    assert_eq!(idle(TTL), [int(30_000), int(10), int(4)]);
    assert_eq!(idle(us(1_000_001)), [int(1_001), int(1), int(1)]);
    assert_eq!(idle(Duration::from_secs(86_400)), [int(86_400_000), int(28_800), int(9_600)]);
    let probe = statement(&on_postgres(), TTL, postgres_setup(), "client_connection_check");
    assert_eq!(probe.params, [int(3_334)]);
    for (ttl, seconds) in [(ms(1_000), 1), (ms(1_001), 2), (ms(29_999), 30), (TTL, 30)] {
        let set = statement(&on_mysql(), ttl, mysql_setup("8.0.11"), "wait_timeout");
        assert_eq!(set.params, [int(seconds)]);
    }
}

#[test]
fn only_the_probe_may_fail() {
    let rejected = || Failure::refused("no".into());
    for (codec, answers) in [(on_postgres(), postgres_setup()), (on_mysql(), mysql_setup("8.0.11"))]
    {
        for at in 0..answers.len() {
            let mut setup = codec.setup(TTL, None);
            let mut step = setup.step(None);
            for rows in answers[..at].iter().cloned() {
                step = setup.step(Some(Ok(rows)));
            }
            let Step::Run(statement) = step else { panic!("{step:?}") };
            let probe = statement.text.contains("client_connection_check");
            let expected = if probe { Step::Ready } else { Step::Failed(rejected()) };
            assert_eq!(setup.clone().step(Some(Err(rejected()))), expected);
            let broken = Failure::Unknown("broken".into());
            assert_eq!(setup.step(Some(Err(broken.clone()))), Step::Failed(broken));
        }
    }
}

#[test]
fn a_connection_that_was_handed_over_inside_a_transaction_is_refused() {
    let inside = [Ok(vec![]), Err(sql::mysql::statement_failed(Some(1568), "in progress"))];
    for (codec, answer) in [on_postgres(), on_mysql()].into_iter().zip(inside) {
        let mut setup = codec.setup(TTL, None).handed(true);
        assert!(matches!(setup.step(None), Step::Run(_)));
        assert_eq!(setup.step(Some(answer)), refused(Refusal::InTransaction));
        assert_eq!(setup.session(), None);
    }
    let outside = [Err(sql::postgres::statement_failed(Some("25P01"), "none")), Ok(vec![])];
    for (codec, answer) in [on_postgres(), on_mysql()].into_iter().zip(outside) {
        let mut setup = codec.setup(TTL, None).handed(true);
        assert!(matches!(setup.step(None), Step::Run(_)));
        assert!(matches!(setup.step(Some(answer)), Step::Run(_)), "it goes on");
    }
}
