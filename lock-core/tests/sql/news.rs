//! Who may share a lock, and who is told of a release.

use super::*;
use lock_core::sql::mysql;
use lock_core::{ClaimError, News, Notification, Outcome, Reply, Request, SessionName};

fn listen() -> Request {
    Request::Subscribe { up_to: Duration::from_secs(1) }
}

fn all() -> [Codec; 3] {
    let [postgres, sqlite] = codecs();
    [postgres, sqlite, mysql::codec(TableName::default())]
}

#[test]
fn nobody_may_share_a_row() {
    let name = LockName::new("a").expect("good");
    for codec in all() {
        assert_eq!(codec.check(&name, Mode::Exclusive), Ok(()));
        assert_eq!(codec.check(&name, Mode::Shared), Err(ClaimError::NoShared));
    }
}

#[test]
fn postgres_listens_by_one_statement_for_one_table() {
    let table = TableName::new("ops.locks").expect("good");
    let exchange = postgres::codec(table).encode(&listen(), NOW);
    let sent = statement(&exchange);
    assert!(sent.text.contains("LISTEN") && sent.text.contains(r#"'"ops"."locks"'"#), "{sent:?}");
    assert_eq!(sent.params, []);
    let [postgres, _, _] = all();
    assert_eq!(run(&postgres, &listen(), &[vec![]]), Ok(Reply::News(News::Begun)));
    let mut exchange = postgres.encode(&listen(), NOW);
    exchange.handle_failure(Failure::Unknown("gone".into()));
    assert_eq!(exchange.finish(), Err(Failure::Unknown("gone".into())));
}

#[test]
fn a_probe_has_a_payload_that_no_name_can_be() {
    let [codec, sqlite, mysql] = all();
    let number = 0xfedc_ba98_7654_3210_0123_4567_89ab_cdef;
    let probe = Request::Ping { number };
    let exchange = codec.encode(&probe, NOW);
    let sent = statement(&exchange);
    assert!(sent.text.contains("pg_notify") && !sent.durable, "{sent:?}");
    let [Value::Text(payload)] = &sent.params[..] else { panic!("{sent:?}") };
    assert!(LockName::new(payload).is_err(), "{payload:?}");
    assert_eq!(postgres::notification(payload), Some(Notification::Ping(number)));
    assert_eq!(run(&codec, &probe, &[vec![vec![Value::Int(1)]]]), Ok(Reply::one(Outcome::Done)));
    for rows in [vec![], vec![vec![Value::Null]]] {
        assert!(matches!(run(&codec, &probe, &[rows]), Err(Failure::Unknown(_))));
    }
    for codec in [sqlite, mysql] {
        assert!(matches!(run(&codec, &probe, &[]), Err(Failure::Unknown(_))));
    }
}

#[test]
fn a_notification_is_about_a_name_or_a_probe() {
    let name = LockName::new("a").expect("good");
    let freed = Notification::Freed { name, ticket: 1 };
    assert_eq!(postgres::notification("\u{2}1 0 a"), Some(freed));
    for nothing in ["", "a", "\u{1}", "\u{1}x", "\u{2}1", "\u{2}1 0 a\u{1}1"] {
        assert_eq!(postgres::notification(nothing), None, "{nothing:?}");
    }
}

#[test]
fn servers_that_tell_nothing_are_not_asked_to() {
    let [_, sqlite, mysql] = all();
    for codec in [sqlite, mysql] {
        let result = run(&codec, &listen(), &[]);
        assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
    }
}

fn full() -> Failure {
    postgres::statement_failed(Some("54000"), "too many notifications in the NOTIFY queue")
}

/// Waiters find out later. A lock that stays taken would be worse.
#[test]
fn what_cannot_be_told_is_released_all_the_same() {
    let [postgres, _] = codecs();
    for request in [
        release_ab(),
        Request::Release {
            passed_over: None,
            session: SessionName::default(),
            claims: vec![claim("a", 0xa)],
        },
    ] {
        let mut exchange = postgres.encode(&request, NOW);
        let told = statement(&exchange);
        exchange.handle_failure(full());
        let untold = statement(&exchange);
        assert_eq!((&told.params, told.repeated), (&untold.params, untold.repeated));
        assert!(told.text.contains("pg_notify") && !untold.text.contains("pg_notify"));
        let mut again = exchange.clone();
        exchange.handle_rows(vec![vec![text("a"), int(1)]]);
        let Ok(Reply::Outcomes(freed)) = exchange.finish() else { panic!("not freed") };
        assert_eq!(freed[0], Outcome::DoneContended);
        again.handle_failure(full());
        assert_eq!(again.finish(), Err(full()), "once");
    }
}

#[test]
fn nothing_but_a_release_is_repeated_untold() {
    let [postgres, sqlite] = codecs();
    let refused = postgres::statement_failed(Some("42501"), "");
    for (codec, request, failure) in [
        (&postgres, acquire_ab(), full()),
        (&postgres, renew_ab(), full()),
        (&postgres, listen(), full()),
        (&postgres, release_ab(), refused),
        (&sqlite, release_ab(), full()),
    ] {
        let mut exchange = codec.encode(&request, NOW);
        exchange.handle_failure(failure.clone());
        assert_eq!(exchange.finish(), Err(failure));
    }
}
