//! What `tracing` is told on the thread of a caller, by either driver.

use lock_sync::Error;
use lock_tests::drivers::wait;
use lock_tests::place::{Place, client};
use std::fmt::{Debug, Write};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// Writes down what is told, a line each.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// Hears what `work` tells on this thread.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        // If there was just one subscriber, `tracing` would not ask it about an event that another thread tells for the first
        // time, and nobody would ever hear it.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Dispatch::new(Self::default()));
        tracing::subscriber::with_default(self.clone(), work)
    }

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
        let error = heard.during(|| connect(&url));
        assert!(matches!(error, Some(Error::Unavailable(_))), "{number}: {error:?}");
        let told = heard.0.lock().expect("unpoisoned").join("\n");
        assert!(told.contains("is ignored") && told.contains("chmod 600"), "{number}: {told}");
        assert!(!told.contains("secret"), "{number}: {told}");
    }
}

/// In lock-async, the next renewal finds a new one, so that nothing fails that somebody would look into.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_end_of_an_idle_connection_is_no_failure() {
    let heard = Heard::default();
    let place = Place::postgres();
    let named = format!("{}?application_name={}", place.url(), place.table());
    let config = place.through(&named).config(Duration::from_secs(15));
    let end = || {
        let sql =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        let ended = client(place.url()).query(sql, &[&place.table()]).expect("asked");
        assert!(!ended.is_empty(), "the idle one");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    heard.during(|| {
        let locks = runtime.block_on(lock_async::Locks::open(config)).expect("connected");
        let guard = runtime.block_on(locks.lock("a")).expect("free");
        end();
        runtime.block_on(async {
            let (mut before, mut renewed) = (guard.remaining(), false);
            while guard.is_held() && !renewed {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let now = guard.remaining();
                renewed = std::mem::replace(&mut before, now) < now;
            }
        });
        assert!(guard.is_held());
        runtime.block_on(guard.release()).expect("released");
    });
    let told = heard.0.lock().expect("unpoisoned").join("\n");
    // On a busy machine, a server may take longer than a request's time. That is another failure.
    let failed = |line: &&str| line.contains("failed") && !line.contains("no answer in time");
    let failed: Vec<&str> = told.lines().filter(failed).collect();
    assert!(told.contains("message=acquired") && failed.is_empty(), "{failed:?}\n{told}");
}
