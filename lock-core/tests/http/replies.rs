//! Answers as Consul gives them, and requests as it wants them.

use super::*;
use lock_core::http::Method;
use lock_core::{ClaimError, Fence, Outcome, Reply, Request, SessionName};

#[test]
fn replies_say_what_consul_said() {
    let granted = |index| Ok(Reply::one(Outcome::Granted(Fence::new(index))));
    let created = format!(r#"{{"ID":"{ID}"}}"#);
    assert_eq!(decode(&create(), 200, &created), Ok(Reply::Opened(session())));
    let known = format!(r#"[{{"ID":"{ID}","Name":"ab","TTL":"30000ms","LockDelay":15e9}}]"#);
    assert_eq!(decode(&renew(), 200, &known), Ok(Reply::one(Outcome::Done)));
    let gone = format!("SessionName id '{ID}' not found");
    assert_eq!(decode(&renew(), 404, &gone), Ok(Reply::one(Outcome::NoSession)));
    assert_eq!(decode(&destroy(), 200, "true\n"), Ok(Reply::one(Outcome::Done)));
    assert_eq!(decode(&lock(), 200, &ours("24")), granted(24));
    assert_eq!(decode(&lock(), 200, &ours("9223372036854775807")), granted(i64::MAX as u64));
    let none = ours("24").replace(r#""Errors":null"#, r#""Errors":[]"#);
    assert_eq!(decode(&lock(), 200, &none), granted(24), "no errors either");
    for session in ["", r#""Session":"","#, r#""Session":null,"#] {
        let freed = entry("locks/a/lock", "25", session);
        assert_eq!(decode(&unlock(), 200, &freed), Ok(Reply::one(Outcome::Done)));
    }
}

#[test]
fn what_is_not_given_has_three_reasons() {
    let cases = [
        (r#"failed to lock key "locks/a/lock", lock is already held"#, Outcome::Busy(None)),
        (r#"failed to lock key "locks/a/lock" due to lock delay"#, Outcome::Delayed),
        (r#"invalid session "00000000-0000-0000-0000-000000000000""#, Outcome::NoSession),
        // Names are no reasons.
        (
            r#"failed to lock key "invalid session due to lock delay", lock is already held"#,
            Outcome::Busy(None),
        ),
        (r#"failed to lock key ", lock is already held" due to lock delay"#, Outcome::Delayed),
    ];
    for (what, locked) in cases {
        assert_eq!(decode(&lock(), 409, &denied(what)), Ok(Reply::one(locked)), "{what}");
    }
    let not_ours =
        r#"failed to unlock key "locks/a/lock", lock isn't held, or is held by another session"#;
    assert_eq!(decode(&unlock(), 409, &denied(not_ours)), Ok(Reply::one(Outcome::NotOwner)));
    let half = [
        r#"failed to unlock key "a" due to lock delay"#,
        r#"lock "a", lock isn't held, or is held by another session"#,
    ];
    let other =
        ["", "missing session", "failed session lookup: index error", "lock is already held"];
    for what in half.into_iter().chain(other) {
        for request in [lock(), unlock()] {
            let result = decode(&request, 409, &denied(what));
            assert!(matches!(result, Err(Failure::Rejected { retry: false, .. })), "{result:?}");
        }
    }
    // One request's refusal is not another's.
    let held = r#"failed to lock key "locks/a/lock", lock is already held"#;
    assert!(decode(&unlock(), 409, &denied(held)).is_err());
    assert!(decode(&lock(), 409, &denied(not_ours)).is_err());
}

#[test]
fn nobody_may_share_a_key() {
    assert_eq!(Codec::default().check(&name("a"), Mode::Exclusive), Ok(()));
    assert_eq!(Codec::default().check(&name("a"), Mode::Shared), Err(ClaimError::NoShared));
}

#[test]
fn a_watch_always_has_an_index_to_go_on_with() {
    let held = |index: &str| watched(index, &format!(r#""Session":"{ID}","#));
    let unchanged = |index| Ok(Reply::one(Outcome::Unchanged { index }));
    let free = || Ok(Reply::one(Outcome::Free { times_overtaken: None }));
    for request in [watch(0), watch(9)] {
        assert_eq!(decode_at(&request, 200, Some("30"), &held("24")), unchanged(30));
        assert_eq!(
            decode_at(&request, 200, Some("2"), &held("24")),
            unchanged(2),
            "it may go back"
        );
        for header in
            [None, Some(""), Some("0"), Some("-1"), Some("1e9"), Some("18446744073709551616")]
        {
            assert_eq!(decode_at(&request, 200, header, &held("24")), unchanged(24), "{header:?}");
            assert_eq!(decode_at(&request, 200, header, &held("0")), unchanged(1), "{header:?}");
            assert_eq!(decode_at(&request, 404, header, ""), free(), "{header:?}");
            assert_eq!(decode_at(&request, 200, header, &watched("0", "")), free(), "{header:?}");
        }
        assert_eq!(decode_at(&request, 404, Some("31"), "anything"), free());
    }
}

#[test]
fn a_free_key_tells_how_often_its_last_holder_was_passed_over() {
    let told = |value: &str, more: &str| {
        let body = watched("24", more).replace(r#""aGk=""#, value);
        match decode(&watch(9), 200, &body) {
            Ok(Reply::Outcomes(all)) => match all[..] {
                [Outcome::Free { times_overtaken }] => times_overtaken,
                _ => None,
            },
            other => panic!("{other:?}"),
        }
    };
    let body = sent(&unlock()).body;
    let (_, rest) = body.split_once(r#""Value":"#).expect("a value is written");
    let (written, _) = rest.split_once(',').expect("and more");
    assert_eq!(told(written, ""), Some(7));
    assert_eq!(told(written, &format!(r#""Session":"{ID}","#)), None, "it is not free");
    let wrong = [
        ("", "nothing"),
        ("aG9zdCAx", "host 1"),
        ("ZnJlZTsgcGFzc2VkIG92ZXI6IA==", "no number"),
        ("ZnJlZTsgcGFzc2VkIG92ZXI6IC0x", "-1"),
        ("ZnJlZTsgcGFzc2VkIG92ZXI6IDQyOTQ5NjcyOTY=", "2^32"),
        ("%%%", "no base64"),
    ];
    for (value, what) in wrong {
        assert_eq!(told(&format!(r#""{value}""#), ""), None, "{what}");
    }
    assert_eq!(told("null", ""), None);
}

#[test]
fn a_watch_asks_the_leader_and_for_less_than_it_may_take() {
    assert_eq!(sent(&watch(0)).path_and_query, "/v1/kv/locks/a/lock?consistent");
    assert_eq!(sent(&watch(0)).waits, Duration::ZERO);
    let path = "/v1/kv/locks/a/lock?consistent&index=9&wait=16000ms";
    assert_eq!(sent(&watch(9)).path_and_query, path);
    assert_eq!(sent(&watch(9)).waits, Duration::from_secs(17));
    for (up_to, wait) in [(Duration::ZERO, "&wait=1ms"), (Duration::MAX, "&wait=600000ms")] {
        let request = Request::Wait {
            session: SessionName::default(),
            claim: claim("a"),
            since: u64::MAX,
            up_to,
            min_uptime: Duration::ZERO,
        };
        assert!(sent(&request).path_and_query.ends_with(wait), "zero would be minutes");
    }
}

#[test]
fn times_are_sent_with_units_and_never_too_short() {
    let nanos = Duration::from_nanos;
    for (time, sent) in [(nanos(0), "0ms"), (nanos(1), "1ms"), (nanos(15_000_000_001), "15001ms")] {
        let request = Request::Open { owner: Owner::new(1), ttl: time };
        let body = super::sent(&request).body;
        let times = format!(r#""TTL":"{sent}","LockDelay":"{sent}""#);
        assert!(body.contains(&times), "{body}");
    }
}

#[test]
fn a_claim_is_the_same_bytes_at_every_repetition() {
    assert_eq!(sent(&lock()), sent(&lock()));
    let request = sent(&lock());
    assert_eq!((request.method, &*request.path_and_query), (Method::Put, "/v1/txn"));
    assert_eq!(request.method.as_str(), "PUT");
    assert!(request.body.contains(r#""Value":"aG9zdCAx""#), "{}", request.body);
    assert!(request.body.contains(r#""Flags":3304740253564472344"#), "{}", request.body);
}

#[test]
fn a_session_is_kept_and_ended_by_its_id() {
    for (request, what) in [(renew(), "renew"), (destroy(), "destroy")] {
        let request = sent(&request);
        assert_eq!(request.path_and_query, format!("/v1/session/{what}/{ID}"));
    }
}

#[test]
fn a_session_cannot_lead_a_request_elsewhere() {
    for id in ["../../agent/leave", "a/b", "a?b#c", "%2e%2e", "\"},{\"", "é"] {
        let session = SessionName::from(id);
        let renew = sent(&Request::KeepAlive { session: session.clone() });
        let rest = renew.path_and_query.strip_prefix("/v1/session/renew/").expect("there");
        assert!(!rest.contains(['/', '?', '#', '"']), "{rest}");
        let claims = [claim("a")].into();
        let unlock = sent(&Request::Release { session, claims, times_overtaken: 0 });
        let id = format!("{id:?}");
        assert!(unlock.body.ends_with(&format!(r#""Session":{id}}}}}]"#)), "{}", unlock.body);
        // Nor is it taken from an answer.
        assert!(decode(&create(), 200, &format!(r#"{{"ID":{id}}}"#)).is_err(), "{id}");
    }
    assert!(decode(&create(), 200, r#"{"ID":""}"#).is_err());
    assert!(decode(&create(), 200, &format!(r#"{{"ID":"{}"}}"#, "a".repeat(65))).is_err());
}

#[test]
fn what_a_status_says_of_a_commands_fate() {
    for request in all() {
        let asks = matches!(request, Request::Wait { .. });
        let fate = |status| match decode(&request, status, "No cluster leader") {
            Err(Failure::Rejected { retry: true, .. }) => "again",
            Err(Failure::Rejected { retry: false, .. }) => "no",
            Err(Failure::Unknown(_)) => "unknown",
            other => panic!("{status} to {request:?}: {other:?}"),
        };
        for status in [301, 302, 307, 308, 400, 401, 403, 405, 413] {
            // A setup was not refused before.
            assert_eq!(fate(status), "again", "{status} to {request:?}");
        }
        assert_eq!(fate(429), "again", "{request:?}");
        for status in [408, 500, 502, 503, 504] {
            assert_eq!(fate(status), if asks { "again" } else { "unknown" }, "{status}");
        }
        for status in [0, 100, 201, 204, 206, 600, 999] {
            assert_eq!(fate(status), "unknown", "{status} to {request:?}");
        }
    }
    let ttl = "Invalid Session TTL '500000000', must be between [10s=24h0m0s]";
    assert!(matches!(decode(&create(), 500, ttl), Err(Failure::Rejected { .. })));
}

#[test]
fn errors_are_one_line_and_name_what_is_missing() {
    let long = format!("one\ntwo\x1b[2J{}", "x".repeat(5000));
    for request in all() {
        for status in [200, 301, 400, 403, 404, 409, 429, 500] {
            for body in [&long, "", &denied(&long.replace(['\n', '\x1b'], "\\n"))] {
                let Err(failure) = decode(&request, status, body) else { continue };
                let text = failure.to_string();
                assert!(text.len() < 500 && !text.contains(char::is_control), "{text:?}");
            }
        }
    }
    let rights =
        r#"key_prefix "locks/" { policy = "write" } session_prefix "" { policy = "write" }"#;
    let by_status = decode(&create(), 403, "Permission denied").expect_err("forbidden");
    let token = "Permission denied: token with AccessorID 'x' lacks permission";
    let in_transaction = decode(&lock(), 409, &denied(token)).expect_err("forbidden");
    for failure in [by_status, in_transaction] {
        assert!(matches!(&failure, Failure::Rejected { retry: true, .. }), "tokens come and go");
        assert!(failure.to_string().contains(rights), "{failure}");
    }
    let hidden = r#"{"Results":[],"Errors":null}"#;
    let failure = decode(&lock(), 200, hidden).expect_err("it may be ours");
    assert!(matches!(&failure, Failure::Unknown(text) if text.contains("ACL")), "{failure}");
}
