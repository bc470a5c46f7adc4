//! What somebody that waits sees, and the mark that it leaves.

use super::*;
use lock_core::sql::mysql;
use lock_core::{Outcome, Reply, Request};

/// The dialects in which nobody is ever told of a release.
fn codecs() -> [Codec; 2] {
    [sqlite::codec(TableName::default(), "boot-1"), mysql::codec(TableName::default())]
}

fn look(names: &[&str]) -> Request {
    Request::Probe { claims: names.iter().map(|name| claim(name, 1)).collect() }
}

fn row(name: &str, wanted: i64) -> Vec<Value> {
    vec![text(name), text("me"), int(5), int(7), int(wanted), int(8), int(0), int(0)]
}

fn holder(wanted: bool) -> Holder {
    let [held_for, expires_in] = [5, 7].map(Duration::from_micros);
    let mut holder = Holder::new("me", held_for, expires_in);
    holder.wanted = wanted;
    holder
}

fn held(wanted: bool) -> Outcome {
    Outcome::Busy(Some(holder(wanted)))
}

#[test]
fn what_nobody_else_has_may_be_free() {
    for codec in codecs() {
        assert_eq!(
            run(&codec, &look(&["a"]), &[vec![]]),
            Ok(Reply::Outcomes(vec![Outcome::Free { times_overtaken: None }]))
        );
        let reply = Reply::Outcomes(vec![Outcome::Free { times_overtaken: None }, held(true)]);
        assert_eq!(run(&codec, &look(&["a", "b"]), &[vec![row("b", 1)]]), Ok(reply));
        let rows = vec![row("c", 1)];
        let reply = Reply::Outcomes(vec![Outcome::Free { times_overtaken: None }]);
        assert_eq!(run(&codec, &look(&["a"]), &[rows]), Ok(reply), "that was not asked");
    }
}

#[test]
fn who_is_the_first_to_wait_leaves_a_mark_and_nobody_else_does() {
    for codec in codecs() {
        let request = look(&["a", "b", "c"]);
        let mut exchange = codec.encode(&request, NOW);
        exchange.handle_rows(vec![row("a", 1), row("b", 0)]);
        let mark = statement(&exchange);
        assert!(mark.text.contains("SET contended = 1") || mark.text.contains("l.contended = 1"));
        assert!(!mark.durable, "a mark that is lost costs nothing");
        assert_eq!(mark.params, only_b(&codec), "b's alone");
        exchange.handle_rows(vec![]);
        let reply =
            Reply::Outcomes(vec![held(true), held(false), Outcome::Free { times_overtaken: None }]);
        assert_eq!(exchange.finish(), Ok(reply));
    }
}

#[test]
fn who_is_denied_by_a_claim_leaves_the_same_mark() {
    for codec in codecs() {
        let mut exchange = codec.encode(&acquire(vec![claim("b", 1)]), NOW);
        let nothing = if codec == codecs()[0] { vec![] } else { vec![vec![int(0)]] };
        exchange.handle_rows(nothing);
        exchange.handle_rows(vec![row("b", 0)]);
        assert_eq!(statement(&exchange).params, only_b(&codec));
        // It is denied all the same, mark or not.
        exchange.handle_failure(Failure::Unknown("gone".into()));
        let reply = Reply::Outcomes(vec![Outcome::Busy(Some(holder(false)))]);
        assert_eq!(exchange.finish(), Ok(reply));
    }
}

/// The parameters of a statement about the claim of b.
fn only_b(codec: &Codec) -> Vec<Value> {
    let name = if *codec == codecs()[0] { "b" } else { "62" };
    vec![text(name), owner(1)]
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
fn postgres_marks_by_the_statement_that_looks() {
    let postgres = postgres::codec(TableName::default());
    let reply = Reply::Outcomes(vec![held(false), Outcome::Free { times_overtaken: None }]);
    assert_eq!(run(&postgres, &look(&["a", "b"]), &[vec![row("a", 0)]]), Ok(reply));
    let statement = statement(&postgres.encode(&look(&["a"]), NOW));
    assert!(statement.text.contains("SET contended = true") && !statement.durable);
}

/// The clock was set back since it was granted. It is to end in a TTL, unless it was renewed since.
#[test]
fn a_lease_that_ends_later_than_it_can_is_corrected_once_it_was_seen() {
    // SQLite's clock is never set back.
    for (codec, corrects) in codecs().into_iter().zip([false, true]) {
        let mut exchange = codec.encode(&look(&["a", "b"]), NOW);
        let late = |name, expiry| [&row(name, 1)[..6], &[int(expiry), int(0)]].concat();
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
        assert_eq!(exchange.finish(), Ok(Reply::Outcomes(vec![held(true), held(true)])));
    }
}
