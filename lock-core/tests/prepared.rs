//! Which statements are prepared on a connection, and when.

use lock_core::Failure;
use lock_core::sql::mysql::statement_failed;
use lock_core::sql::{Prepared, Run, Statement, postgres};
use std::time::Duration;

/// How long an answer takes, and how much time there is.
const SOON: Duration = Duration::from_millis(1);
const PLENTY: Duration = Duration::from_secs(1);

fn repeated(text: &str) -> Statement {
    let mut statement = Statement::new(text, []);
    statement.repeated = true;
    statement
}

/// What the server says when it has no room for one more.
fn no_room() -> Failure {
    statement_failed(Some(1461), "")
}

#[test]
fn what_is_repeated_is_prepared_the_second_time() {
    let mut prepared = Prepared::default();
    let [a, b] = ["a", "b"].map(repeated);
    assert_eq!(prepared.run(&a, PLENTY), Run::Text);
    assert_eq!(prepared.run(&a, PLENTY), Run::Prepare);
    assert_eq!(prepared.prepared(&a, Ok(7), SOON, PLENTY), Ok(()));
    for _ in 0..3 {
        assert_eq!(prepared.run(&a, PLENTY), Run::Execute(7));
    }
    assert_eq!(prepared.run(&b, PLENTY), Run::Text, "each for itself");
    assert_eq!(prepared.run(&b, PLENTY), Run::Prepare);
}

#[test]
fn what_is_not_repeated_is_sent_as_text() {
    let mut prepared = Prepared::<()>::default();
    for _ in 0..3 {
        assert_eq!(prepared.run(&Statement::new("a", []), PLENTY), Run::Text);
    }
}

#[test]
fn what_cannot_be_prepared_is_sent_as_text_from_then_on() {
    let mut prepared = Prepared::<()>::default();
    let a = repeated("a");
    assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
    assert_eq!(prepared.prepared(&a, Err(no_room()), SOON, PLENTY), Ok(()), "nothing was done");
    for _ in 0..3 {
        assert_eq!(prepared.run(&a, PLENTY), Run::Text);
    }
}

#[test]
fn a_connection_that_broke_over_it_is_told() {
    let mut prepared = Prepared::<()>::default();
    let a = repeated("a");
    assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
    let broke = statement_failed(None, "no answer in time");
    assert_eq!(prepared.prepared(&a, Err(broke.clone()), SOON, PLENTY), Err(broke));
}

/// The failures of a statement that was not run because it is not, or no longer, prepared.
fn lost() -> [Failure; 4] {
    [
        statement_failed(Some(1243), ""),
        statement_failed(Some(1615), ""),
        postgres::statement_failed(Some("26000"), ""),
        postgres::statement_failed(Some("0A000"), ""),
    ]
}

#[test]
fn what_was_lost_is_prepared_anew_once_and_then_sent_as_text() {
    for failure in lost() {
        assert!(matches!(failure, Failure::Rejected { .. }), "{failure:?}");
        let mut prepared = Prepared::default();
        let a = repeated("a");
        assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
        assert_eq!(prepared.prepared(&a, Ok(7), SOON, PLENTY), Ok(()));
        assert_eq!(prepared.run(&a, PLENTY), Run::Execute(7));
        assert!(prepared.was_lost(&a, &failure));
        assert_eq!(prepared.run(&a, PLENTY), Run::Prepare);
        assert_eq!(prepared.prepared(&a, Ok(8), SOON, PLENTY), Ok(()));
        assert_eq!(prepared.run(&a, PLENTY), Run::Execute(8));
        assert_eq!(prepared.run(&a, PLENTY), Run::Execute(8));
        assert!(prepared.was_lost(&a, &failure));
        assert_eq!(prepared.run(&a, PLENTY), Run::Text);
        assert!(!prepared.was_lost(&a, &failure), "as text, it does not go on for ever");
        assert_eq!(prepared.run(&a, PLENTY), Run::Text);
    }
}

