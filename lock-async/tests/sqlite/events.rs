//! What `tracing` is told.

use crate::{LONG, Place, SHORT, SOON};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

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
    lines.only(&format!("renewed {fence} held="));
    place.raw().execute_batch("UPDATE locks SET owner = 'thief'").expect("robbed");
    guard.lost().await;
    lines.only(&format!("lost {fence} held="));
    drop(guard);
    let told =
        || lines.0.lock().expect("unpoisoned").iter().any(|line| line.contains("not released"));
    tokio::time::timeout(SOON, async {
        while !told() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("told");
    lines.only(&format!("a lock was not released as it should be {fence} held="));
}
