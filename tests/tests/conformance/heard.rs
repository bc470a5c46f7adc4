//! What `tracing` is told on the thread of a caller, by either driver.

use lock_sync::Error;
use lock_tests::drivers::wait;
use std::fmt::{Debug, Write};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down what is told, a line each.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// The events of waits.
    pub(crate) fn waits(&self) -> Vec<String> {
        let lines = self.0.lock().expect("unpoisoned");
        lines.iter().filter(|line| line.contains("message=waiting")).cloned().collect()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).expect("a string");
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target.starts_with("lock_sync") || target.starts_with("lock_async")
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

/// The password would be missed only at a server that asks for it.
#[test]
fn a_password_file_that_others_may_read_is_told_by_all_that_connect() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pgpass");
    std::fs::write(&file, "*:*:*:*:secret\n").expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
    let url = format!("postgres://u@127.0.0.1:1/d?passfile={}", file.display());
    let connects: [fn(&str) -> Option<Error>; 4] = [
        |url| lock_sync::Locks::connect(url).err(),
        |url| lock_sync::Admin::connect(url).err(),
        |url| wait(lock_async::Locks::connect(url)).err(),
        |url| wait(lock_async::Admin::connect(url)).err(),
    ];
    for (number, connect) in connects.into_iter().enumerate() {
        let heard = Heard::default();
        let error = tracing::subscriber::with_default(heard.clone(), || connect(&url));
        assert!(matches!(error, Some(Error::Unavailable(_))), "{number}: {error:?}");
        let told = heard.0.lock().expect("unpoisoned").join("\n");
        assert!(told.contains("is ignored") && told.contains("chmod 600"), "{number}: {told}");
        assert!(!told.contains("secret"), "{number}: {told}");
    }
}
