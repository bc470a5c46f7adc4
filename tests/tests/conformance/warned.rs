//! Waits and holds that last long are warned of, once each.

use crate::places::TTL;
use lock_tests::drivers::{Driven, Locks};
use lock_tests::place::Keeps;
use lock_tests::proxy::eventually;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Usually long enough for an answer of a server that is connected to: it names the holder.
const LONG: Duration = Duration::from_millis(500);

type Fields = BTreeMap<&'static str, String>;

/// The warnings of all tests of this program, which have names of their own for their locks.
static WARNINGS: Mutex<Vec<Fields>> = Mutex::new(Vec::new());

struct Warned;

struct Taker(Fields);

impl Visit for Taker {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_string());
    }
}

impl Subscriber for Warned {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target.starts_with("lock_sync") || target.starts_with("lock_async")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut taker = Taker(Fields::new());
        event.record(&mut taker);
        if taker.0.get("message").is_some_and(|message| message.ends_with("for long")) {
            WARNINGS.lock().expect("unpoisoned").push(taker.0);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The warnings about a lock.
fn warnings(name: &str, message: &str) -> Vec<Fields> {
    let all = WARNINGS.lock().expect("unpoisoned");
    let about = |one: &&Fields| one["lock.name"] == name && one["message"] == message;
    all.iter().filter(about).cloned().collect()
}

/// A name that no other test of this program has.
fn name() -> String {
    static ONCE: Once = Once::new();
    static LAST: AtomicU32 = AtomicU32::new(0);
    ONCE.call_once(|| tracing::subscriber::set_global_default(Warned).expect("the only one"));
    format!("long-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

fn only(name: &str, message: &str) -> Fields {
    assert!(eventually(|| !warnings(name, message).is_empty()), "{name}: {message}");
    let mut found = warnings(name, message);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// So that a wait begins with the request for the lock.
fn connect(locks: &Locks) {
    locks.lock(&name()).expect("free").release().expect("ours");
}

/// On a busy machine, a warning may come before the answer that names the holder. Then the test has more time.
fn names_the_holder(test: impl Fn(Duration) -> bool) {
    assert!([1, 4, 16].into_iter().any(|times| test(LONG * times)), "no holder is named");
}

pub(crate) fn long_waits_and_holds_are_warned_of_once(place: &Driven) {
    names_the_holder(|long| are_warned_of_once(place, long));
}

fn are_warned_of_once(place: &Driven, long: Duration) -> bool {
    // On a busy machine, the first lock waits for long for its connection, too: that is not asked for.
    let ours = place.set(TTL, |config| config.label("ours").warn_hold(long));
    let theirs = place.set(TTL, |config| config.label("theirs").warn_wait(long));
    let silent = place.locks(TTL);
    let (name, short) = (name(), name());
    connect(&theirs);
    let guard = ours.lock(&name).expect("free");
    // Elsewhere, nobody is asked who has it.
    let told_of_holders = place.keeps() == Keeps::Rows;
    let mut named = !told_of_holders;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| theirs.lock(&name).expect("granted in the end"));
        let held = only(&name, "held for long");
        assert_eq!(held["lock.fence"], guard.fence().to_string());
        assert!(held["label"].contains("(ours)"), "{held:?}");
        assert!(held.contains_key("held"), "{held:?}");
        let waited = only(&name, "waiting for long");
        assert!(waited.contains_key("waited"), "{waited:?}");
        if told_of_holders && let Some(holder) = waited.get("holder") {
            let pid = format!("pid {} (ours)", std::process::id());
            assert!(holder.contains(&pid), "{waited:?}");
            assert!(waited.contains_key("holder.held"), "{waited:?}");
            named = true;
        }
        // Nothing is warned of again, nor of anything that was not asked for.
        let _other = silent.lock(&short).expect("free");
        let waits = silent.try_lock_for(&name, long * 3).expect("asked");
        assert!(waits.is_none());
        assert_eq!(warnings(&name, "held for long").len(), 1);
        assert_eq!(warnings(&name, "waiting for long").len(), 1);
        guard.release().expect("released");
        waiter.join().expect("no panic").release().expect("released");
    });
    assert_eq!(warnings(&short, "held for long"), []);
    assert_eq!(warnings(&name, "waiting for long").len(), 1);
    named
}

pub(crate) fn long_waits_for_permits_and_several_locks_are_warned_of(place: &Driven) {
    names_the_holder(|long| permits_and_several_are_warned_of(place, long));
}

fn permits_and_several_are_warned_of(place: &Driven, long: Duration) -> bool {
    let ours: Locks = place.set(TTL, |config| config.warn_hold(long));
    let theirs: Locks = place.set(TTL, |config| config.warn_wait(long));
    let (name, free, semaphore) = (name(), name(), name());
    connect(&theirs);
    let _guard = ours.lock(&name).expect("free");
    let _permit = ours.acquire(&semaphore).permits(1).wait().expect("free");
    // Of several, the one that is not free is named.
    let wait = long * 4;
    let waits = std::thread::scope(|scope| {
        let several =
            scope.spawn(|| theirs.acquire(&free).and(&name).timeout(wait).wait().is_err());
        let permit =
            scope.spawn(|| theirs.acquire(&semaphore).permits(1).timeout(wait).wait().is_err());
        [several, permit].map(|waits| waits.join().expect("no panic"))
    });
    assert_eq!(waits, [true, true]);
    [&name, &semaphore].into_iter().all(|name| {
        only(name, "held for long");
        let waited = only(name, "waiting for long");
        let named = waited.get("holder").is_some_and(|holder| holder.contains("pid"));
        named || place.keeps() != Keeps::Rows
    })
}
