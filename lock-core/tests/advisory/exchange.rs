//! Requests, their statements' parameters, and what rows and failures come to.

use super::{SINCE, all, claim, claims, int, on_mysql, on_postgres, said, text};
use lock_core::sql::advisory::{ClaimError, Codec, Exchange, Key, Session};
use lock_core::sql::{Rows, Value, mysql, postgres};
use lock_core::{
    Claim, Failure, Fence, LockName, Mode, Outcome, Owner, Reply, Request, SessionName,
};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(30);

/// What becomes of a statement.
type Answer = Result<Rows, Failure>;

fn run(
    (codec, session): &(Codec, Session),
    request: &Request,
    answers: &[Answer],
) -> Result<Reply, Failure> {
    let mut exchange = codec.encode(request, session);
    for answer in answers {
        exchange.poll_statement().expect("a statement is due");
        match answer.clone() {
            Ok(rows) => exchange.handle_rows(rows),
            Err(failure) => exchange.handle_failure(failure),
        }
    }
    assert_eq!(exchange.poll_statement(), None, "more is asked");
    exchange.finish()
}

fn params(exchange: &Exchange) -> Vec<Value> {
    exchange.poll_statement().expect("a statement").params
}

fn attempt(claims: Vec<Claim>) -> Request {
    Request::Acquire {
        session: SessionName::default(),
        claims,
        ttl: Duration::from_secs(30),
        min_uptime: GRACE,
        label: "".into(),
    }
}

fn wait(up_to: Duration) -> Request {
    Request::Wait {
        behind: None,
        session: SessionName::default(),
        claim: claim("a", Mode::Exclusive),
        since: 0,
        up_to,
        min_uptime: GRACE,
    }
}

fn granted(fence: u64) -> Outcome {
    Outcome::Granted(Fence::new(fence))
}

fn rejected(message: &str) -> Failure {
    Failure::not_now(message.into())
}

#[test]
fn each_claim_has_its_entry_whatever_the_rows_order() {
    let request = attempt(claims(&["a", "b", "c"]));
    for on in all() {
        let mut rows = said(&[7, 0, -1]);
        let entries = vec![granted(7), Outcome::Busy(None), Outcome::Delayed];
        assert_eq!(run(&on, &request, &[Ok(rows.clone())]), Ok(Reply::Outcomes(entries.clone())));
        rows.reverse();
        assert_eq!(run(&on, &request, &[Ok(rows)]), Ok(Reply::Outcomes(entries)));
        assert_eq!(run(&on, &attempt(vec![]), &[Ok(vec![])]), Ok(Reply::Outcomes(vec![])));
    }
}

#[test]
fn unlocking_and_keeping_say_what_was_ours() {
    let unlock = Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: claims(&["a", "b"]),
    };
    for on in all() {
        let ours = Ok(Reply::Outcomes(vec![Outcome::Done, Outcome::NotOwner]));
        assert_eq!(run(&on, &unlock, &[Ok(said(&[1, 0]))]), ours);
        for (number, same) in [(1, Outcome::Done), (0, Outcome::NoSession)] {
            let kept = run(
                &on,
                &Request::KeepAlive { session: SessionName::default() },
                &[Ok(vec![vec![int(number)]])],
            );
            assert_eq!(kept, Ok(Reply::one(same)));
        }
    }
}

#[test]
fn statements_say_which_connection_and_since_when() {
    let grace = int(SINCE + 30_000_000);
    let session = [int(77), text("mark")];
    let (codec, on) = on_postgres(Key::Hash);
    let both = vec![claim("test-lock", Mode::Exclusive), claim("b", Mode::Shared)];
    let ints = |numbers: &[i64]| Value::Ints(numbers.to_vec());
    let keys = [[-107_789_403, -1_898_803_861], [384_312_126, 1_247_361_280]];
    let all = [ints(&[0, 1]), ints(&keys.map(|key| key[0])), ints(&keys.map(|key| key[1]))];
    let all = [&session[..], std::slice::from_ref(&grace), &all].concat();
    assert_eq!(params(&codec.encode(&attempt(both), &on)), all);
    let one = attempt(vec![claim("test-lock", Mode::Shared)]);
    // The mode of one lock is a number, and its key is two.
    let lock = [int(1), int(-107_789_403), int(-1_898_803_861)];
    let all = [&session[..], std::slice::from_ref(&grace), &lock].concat();
    assert_eq!(params(&codec.encode(&one, &on)), all);
    let up_to = Duration::from_millis(250);
    let request = Request::Wait {
        behind: None,
        session: SessionName::default(),
        claim: claim("test-lock", Mode::Shared),
        since: 0,
        up_to,
        min_uptime: GRACE,
    };
    let all = [&session[..], &[grace.clone(), int(250)], &lock].concat();
    assert_eq!(params(&codec.encode(&request, &on)), all);
    assert_eq!(
        params(&codec.encode(&Request::KeepAlive { session: SessionName::default() }, &on)),
        session
    );

    let (codec, on) = on_mysql("8.0.11");
    let names = r#"["withlock:ca978112ca1bbdcafac231b39a23dc4d","withlock:3e23e8160039594a33894f6564e1b134"]"#;
    let one = attempt(claims(&["a"]));
    let more = [grace.clone(), text("withlock:ca978112ca1bbdcafac231b39a23dc4d")];
    assert_eq!(params(&codec.encode(&one, &on)), [&session[..], &more[..]].concat());
    let more = [grace, text(names)];
    let request = attempt(claims(&["a", "b"]));
    assert_eq!(params(&codec.encode(&request, &on)), [&session[..], &more[..]].concat());
}

