//! Which statements are prepared on a connection to MySQL, and when.

use lock_core::Failure;
use lock_core::sql::Statement;
use lock_core::sql::mysql::{Prepared, Run, statement_failed};

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
    assert_eq!(prepared.run(&a), Run::Text);
    assert_eq!(prepared.run(&a), Run::Prepare);
    assert_eq!(prepared.prepared(&a, Ok(7)), Ok(()));
    for _ in 0..3 {
        assert_eq!(prepared.run(&a), Run::Execute(7));
    }
    assert_eq!(prepared.run(&b), Run::Text, "each for itself");
    assert_eq!(prepared.run(&b), Run::Prepare);
}

#[test]
fn what_is_not_repeated_is_sent_as_text() {
    let mut prepared = Prepared::<()>::default();
    for _ in 0..3 {
        assert_eq!(prepared.run(&Statement::new("a", [])), Run::Text);
    }
}

#[test]
fn what_cannot_be_prepared_is_sent_as_text_from_then_on() {
    let mut prepared = Prepared::<()>::default();
    let a = repeated("a");
    assert_eq!([prepared.run(&a), prepared.run(&a)], [Run::Text, Run::Prepare]);
    assert_eq!(prepared.prepared(&a, Err(no_room())), Ok(()), "nothing was done");
    for _ in 0..3 {
        assert_eq!(prepared.run(&a), Run::Text);
    }
}

#[test]
fn a_connection_that_broke_over_it_is_told() {
    let mut prepared = Prepared::<()>::default();
    let a = repeated("a");
    assert_eq!([prepared.run(&a), prepared.run(&a)], [Run::Text, Run::Prepare]);
    let broke = statement_failed(None, "no answer in time");
    assert_eq!(prepared.prepared(&a, Err(broke.clone())), Err(broke));
}

#[test]
fn what_was_lost_was_not_run_and_is_sent_as_text_from_then_on() {
    for code in [1243, 1615] {
        let failure = statement_failed(Some(code), "");
        assert!(matches!(failure, Failure::Rejected { .. }), "{failure:?}");
        let mut prepared = Prepared::default();
        let a = repeated("a");
        assert_eq!([prepared.run(&a), prepared.run(&a)], [Run::Text, Run::Prepare]);
        assert_eq!(prepared.prepared(&a, Ok(7)), Ok(()));
        assert_eq!(prepared.run(&a), Run::Execute(7));
        assert!(prepared.was_lost(&a, Some(code)));
        assert_eq!(prepared.run(&a), Run::Text);
        assert!(!prepared.was_lost(&a, Some(code)), "as text, it does not go on for ever");
        assert_eq!(prepared.run(&a), Run::Text);
    }
}

/// After any other error it may have been run, or fails however it is sent.
#[test]
fn all_else_that_fails_is_not_run_again() {
    let mut prepared = Prepared::default();
    let a = repeated("a");
    for code in [1243, 1615] {
        assert!(!prepared.was_lost(&a, Some(code)), "it was never prepared");
    }
    assert_eq!([prepared.run(&a), prepared.run(&a)], [Run::Text, Run::Prepare]);
    assert_eq!(prepared.prepared(&a, Ok(7)), Ok(()));
    for code in [None, Some(1047), Some(1205), Some(1213), Some(1461), Some(2013)] {
        assert!(!prepared.was_lost(&a, code), "{code:?}");
    }
    assert_eq!(prepared.run(&a), Run::Execute(7));
}
