//! What is told to whoever listens to `tracing`.
#![cfg(feature = "sqlite")]

use lock_sync::Locks;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

type Fields = BTreeMap<&'static str, String>;

/// Writes events down.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<Fields>>>);

struct Taker<'a>(&'a mut Fields);

impl Visit for Taker<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lock_sync")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Taker(&mut fields));
        fields.insert("level", event.metadata().level().to_string());
        self.0.lock().expect("unpoisoned").push(fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Listener {
    /// The events about a lock.
    fn about(&self, name: &str) -> Vec<Fields> {
        let events = self.0.lock().expect("unpoisoned");
        events
            .iter()
            .filter(|fields| fields.get("lock.name").is_some_and(|n| n == name))
            .cloned()
            .collect()
    }

    /// Waits for it: events that no caller waits for are told on a thread of their own.
    fn hears(&self, what: &str, name: &str) {
        let soon = Instant::now() + Duration::from_secs(20);
        while !texts(&self.about(name)).contains(&what) && Instant::now() < soon {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn texts(events: &[Fields]) -> Vec<&str> {
    events.iter().map(|fields| fields["message"].as_str()).collect()
}

const REFUSE: &str = "CREATE TRIGGER refuse BEFORE UPDATE ON locks WHEN NEW.owner IS NULL
    BEGIN SELECT RAISE(ABORT, 'not now'); END";

#[test]
fn a_locks_life_is_told() {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).expect("the only test here");
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}/a.db?ttl=3s", folder.path().display());
    let (ours, theirs) =
        (Locks::connect(&url).expect("ours"), Locks::connect(&url).expect("theirs"));

    let guard = ours.lock("short").expect("taken");
    let fence = guard.fence().to_string();
    assert!(theirs.try_lock("short").expect("asked").is_none());
    guard.release().expect("released");
    let events = listener.about("short");
    assert_eq!(texts(&events), ["acquired", "released"]);
    assert!(events.iter().all(|fields| fields["lock.fence"] == fence));
    assert!(events[0].contains_key("waited") && events[1].contains_key("held"), "{events:?}");

    let guard = ours.lock("long").expect("taken");
    let waited = theirs.try_lock_for("long", Duration::from_millis(1500)).expect("asked");
    assert!(waited.is_none());
    let table = rusqlite::Connection::open(folder.path().join("a.db")).expect("opened");
    table.execute_batch("UPDATE locks SET owner = 'thief'").expect("robbed");
    assert!(guard.wait_lost(Duration::from_secs(5)).is_some());
    listener.hears("lost", "long");
    drop(guard);
    let events = listener.about("long");
    let texts = texts(&events);
    assert_eq!(texts[..2], ["acquired", "waiting"]);
    assert!(events[1]["holder"].contains("pid"), "{events:?}");
    assert!(texts.contains(&"renewed"), "{texts:?}");
    let [.., lost, dropped] = &events[..] else { panic!("{events:?}") };
    assert_eq!(lost["message"], "lost");
    assert_eq!(texts.iter().filter(|text| **text == "lost").count(), 1, "{texts:?}");
    assert!(lost["reason"].contains("no longer ours") && lost.contains_key("held"), "{lost:?}");
    assert_eq!(dropped["message"], "release failed");

    let guard = ours.lock("blocked").expect("taken");
    table.execute_batch("BEGIN IMMEDIATE").expect("blocked");
    let reason = guard.wait_lost(Duration::from_secs(5)).expect("lost");
    let why = "database is locked";
    assert!(reason.to_string().contains(why), "{reason}");
    listener.hears("lost", "blocked");
    drop(guard);
    table.execute_batch("COMMIT").expect("unblocked");
    let events = listener.about("blocked");
    let told = |what| events.iter().find(|fields| fields["message"] == what).expect("told");
    let (lost, failed) = (told("lost"), told("renewal failed"));
    assert!(lost["reason"].contains(why), "{lost:?}");
    assert!(failed["failure"].contains("database is locked"), "{failed:?}");
    assert!(lost["level"] == "WARN" && failed["level"] == "WARN", "{events:?}");

    // The time of a wait begins with the call, and not with what was heard last: the lock has passed to somebody else.
    let _lost = ours.lock("passed").expect("taken");
    std::thread::scope(|scope| {
        // The event is told besides the callback.
        let next = scope.spawn(|| theirs.acquire("passed").on_waiting(|_| ()).wait().map(drop));
        listener.hears("waiting", "passed");
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        let passed = "UPDATE locks SET holder = 'another' WHERE name = 'passed'";
        table.execute_batch(passed).expect("passed on");
        let news =
            || listener.about("passed").iter().filter(|one| one["message"] == "waiting").count();
        let soon = Instant::now() + Duration::from_secs(20);
        while news() < 2 && Instant::now() < soon {
            std::thread::sleep(Duration::from_millis(1));
        }
        let waited = began.elapsed();
        let freed = "UPDATE locks SET owner = NULL WHERE name = 'passed'";
        table.execute_batch(freed).expect("freed");
        next.join().expect("no panic").expect("taken");
        let events = listener.about("passed");
        let of = |fields: &Fields| fields["waited"].trim_end_matches('s').parse::<f64>();
        let acquired = events.iter().rfind(|one| one["message"] == "acquired").expect("told");
        assert!(of(acquired).is_ok_and(|told| told >= waited.as_secs_f64()), "{events:?}");
    });

    // A release that nobody waits for, also one that the server refuses.
    ours.lock("left").expect("taken").release_in_background();
    listener.hears("released", "left");
    let events = listener.about("left");
    assert_eq!(self::texts(&events), ["acquired", "released"]);
    assert!(events[1]["lock.fence"] == events[0]["lock.fence"], "{events:?}");
    let guard = ours.lock("refused").expect("taken");
    table.execute_batch(REFUSE).expect("refused");
    guard.release_in_background();
    listener.hears("release failed", "refused");
    let events = listener.about("refused");
    assert_eq!(self::texts(&events), ["acquired", "release failed"]);
    assert!(events[1]["error"].contains("not now"), "{events:?}");
    // The last there is, too.
    table.execute_batch("DROP TRIGGER refuse").expect("dropped");
    ours.lock("last").expect("taken").release_in_background();
    drop(ours);
    listener.hears("released", "last");
    assert_eq!(self::texts(&listener.about("last")), ["acquired", "released"]);
}
