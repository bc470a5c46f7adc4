//! What the session protocol rests on, asserted on a real Consul, fact by fact. The simulated one in
//! `lock_core::sim` does the same: see `differential_consul.rs`.

use lock_core::http::Method;
use lock_core::{Failure, Outcome, Owner, Reply, Request, SessionName};
use lock_tests::consul::{Consul, watch};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const NONE: Duration = Duration::ZERO;

/// Asks until it is granted; how long that took.
fn until_granted(consul: &Consul, session: &SessionName, name: &str, began: Instant) -> Duration {
    loop {
        match consul.lock(session, name) {
            Outcome::Granted(_) => return began.elapsed(),
            Outcome::Busy(_) | Outcome::Delayed => std::thread::sleep(Duration::from_millis(20)),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "never");
    }
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn the_same_session_locks_again_with_the_same_fence() {
    let consul = Consul::new();
    let session = consul.session(LONG, NONE);
    let fence = consul.granted(&session, "a");
    consul.granted(&session, "b");
    assert_eq!(consul.granted(&session, "a"), fence, "the same bytes change nothing");
    let changed = consul.lock_as(&session, "a", "another text");
    assert!(matches!(changed, Outcome::Granted(now) if now.get() > fence), "other bytes do");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn another_session_finds_it_busy_and_cannot_unlock_it() {
    let consul = Consul::new();
    let [one, two] = [0; 2].map(|_| consul.session(LONG, NONE));
    let fence = consul.granted(&one, "a");
    assert_eq!(consul.lock(&two, "a"), Outcome::Busy(None));
    assert!(!consul.unlock(&two, "a"));
    assert!(!consul.unlock(&two, "never locked"));
    assert_eq!(consul.granted(&one, "a"), fence, "nothing has changed");
    assert!(consul.unlock(&one, "a"));
    assert!(!consul.unlock(&one, "a"), "once");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn an_unlocked_key_is_free_at_once_and_has_changed() {
    let consul = Consul::new();
    let [one, two] = [0; 2].map(|_| consul.session(LONG, Duration::from_secs(60)));
    let fence = consul.granted(&one, "a");
    assert_eq!(consul.watch("a", 0, SECOND).0, Some(fence), "the watch's index is the fence");
    assert!(consul.unlock(&one, "a"));
    assert_eq!(consul.watch("a", 0, SECOND).0, None);
    assert!(consul.granted(&two, "a") > fence);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_session_destroyed_with_a_lock_leaves_a_delay_and_one_without_leaves_none() {
    let consul = Consul::new();
    let [one, two] = [0; 2].map(|_| consul.session(LONG, Duration::from_secs(60)));
    consul.granted(&one, "held");
    consul.granted(&one, "unlocked");
    assert!(consul.unlock(&one, "unlocked"));
    consul.destroy(&one);
    assert_eq!(consul.lock(&two, "held"), Outcome::Delayed);
    assert_eq!(consul.watch("held", 0, SECOND).0, None, "a watch does not see the delay");
    consul.granted(&two, "unlocked");
    consul.granted(&two, "new");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn the_delay_goes_before_the_question_whether_the_session_exists() {
    let consul = Consul::new();
    let one = consul.session(LONG, Duration::from_secs(60));
    consul.granted(&one, "held");
    consul.destroy(&one);
    assert_eq!(consul.lock(&one, "held"), Outcome::Delayed);
    assert_eq!(consul.lock(&one, "another"), Outcome::NoSession);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_lock_delay_ends_after_its_time_and_not_before() {
    let consul = Consul::new();
    for delay in [SECOND, NONE] {
        let [one, two] = [0; 2].map(|_| consul.session(LONG, delay));
        consul.granted(&one, "a");
        let began = Instant::now();
        consul.destroy(&one);
        let ended = Instant::now();
        let took = until_granted(&consul, &two, "a", began);
        assert!(took >= delay, "{took:?}");
        assert!(took < delay + SECOND + (ended - began), "{took:?}");
        println!("a lock-delay of {delay:?} took {took:?}");
        consul.unlock(&two, "a");
    }
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_session_that_does_not_exist_locks_nothing_and_is_not_renewed() {
    let consul = Consul::new();
    let gone = consul.session(LONG, NONE);
    assert!(consul.renew(&gone));
    consul.destroy(&gone);
    let never = SessionName::from("00000000-0000-0000-0000-000000000000");
    let one = consul.session(LONG, NONE);
    consul.granted(&one, "held");
    for session in [&gone, &never] {
        assert_eq!(consul.lock(session, "a"), Outcome::NoSession);
        assert_eq!(consul.lock(session, "held"), Outcome::NoSession, "before busy");
        assert!(!consul.unlock(session, "a"));
        assert!(!consul.renew(session));
        let path = format!("/v1/session/renew/{}", session.as_str());
        assert_eq!(consul.raw(Method::Put, &path, "").status, 404);
        consul.destroy(session);
    }
    assert_eq!(consul.watch("a", 0, SECOND).0, None);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_session_lives_for_its_ttl_after_every_renewal() {
    let consul = Consul::new();
    let other = consul.session(LONG, NONE);
    let one = consul.session(SECOND, NONE);
    let mut renewed = Instant::now();
    consul.granted(&one, "a");
    for _ in 0..4 {
        std::thread::sleep(SECOND * 7 / 10);
        assert_eq!(consul.lock(&other, "a"), Outcome::Busy(None));
        renewed = Instant::now();
        assert!(consul.renew(&one));
    }
    let took = until_granted(&consul, &other, "a", renewed);
    assert!(took >= SECOND, "{took:?}");
    assert!(took < SECOND * 5, "twice the TTL is what it takes: {took:?}");
    assert!(!consul.renew(&one));
    println!("a TTL of {SECOND:?} took {took:?}");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_session_is_what_was_asked_for() {
    let consul = Consul::new();
    let ttl = Duration::from_millis(90_500);
    for (delay, nanos) in [(1_500, "1500000000"), (0, "0"), (1, "1000000"), (999, "999000000")] {
        let create = Request::Open { owner: Owner::new(0xab), ttl: Duration::from_millis(delay) };
        let Ok(Reply::Opened(session)) = consul.try_ask(&create, ttl) else {
            panic!("not created")
        };
        let info = format!("/v1/session/info/{}", session.as_str());
        let told = consul.raw(Method::Get, &info, "").body;
        for wanted in [
            &format!(r#""LockDelay":{nanos},"#),
            r#""Name":"000000000000000000000000000000ab""#,
            r#""Behavior":"delete""#,
            r#""TTL":"90500ms""#,
            r#""NodeChecks":[]"#,
            r#""ServiceChecks":[]"#,
        ] {
            assert!(told.contains(wanted), "{wanted} in {told}");
        }
        assert!(!told.contains("serfHealth"), "{told}");
    }
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_ttl_out_of_bounds_is_rejected() {
    let consul = Consul::new();
    for ttl in [Duration::from_millis(999), Duration::from_secs(86_401)] {
        let create = Request::Open { owner: Owner::new(1), ttl };
        let failure = consul.try_ask(&create, Duration::ZERO).expect_err("out of bounds");
        assert!(matches!(&failure, Failure::Rejected { .. }), "{failure:?}");
        assert!(failure.to_string().contains("between"), "{failure}");
    }
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_watch_returns_when_the_key_is_unlocked_and_no_earlier() {
    let consul = Consul::new();
    let one = consul.session(LONG, NONE);
    let fence = consul.granted(&one, "a");
    assert_eq!(consul.watch("a", 0, LONG).0, Some(fence), "from zero at once");
    assert_eq!(consul.watch("a", fence - 1, LONG).0, Some(fence), "from before it at once");
    let (watcher, began) = (consul.clone(), Instant::now());
    let watch = std::thread::spawn(move || watcher.watch("a", fence, Duration::from_secs(20)));
    // Neighbours, renewals and repetitions are no change.
    for name in ["b", "a/lock", "a0", "ab"] {
        consul.granted(&one, name);
    }
    assert!(consul.renew(&one));
    assert_eq!(consul.granted(&one, "a"), fence);
    std::thread::sleep(Duration::from_millis(300));
    let before = began.elapsed();
    assert!(!watch.is_finished());
    assert!(consul.unlock(&one, "a"));
    let after = Instant::now();
    let (index, took) = watch.join().expect("watched");
    assert_eq!(index, None);
    assert!(took >= before, "{took:?} {before:?}");
    println!("told {:?} after the unlock was answered", after.elapsed());
    assert!(after.elapsed() < SECOND * 10);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_watch_without_a_change_takes_about_as_long_as_allowed() {
    let consul = Consul::new();
    let one = consul.session(LONG, NONE);
    let fence = consul.granted(&one, "a");
    let up_to = SECOND;
    for since in [fence, fence + 1_000_000] {
        let (index, took) = consul.watch("a", since, up_to);
        assert_eq!(index, Some(fence), "where it is, not where it was asked from");
        assert!(took >= up_to * 16 / 17 - Duration::from_millis(2), "{took:?}");
        assert!(took < up_to * 20, "{took:?}");
    }
    let (_, took) = consul.watch("a", fence, NONE);
    assert!(took < SECOND * 20, "no time is not Consul's default of minutes: {took:?}");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn fences_rise_over_release_destruction_deletion_and_creation() {
    let consul = Consul::new();
    let mut last = 0;
    let mut rises = |fence: u64, what: &str| {
        assert!(fence > last, "{what}: {fence} after {last}");
        last = fence;
    };
    let [one, two] = [0; 2].map(|_| consul.session(LONG, NONE));
    rises(consul.granted(&one, "a"), "created");
    assert!(consul.unlock(&one, "a"));
    rises(consul.granted(&two, "a"), "after a release");
    consul.destroy(&two);
    rises(consul.granted(&one, "a"), "after a destruction");
    consul.raw(Method::Put, &consul.path("a"), "a plain write");
    rises(consul.granted(&one, "a"), "after a plain write");
    assert_eq!(consul.raw(Method::Get, &consul.path("a"), "").status, 200);
    delete(&consul, "a");
    assert_eq!(consul.raw(Method::Get, &consul.path("a"), "").status, 404);
    assert_eq!(consul.watch("a", 0, SECOND).0, None);
    let three = consul.session(LONG, NONE);
    rises(consul.granted(&three, "a"), "after a deletion");
}

fn delete(consul: &Consul, name: &str) {
    let key = format!("{}/{name}/lock", consul.prefix());
    let body = format!(r#"[{{"KV":{{"Verb":"delete","Key":"{key}"}}}}]"#);
    assert_eq!(consul.raw(Method::Put, "/v1/txn", &body).status, 200);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_plain_write_keeps_the_session_and_resets_what_is_not_the_fence() {
    let consul = Consul::new();
    let [one, two] = [0; 2].map(|_| consul.session(LONG, NONE));
    for _ in 0..2 {
        consul.granted(&one, "a");
        assert!(consul.unlock(&one, "a"));
    }
    let fence = consul.granted(&one, "a");
    let told = || consul.raw(Method::Get, &consul.path("a"), "").body;
    assert!(told().contains(r#""LockIndex":3"#), "{}", told());
    assert_eq!(consul.raw(Method::Put, &consul.path("a"), "plain").body, "true");
    assert!(told().contains(r#""LockIndex":0"#), "no fence: {}", told());
    assert!(told().contains(one.as_str()), "{}", told());
    assert_eq!(consul.lock(&two, "a"), Outcome::Busy(None));
    assert!(consul.granted(&one, "a") > fence);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn an_entry_has_the_flags_and_the_holder_and_then_what_unlocking_leaves() {
    let consul = Consul::new();
    let one = consul.session(LONG, NONE);
    consul.granted(&one, "a");
    let told = || consul.raw(Method::Get, &consul.path("a"), "").body;
    let flags = r#""Flags":3304740253564472344,"#;
    // Base64 of "holder".
    assert!(told().contains(flags) && told().contains(r#""Value":"aG9sZGVy""#), "{}", told());
    assert!(consul.unlock(&one, "a"));
    let left = r#""Value":null"#;
    assert!(told().contains(flags) && told().contains(left), "{}", told());
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_transaction_is_all_or_nothing() {
    let consul = Consul::new();
    let [one, two] = [0; 2].map(|_| consul.session(LONG, NONE));
    consul.granted(&one, "held");
    let operation = |name: &str| {
        let (key, id) = (format!("{}/{name}/lock", consul.prefix()), two.as_str());
        format!(r#"{{"KV":{{"Verb":"lock","Key":"{key}","Session":"{id}"}}}}"#)
    };
    let body = format!("[{},{}]", operation("free"), operation("held"));
    let answer = consul.raw(Method::Put, "/v1/txn", &body);
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains(r#""OpIndex":1"#), "{}", answer.body);
    assert_eq!(consul.raw(Method::Get, &consul.path("free"), "").status, 404);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn what_is_locked_by_json_is_what_is_watched_by_path() {
    let consul = Consul::new();
    let one = consul.session(LONG, NONE);
    let names = [
        "a",
        "A",
        "a/b",
        "a/b/lock",
        "a b",
        " a",
        "a ",
        "/a",
        "a/",
        "a//b",
        "/",
        "//",
        ".",
        "..",
        "...",
        "../..",
        "../a",
        "a/../b",
        "a/./b",
        "a/..",
        "%2e%2e/%2e%2e",
        "%2F",
        "50%",
        "a%20b",
        "=",
        "=2E",
        "a=b",
        "a?b",
        "a#b",
        "a&b",
        "a+b",
        "a;b",
        "a\"b",
        "a\\b",
        "a'b",
        "`a`",
        "{name}",
        "<a>",
        "a|b",
        "a^b",
        "~a",
        "$a",
        "@",
        ":",
        "*",
        "é",
        "e\u{301}",
        "É",
        "ß",
        "ss",
        "😀",
        "😁",
        "\u{a0}",
        "\u{200b}",
        "\u{2028}",
        "\u{feff}",
        "\u{e000}",
        "\u{10ffff}",
        "lock",
        "a/lock",
        "kv",
        "../session/create",
        &"x".repeat(255),
        &"/".repeat(255),
        &"😀".repeat(63),
    ];
    let mut fences = BTreeMap::new();
    for name in names {
        // A fence anew: no earlier name is the same lock.
        let fence = consul.granted(&one, name);
        assert!(fences.insert(fence, name).is_none(), "{name:?} is {:?}", fences[&fence]);
    }
    for (fence, name) in &fences {
        assert_eq!(consul.granted(&one, name), *fence, "{name:?}");
        assert_eq!(consul.watch(name, 0, SECOND).0, Some(*fence), "{name:?}");
    }
    // They are all where they belong, and nothing else is.
    let listed = consul.raw(Method::Get, &format!("/v1/kv/{}/?keys", consul.prefix()), "").body;
    assert_eq!(listed.matches("\"lock-tests-").count(), names.len(), "{listed}");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_path_that_is_not_escaped_leaves_the_keys() {
    // What the escapes are for.
    let consul = Consul::new();
    for path in ["a//b", "%2e%2e/x", "a/./b", "a%2F%2Fb"] {
        let answer = consul.raw(Method::Get, &format!("/v1/kv/{path}"), "");
        assert_eq!(answer.status, 301, "{path}");
    }
    for path in ["a%C2%A0b", "a%E2%80%8Bb"] {
        assert_eq!(consul.raw(Method::Get, &format!("/v1/kv/{path}"), "").status, 400, "{path}");
    }
    let absent = consul.ask(&watch("never", 0, SECOND));
    assert_eq!(absent, Outcome::Free);
}