#[test]
fn what_is_about_one_claim_is_repeated_unless_it_waits() {
    let unlock = |leases| Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: leases,
    };
    for (at, (codec, on)) in all().into_iter().enumerate() {
        // PostgreSQL is given arrays, and has everything prepared.
        let always = at == 0;
        let repeated = |exchange: &Exchange| exchange.poll_statement().expect("due").repeated;
        for (names, one) in [(&["a"][..], true), (&["a", "b"], false)] {
            for request in [attempt(claims(names)), unlock(claims(names))] {
                assert_eq!(repeated(&codec.encode(&request, &on)), one || always, "{request:?}");
            }
            let mut look = codec.encode(&attempt(claims(names)), &on);
            look.handle_failure(rejected("no"));
            assert_eq!(repeated(&look), always);
        }
        for request in [wait(GRACE), Request::KeepAlive { session: SessionName::default() }] {
            assert_eq!(repeated(&codec.encode(&request, &on)), always, "{request:?}");
        }
    }
}

/// The limit for the statement, and for the lock.
fn limits(on: &(Codec, Session), up_to: Duration) -> (i64, i64) {
    match params(&on.0.encode(&wait(up_to), &on.1))[..] {
        [Value::Int(limit), _, _, _, _, Value::Int(lock)] => (limit, lock),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_wait_is_never_endless_and_never_longer() {
    let ms = Duration::from_millis;
    let mysql = on_mysql("8.0.11");
    for (up_to, seconds) in [(0, 1), (1, 1), (999, 1), (1_000, 2), (7_500, 8)] {
        let (limit, lock) = limits(&mysql, ms(up_to));
        assert_eq!((limit, lock), (i64::try_from(up_to.max(1)).expect("small"), seconds * 1_000));
    }
    let mariadb = on_mysql("10.6.1-MariaDB");
    for up_to in [0, 1, 999, 1_000, 7_500] {
        let (limit, lock) = limits(&mariadb, ms(up_to));
        assert_eq!(lock, i64::try_from(up_to.max(1)).expect("small"));
        assert!(limit > lock);
    }
    for on in [mysql, mariadb] {
        let (limit, lock) = limits(&on, Duration::MAX);
        assert!(limit > 0 && lock > 0);
    }
    let (codec, on) = on_postgres(Key::Hash);
    for (up_to, expected) in [(Duration::ZERO, 1), (ms(7), 7), (Duration::MAX, i64::MAX)] {
        assert_eq!(params(&codec.encode(&wait(up_to), &on))[3], int(expected));
    }
}

#[test]
fn a_wait_that_the_server_ended_is_looked_into() {
    let timeouts = [
        (on_postgres(Key::Hash), postgres::statement_failed(Some("55P03"), "Sperrzeit")),
        (on_mysql("8.0.11"), mysql::statement_failed(Some(3024), "Zeit")),
        (on_mysql("10.6.1-MariaDB"), mysql::statement_failed(Some(1969), "Zeit")),
    ];
    let request = wait(GRACE);
    for (on, over) in timeouts {
        // The code counts, and not a text that looks like one.
        let text = rejected(&over.to_string());
        assert_eq!(run(&on, &request, &[Err(text.clone()), Ok(said(&[0]))]), Err(text));
        let over = Err(over);
        let busy = Ok(Reply::Outcomes(vec![Outcome::Busy(None)]));
        assert_eq!(run(&on, &request, &[over.clone(), Ok(said(&[0]))]), busy);
        let ours = Ok(Reply::Outcomes(vec![granted(9)]));
        assert_eq!(run(&on, &request, &[over.clone(), Ok(said(&[9]))]), ours);
        // Another failure is no answer about the lock, unless it is ours.
        let full = rejected("out of shared memory (SQLSTATE 53200)");
        let full_then = |number| run(&on, &request, &[Err(full.clone()), Ok(said(&[number]))]);
        assert_eq!(full_then(0), Err(full.clone()));
        assert_eq!(full_then(9), ours);
        for lost in [Ok(said(&[-3])), Ok(said(&[-1])), Ok(vec![]), Err(full.clone())] {
            let answer = run(&on, &request, &[over.clone(), lost]);
            assert!(matches!(answer, Err(Failure::Unknown(_))), "{answer:?}");
        }
    }
}

#[test]
fn a_try_that_failed_halfway_says_what_it_took() {
    let request = attempt(claims(&["a", "b"]));
    let full = rejected("out of shared memory (SQLSTATE 53200)");
    for on in all() {
        let then = |rows| run(&on, &request, &[Err(full.clone()), Ok(rows)]);
        assert_eq!(then(said(&[0, 0])), Err(full.clone()), "nothing");
        let half = Ok(Reply::Outcomes(vec![granted(9), Outcome::Busy(None)]));
        assert_eq!(then(said(&[9, 0])), half);
    }
    // A connection may share a lock with itself, and then nobody could tell.
    let (codec, session) = on_postgres(Key::Hash);
    let shared = || vec![claim("a", Mode::Shared)];
    for request in [
        attempt(shared()),
        Request::Release { passed_over: None, session: SessionName::default(), claims: shared() },
    ] {
        let mut exchange = codec.encode(&request, &session);
        exchange.handle_failure(full.clone());
        assert_eq!(exchange.finish(), Err(Failure::Unknown(full.to_string())));
    }
}

#[test]
fn null_is_an_error_and_never_busy() {
    let request = attempt(claims(&["a", "b"]));
    for on in all() {
        let null = || Ok(vec![vec![int(1), int(7)], vec![int(2), Value::Null]]);
        let half = Ok(Reply::Outcomes(vec![granted(9), Outcome::Busy(None)]));
        assert_eq!(run(&on, &request, &[null(), Ok(said(&[9, 0]))]), half);
        let none = Ok(vec![vec![int(1), Value::Null]]);
        let answer = run(&on, &wait(GRACE), &[none, Ok(said(&[0]))]);
        assert!(matches!(answer, Err(Failure::Rejected { retry: true, .. })), "{answer:?}");
    }
}

#[test]
fn a_replaced_connection_and_a_read_only_server_grant_nothing() {
    for on in all() {
        let requests = [
            attempt(claims(&["a"])),
            wait(GRACE),
            Request::Release {
                passed_over: None,
                session: SessionName::default(),
                claims: claims(&["a"]),
            },
        ];
        for request in requests {
            let answer = run(&on, &request, &[Ok(said(&[-3]))]);
            assert!(matches!(answer, Err(Failure::Unknown(_))), "{answer:?}");
        }
        let request = attempt(claims(&["a", "b"]));
        let answer = run(&on, &request, &[Ok(said(&[0, -2]))]);
        let Err(Failure::Rejected { retry: true, message, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert!(message.ends_with("connect to the primary"), "{message}");
        // It was taken before the server became so: only the connection's end frees it.
        let answer = run(&on, &request, &[Ok(said(&[7, -2]))]);
        assert!(matches!(answer, Err(Failure::Unknown(_))), "{answer:?}");
    }
}

#[test]
fn failures_keep_their_meaning() {
    let unknown = Failure::Unknown("broken".into());
    for on in all() {
        let requests = [
            attempt(claims(&["a"])),
            wait(GRACE),
            Request::Release {
                passed_over: None,
                session: SessionName::default(),
                claims: claims(&["a"]),
            },
            Request::KeepAlive { session: SessionName::default() },
        ];
        for request in requests {
            assert_eq!(run(&on, &request, &[Err(unknown.clone())]), Err(unknown.clone()));
            let incomplete = on.0.encode(&request, &on.1).finish();
            assert!(matches!(incomplete, Err(Failure::Unknown(_))));
        }
        let refused = rejected("no");
        for request in [
            Request::KeepAlive { session: SessionName::default() },
            Request::Release {
                passed_over: None,
                session: SessionName::default(),
                claims: claims(&["a"]),
            },
        ] {
            assert_eq!(run(&on, &request, &[Err(refused.clone())]), Err(refused.clone()));
        }
        let open = Request::Open { owner: Owner::new(1), ttl: GRACE };
        assert!(matches!(run(&on, &open, &[]), Err(Failure::Unknown(_))));
    }
}

#[test]
fn what_the_server_has_not_is_refused_before_anything_is_sent() {
    let name = |text: &str| LockName::new(text).expect("good");
    let refused = |on: &(Codec, Session), claim: Claim, why: ClaimError| {
        assert_eq!(on.0.check(&claim.name, claim.mode), Err(why));
        let message = why.to_string();
        assert!(!message.contains('\n'));
        let all = vec![super::claim("7", Mode::Exclusive), claim];
        let answer = run(on, &attempt(all), &[]);
        assert_eq!(answer, Err(Failure::refused(message)));
    };
    refused(&on_mysql("8.0.11"), claim("a", Mode::Shared), ClaimError::NoShared);
    refused(&on_postgres(Key::Int), claim("a", Mode::Shared), ClaimError::NotAnInt);
    refused(&on_postgres(Key::Pair), claim("7", Mode::Exclusive), ClaimError::NotAPair);
    for on in all() {
        assert_eq!(on.0.check(&name("a"), Mode::Exclusive), Ok(()));
    }
    assert_eq!(on_postgres(Key::Int).0.check(&name("-7"), Mode::Shared), Ok(()));
}
