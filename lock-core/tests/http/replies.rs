//! Answers as Consul gives them, and requests as it wants them.

use super::*;
use lock_core::http::{MAX_BODY, Method};
use lock_core::{ClaimError, Fence, Outcome, Place, Reply, Request, SessionName};

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
    let free = || Ok(Reply::one(Outcome::Free));
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

/// The entry of a session in the line of the lock `a`.
fn waits(session: &str, made: u64) -> String {
    format!(
        r#"{{"KV":{{"Key":"locks/a/lock=line/{session}","Session":"{session}","Value":null,"CreateIndex":{made},"ModifyIndex":{made}}}}}"#
    )
}

fn results(entries: &[String]) -> String {
    format!(r#"{{"Results":[{}],"Errors":null}}"#, entries.join(","))
}

fn join() -> Request {
    Request::Join { session: session(), claims: [claim("a")].into() }
}

#[test]
fn a_waiter_is_behind_the_last_that_joined_before_it() {
    let place = |entries: &[String]| match decode(&join(), 200, &results(entries)) {
        Ok(Reply::Outcomes(all)) => match &all[..] {
            [Outcome::InLine { place, ahead }] => (place.ticket, place.ahead, ahead.clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let own = waits(ID, 30);
    assert_eq!(place(&[own.clone(), own.clone()]), (30, 0, None));
    let all = [own.clone(), waits("b", 9), waits("a", 20), own.clone(), waits("c", 31)];
    assert_eq!(place(&all), (30, 2, Some(("a".into(), 20))));
    // Keys that nobody has, or that are not of this line, are nobody's place.
    let left = waits("a", 20).replace(r#""Session":"a","#, "");
    let wrong = waits("a", 20).replace("lock=line", "lock=2Eine");
    let other = waits("a", 20).replace(r#""Session":"a""#, r#""Session":"b""#);
    assert_eq!(place(&[own.clone(), left, wrong, other, own.clone()]), (30, 0, None));
    for bad in [&[][..], &[waits("a", 20)], &[waits(ID, 0)]] {
        assert!(decode(&join(), 200, &results(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn a_waiter_whose_session_has_ended_has_no_place() {
    let gone = Ok(Reply::one(Outcome::NoSession));
    let delayed =
        denied(&format!(r#"failed to lock key "locks/a/lock=line/{ID}" due to lock delay"#));
    assert_eq!(decode(&join(), 409, &delayed), gone);
    assert_eq!(decode(&join(), 409, &denied(&format!(r#"invalid session "{ID}""#))), gone);
}

#[test]
fn a_release_tells_whether_others_wait() {
    let freed = r#"{"KV":{"Key":"locks/a/lock","Value":null,"CreateIndex":3,"ModifyIndex":32}}"#;
    let told = |entries: &[String]| {
        let all = [&[freed.to_string()], entries].concat();
        decode(&unlock(), 200, &results(&all))
    };
    let (done, contended) = (Reply::one(Outcome::Done), Reply::one(Outcome::DoneContended));
    assert_eq!(told(&[]), Ok(done.clone()));
    assert_eq!(told(&[waits(ID, 30)]), Ok(done), "its own");
    assert_eq!(told(&[waits(ID, 30), waits("a", 31)]), Ok(contended));
    assert!(decode(&unlock(), 200, &results(&[waits("a", 31)])).is_err(), "the lock comes first");
}

#[test]
fn a_line_that_is_too_long_to_be_read_leaves_its_waiters_to_wait_for_the_lock() {
    let long = " ".repeat(MAX_BODY + 1);
    let (place, ahead) = (Place { ticket: 1, ahead: 0 }, None);
    let first = Reply::one(Outcome::InLine { place, ahead });
    assert_eq!(decode(&join(), 200, &long), Ok(first));
    assert!(decode(&join(), 500, &long).is_err());
}

#[test]
fn a_waiter_watches_the_entry_ahead() {
    let watch = Request::Wait {
        behind: Some("b".into()),
        session: SessionName::default(),
        claim: claim("a"),
        since: 9,
        up_to: Duration::from_secs(17),
        min_uptime: Duration::ZERO,
    };
    let path = "/v1/kv/locks/a/lock%3Dline/b?consistent&index=9&wait=16000ms";
    assert_eq!(sent(&watch).path_and_query, path);
    let entry = |made| waits("b", made).replace(r#"{"KV":"#, "[").replace("}}", "}]");
    let unchanged = Ok(Reply::one(Outcome::Unchanged { index: 9 }));
    assert_eq!(decode_at(&watch, 200, None, &entry(9)), unchanged);
    // It joins the line again, and changes its entry: it is still ahead.
    let changed = entry(8).replace(r#""ModifyIndex":8"#, r#""ModifyIndex":12"#);
    assert_eq!(
        decode_at(&watch, 200, None, &changed),
        Ok(Reply::one(Outcome::Unchanged { index: 12 }))
    );
    // It has left the line, and joined it again.
    assert_eq!(decode_at(&watch, 200, Some("12"), &entry(12)), Ok(Reply::one(Outcome::Free)));
    assert_eq!(decode(&watch, 404, ""), Ok(Reply::one(Outcome::Free)));
    assert!(decode(&watch, 200, &watched("24", "")).is_err(), "another key");
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
            behind: None,
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
        let unlock = sent(&Request::Release { passed_over: None, session, claims });
        let id = format!("{id:?}");
        assert!(unlock.body.contains(&format!(r#""Session":{id}}}}}"#)), "{}", unlock.body);
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
