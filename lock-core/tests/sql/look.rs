//! The view that a waiter has of a lock, and the ticket that it draws.

use super::*;
use lock_core::sql::mysql;
use lock_core::{Outcome, Place, Reply, Request, Turn};

/// The dialects in which nobody is ever told of a release.
fn codecs() -> [Codec; 2] {
    [sqlite::codec(TableName::default(), "boot-1"), mysql::codec(TableName::default())]
}

fn look(names: &[&str]) -> Request {
    Request::Probe { claims: names.iter().map(|name| claim(name, 1)).collect() }
}

/// A row of a lock that another has, or nobody: 0 or 2.
fn row(name: &str, ticket: i64, state: i64) -> Vec<Value> {
    let times = [int(5), int(7)];
    let rest = [int(ticket), int(3), int(8), int(0), int(state)];
    [&[text(name), text("me")][..], &times, &rest].concat()
}

fn held(ticket: Option<u64>) -> Outcome {
    let [held_for, expires_in] = [5, 7].map(Duration::from_micros);
    let place = ticket.map(|ticket| Place { ticket, ahead: 3 });
    let mut holder = Holder::new("me", held_for, expires_in);
    holder.place = place;
    Outcome::Busy(Some(holder))
}

fn waits(name: &str) -> Claim {
    Claim { turn: Turn::Of(None), ..claim(name, 1) }
}

const FREE: Outcome = Outcome::Free;

#[test]
fn what_nobody_else_has_may_be_free() {
    for codec in codecs() {
        let free = Reply::Outcomes(vec![FREE]);
        assert_eq!(run(&codec, &look(&["a"]), &[vec![]]), Ok(free.clone()));
        let reply = Reply::Outcomes(vec![FREE, held(None)]);
        assert_eq!(run(&codec, &look(&["a", "b"]), &[vec![row("b", 0, 0)]]), Ok(reply));
        let rows = vec![row("c", 0, 0)];
        assert_eq!(run(&codec, &look(&["a"]), &[rows]), Ok(free), "that was not asked");
    }
}

#[test]
fn who_waits_and_has_no_ticket_draws_one() {
    for codec in codecs() {
        let claims = ["a", "b", "c", "d"].map(waits).to_vec();
        let mut exchange = codec.encode(&Request::Probe { claims }, NOW);
        exchange.handle_rows(vec![row("a", 9, 0), row("b", 0, 0), row("d", 0, 2)]);
        for (name, ticket) in [("b", 10), ("d", 11)] {
            let draw = statement(&exchange);
            assert!(draw.text.contains("queue") && !draw.text.contains("fence"), "{}", draw.text);
            assert!(!draw.durable, "a ticket that is lost costs nothing");
            assert_eq!(draw.params, [text(name), owner(1)]);
            exchange.handle_rows(vec![vec![int(ticket)]]);
        }
        let reserved = Outcome::Reserved(Place { ticket: 11, ahead: 3 });
        let reply = Reply::Outcomes(vec![held(Some(9)), held(Some(10)), FREE, reserved]);
        assert_eq!(exchange.finish(), Ok(reply));
    }
}

#[test]
fn who_is_denied_by_a_claim_draws_one_too() {
    for codec in codecs() {
        let mut exchange = codec.encode(&acquire(vec![waits("b")]), NOW);
        let nothing = if codec == codecs()[0] { vec![] } else { vec![vec![int(0)]] };
        exchange.handle_rows(nothing);
        exchange.handle_rows(vec![row("b", 0, 0)]);
        assert_eq!(statement(&exchange).params, [text("b"), owner(1)]);
        // It is denied all the same, with a ticket or without.
        exchange.handle_failure(Failure::Unknown("gone".into()));
        assert_eq!(exchange.finish(), Ok(Reply::Outcomes(vec![held(None)])));
    }
}

/// A purge was faster, or the row is its own by now.
#[test]
fn who_finds_no_row_to_draw_from_has_no_place() {
    for codec in codecs() {
        for (state, outcome) in [(0, held(None)), (2, Outcome::Busy(None))] {
            let mut exchange = codec.encode(&Request::Probe { claims: vec![waits("a")] }, NOW);
            exchange.handle_rows(vec![row("a", 0, state)]);
            let nothing = if codec == codecs()[0] { vec![] } else { vec![vec![int(0)]] };
            exchange.handle_rows(nothing);
            assert_eq!(exchange.finish(), Ok(Reply::Outcomes(vec![outcome])));
        }
    }
}

