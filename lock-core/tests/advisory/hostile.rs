//! Servers that return anything.

use super::{all, claim, int, sql_lock, text};
use lock_core::sql::{Rows, Step, Value};
use lock_core::{Code, Failure, Mode, Outcome, Reply, Request, SessionName};
use proptest::prelude::*;
use std::time::Duration;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (-4_i64..4).prop_map(int),
        1 => any::<i64>().prop_map(int),
        1 => Just(Value::Null),
        1 => Just(text("7")),
        1 => Just(Value::Texts(vec!["7".into()])),
    ]
}

fn rows() -> impl Strategy<Value = Rows> {
    let pair = || (1_i64..4, value()).prop_map(|(at, number)| vec![int(at), number]);
    let row = prop_oneof![4 => pair(), 1 => prop::collection::vec(value(), 0..4)];
    prop::collection::vec(row, 0..4)
}

fn request() -> impl Strategy<Value = Request> {
    let mode = prop_oneof![3 => Just(Mode::Exclusive), 1 => Just(Mode::Shared)];
    let claims = || {
        prop::collection::vec(mode.clone(), 0..4).prop_map(|modes| {
            ["a", "b", "c"].into_iter().zip(modes).map(|(n, mode)| claim(n, mode)).collect()
        })
    };
    let grace = Duration::ZERO;
    prop_oneof![
        3 => claims().prop_map(move |claims| Request::Acquire { session: SessionName::default(), claims, ttl: Duration::from_secs(30), min_uptime: grace, label: "".into() }),
        3 => mode.clone().prop_map(move |mode| Request::Wait { behind: None, session: SessionName::default(), claim: claim("a", mode), since: 0, up_to: grace, min_uptime: grace }),
        2 => claims().prop_map(|leases| Request::Release { passed_over: None, session: SessionName::default(), claims: leases }),
        1 => Just(Request::KeepAlive { session: SessionName::default() }),
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    let rejected = |message: &str| Failure::not_now(message.into());
    prop_oneof![
        Just(rejected("wait over").with_code(Some(Code::SqlState(*b"55P03")))),
        Just(rejected("wait over").with_code(Some(Code::Mysql(3024)))),
        Just(rejected("full")),
        Just(Failure::Unknown("broken".into())),
        Just(Failure::NotSent("closed".into())),
    ]
}

/// Exactly one row is about the place, and has this number.
fn says(rows: &Rows, place: usize, number: i64) -> bool {
    let place = int(i64::try_from(place).expect("small"));
    let about: Vec<_> = rows.iter().filter(|row| row.first() == Some(&place)).collect();
    about == [&vec![place.clone(), int(number)]]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_granted_or_freed_that_the_last_rows_do_not_say(
        request in request(),
        answers in prop::collection::vec(prop_oneof![3 => rows().prop_map(Ok), 1 => failure().prop_map(Err)], 3),
        which in 0_usize..3,
    ) {
        let (codec, session) = &all()[which];
        let mut exchange = codec.encode(&request, session);
        let mut last = Rows::new();
        for answer in answers {
            if exchange.poll_statement().is_none() {
                break;
            }
            match answer {
                Ok(rows) => {
                    last = rows.clone();
                    exchange.handle_rows(rows);
                }
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        prop_assert!(exchange.poll_statement().is_none(), "two statements at most");
        match exchange.finish() {
            Ok(Reply::Outcomes(entries)) => {
                let keeps = matches!(request, Request::KeepAlive { .. });
                let wanted = if keeps { 1 } else { request.claims().len() };
                prop_assert_eq!(entries.len(), wanted);
                for (at, entry) in entries.iter().enumerate() {
                    let number = match entry {
                        Outcome::Granted(fence) => i64::try_from(fence.get()).expect("a fence fits"),
                        Outcome::Busy(holder) => { prop_assert_eq!(holder, &None); 0 }
                        Outcome::Delayed => -1,
                        Outcome::Done => 1,
                        Outcome::NotOwner | Outcome::NoSession => 0,
                        other => { prop_assert!(false, "{:?}", other); 0 }
                    };
                    if let Request::KeepAlive { .. } = request {
                        prop_assert_eq!(&last, &vec![vec![int(number)]]);
                        continue;
                    }
                    prop_assert!(number != 0 || !matches!(entry, Outcome::Granted(_)));
                    prop_assert!(says(&last, at + 1, number), "{:?} {:?}", entries, last);
                }
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(Failure::Rejected { .. }) => {
                // Nothing was taken: the last rows do not say otherwise.
                prop_assert!((1..4).all(|at| (1..4).all(|number| !says(&last, at, number))), "{:?}", last);
            }
            Err(_) => {}
        }
    }

    #[test]
    fn a_setup_ends(
        answers in prop::collection::vec(prop_oneof![9 => rows().prop_map(Ok), 1 => failure().prop_map(Err)], 6),
        which in 0_usize..3,
        id in any::<Option<u32>>(),
    ) {
        let mut setup = all()[which].0.setup(Duration::from_secs(30), id);
        let mut step = setup.step(None);
        for answer in answers {
            let Step::Run(_) = step else { break };
            step = setup.step(Some(answer));
        }
        prop_assert!(!matches!(step, Step::Run(_)));
        prop_assert_eq!(setup.session().is_some(), step == Step::Ready);
    }

    #[test]
    fn a_row_lock_is_granted_only_by_the_last_rows_and_freed_by_a_commit(
        request in request(),
        answers in prop::collection::vec(prop_oneof![3 => rows().prop_map(Ok), 1 => failure().prop_map(Err)], 6),
    ) {
        let (codec, session) = sql_lock::ready();
        let mut exchange = codec.encode(&request, &session);
        let (mut last, mut text) = (Rows::new(), String::new());
        for answer in answers {
            let Some(statement) = exchange.poll_statement() else { break };
            text = statement.text.to_string();
            last = answer.clone().unwrap_or_default();
            match answer {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        prop_assert!(exchange.poll_statement().is_none(), "five statements at most");
        let ended = text.starts_with("COMMIT") || text.is_empty();
        match exchange.finish() {
            Ok(Reply::Outcomes(entries)) => match &entries[..] {
                [Outcome::Granted(fence)] => {
                    let fence = i64::try_from(fence.get()).expect("a fence fits");
                    prop_assert!(text.starts_with("SELECT 1,") && says(&last, 1, fence), "{:?}", last);
                }
                _ => prop_assert!(ended || matches!(request, Request::KeepAlive { .. }), "{:?} after {}", entries, text),
            },
            Ok(other) => prop_assert!(false, "{:?}", other),
            // The lock may be on a connection that goes on to be used.
            Err(Failure::Rejected { .. }) if !matches!(request, Request::Release { .. } | Request::KeepAlive { .. }) => {
                prop_assert!(ended, "after {}", text);
            }
            Err(_) => {}
        }
    }
}
