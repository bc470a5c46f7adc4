//! A file of passwords that others may read is ignored with a word to `tracing`.
#![cfg(feature = "postgres")]

use lock_sync::{Config, Locks};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes warnings down.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<String>>);

impl Visit for Listener {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0.lock().expect("unpoisoned").push_str(&format!("{value:?}\n"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().starts_with("lock_sync")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_file_that_is_ignored_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("passwords");
    std::fs::write(&file, "*:*:*:*:hunter2\n").expect("written");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("set");
    // Nobody listens there.
    let url = format!("postgres://me@127.0.0.1:1/d?passfile={}", file.display());
    let config = Config::from_url(&url).expect("good");
    assert!(config.warning().is_some_and(|why| why.contains("chmod 600")));
    for lazy in [false, true] {
        let config = if lazy { config.clone().lazy() } else { config.clone() };
        let listener = Listener::default();
        tracing::subscriber::with_default(listener.clone(), || {
            assert_eq!(Locks::open(config).is_ok(), lazy, "there is no server");
        });
        let told = listener.0.lock().expect("unpoisoned");
        assert!(told.contains("passwords is ignored") && !told.contains("hunter2"), "{told}");
    }
}
