//! What the errors of servers say, and the settings that a session begins with.

use lock_core::config::Error;
use lock_core::sql::{ConnectError, Refusal, mysql, postgres, sqlite};
use lock_core::{Code, Failure};
use std::time::Duration;

#[test]
fn what_a_server_error_says_about_a_statement() {
    let told = |code| format!("a lock b (SQLSTATE {code})");
    let fails = |code| postgres::statement_failed(Some(code), " a lock\nb\n");
    for code in ["08000", "08003", "08006", "08P01", "57P01", "57P02", "57P03", "57P05", "25P03"] {
        assert_eq!(fails(code), Failure::Unknown(told(code)));
    }
    for code in
        ["40001", "40P01", "55P03", "57014", "53000", "53100", "53200", "53300", "58030", "25006"]
    {
        let code_of = Code::sql_state(code);
        assert_eq!(fails(code), Failure::not_now(told(code)).with_code(code_of));
    }
    for code in ["42501", "42P01", "42703", "23505", "22001", "XX000", "P0001", "", "0"] {
        let code_of = Code::sql_state(code);
        assert_eq!(fails(code), Failure::refused(told(code)).with_code(code_of));
    }
    assert_eq!(postgres::statement_failed(None, "gone\n"), Failure::Unknown("gone".into()));
}

#[test]
fn what_a_server_error_says_about_a_connection() {
    let told = |code| format!("no (SQLSTATE {code})");
    for code in ["08001", "08006", "53300", "57P01", "57P03"] {
        assert_eq!(postgres::connect_failed(Some(code), "no"), Failure::NotSent(told(code)));
    }
    for code in ["28P01", "28000", "3D000", "42704", "57014"] {
        let message = told(code);
        let refused = Failure::refused(message).with_code(Code::sql_state(code));
        assert_eq!(postgres::connect_failed(Some(code), "no"), refused);
    }
    assert_eq!(postgres::connect_failed(None, "no route"), Failure::NotSent("no route".into()));
}

#[test]
fn a_pooler_that_refuses_a_parameter_is_named_and_others_are_only_away() {
    let fails = |code, message| postgres::connect_failed(Some(code), message);
    for (code, parameter) in [
        ("08P01", "unsupported startup parameter: options"),
        ("08P01", "unsupported startup parameter in options: withlock.own"),
        ("0A000", "command-line options are not supported"),
    ] {
        let refused = fails(code, parameter);
        assert!(postgres::refuses_settings(&refused), "{refused:?}");
        let told = refused.to_string();
        assert!(told.contains("pooler") && told.contains(parameter), "{told}");
    }
    // Its server is down, or all its connections are taken: not for ever.
    for why in
        ["server login has been failing", "query_wait_timeout", "no more connections allowed"]
    {
        let away = fails("08P01", why);
        assert!(matches!(away, Failure::NotSent(_)), "{away:?}");
        assert!(!postgres::refuses_settings(&away));
    }
    assert!(!postgres::refuses_settings(&fails("28P01", "startup parameter")));
}

#[test]
fn only_the_options_of_others_are_left_without_ours() {
    let ours = postgres::session_options(Duration::from_secs(5));
    assert_eq!(postgres::without_session_options(&ours), "");
    let both = format!("-c search_path=jobs {ours}");
    assert_eq!(postgres::without_session_options(&both), "-c search_path=jobs");
    assert_eq!(postgres::without_session_options("-c a.b=c"), "-c a.b=c");
}

#[test]
fn what_an_error_of_sqlite_says_about_a_statement() {
    let message = || "a b".to_string();
    for code in [5, 6, 7, 9, 13, 15] {
        let again = Failure::not_now(message()).with_code(Some(Code::Sqlite(code)));
        assert_eq!(sqlite::statement_failed(Some(code), "a\nb"), again);
    }
    assert_eq!(sqlite::statement_failed(Some(10), "a\nb"), Failure::Unknown(message()));
    for code in [1, 3, 8, 11, 14, 17, 19, 20, 26, -1] {
        let refused = Failure::refused(message()).with_code(Some(Code::Sqlite(code)));
        assert_eq!(sqlite::statement_failed(Some(code), "a\nb"), refused);
    }
    let refused = Failure::refused(message());
    assert_eq!(sqlite::statement_failed(None, "a\nb"), refused);
}

#[test]
fn a_session_gives_every_statement_some_time() {
    assert!(postgres::session_options(Duration::ZERO).contains("statement_timeout=1 "));
    let options = postgres::session_options(Duration::from_millis(5_000));
    assert!(options.contains("statement_timeout=5000 "));
    assert!(options.contains(r"default_transaction_isolation=read\ committed"));
    assert!(options.contains("plan_cache_mode=force_generic_plan"), "planning costs more");
    assert!(options.contains("enable_seqscan=off"), "the table may have been small then");
}

#[test]
fn a_server_that_takes_no_writes_is_tried_again_over_another_connection() {
    let read_only = [
        postgres::statement_failed(Some("25006"), "read-only"),
        mysql::statement_failed(Some(1290), "read-only"),
        mysql::statement_failed(Some(1792), "read-only"),
        mysql::statement_failed(Some(1836), "read-only"),
        mysql::statement_failed(Some(1047), "WSREP has not yet prepared node for application use"),
    ];
    for failure in read_only {
        assert!(matches!(failure, Failure::Rejected { retry: true, .. }), "{failure:?}");
        assert!(failure.is_read_only(), "{failure:?}");
    }
    let deadlock = postgres::statement_failed(Some("40P01"), "deadlock");
    assert!(!deadlock.is_read_only());
}

#[test]
fn what_is_wrong_with_a_server_that_was_fit_before_may_pass() {
    let password = postgres::connect_failed(Some("28P01"), "no");
    for error in [
        ConnectError::UnsafeServer(Refusal::Standby),
        ConnectError::UnsafeServer(Refusal::ReadOnly),
        ConnectError::Failed(password),
        ConnectError::Failed(Failure::Unknown("broken".into())),
    ] {
        let failure = error.clone().before_request();
        assert!(matches!(failure, Failure::NotSent(_)), "{error:?}: {failure:?}");
    }
    let gone = Failure::Gone("deleted".into());
    assert_eq!(ConnectError::Failed(gone.clone()).before_request(), gone);
    let refused = Failure::refused("gone".into()).with_code(Some(Code::NoWay));
    assert_eq!(ConnectError::NoWay("gone".into()).before_request(), refused);
    // The server said nothing.
    let told = Error::NoConnection("gone".into());
    assert_eq!(Error::from(refused), told);
    assert_eq!(Error::from(ConnectError::NoWay("gone".into())), told);
}
