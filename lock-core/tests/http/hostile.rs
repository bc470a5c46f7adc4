//! Answers that no Consul gives.

use super::*;
use lock_core::http::MAX_BODY;
use lock_core::{Outcome, Reply, Request};
use proptest::prelude::*;

/// Answers that are nearly right.
fn hostile() -> Vec<String> {
    let id = format!(r#""Session":"{ID}","#);
    let mut bodies: Vec<String> = [
        "",
        "null",
        "true false",
        "{}",
        "[]",
        "0",
        "\"",
        "[[]]",
        "<html>ok</html>",
        "\u{feff}true",
        r#"{"Results":null,"Errors":null}"#,
        r#"{"Results":[null],"Errors":null}"#,
        r#"{"Results":[{}],"Errors":null}"#,
        r#"{"Results":[{"KV":null}],"Errors":null}"#,
        r#"{"Results":{},"Errors":null}"#,
        r#"{"Errors":null}"#,
    ]
    .map(String::from)
    .into();
    for index in [
        "0",
        "-1",
        "-0",
        "24.0",
        "2.4e1",
        "24e0",
        "\"24\"",
        "null",
        "[24]",
        "{}",
        "9223372036854775808",
        "18446744073709551616",
        "1e400",
        "024",
        "0x18",
        "NaN",
        "true",
        "",
    ] {
        bodies.push(ours(index));
        bodies.push(watched(index, &id).replace("locks/a/lock", "locks/b/lock"));
    }
    // Another key, another session, none, or none that is one.
    bodies.push(ours("24").replace("locks/a/lock", "locks/b/lock"));
    bodies.push(ours("24").replace("locks/a/lock", "locks/A/lock"));
    bodies.push(ours("24").replace(ID, "d6fc412b-7260-a440-99c1-bf1f6187f5ee"));
    for session in [r#""Session":7,"#, r#""Session":["x"],"#, r#""Session":{},"#] {
        bodies.push(entry("locks/a/lock", "24", session));
    }
    // Too many, too few, twice, at once with errors, and something after the end.
    let one = ours("24");
    let (start, end) = (one.find('{').expect("{"), one.find("],").expect("]"));
    let item = &one[start + 12..end];
    bodies.push(format!(r#"{{"Results":[{item},{item}],"Errors":null}}"#));
    bodies.push(one.replace(r#""Errors":null"#, r#""Errors":[{"OpIndex":0,"What":"x"}]"#));
    bodies.push(one.replace(r#""ModifyIndex":24"#, r#""ModifyIndex":24,"ModifyIndex":25"#));
    bodies.push(one.replace(&id, &id.repeat(2)));
    bodies.push(one.replace(r#""Errors":null"#, r#""Errors":null,"Results":null"#));
    bodies.push(one.replace("Key", "key"));
    bodies.push(format!("{one}{one}"));
    bodies.push(format!("{one} x"));
    // Errors that are not about the one operation.
    let held = denied("failed to lock key \"a\", lock is already held");
    bodies.push(held.replace(r#""OpIndex":0"#, r#""OpIndex":1"#));
    bodies.push(held.replace(r#""OpIndex":0"#, r#""OpIndex":0.0"#));
    bodies.push(
        held.replace(r#"{"OpIndex""#, r#"{"OpIndex":0,"What":"invalid session "},{"OpIndex""#),
    );
    bodies.push(held.replace(r#""Results":null"#, &one[1..end + 1]));
    bodies.push(held.replace(r#""What":"#, r#""What":"invalid session ","What":"#));
    // Deep, and long.
    bodies.push("[".repeat(200_000));
    bodies.push(one.replace(
        r#""Value":null"#,
        &format!(r#""Value":{}null{}"#, "[".repeat(200), "]".repeat(200)),
    ));
    bodies.push(format!("{one}{}", " ".repeat(MAX_BODY)));
    bodies
}

#[test]
fn nothing_is_believed_that_is_nearly_an_answer() {
    for body in hostile() {
        for request in all() {
            let shown = &body[..body.len().min(300)];
            let result = decode(&request, 200, &body);
            assert!(
                matches!(result, Err(Failure::Unknown(_))),
                "{shown} for {request:?}: {result:?}"
            );
            if matches!(request, Request::Acquire { .. } | Request::Release { .. }) {
                let result = decode(&request, 409, &body);
                assert!(matches!(result, Err(Failure::Unknown(_))), "{shown}: {result:?}");
            }
        }
    }
}

#[test]
fn half_an_answer_is_none() {
    let known = format!(r#"[{{"ID":"{ID}"}}]"#);
    let held = watched("24", &format!(r#""Session":"{ID}","#));
    let busy = denied("failed to lock key \"a\", lock is already held");
    let cases = [
        (create(), 200, format!(r#"{{"ID":"{ID}"}}"#)),
        (renew(), 200, known),
        (destroy(), 200, "true".to_string()),
        (lock(), 200, ours("24")),
        (lock(), 409, busy),
        (unlock(), 200, entry("locks/a/lock", "24", "")),
        (watch(9), 200, held),
    ];
    for (request, status, body) in cases {
        assert!(decode(&request, status, &body).is_ok(), "{body}");
        for end in 0..body.len() {
            let result = decode(&request, status, &body[..end]);
            assert!(matches!(result, Err(Failure::Unknown(_))), "{} : {result:?}", &body[..end]);
        }
    }
}

#[test]
fn an_answer_may_be_long_and_have_more_in_it() {
    let long = watched("24", "").replace("aGk=", &"A".repeat(700_000));
    assert_eq!(decode(&watch(9), 200, &long), Ok(Reply::one(Outcome::Free)));
    let more = ours("24").replace(r#""Value""#, r#""Partition":{"a":[1.5,-1,"\u00e9"]},"Value""#);
    assert!(decode(&lock(), 200, &more).is_ok());
}

/// Any answer, and answers that are something that was asked for, with a change.
fn body() -> impl Strategy<Value = String> {
    let real = vec![
        ours("24"),
        denied("failed to lock key \"locks/a/lock\", lock is already held"),
        denied("invalid session \"x\""),
        watched("24", ""),
        entry("locks/a/lock", "24", ""),
        format!(r#"[{{"ID":"{ID}"}}]"#),
        format!(r#"{{"ID":"{ID}"}}"#),
        "true".to_string(),
    ];
    let change = (
        any::<prop::sample::Index>(),
        prop::sample::select(vec![
            "", "\"", "{", "}", "[", "]", ",", ":", "0", "9", "-", ".", "e", "null", "\\", "\u{e9}",
        ]),
    );
    let changed = (prop::sample::select(real), prop::collection::vec(change, 0..4)).prop_map(
        |(mut body, changes)| {
            for (at, text) in changes {
                let at = at.index(body.len().max(1));
                if at < body.len() && body.is_char_boundary(at) && body.is_char_boundary(at + 1) {
                    body.replace_range(at..=at, text);
                }
            }
            body
        },
    );
    prop_oneof![8 => changed, 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_answer_nothing_is_granted_that_it_does_not_say(
        body in body(),
        status in prop::sample::select(vec![200, 200, 409, 404, 500, 0]),
        header in prop::option::of("[0-9]{0,3}"),
        request in prop::sample::select(all()),
    ) {
        match decode_at(&request, status, header.as_deref(), &body) {
            Ok(Reply::Outcomes(all)) => match (&request, &all[..]) {
                (_, [Outcome::Granted(fence)]) => {
                    prop_assert!(status == 200 && body.contains(ID) && body.contains("locks/a/lock"), "{}", body);
                    prop_assert!(body.contains(&format!(r#""ModifyIndex":{fence}"#)), "{}", body);
                }
                (_, [Outcome::Unchanged { index }]) => prop_assert!(*index > 0),
                (Request::KeepAlive { .. }, [Outcome::Done]) => {
                    prop_assert!(status == 200 && body.contains(ID));
                }
                (_, [_]) => {}
                other => prop_assert!(false, "{:?}", other),
            },
            Ok(Reply::Opened(session)) => prop_assert!(body.contains(session.as_str())),
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(Failure::Unknown(_) | Failure::Rejected { .. }) => {}
            Err(other) => prop_assert!(false, "it was answered: {}", other),
        }
    }
}
