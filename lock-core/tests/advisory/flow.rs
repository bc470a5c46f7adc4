//! One connection, step by step: when it is opened, checked and closed.

mod connecting;

use super::{TTL, claims, int, postgres_setup, said, text};
use lock_core::sql::advisory::{Key, postgres as locks};
use lock_core::sql::{ConnectError, Do, Flow, Made, Rows, Value, postgres};
use lock_core::{
    Failure, Fence, Instant, News, Outcome, Owner, Reply, Request, SessionName, TableName,
};
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(1_000_000);
const TOOK: Duration = Duration::from_millis(1);

fn unknown() -> Failure {
    Failure::Unknown("gone quiet".into())
}

fn acquire() -> Request {
    Request::Acquire {
        session: SessionName::default(),
        claims: claims(&["a"]),
        ttl: TTL,
        min_uptime: Duration::ZERO,
        label: "me".into(),
    }
}

fn open() -> Request {
    Request::Open { owner: Owner::new(1), ttl: TTL }
}

/// A row of PostgreSQL's check of the table.
fn good_table() -> Rows {
    let columns = "acquired_at timestamptz, expires_at timestamptz, fence int8, holder text, name text C, owner text, queue int8, served int8, ttl_us int8";
    let [commit, kind, columns, role] = ["on", "rp", columns, "app"].map(text);
    let table = [int(0), int(150_000), commit, kind, columns, int(1)];
    vec![[&table[..], &[int(0), Value::Null, role, text("on"), text("UTF8")]].concat()]
}

/// The steps of a request, answered in this order; all that was done.
fn does(flow: &mut Flow, mut answers: Vec<Result<Rows, Failure>>) -> Vec<&'static str> {
    let mut done = Vec::new();
    answers.reverse();
    while let Some(step) = flow.poll_step() {
        match step {
            Do::Open => {
                done.push("open");
                flow.opened(Ok(Made { id: Some(77), brought: false, shared: false }), TOOK);
            }
            Do::Run(_) => {
                done.push("run");
                flow.ran(answers.pop().expect("an answer"), TOOK);
            }
            Do::Await(_) => {
                done.push("await");
                flow.notified(Ok(vec![]));
            }
        }
    }
    assert!(answers.is_empty(), "{done:?}");
    done
}

#[test]
fn a_table_is_opened_and_checked_by_the_request_that_finds_it_closed() {
    let mut flow = Flow::table(postgres::codec(TableName::default()));
    let granted = || Ok(vec![vec![text("a"), int(7)]]);
    let reply = Ok(Reply::one(Outcome::Granted(Fence::new(7))));
    flow.begin(acquire(), NOW, false);
    assert_eq!(does(&mut flow, vec![Ok(good_table()), granted()]), ["open", "run", "run"]);
    assert_eq!(flow.finish(), reply);
    flow.begin(acquire(), NOW, true);
    assert_eq!(does(&mut flow, vec![granted()]), ["run"], "it is open");
    assert_eq!(flow.finish(), reply);
    flow.begin(acquire(), NOW, false);
    assert_eq!(does(&mut flow, vec![Ok(good_table()), granted()]), ["open", "run", "run"]);
    assert_eq!(flow.finish(), reply);
    assert!(flow.lasts(false), "the next request opens it again");
}

#[test]
fn a_server_that_takes_no_writes_is_checked_again() {
    let mut flow = Flow::table(postgres::codec(TableName::default()));
    let read_only = postgres::statement_failed(Some("25006"), "read only");
    flow.begin(acquire(), NOW, false);
    does(&mut flow, vec![Ok(good_table()), Err(read_only.clone())]);
    assert_eq!(flow.finish(), Err(read_only));
    flow.begin(acquire(), NOW, true);
    assert!(matches!(flow.poll_step(), Some(Do::Open)), "it may be a standby by now");
}

#[test]
fn what_fails_before_the_request_was_not_sent() {
    for mut flow in [
        Flow::table(postgres::codec(TableName::default())),
        Flow::advisory(locks::codec(Key::Hash), TTL),
    ] {
        let request = if flow.is_session() { open() } else { acquire() };
        flow.begin(request.clone(), NOW, false);
        assert!(matches!(flow.poll_step(), Some(Do::Open)));
        flow.opened(Err(ConnectError::Failed(unknown())), TOOK);
        assert!(flow.poll_step().is_none());
        assert!(matches!(flow.finish(), Err(Failure::NotSent(_))));
        flow.begin(request, NOW, false);
        assert_eq!(does(&mut flow, vec![Err(unknown())]), ["open", "run"]);
        assert!(matches!(flow.finish(), Err(Failure::NotSent(_))), "its checks failed");
    }
}