#[test]
fn who_does_not_wait_draws_none() {
    for codec in codecs() {
        let rows = [vec![row("a", 0, 0)]];
        assert_eq!(run(&codec, &look(&["a"]), &rows), Ok(Reply::Outcomes(vec![held(None)])));
    }
}

/// Each takes a statement.
#[test]
fn a_request_about_many_draws_a_few_and_the_others_the_next_time() {
    for codec in codecs() {
        let names: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
        let claims = names.iter().map(|name| waits(name)).collect();
        let mut exchange = codec.encode(&Request::Probe { claims }, NOW);
        exchange.handle_rows(names.iter().map(|name| row(name, 0, 0)).collect());
        let mut drawn = 0;
        while exchange.poll_statement().is_some() {
            drawn += 1;
            exchange.handle_rows(vec![vec![int(drawn)]]);
        }
        assert_eq!(drawn, 8);
        let Ok(Reply::Outcomes(outcomes)) = exchange.finish() else { panic!("no answer") };
        assert_eq!(outcomes[7..9], [held(Some(8)), held(None)]);
    }
}

/// The number by which a statement knows whose turn it is.
#[test]
fn statements_that_want_a_lock_have_its_turn() {
    // Every JSON reader takes it for an integer.
    const LAST: i64 = (1 << 53) - 1;
    let turns = [
        (Turn::Any, 0),
        (Turn::Of(None), LAST),
        (Turn::Of(Some(7)), 7),
        (Turn::Loose(None), -LAST),
        (Turn::Loose(Some(7)), -7),
    ];
    for (turn, number) in turns {
        let claims = vec![Claim { turn, ..claim("a", 1) }];
        for codec in codecs().into_iter().chain([postgres::codec(TableName::default())]) {
            for request in [acquire(claims.clone()), Request::Probe { claims: claims.clone() }] {
                let params = statement(&codec.encode(&request, NOW)).params;
                let expected = [int(number), Value::Texts(vec![number.to_string()])];
                assert!(params.iter().any(|param| expected.contains(param)), "{params:?}");
            }
        }
    }
}

#[test]
fn a_look_that_fails_tells_nothing() {
    for codec in codecs() {
        let mut exchange = codec.encode(&look(&["a"]), NOW);
        exchange.handle_failure(Failure::NotSent("gone".into()));
        assert_eq!(exchange.finish(), Err(Failure::NotSent("gone".into())));
        let result = run(&codec, &look(&["a"]), &[vec![vec![text("a")]]]);
        assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
    }
}

#[test]
fn a_look_waits_for_no_disk() {
    for codec in codecs() {
        assert!(!statement(&codec.encode(&look(&["a"]), NOW)).durable);
    }
}

#[test]
fn postgres_draws_by_the_statement_that_looks() {
    let postgres = postgres::codec(TableName::default());
    let request = Request::Probe { claims: ["a", "b"].map(waits).to_vec() };
    let reply = Reply::Outcomes(vec![held(Some(9)), FREE]);
    assert_eq!(run(&postgres, &request, &[vec![row("a", 9, 0)]]), Ok(reply));
    let statement = statement(&postgres.encode(&request, NOW));
    assert!(statement.text.contains("SET queue =") && !statement.durable);
}

/// The clock was set back since it was granted. It is to end in a TTL, unless it was renewed since.
#[test]
fn a_lease_that_ends_later_than_it_can_is_corrected_once_it_was_seen() {
    // SQLite's clock is never set back.
    for (codec, corrects) in codecs().into_iter().zip([false, true]) {
        let mut exchange = codec.encode(&look(&["a", "b"]), NOW);
        let late = |name, expiry| [&row(name, 0, 0)[..7], &[int(expiry), int(0)]].concat();
        exchange.handle_rows(vec![late("a", 4_000), late("b", 5_000)]);
        for (name, expiry) in [("a", 4_000), ("b", 5_000)] {
            let correct = exchange.poll_statement();
            assert_eq!(correct.is_some(), corrects, "{name}");
            let Some(correct) = correct else { continue };
            assert_eq!(correct.params, [text(name), int(8), int(expiry)]);
            assert!(correct.text.contains("fence = ?") && correct.text.contains("expires_us = ?"));
            assert!(!correct.durable && !correct.repeated);
            match name {
                "a" => exchange.handle_rows(vec![]),
                // It is late again the next time.
                _ => exchange.handle_failure(Failure::Unknown("gone quiet".into())),
            }
        }
        assert_eq!(exchange.finish(), Ok(Reply::Outcomes(vec![held(None), held(None)])));
    }
}
