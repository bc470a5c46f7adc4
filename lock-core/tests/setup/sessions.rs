//! Sessions that locks cannot be kept with, and what a role may not do.

use super::*;

#[test]
fn transactions_that_write_nothing_are_refused() {
    let refusal = refusal(&mut pg_checked(), pg_row_with(6, Value::Int(1)));
    assert_eq!(refusal, Refusal::ReadOnlyTransactions);
    assert!(refusal.to_string().contains("default_transaction_read_only"));
}

#[test]
fn a_connection_that_was_handed_over_inside_a_transaction_is_refused() {
    let asked = || {
        let mut setup = pg().setup().handed(true);
        assert_eq!(&*runs(&mut setup, None).text, "SAVEPOINT withlock");
        setup
    };
    let fails = |code| postgres::statement_failed(Some(code), "");
    assert_eq!(refusal(&mut asked(), vec![]), Refusal::InTransaction);
    assert_eq!(
        asked().step(Some(Err(fails("25P02")))),
        Step::Refuse(Refusal::InTransaction),
        "one that has failed"
    );
    let mut outside = asked();
    assert_eq!(runs(&mut outside, Some(Err(fails("25P01")))).params, [text(r#""locks""#)]);
    assert_eq!(outside.step(Some(Ok(vec![pg_row()]))), Step::Ready);
    let broken = Failure::Unknown("gone".into());
    assert_eq!(asked().step(Some(Err(broken.clone()))), Step::Failed(broken));
    assert_eq!(lite().setup().handed(true).step(None), lite().setup().step(None));
}

#[test]
fn a_session_with_another_character_set_is_refused() {
    let encoded = |name: &str| pg_checked().step(Some(Ok(pg_row_with(10, text(name)))));
    for name in ["LATIN1", "WIN1252", "EUC_JP", ""] {
        assert_eq!(encoded(name), Step::Refuse(Refusal::NotUtf8), "{name}");
    }
    // Which leaves texts as they are.
    assert_eq!(encoded("SQL_ASCII"), Step::Ready);
}

/// It has the SQLSTATE of a missing right.
#[test]
fn what_row_level_security_denies_is_told_without_a_grant() {
    let text = r#"new row violates row-level security policy for table "locks""#;
    let denied = postgres::statement_failed(Some("42501"), text);
    let mut setup = pg_checked();
    assert_eq!(setup.step(Some(Ok(vec![pg_row()]))), Step::Ready);
    let list = lock_core::admin::AdminRequest::List { after: None };
    let mut exchange = setup.codec().encode_admin(&list, lock_core::Instant::default());
    exchange.handle_failure(denied);
    let told = exchange.finish().expect_err("denied").to_string();
    assert!(told.contains("BYPASSRLS") && !told.contains("GRANT"), "{told}");
}

#[test]
fn what_the_role_may_not_do_is_told_with_the_statement_that_lets_it() {
    let no = || postgres::statement_failed(Some("42501"), "permission denied");
    let mut setup = postgres::codec(TableName::new("ops.locks").expect("good")).setup();
    runs(&mut setup, None);
    assert_eq!(&*runs(&mut setup, Some(Err(no()))).text, "SELECT current_user::text");
    let Step::Failed(failure) = setup.step(Some(Ok(vec![vec![text("a\"b")]]))) else {
        panic!("not failed")
    };
    let grant = r#"GRANT USAGE ON SCHEMA "ops" TO "a""b"; GRANT SELECT, INSERT, UPDATE ON "ops"."locks" TO "a""b""#;
    assert!(failure.to_string().ends_with(grant), "{failure}");
    assert_eq!(failure.code(), no().code());

    let mut missing = pg_missing();
    missing[0][7] = text("public");
    let mut setup = pg_checked();
    let mut step = setup.step(Some(Ok(missing.clone())));
    for _ in 0..20 {
        let Step::Run(statement) = &step else { break };
        let creates = statement.text.starts_with("CREATE");
        step = setup.step(Some(if creates { Err(no()) } else { Ok(missing.clone()) }));
    }
    let Step::Refuse(refusal) = step else { panic!("not refused: {step:?}") };
    let grant = r#"GRANT USAGE, CREATE ON SCHEMA "public" TO "app", or have it created"#;
    assert!(refusal.to_string().contains(grant), "{refusal}");
}
