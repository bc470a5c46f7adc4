//! An operator's requests: what is asked of Consul, what its answers say, and what follows.

use super::*;
use lock_core::Fence;
use lock_core::admin::{AdminRequest, AdminResponse, Hold, LockState, PurgeError, SHORTEST};
use lock_core::http::{MAX_BODY, Method};

fn list(after: Option<&str>) -> AdminRequest {
    AdminRequest::List { after: after.map(String::from) }
}

fn status() -> AdminRequest {
    AdminRequest::Status { name: name("a") }
}

/// Of the hold with the fence 24.
fn breaks() -> AdminRequest {
    AdminRequest::Break { name: name("a"), fence: Fence::new(24) }
}

fn purge() -> AdminRequest {
    AdminRequest::purge(SHORTEST).expect("long enough")
}

fn response(status: u16, body: &str) -> Response<'_> {
    Response { status, index: None, body: body.as_bytes() }
}

fn answer(request: &AdminRequest, status: u16, body: &str) -> Result<AdminResponse, Failure> {
    Codec::default().answer(request, &response(status, body))
}

/// What is sent after the first answer.
fn follow(request: &AdminRequest, status: u16, body: &str) -> Option<(Method, String)> {
    let next = Codec::default().follow(request, &response(status, body)).expect("an answer");
    next.map(|http| (http.method, http.path_and_query))
}

fn key(key: &str, modify_index: &str, session: &str) -> String {
    format!(
        r#"{{"LockIndex":1,"Key":"{key}","Flags":0,"Value":"aG9zdCAx","Session":{session},"CreateIndex":2,"ModifyIndex":{modify_index}}}"#
    )
}

fn held(key: &str) -> String {
    self::key(key, "24", &format!("\"{ID}\""))
}

fn keys(entries: &[String]) -> String {
    format!("[{}]", entries.join(","))
}

fn lock(name: &str, label: Option<&str>) -> LockState {
    LockState::new(name, Fence::new(24), label.map(Hold::new))
}

fn locks(locks: &[LockState]) -> Result<AdminResponse, Failure> {
    Ok(AdminResponse::Locks(locks.to_vec()))
}

#[test]
fn a_request_is_sent_as_one_that_changes_nothing() {
    let one = "/v1/kv/locks/a/lock?consistent";
    for (request, path) in
        [(list(Some("b")), "/v1/kv/locks/?consistent&recurse"), (status(), one), (breaks(), one)]
    {
        let http = Codec::default().encode_admin(&request).expect("it can be asked");
        assert_eq!((http.method.as_str(), &*http.path_and_query), ("GET", path));
        assert_eq!((&*http.body, http.waits), ("", Duration::ZERO));
    }
    // No server was asked, so none refuses.
    let refused = Codec::default().encode_admin(&purge()).expect_err("there are no rows");
    assert_eq!(refused, PurgeError::NoRows);
}

#[test]
fn a_list_shows_the_locks_that_are_held_in_the_order_of_their_names() {
    // In the order of the keys, where "é" is escaped.
    let body = keys(&[
        held("locks/=C3=A9/lock"),
        key("locks/a/lock", "24", "null"),
        held("locks/b/lock"),
        key("locks/c/lock", "24", "\"\""),
        held("locks/d/lock"),
        held("locks/notes"),
    ]);
    let [b, d, e] = ["b", "d", "é"].map(|name| lock(name, Some("host 1")));
    let all = [b, d, e];
    for (after, shown) in
        [(None, &all[..]), (Some("a"), &all), (Some("b"), &all[1..]), (Some("é"), &[])]
    {
        assert_eq!(answer(&list(after), 200, &body), locks(shown), "{after:?}");
    }
}

