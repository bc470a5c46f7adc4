//! Names as keys, and keys as paths.

use super::*;
use lock_core::http::{KeyError, KeyTemplate};
use lock_core::{Request, SessionName};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn templates_are_checked() {
    let key = |template: &str| KeyTemplate::new(template).map(|keys| keys.key(&name("n/1")));
    assert_eq!(key("locks/{name}/lock"), Ok("locks/n/1/lock".into()));
    assert_eq!(key("{name}"), Ok("n/1".into()));
    assert_eq!(key("a.b-{name}.lock"), Ok("a.b-n/1.lock".into()));
    assert_eq!(KeyTemplate::under("a/b"), KeyTemplate::new("a/b/{name}/lock"));
    assert_eq!(KeyTemplate::under("locks").as_ref(), Ok(&KeyTemplate::default()));
    for (template, error) in [
        ("", KeyError::Name),
        ("locks/lock", KeyError::Name),
        ("{name}/{name}", KeyError::Name),
        ("/{name}", KeyError::Part),
        ("a//{name}", KeyError::Part),
        ("{name}/", KeyError::Part),
        ("a/{name}//b", KeyError::Part),
        ("./{name}", KeyError::Part),
        ("a/../{name}", KeyError::Part),
        ("a/{name}/.", KeyError::Part),
        ("a..b/{name}", KeyError::Part),
        (" a/{name}", KeyError::Part),
        ("{name} ", KeyError::Part),
        ("é/{name}", KeyError::Character),
        ("a\n/{name}", KeyError::Character),
        ("a=/{name}", KeyError::Character),
        ("%2e%2e/{name}", KeyError::Character),
        (&format!("{}{{name}}", "a".repeat(250)), KeyError::TooLong),
    ] {
        assert_eq!(key(template), Err(error), "{template}");
    }
}

/// What a name was escaped to, turned back.
fn unescape(escaped: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = escaped.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'=' {
            let digits = std::str::from_utf8(&after[..2]).expect("ASCII");
            bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).expect("as it was")
}

fn percent_decode(path: &str) -> String {
    unescape(&path.replace('%', "="))
}

fn check_key(text: &str) {
    let Ok(name) = LockName::new(text) else { return };
    let key = KeyTemplate::default().key(&name);
    let inner = key.strip_prefix("locks/").and_then(|rest| rest.strip_suffix("/lock"));
    let inner = inner.expect("in its place");
    assert_eq!(unescape(inner), text, "no two names share a key");
    assert_eq!(inner.trim_matches(' '), inner);
    assert!(key.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{key}");
    assert!(!key.contains('%') && !key.contains(".."), "{key}");
    assert!(key.split('/').all(|part| !part.is_empty() && part != "."), "{key}");
    let request = Request::Wait {
        behind: None,
        session: SessionName::default(),
        claim: Claim::new(name, Owner::new(1)),
        since: 0,
        up_to: Duration::ZERO,
        min_uptime: Duration::ZERO,
    };
    let request = super::sent(&request);
    let path = request.path_and_query.strip_suffix("?consistent").expect("one query");
    let path = path.strip_prefix("/v1/kv/").expect("below the keys");
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/%".contains(&b);
    assert!(path.bytes().all(safe), "{path}");
    assert_eq!(percent_decode(path), key, "the path leads to the key");
}

#[test]
fn ordinary_names_are_keys_as_they_are() {
    let as_is = [
        "a",
        "nightly-report",
        "job:7",
        "a/b/c",
        "a b",
        "user@host",
        "v1.2",
        ".hidden",
        "a.",
        "(x) [y] {z}!",
        "a\"b\\c?d#e&f+g~*'|<>`^$;,",
    ];
    for text in as_is {
        assert_eq!(KeyTemplate::default().key(&name(text)), format!("locks/{text}/lock"));
        check_key(text);
    }
    let escaped = [
        (".", "=2E"),
        ("..", ".=2E"),
        ("../..", ".=2E/.=2E"),
        ("a/./b", "a/=2E/b"),
        ("/", "=2F"),
        ("//", "=2F=2F"),
        ("/a//b/", "=2Fa/=2Fb=2F"),
        (" a ", "=20a=20"),
        ("50%", "50=25"),
        ("a=b", "a=3Db"),
        ("%2e%2e", "=252e=252e"),
        ("é", "=C3=A9"),
        ("\u{a0}\u{200b}", "=C2=A0=E2=80=8B"),
    ];
    for (text, key) in escaped {
        assert_eq!(KeyTemplate::default().key(&name(text)), format!("locks/{key}/lock"));
        check_key(text);
    }
}

/// Names of the parts that matter.
fn awkward() -> impl Strategy<Value = String> {
    let parts = [
        "/", ".", "..", "=", "%", "2E", "%2e", " ", "a", "A", "é", "\u{a0}", "lock", "\\", "?", "#",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 1..8)
        .prop_map(|parts| parts.concat())
}

#[test]
fn many_names_many_keys() {
    let mut keys = BTreeMap::new();
    for a in ["", "/", ".", "=", "=2F", "%", " ", "x"] {
        for b in ["", "/", ".", "..", "2E", "=2E", " ", "y"] {
            for c in ["", "/", ".", "lock", "/lock", "%2F"] {
                let text = format!("{a}{b}{c}");
                let Ok(name) = LockName::new(&text) else { continue };
                let earlier = keys.insert(KeyTemplate::default().key(&name), text.clone());
                assert!(earlier.is_none_or(|earlier| earlier == text), "{text}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_that_differ_have_keys_that_differ_and_can_be_reached(text in prop_oneof![awkward(), any::<String>()]) {
        check_key(&text);
    }
}

/// A key tells its lock, and what is no key of ours is none.
#[test]
fn a_key_leads_back_to_its_lock() {
    let keys = KeyTemplate::default();
    for name in ["n", "a b", " a ", "../é//=", "=", "=41", "a=b", "/a//b/", ".", "..", "🔒", "%41"]
    {
        let name = LockName::new(name).expect("good");
        assert_eq!(keys.name(&keys.key(&name)), Some(name));
    }
    for other in [
        "",
        "locks/",
        "locks//lock",
        "locks/a",
        "other/a/lock",
        "locks/=/lock",
        "locks/=4/lock",
        "locks/=zz/lock",
        "locks/=41/lock",
        "locks/=0A/lock",
        "locks/=FF/lock",
        "locks/é/lock",
    ] {
        assert_eq!(keys.name(other), None, "{other}");
    }
}
