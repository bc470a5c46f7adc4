//! What `tracing` is told.

use crate::{LONG, Place, SHORT, SOON};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes down what is told, a line each.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => write!(self.0, " {name}={value:?}").expect("a string"),
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lock_async")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        if *event.metadata().level() == Level::WARN {
            line.0.push_str(" (a warning)");
        }
        self.0.lock().expect("unpoisoned").push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Lines {
    /// The line that begins so, of which there must be one.
    fn only(&self, begins: &str) -> String {
        let lines = self.0.lock().expect("unpoisoned").clone();
        let found: Vec<_> = lines.iter().filter(|line| line.starts_with(begins)).collect();
        assert_eq!(found.len(), 1, "{begins}: {lines:?}");
        found[0].clone()
    }

    /// Waits for a line that begins so.
    async fn hears(&self, begins: &str) -> String {
        let soon = tokio::time::timeout(SOON, async {
            loop {
                let lines = self.0.lock().expect("unpoisoned").clone();
                if let Some(line) = lines.into_iter().find(|line| line.starts_with(begins)) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        soon.await.unwrap_or_else(|_| panic!("{begins}: {:?}", self.0.lock()))
    }

    fn clear(&self) {
        self.0.lock().expect("unpoisoned").clear();
    }
}

/// How long that was, in seconds.
fn seconds(line: &str, field: &str) -> f64 {
    let value = line.split(&format!(" {field}=")).nth(1).expect("the field");
    let value = value.split(' ').next().expect("a value");
    match value.strip_suffix("ms") {
        Some(millis) => millis.parse::<f64>().expect("a number") / 1000.0,
        None => value.trim_end_matches(['s', 'µ', 'n']).parse().expect("a number"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_life_of_a_lock_is_told() {
    let lines = Lines::default();
    let _told = tracing::subscriber::set_default(lines.clone());
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let guard = ours.lock("nightly").await.expect("taken");
    let fence = format!("lock.name=nightly lock.fence={}", guard.fence());
    lines.only(&format!("acquired {fence} waited="));
    lines.clear();
    let next = tokio::spawn(async move { theirs.lock("nightly").await.expect("taken") });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waiting = lines.only("waiting lock.name=nightly holder=");
    assert!(waiting.contains("pid"), "{waiting}");
    guard.release().await.expect("released");
    let released = lines.only(&format!("released {fence} held="));
    assert!((0.3..5.0).contains(&seconds(&released, "held")), "{released}");
    let next = tokio::time::timeout(SOON, next).await.expect("soon").expect("no panic");
    let acquired = lines.only(&format!("acquired lock.name=nightly lock.fence={}", next.fence()));
    assert!((0.3..5.0).contains(&seconds(&acquired, "waited")), "{acquired}");
    lines.clear();
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON locks WHEN NEW.owner IS NULL
        BEGIN SELECT RAISE(ABORT, 'not now'); END";
    place.raw().execute_batch(refuse).expect("refused");
    next.release().await.expect_err("refused");
    let failed = lines.only("release failed lock.name=nightly lock.fence=");
    assert!(failed.contains(" error=") && failed.contains("not now"), "{failed}");
}

/// And not with the last that was heard meanwhile: the lock has passed to somebody else.
#[tokio::test(flavor = "current_thread")]
async fn the_time_of_a_wait_begins_with_the_call() {
    let lines = Lines::default();
    let _told = tracing::subscriber::set_default(lines.clone());
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let _lost = ours.lock("nightly").await.expect("taken");
    // The event is told besides the callback.
    let next =
        tokio::spawn(
            async move { theirs.acquire("nightly").on_waiting(|_| ()).await.expect("taken") },
        );
    lines.hears("waiting lock.name=nightly").await;
    let began = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    lines.clear();
    place.raw().execute_batch("UPDATE locks SET holder = 'another'").expect("passed on");
    lines.hears("waiting lock.name=nightly holder=\"another\"").await;
    let waited = began.elapsed();
    place.raw().execute_batch("UPDATE locks SET owner = NULL").expect("freed");
    let next = tokio::time::timeout(SOON, next).await.expect("soon").expect("no panic");
    let acquired = lines.only(&format!("acquired lock.name=nightly lock.fence={}", next.fence()));
    assert!(seconds(&acquired, "waited") >= waited.as_secs_f64(), "{acquired}");
}

#[tokio::test(flavor = "current_thread")]
async fn renewals_and_losses_are_told() {
    let lines = Lines::default();
    let _told = tracing::subscriber::set_default(lines.clone());
    let place = Place::new();
    let locks = place.locks(SHORT).await;
    let guard = locks.lock("nightly").await.expect("taken");
    let fence = format!("lock.name=nightly lock.fence={}", guard.fence());
    tokio::time::sleep(SHORT / 2).await;
    let renewed = lines.only(&format!("renewed {fence} held="));
    assert!(!renewed.ends_with(" (a warning)"), "{renewed}");
    let refuse =
        "CREATE TRIGGER refuse BEFORE UPDATE ON locks BEGIN SELECT RAISE(ABORT, 'not now'); END";
    place.raw().execute_batch(refuse).expect("refused");
    let failed = lines.hears(&format!("renewal failed {fence} held=")).await;
    assert!(failed.contains("not now") && failed.ends_with(" (a warning)"), "{failed}");
    let thief = "DROP TRIGGER refuse; UPDATE locks SET owner = 'thief'";
    place.raw().execute_batch(thief).expect("robbed");
    guard.lost().await;
    let lost = lines.only(&format!("lost {fence} held="));
    assert!(lost.ends_with(" (a warning)"), "{lost}");
    drop(guard);
    lines.hears("release failed").await;
    let failed = lines.only(&format!("release failed {fence} held="));
    assert!(failed.ends_with(" (a warning)"), "{failed}");
}

/// Its caller was told in time that it is not confirmed.
#[tokio::test(flavor = "current_thread")]
async fn the_end_of_a_release_is_told_also_after_its_callers_time() {
    let lines = Lines::default();
    let _told = tracing::subscriber::set_default(lines.clone());
    let place = Place::new();
    let guard = place.locks(SHORT).await.lock("nightly").await.expect("taken");
    let file = place.raw();
    file.execute_batch("BEGIN IMMEDIATE").expect("blocked");
    guard.release().await.expect_err("nobody answers");
    file.execute_batch("COMMIT").expect("unblocked");
    lines.hears("release").await;
}

/// Does something in the middle of certain events.
#[derive(Clone)]
struct Hostile {
    on: &'static str,
    act: Arc<dyn Fn() + Send + Sync>,
}

impl Subscriber for Hostile {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lock_async")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        if line.0.starts_with(self.on) {
            (self.act)();
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

/// A runtime whose threads tell it.
fn told(hostile: &Hostile) -> tokio::runtime::Runtime {
    let hostile = hostile.clone();
    let start = move || std::mem::forget(tracing::subscriber::set_default(hostile.clone()));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .on_thread_start(start)
        .build()
        .expect("a runtime")
}

/// A subscriber takes its time.
#[test]
fn a_shutdown_waits_until_all_is_told() {
    let heard = Arc::new(Mutex::new(0));
    let hears = heard.clone();
    let act = Arc::new(move || {
        std::thread::sleep(Duration::from_millis(50));
        *hears.lock().expect("unpoisoned") += 1;
    });
    told(&Hostile { on: "released ", act }).block_on(async {
        let place = Place::new();
        let locks = place.locks(LONG).await;
        for n in 0..5 {
            drop(locks.lock(n.to_string()).await.expect("free"));
        }
        locks.shutdown().await.expect("all are free");
        assert_eq!(*heard.lock().expect("unpoisoned"), 5);
    });
}

/// Long enough that a machine may stand still for a while, and renewed all the same while a test waits.
const RENEWED: Duration = Duration::from_secs(9);

#[test]
fn a_subscriber_that_blocks_delays_nobody() {
    let (blocked, is_blocked) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (blocked, ended) = (Mutex::new(blocked), Mutex::new(ended));
    let act = move || {
        let _ = blocked.lock().expect("unpoisoned").send(());
        let _ = ended.lock().expect("unpoisoned").recv();
    };
    let runtime = told(&Hostile { on: "lost", act: Arc::new(act) });
    // Dropped first, also by a panic: the runtime waits for its threads.
    let end = end;
    let place = Place::new();
    let work = async {
        let locks = place.locks(RENEWED).await;
        let a = locks.lock("a").await.expect("taken");
        place.raw().execute_batch("UPDATE locks SET owner = 'thief'").expect("robbed");
        let b = locks.lock("b").await.expect("taken");
        let reason = tokio::time::timeout(2 * SOON, a.lost()).await.expect("told");
        assert_eq!(reason, lock_async::LostReason::Taken);
        is_blocked.recv_timeout(SOON).expect("the subscriber hears of it");
        assert!(!a.is_held());
        let c = tokio::time::timeout(SOON, locks.try_lock("c")).await.expect("in time");
        assert!(c.expect("asked").is_some());
        let renewed = async {
            let mut before = b.remaining();
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let now = b.remaining();
                if std::mem::replace(&mut before, now) < now {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, renewed).await.expect("renewed");
        assert!(b.is_held());
    };
    runtime.block_on(async { tokio::time::timeout(6 * SOON, work).await.expect("nothing hangs") });
    drop(end);
}

#[test]
fn a_subscriber_that_panics_costs_its_event() {
    let place = Place::new();
    for on in ["renewed", "lost", "released"] {
        let panics = Arc::new(Mutex::new(0));
        let count = panics.clone();
        let act = move || {
            *count.lock().expect("unpoisoned") += 1;
            panic!("on purpose")
        };
        let runtime = told(&Hostile { on, act: Arc::new(act) });
        runtime.block_on(async {
            let locks = place.locks(SHORT).await;
            if on == "lost" {
                let guard = locks.lock("a").await.expect("taken");
                place.raw().execute_batch("UPDATE locks SET owner = 'thief'").expect("robbed");
                guard.lost().await;
            }
            locks.lock("b").await.expect("taken").release().await.expect("released");
            let guard = locks.lock("c").await.expect("taken");
            let done = async {
                while *panics.lock().expect("unpoisoned") == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(SOON, done).await.expect("it has panicked");
            drop(guard);
            assert!(locks.try_lock_for("d", SOON).await.expect("the task lives").is_some());
            locks.shutdown().await.expect("in order");
        });
    }
    // Where it is told by a caller, it is the caller that panics, and gets no lock.
    let act = || panic!("on purpose");
    let runtime = told(&Hostile { on: "acquired", act: Arc::new(act) });
    let locks = runtime.block_on(place.locks(LONG));
    let caller = locks.clone();
    let caller = runtime.spawn(async move { caller.lock("x").await.map(drop) });
    assert!(runtime.block_on(caller).expect_err("a panic").is_panic());
    let freed = runtime.block_on(locks.try_lock_for("x", SOON));
    assert!(freed.expect("asked").is_some());
}