#[test]
fn a_subscription_listens_anew_on_each_connection() {
    let mut flow = Flow::table(postgres::codec(TableName::default()));
    let subscribe = Request::Subscribe { up_to: TTL };
    flow.begin(subscribe.clone(), NOW, false);
    assert_eq!(does(&mut flow, vec![Ok(good_table()), Ok(vec![])]), ["open", "run", "run"]);
    assert_eq!(flow.finish(), Ok(Reply::News(News::Begun)));
    flow.begin(subscribe.clone(), NOW, true);
    assert_eq!(does(&mut flow, vec![]), ["await"]);
    assert_eq!(flow.finish(), Ok(Reply::News(News::Notified(vec![]))));
    flow.begin(subscribe.clone(), NOW, false);
    assert_eq!(does(&mut flow, vec![Ok(good_table()), Ok(vec![])]), ["open", "run", "run"]);
    assert_eq!(flow.finish(), Ok(Reply::News(News::Begun)));
}

fn opened() -> Flow {
    let mut flow = Flow::advisory(locks::codec(Key::Hash), TTL);
    flow.begin(open(), NOW, false);
    let checks: Vec<_> = postgres_setup().into_iter().map(Ok).collect();
    assert_eq!(does(&mut flow, checks)[0], "open");
    assert_eq!(flow.finish(), Ok(Reply::Opened(SessionName::default())));
    assert!(flow.lasts(true) && !flow.lasts(false));
    flow
}

#[test]
fn an_advisory_connection_is_never_opened_again_by_itself() {
    let mut flow = opened();
    flow.begin(acquire(), NOW, true);
    assert_eq!(does(&mut flow, vec![Ok(said(&[7]))]), ["run"]);
    assert_eq!(flow.finish(), Ok(Reply::one(Outcome::Granted(Fence::new(7)))));
    assert!(flow.lasts(true));
    flow.begin(acquire(), NOW, false);
    assert!(flow.poll_step().is_none());
    assert!(matches!(flow.finish(), Err(Failure::NotSent(_))));
    assert!(!flow.lasts(true));

    let mut flow = opened();
    flow.begin(open(), NOW, false);
    let done = does(&mut flow, postgres_setup().into_iter().map(Ok).collect());
    assert_eq!(done[0], "open", "only if it is asked for: {done:?}");
    assert_eq!(flow.finish(), Ok(Reply::Opened(SessionName::default())));
}

#[test]
fn an_unknown_fate_closes_an_advisory_connection() {
    let mut flow = opened();
    flow.begin(acquire(), NOW, true);
    does(&mut flow, vec![Err(unknown())]);
    assert_eq!(flow.finish(), Err(unknown()));
    assert!(!flow.lasts(true), "it may have the lock");
    flow.begin(acquire(), NOW, true);
    assert!(flow.poll_step().is_none(), "not even if it seems to be open");
}

#[test]
fn a_connection_that_was_opened_before_must_show_that_it_is_the_same() {
    let mut flow = opened();
    flow.begin(open(), NOW, true);
    assert_eq!(does(&mut flow, vec![Ok(vec![vec![int(1)]])]), ["run"]);
    assert_eq!(flow.finish(), Ok(Reply::Opened(SessionName::default())));
    for answer in [Ok(vec![vec![int(0)]]), Err(unknown()), Err(Failure::refused("no".into()))] {
        let mut flow = opened();
        flow.begin(open(), NOW, true);
        let checks = postgres_setup().into_iter().map(Ok);
        let done = does(&mut flow, [answer].into_iter().chain(checks).collect());
        assert_eq!(done[..2], ["run", "open"], "{done:?}");
        assert_eq!(flow.finish(), Ok(Reply::Opened(SessionName::default())));
    }
}

#[test]
fn a_request_that_was_left_in_the_middle_leaves_nothing_behind() {
    let mut flow = Flow::table(postgres::codec(TableName::default()));
    flow.begin(acquire(), NOW, false);
    assert!(matches!(flow.poll_step(), Some(Do::Open)));
    flow.begin(acquire(), NOW, false);
    let granted = Ok(vec![vec![text("a"), int(7)]]);
    assert_eq!(does(&mut flow, vec![Ok(good_table()), granted]), ["open", "run", "run"]);
    assert_eq!(flow.finish(), Ok(Reply::one(Outcome::Granted(Fence::new(7)))));
    assert!(matches!(flow.finish(), Err(Failure::Unknown(_))), "there is no second reply");

    let subscribe = Request::Subscribe { up_to: TTL };
    flow.begin(subscribe.clone(), NOW, true);
    assert_eq!(does(&mut flow, vec![Ok(vec![])]), ["run"]);
    assert_eq!(flow.finish(), Ok(Reply::News(News::Begun)));
    flow.begin(acquire(), NOW, true);
    flow.begin(subscribe.clone(), NOW, true);
    assert_eq!(does(&mut flow, vec![]), ["await"], "not the statement of the request before");
    assert_eq!(flow.finish(), Ok(Reply::News(News::Notified(vec![]))));
}