#[test]
fn what_cannot_be_prepared_anew_is_sent_as_text() {
    let taken = postgres::statement_failed(Some("42P05"), "");
    for lost in lost() {
        let mut prepared = Prepared::default();
        let a = repeated("a");
        assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
        assert_eq!(prepared.prepared(&a, Ok(7), SOON, PLENTY), Ok(()));
        assert!(prepared.was_lost(&a, &lost));
        assert_eq!(prepared.run(&a, PLENTY), Run::Prepare);
        assert_eq!(prepared.prepared(&a, Err(taken.clone()), SOON, PLENTY), Ok(()));
        assert_eq!(prepared.run(&a, PLENTY), Run::Text);
    }
}

/// Somebody changes the table just now, say. Nothing was run, and the statement may be prepared later.
#[test]
fn what_cannot_be_prepared_just_now_is_told_and_tried_again() {
    let mut prepared = Prepared::default();
    let a = repeated("a");
    let busy = postgres::statement_failed(Some("55P03"), "");
    assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
    assert_eq!(prepared.prepared(&a, Err(busy.clone()), SOON, PLENTY), Err(busy));
    assert_eq!(prepared.run(&a, PLENTY), Run::Prepare);
    assert_eq!(prepared.prepared(&a, Ok(7), SOON, PLENTY), Ok(()));
    assert_eq!(prepared.run(&a, PLENTY), Run::Execute(7));
}

/// After any other error it may have been run, or fails however it is sent.
#[test]
fn all_else_that_fails_is_not_run_again() {
    let mut prepared = Prepared::default();
    let a = repeated("a");
    for failure in lost() {
        assert!(!prepared.was_lost(&a, &failure), "it was never prepared");
    }
    assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
    assert_eq!(prepared.prepared(&a, Ok(7), SOON, PLENTY), Ok(()));
    for code in [None, Some(1047), Some(1205), Some(1213), Some(1461), Some(2013)] {
        assert!(!prepared.was_lost(&a, &statement_failed(code, "")), "{code:?}");
    }
    for code in [None, Some("40001"), Some("42501"), Some("42P05"), Some("57P01")] {
        assert!(!prepared.was_lost(&a, &postgres::statement_failed(code, "")), "{code:?}");
    }
    assert_eq!(prepared.run(&a, PLENTY), Run::Execute(7));
}

#[test]
fn nothing_is_prepared_without_time_for_two_answers() {
    let a = repeated("a");
    let (slow, late) = (PLENTY / 2 + SOON, PLENTY / 2);
    let mut prepared = Prepared::default();
    assert_eq!(prepared.run(&a, PLENTY), Run::Text);
    prepared.ran(slow);
    for _ in 0..3 {
        assert_eq!(prepared.run(&a, PLENTY), Run::Text, "the last answer took {slow:?}");
    }
    prepared.ran(late);
    assert_eq!(prepared.run(&a, PLENTY), Run::Prepare);
    assert_eq!(prepared.prepared(&a, Ok(7), late, late), Ok(()));
    assert_eq!(prepared.run(&a, late), Run::Execute(7));
}

#[test]
fn what_was_lost_is_not_prepared_anew_without_time_for_it() {
    let a = repeated("a");
    let mut prepared = Prepared::default();
    assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
    assert_eq!(prepared.prepared(&a, Ok(7), SOON, PLENTY), Ok(()));
    assert!(prepared.was_lost(&a, &statement_failed(Some(1243), "")));
    prepared.ran(PLENTY);
    assert_eq!(prepared.run(&a, PLENTY), Run::Text);
    prepared.ran(SOON);
    assert_eq!(prepared.run(&a, PLENTY), Run::Prepare, "later");
}

#[test]
fn what_took_too_long_to_prepare_is_executed_the_next_time() {
    let a = repeated("a");
    let mut prepared = Prepared::default();
    assert_eq!([prepared.run(&a, PLENTY), prepared.run(&a, PLENTY)], [Run::Text, Run::Prepare]);
    let late = prepared.prepared(&a, Ok(7), PLENTY, PLENTY - SOON);
    assert!(matches!(late, Err(Failure::NotSent(_))), "{late:?}");
    assert_eq!(prepared.run(&a, PLENTY), Run::Execute(7));
}
