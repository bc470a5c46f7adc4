//! Rows about advisory locks.

use crate::Input;
use lock_core::sql::advisory::{Codec, Key, Prefix, Session, mysql, postgres};
use lock_core::sql::{Rows, Step, Value};
use lock_core::{
    Claim, Code, Failure, LockName, Mode, Outcome, Owner, Reply, Request, SessionName,
};
use std::time::Duration;

/// Decodes any rows about advisory locks. There must be no panic, at most two statements, and nothing granted
/// or freed that the last rows do not contain.
pub fn advisory_rows(bytes: &[u8]) {
    let mut input = Input(bytes);
    let pick = input.byte();
    let (codec, session) = ready(pick);
    let request = request(pick);
    let mut exchange = codec.encode(&request, &session);
    let mut last = Rows::new();
    for _ in 0..2 {
        if exchange.poll_statement().is_none() {
            break;
        }
        match input.byte() % 4 {
            0 => exchange.handle_failure(Failure::Unknown("broken".into())),
            1 => {
                let mysql = pick & 3 < 2;
                let code = if mysql { Code::Mysql(3024) } else { Code::SqlState(*b"55P03") };
                exchange.handle_failure(Failure::not_now("over".into()).with_code(Some(code)));
            }
            _ => {
                last = input.rows();
                exchange.handle_rows(last.clone());
            }
        }
    }
    assert_eq!(exchange.poll_statement(), None, "a request that does not end");
    let said = match exchange.finish() {
        Ok(Reply::Outcomes(entries)) if request.claims().is_empty() => {
            assert_eq!(last, [[Value::Int(number(&entries[0]))]]);
            Vec::new()
        }
        Ok(Reply::Outcomes(entries)) => entries.iter().map(number).collect(),
        Ok(other) => panic!("{other:?}"),
        Err(_) => Vec::new(),
    };
    for (place, number) in (1..).zip(said) {
        let about: Vec<_> = last.iter().filter(|row| row[0] == Value::Int(place)).collect();
        assert_eq!(about, [&[Value::Int(place), Value::Int(number)]]);
    }
    let mut setup = codec.setup(Duration::from_secs(30), (pick & 128 != 0).then_some(7));
    let mut step = setup.step(None);
    for _ in 0..10 {
        let Step::Run(_) = step else { break };
        step = setup.step(Some(Ok(input.rows())));
    }
    assert!(!matches!(step, Step::Run(_)), "a setup that does not end");
    assert_eq!(setup.session().is_some(), step == Step::Ready);
}

fn number(entry: &Outcome) -> i64 {
    match entry {
        Outcome::Granted(fence) => i64::try_from(fence.get()).expect("it fits"),
        Outcome::Busy(_) | Outcome::NotOwner | Outcome::NoSession => 0,
        Outcome::Done => 1,
        Outcome::Delayed => -1,
        other => panic!("{other:?}"),
    }
}

/// A codec, and a connection that has passed its checks.
fn ready(pick: u8) -> (Codec, Session) {
    let text = |text: &str| Value::Text(text.into());
    let find = |version: &str| {
        let more = [text(version), text("0"), Value::Int(9), Value::Int(1_000)];
        [vec![Value::Int(7), text("mark")], more.into()].concat()
    };
    let on_mysql = |version| {
        let answers = [
            vec![],
            vec![],
            vec![vec![text("Uptime"), text("9")]],
            vec![find(version)],
            vec![],
            vec![],
        ];
        (mysql::codec(Prefix::default()), answers.to_vec())
    };
    let (codec, answers) = match pick & 3 {
        0 => on_mysql("8.0.11"),
        1 => on_mysql("10.6.1-MariaDB"),
        which => {
            let check =
                vec![Value::Int(140_000), Value::Int(0), Value::Int(9), text(""), text("on")];
            let mark = vec![Value::Int(7), text("mark")];
            let key = if which == 2 { Key::Hash } else { Key::Int };
            (postgres::codec(key), vec![vec![check], vec![mark.clone()], vec![mark], vec![]])
        }
    };
    let mut setup = codec.setup(Duration::from_secs(30), Some(7));
    let mut answers = answers.into_iter();
    let mut step = setup.step(None);
    while let Step::Run(_) = step {
        step = setup.step(answers.next().map(Ok));
    }
    let session = setup.session().expect("it is a good server").clone();
    (codec, session)
}

fn request(pick: u8) -> Request {
    let names = if pick & 16 == 0 { &["1", "2"][..] } else { &["1"] };
    let mode = if pick & 32 == 0 { Mode::Exclusive } else { Mode::Shared };
    let claim = |name: &&str| Claim {
        mode,
        ..Claim::new(LockName::new(name).expect("good"), Owner::new(1))
    };
    let mut claims: Vec<Claim> = names.iter().map(claim).collect();
    let (session, min_uptime, label) = (SessionName::default(), Duration::ZERO, "".into());
    let (ttl, up_to) = (Duration::from_secs(30), Duration::ZERO);
    match pick >> 2 & 3 {
        0 => Request::Acquire { session, claims, ttl, min_uptime, label },
        1 => Request::Wait {
            behind: None,
            session,
            claim: claims.remove(0),
            since: 0,
            up_to,
            min_uptime,
        },
        2 => Request::Release { passed_over: None, session, claims },
        _ => Request::KeepAlive { session },
    }
}