#[test]
fn one_lock_is_shown_also_if_it_is_free() {
    let shown = |entry: &str| answer(&status(), 200, &keys(&[entry.into()]));
    assert_eq!(shown(&held("locks/a/lock")), locks(&[lock("a", Some("host 1"))]));
    for session in ["null", "\"\""] {
        assert_eq!(shown(&key("locks/a/lock", "24", session)), locks(&[lock("a", None)]));
    }
    let unlabelled = held("locks/a/lock").replace(r#""aG9zdCAx""#, "null");
    assert_eq!(shown(&unlabelled), locks(&[lock("a", Some(""))]));
    for request in [list(None), status()] {
        assert_eq!(answer(&request, 404, ""), locks(&[]), "there is no such key");
    }
}

#[test]
fn a_break_ends_the_session_of_the_hold_that_is_meant_and_no_other() {
    let mine = held("locks/a/lock");
    let destroy = Some((Method::Put, format!("/v1/session/destroy/{ID}")));
    assert_eq!(follow(&breaks(), 200, &keys(std::slice::from_ref(&mine))), destroy);
    assert_eq!(follow(&breaks(), 200, &keys(&[held("locks/b/lock"), mine.clone()])), destroy);
    let others = [
        held("locks/b/lock"),
        key("locks/a/lock", "25", &format!("\"{ID}\"")),
        key("locks/a/lock", "24", "null"),
        key("locks/a/lock", "24", "\"\""),
        key("locks/a/lock", "24", "\"../../agent/leave\""),
    ];
    for other in others {
        let body = keys(&[other]);
        assert_eq!(follow(&breaks(), 200, &body), None, "{body}");
        assert_eq!(answer(&breaks(), 200, &body), Ok(AdminResponse::Broken(None)));
    }
    assert_eq!(follow(&breaks(), 404, ""), None);
    assert_eq!(answer(&breaks(), 404, ""), Ok(AdminResponse::Broken(None)));
    for request in [list(None), status(), purge()] {
        assert_eq!(follow(&request, 200, &keys(std::slice::from_ref(&mine))), None, "{request:?}");
    }
    for body in ["", "{}", &keys(&[key("locks/a/lock", "0", &format!("\"{ID}\""))])] {
        let followed = Codec::default().follow(&breaks(), &response(200, body));
        assert!(matches!(followed, Err(Failure::Unknown(_))), "{followed:?}");
    }
}

#[test]
fn a_break_is_done_when_the_session_has_ended() {
    let followed = |request: &AdminRequest, status, body: &str| {
        Codec::default().followed(request, &response(status, body))
    };
    let broken = Ok(AdminResponse::Broken(Some(Fence::new(25))));
    assert_eq!(followed(&breaks(), 200, "true\n"), broken);
    for (status, body) in [(200, "false"), (200, ""), (200, "1"), (201, "true"), (500, "true")] {
        let result = followed(&breaks(), status, body);
        assert!(matches!(result, Err(Failure::Unknown(_))), "{status} {body}: {result:?}");
    }
    let forbidden = followed(&breaks(), 403, "Permission denied").expect_err("forbidden");
    assert!(forbidden.to_string().contains("the ACL token needs"), "{forbidden}");
    assert!(followed(&status(), 200, "true").is_err(), "nothing follows that");
}

#[test]
fn what_a_status_says_of_a_request() {
    let fate = |request: &AdminRequest, status| match answer(request, status, "No cluster leader") {
        Err(Failure::Rejected { retry: true, .. }) => "again",
        Err(Failure::Rejected { retry: false, .. }) => "no",
        Err(Failure::Unknown(_)) => "unknown",
        other => panic!("{status} to {request:?}: {other:?}"),
    };
    for request in [list(None), status(), breaks(), purge()] {
        let looks = matches!(request, AdminRequest::List { .. } | AdminRequest::Status { .. });
        for status in [301, 400, 403, 409] {
            assert_eq!(fate(&request, status), "no", "{status} to {request:?}");
        }
        assert_eq!(fate(&request, 429), "again", "{request:?}");
        for status in [408, 500, 503] {
            let expected = if looks { "again" } else { "unknown" };
            assert_eq!(fate(&request, status), expected, "{status} to {request:?}");
        }
        assert_eq!(fate(&request, 204), "unknown", "{request:?}");
    }
    for request in [list(None), status()] {
        let zero = keys(&[key("locks/a/lock", "0", "null")]);
        for body in ["", "null", "{}", "[{}]", &zero, &keys(&["1".into()])] {
            let result = answer(&request, 200, body);
            assert!(matches!(result, Err(Failure::Unknown(_))), "{body}: {result:?}");
        }
    }
}

#[test]
fn more_keys_than_fit_into_an_answer_are_refused() {
    for request in [list(None), status()] {
        let mut body = keys(&[held("locks/a/lock")]);
        body += &" ".repeat(MAX_BODY - body.len());
        assert_eq!(answer(&request, 200, &body), locks(&[lock("a", Some("host 1"))]));
        let failure = answer(&request, 200, &(body + " ")).expect_err("too long");
        assert!(failure.to_string().contains("too many keys"), "{failure}");
    }
}
