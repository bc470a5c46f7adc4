//! Watching a lock's key.

use super::name;
use lock_core::Fence;
use lock_core::http::Response;
use lock_core::http::consul::{Codec, Scope, Watch};
use std::time::Duration;

/// The query of the next request.
fn query(watch: &Watch) -> String {
    let request = watch.request(&Codec::default(), &name("a"), Duration::from_secs(17));
    assert_eq!(request.waits.is_zero(), *watch == Watch::default(), "{request:?}");
    let query = request.path_and_query.strip_prefix("/v1/kv/locks/a/lock?");
    query.expect("the lock's key").to_string()
}

fn changed(watch: &mut Watch, status: u16, index: &str) -> bool {
    pause(watch, status, Some(index)).is_none()
}

fn pause(watch: &mut Watch, status: u16, index: Option<&str>) -> Option<Duration> {
    watch.handle_answer(Some(&Response { status, index, body: b"[]" }))
}

#[test]
fn a_watch_goes_on_where_the_last_answer_ended() {
    let mut watch = Watch::default();
    let first = query(&watch);
    assert!(!first.contains("index=7"), "{first}");
    assert!(changed(&mut watch, 404, "7"), "what there is, is news at first");
    let second = query(&watch);
    assert!(second.contains("index=7"), "{second}");
    assert!(!changed(&mut watch, 200, "7"), "nothing happened in time");
    assert_eq!(query(&watch), second);
    assert!(changed(&mut watch, 200, "9"));
    assert!(query(&watch).contains("index=9"));
}

/// Consul waits for ten minutes and a sixteenth of that at most. Whoever looks once a day hears of a change all the same, and of
/// an agent that is silent.
#[test]
fn a_watch_of_hours_goes_on_after_minutes_and_a_pause() {
    let mut watch = Watch::default();
    changed(&mut watch, 200, "7");
    let request = watch.request(&Codec::default(), &name("a"), Duration::from_secs(86_400));
    assert!(request.path_and_query.ends_with("&wait=600000ms"), "{request:?}");
    assert!(request.waits < Duration::from_secs(11 * 60), "{request:?}");
    let unchanged = pause(&mut watch, 200, Some("7")).expect("nothing happened");
    let failed = watch.handle_answer(None).expect("nothing is known");
    for pause in [unchanged, failed] {
        assert!(
            (1..60).contains(&pause.as_secs()),
            "neither without a pause nor for long: {pause:?}"
        );
    }
}

/// As the lock's own requests are: the same key elsewhere is another lock's.
#[test]
fn a_watch_and_a_pin_are_in_the_scope_of_the_lock() {
    let scope = Scope {
        path: "consul".to_string(),
        namespace: "team".to_string(),
        partition: "part".to_string(),
        datacenter: "dc2".to_string(),
    };
    let codec = Codec::default().within(scope);
    let mut watch = Watch::default();
    for since in ["", "&index=7&wait=16000ms"] {
        let request = watch.request(&codec, &name("a"), Duration::from_secs(17));
        let key = format!("/consul/v1/kv/locks/a/lock?consistent{since}");
        assert_eq!(request.path_and_query, key + "&ns=team&partition=part&dc=dc2");
        changed(&mut watch, 200, "7");
    }
    let pin = codec.pin(&name("a"), Fence::new(7));
    assert!(pin.contains(r#""Namespace":"team","Partition":"part""#), "{pin}");
}

/// Its history may have begun anew, with smaller numbers.
#[test]
fn after_what_is_no_answer_a_watch_begins_anew() {
    let first = query(&Watch::default());
    let failures: [fn(&mut Watch) -> bool; 5] = [
        |watch| watch.handle_answer(None).is_none(),
        |watch| changed(watch, 500, "9"),
        |watch| changed(watch, 200, "0"),
        |watch| changed(watch, 200, "none"),
        |watch| pause(watch, 200, None).is_none(),
    ];
    for (n, fail) in failures.into_iter().enumerate() {
        let mut watch = Watch::default();
        assert!(changed(&mut watch, 200, "7"));
        assert!(!fail(&mut watch), "failure {n}");
        assert_eq!(query(&watch), first, "failure {n}");
        assert!(changed(&mut watch, 200, "3"), "failure {n}: the first answer is news again");
    }
}
