//! Row locks: what each statement's rows and failures lead to. Whatever was not granted ends with a `COMMIT`.

use super::{SINCE, TTL, claims, int, mysql_setup, said, set_up, text};
use lock_core::sql::advisory::{Codec, Session, sql_lock};
use lock_core::sql::{Refusal, Rows, Step, Value, mysql};
use lock_core::{ClaimError, Failure, Fence, LockName, Mode, Outcome, Reply, Request, SessionName};
use std::time::Duration;

/// What the server says of the package's table.
fn table() -> Rows {
    vec![vec![text("InnoDB"), text("createdAt, id, updatedAt"), int(1)]]
}

fn setup() -> Vec<Rows> {
    [mysql_setup("8.0.11"), vec![table(), vec![vec![int(0)]]]].concat()
}

/// A codec with a connection that is ready.
pub(crate) fn ready() -> (Codec, Session) {
    let codec = sql_lock::codec();
    let session = set_up(&codec, Some(77), setup()).1.expect("ready");
    (codec, session)
}

fn attempt() -> Request {
    Request::Acquire {
        session: SessionName::default(),
        claims: claims(&["a"]),
        ttl: TTL,
        min_uptime: TTL,
        label: "".into(),
    }
}

fn wait(up_to: Duration) -> Request {
    let (session, claim) = (SessionName::default(), claims(&["a"]).remove(0));
    Request::Wait { behind: None, session, claim, since: 0, up_to, min_uptime: TTL }
}

fn release() -> Request {
    let (session, claims) = (SessionName::default(), claims(&["a"]));
    Request::Release { passed_over: None, session, claims }
}

/// The first words of each statement, and the reply.
fn run(request: &Request, answers: Vec<Result<Rows, Failure>>) -> (String, Result<Reply, Failure>) {
    let (codec, session) = ready();
    let mut exchange = codec.encode(request, &session);
    let mut texts = Vec::new();
    for answer in answers {
        let statement = exchange.poll_statement().expect("a statement is due");
        texts.push(statement.text.split(' ').next().unwrap_or_default().to_string());
        match answer {
            Ok(rows) => exchange.handle_rows(rows),
            Err(failure) => exchange.handle_failure(failure),
        }
    }
    assert_eq!(exchange.poll_statement(), None, "more is asked");
    (texts.join(" "), exchange.finish())
}

fn done() -> Result<Rows, Failure> {
    Ok(vec![vec![int(0)]])
}

fn number(number: i64) -> Result<Rows, Failure> {
    Ok(said(&[number]))
}

fn error(code: u16) -> Result<Rows, Failure> {
    Err(mysql::statement_failed(Some(code), "told"))
}

fn granted(fence: u64) -> Result<Reply, Failure> {
    Ok(Reply::one(Outcome::Granted(Fence::new(fence))))
}

fn busy() -> Result<Reply, Failure> {
    Ok(Reply::one(Outcome::Busy(None)))
}

fn words(texts: &str, reply: Result<Reply, Failure>) -> (String, Result<Reply, Failure>) {
    (texts.to_string(), reply)
}

#[test]
fn a_free_row_is_locked_by_one_statement_and_a_missing_one_by_three_more() {
    assert_eq!(run(&attempt(), vec![number(7)]), words("SELECT", granted(7)));
    let answers = vec![Ok(vec![]), done(), done(), number(8)];
    assert_eq!(run(&attempt(), answers), words("SELECT SET INSERT SELECT", granted(8)));
}

#[test]
fn a_wait_takes_whole_seconds_and_shorter_ones_are_tries() {
    let seconds = wait(Duration::from_millis(7_500));
    let answers = vec![done(), done(), number(7)];
    assert_eq!(run(&seconds, answers), words("SET INSERT SELECT", granted(7)));
    let (codec, session) = ready();
    let first = codec.encode(&seconds, &session).poll_statement().expect("a limit");
    assert_eq!(first.params, [int(7)], "no longer than was asked");
    let short = wait(Duration::from_millis(999));
    assert_eq!(run(&short, vec![number(7)]), words("SELECT", granted(7)));
}

#[test]
fn a_denial_ends_the_transaction() {
    for code in [3572, 1205, 1213] {
        let answers = vec![error(code), done()];
        assert_eq!(run(&attempt(), answers), words("SELECT COMMIT", busy()), "{code}");
        let answers = vec![done(), error(code), done()];
        let request = wait(Duration::from_secs(2));
        assert_eq!(run(&request, answers), words("SET INSERT COMMIT", busy()), "{code}");
    }
    let delayed = Ok(Reply::one(Outcome::Delayed));
    assert_eq!(run(&attempt(), vec![number(-1), done()]), words("SELECT COMMIT", delayed));
}

