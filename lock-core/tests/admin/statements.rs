//! What is run for a request.

use super::*;
use lock_core::admin::SHORTEST;

/// The parameters of the first statement.
fn params(codec: &Codec, request: &AdminRequest, now: Instant) -> Vec<Value> {
    codec.encode_admin(request, now).poll_statement().expect("a statement").params
}

#[test]
fn a_request_is_about_the_table_and_what_was_named() {
    let hours = Duration::from_secs(7_200);
    let requests = [
        (list(None), "SELECT", vec![text("")]),
        (list(Some("job 7")), "SELECT", vec![text("job 7")]),
        (status(), "SELECT", vec![text("a")]),
        (breaks(7), "UPDATE", vec![text("a"), int(7)]),
        (purge(hours), "DELETE", vec![int(7_200_000_000)]),
    ];
    for (request, verb, named) in requests {
        for (codec, table) in
            [(on_postgres(), r#""locks""#), (on_sqlite(), r#""locks""#), (on_mysql(), "`locks`")]
        {
            let [Statement { text, params, .. }, ..] = &statements(&codec, &request)[..] else {
                panic!("nothing is asked");
            };
            assert!(text.trim_start().starts_with(verb), "{text}");
            assert!(text.contains(table) && !text.contains('{'), "{text}");
            assert!(params.ends_with(&named), "{params:?}");
        }
    }
}

#[test]
fn only_sqlite_is_told_the_time_and_only_where_it_counts() {
    let clock = [int(5_000_000), text("boot-1")];
    for request in [list(None), status(), purge(SHORTEST)] {
        let named = params(&on_postgres(), &request, NOW);
        assert_eq!(params(&on_mysql(), &request, NOW), named);
        assert_eq!(params(&on_sqlite(), &request, NOW), [&clock[..], &named].concat());
    }
    assert_eq!(params(&on_sqlite(), &breaks(7), NOW), params(&on_postgres(), &breaks(7), NOW));
}

#[test]
fn each_request_is_one_statement_and_needs_no_connection_of_its_own() {
    for codec in all() {
        for request in [list(None), status(), breaks(7), purge(SHORTEST)] {
            assert_eq!(statements(&codec, &request).len(), 1);
        }
    }
    // MySQL's OK has two numbers.
    for (request, number) in [(breaks(7), 8), (purge(SHORTEST), 5)] {
        let [statement] = &statements(&on_mysql(), &request)[..] else { panic!("not one") };
        assert_eq!(lock_core::sql::mysql::answer(statement, 8, 5), [[int(number)]]);
    }
}

#[test]
fn extreme_numbers_neither_overflow_nor_purge_too_much() {
    let end = Instant::from_nanos(u64::MAX);
    // The server takes the time from its clock: there is room for that.
    let never = int(i64::MAX / 2);
    for codec in all() {
        for (unused, sent) in [
            (SHORTEST, int(3_600_000_000)),
            (SHORTEST + Duration::from_micros(1), int(3_600_000_001)),
            (Duration::MAX, never.clone()),
        ] {
            assert_eq!(params(&codec, &purge(unused), end).pop(), Some(sent), "{unused:?}");
        }
        assert_eq!(params(&codec, &breaks(u64::MAX), end).pop(), Some(int(i64::MAX)));
    }
}

#[test]
fn a_break_that_cannot_be_told_is_made_all_the_same() {
    let failed = |code| lock_core::sql::postgres::statement_failed(Some(code), "");
    let after = |codec: Codec, request, failure: &Failure| {
        let mut exchange = codec.encode_admin(&request, NOW);
        let told = exchange.poll_statement().expect("a statement");
        exchange.handle_failure(failure.clone());
        (told, exchange)
    };
    let full = failed("54000");
    let (told, mut exchange) = after(on_postgres(), breaks(7), &full);
    assert!(told.text.contains("pg_notify"), "{}", told.text);
    let untold = exchange.poll_statement().expect("it will do without");
    assert_eq!(untold.params, told.params);
    assert!(
        untold.text.contains("CASE WHEN queue > served AND false THEN NULL"),
        "{}",
        untold.text
    );
    let mut again = exchange.clone();
    again.handle_failure(full.clone());
    assert_eq!((again.poll_statement(), again.finish()), (None, Err(full.clone())), "once");
    exchange.handle_rows(vec![vec![int(8)]]);
    assert_eq!(exchange.finish(), Ok(AdminResponse::Broken(Some(Fence::new(8)))));
    for (codec, request, failure) in [
        (on_postgres(), breaks(7), failed("42501")),
        (on_postgres(), status(), full.clone()),
        (on_mysql(), breaks(7), full),
    ] {
        let (_, exchange) = after(codec, request, &failure);
        assert_eq!((exchange.poll_statement(), exchange.finish()), (None, Err(failure)));
    }
}

/// The error of a wait for the row says neither who keeps it nor what to do.
#[test]
fn a_break_that_waits_for_a_transaction_says_so() {
    let waited = lock_core::sql::mysql::statement_failed(Some(1205), "Lock wait timeout exceeded");
    let locked = lock_core::sql::postgres::statement_failed(Some("55P03"), "lock timeout");
    for (codec, failure) in [(on_mysql(), waited), (on_postgres(), locked)] {
        let after = |request: &AdminRequest| {
            let mut exchange = codec.encode_admin(request, NOW);
            exchange.handle_failure(failure.clone());
            exchange.finish().expect_err("it failed")
        };
        let told = after(&breaks(7));
        assert!(told.to_string().contains("transaction has the lock pinned"), "{told}");
        assert!(told.to_string().contains(&failure.to_string()), "{told}");
        assert_eq!(told.code(), failure.code());
        assert!(matches!(told, Failure::Rejected { retry: true, .. }), "{told:?}");
        assert_eq!(after(&purge(SHORTEST)), failure);
    }
}

#[test]
fn an_answer_without_rows_is_none() {
    for codec in all() {
        let answer = codec.encode_admin(&status(), NOW).finish();
        assert!(matches!(answer, Err(Failure::Unknown(_))), "{answer:?}");
    }
}