#[test]
fn a_row_that_was_locked_in_vain_is_freed_or_goes_with_its_connection() {
    let inserted = |last| vec![Ok(vec![]), done(), done(), last];
    let with = |last, end| [inserted(last), vec![end]].concat();
    for last in [number(-2), error(1317), error(1290)] {
        let (texts, reply) = run(&attempt(), with(last.clone(), done()));
        assert_eq!(texts, "SELECT SET INSERT SELECT COMMIT");
        assert!(matches!(reply, Err(Failure::Rejected { retry: true, .. })), "{reply:?}");
        let (_, reply) = run(&attempt(), with(last, error(1317)));
        assert!(matches!(reply, Err(Failure::Unknown(_))), "it may be locked still: {reply:?}");
    }
    let broken = Err(mysql::statement_failed(None, "broken"));
    let strange = || Ok(vec![vec![int(2), int(7)]]);
    for last in [broken, number(-3), Ok(vec![]), strange()] {
        let (texts, reply) = run(&attempt(), inserted(last));
        assert_eq!(texts, "SELECT SET INSERT SELECT");
        assert!(matches!(reply, Err(Failure::Unknown(_))), "{reply:?}");
    }
}

#[test]
fn only_the_connection_that_has_the_lock_releases_it() {
    let yes = || Ok(vec![vec![int(1)]]);
    let freed = Ok(Reply::one(Outcome::Done));
    assert_eq!(run(&release(), vec![yes(), done()]), words("SELECT COMMIT", freed));
    for answers in [vec![done()], vec![yes(), error(1317)]] {
        let (_, reply) = run(&release(), answers);
        assert!(matches!(reply, Err(Failure::Unknown(_))), "{reply:?}");
    }
}

#[test]
fn statements_say_which_connection_and_since_when() {
    let (codec, session) = ready();
    let lock = codec.encode(&attempt(), &session).poll_statement().expect("a statement");
    assert_eq!(lock.params, [int(77), text("mark"), int(SINCE + 30_000_000), text("a")]);
    let same = codec.encode(&release(), &session).poll_statement().expect("a statement");
    assert_eq!(same.params, [int(77), text("mark")]);
}

#[test]
fn a_connection_has_one_exclusive_lock() {
    let (codec, session) = ready();
    let name = LockName::new("a").expect("good");
    assert_eq!(codec.check(&name, Mode::Shared), Err(ClaimError::NoShared));
    let Request::Acquire { session: of, ttl, min_uptime, label, .. } = attempt() else { return };
    let claims = claims(&["a", "b"]);
    let two = Request::Acquire { session: of, claims, ttl, min_uptime, label };
    let exchange = codec.encode(&two, &session);
    assert_eq!(exchange.poll_statement(), None);
    assert!(exchange.finish().is_err());
}

#[test]
fn the_table_is_made_if_it_is_missing_and_refused_if_it_is_another() {
    let codec = sql_lock::codec();
    assert_eq!(set_up(&codec, Some(77), setup()).0, Step::Ready);
    let nothing = || vec![vec![Value::Null, Value::Null, Value::Null]];
    let before = || mysql_setup("8.0.11");
    let made =
        [before(), vec![nothing(), vec![vec![int(0)]], table(), vec![vec![int(0)]]]].concat();
    assert_eq!(set_up(&codec, Some(77), made).0, Step::Ready);
    let never = [before(), vec![nothing(), vec![], nothing(), vec![], nothing()]].concat();
    let Step::Refuse(Refusal::NoTable { ddl, .. }) = set_up(&codec, Some(77), never).0 else {
        panic!("there is none")
    };
    assert_eq!(Some(&*ddl), codec.create_table());
    let with = |row: [Value; 3]| {
        let other = vec![row.to_vec()];
        let answers = [before(), vec![other.clone(), other.clone(), other]].concat();
        set_up(&codec, Some(77), answers).0
    };
    let columns = || text("createdAt, id, updatedAt");
    let engine = with([text("MyISAM"), columns(), int(1)]);
    assert!(matches!(engine, Step::Refuse(Refusal::NotInnoDb { .. })), "{engine:?}");
    for other in [
        [text("InnoDB"), columns(), int(3)],
        [text("InnoDB"), columns(), Value::Null],
        [text("InnoDB"), text("id"), int(1)],
        [text("VIEW"), Value::Null, Value::Null],
    ] {
        let refused = with(other);
        assert!(matches!(refused, Step::Refuse(Refusal::WrongShape { .. })), "{refused:?}");
    }
}
