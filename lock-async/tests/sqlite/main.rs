//! What needs no server: locks in an SQLite file.
#![cfg(feature = "sqlite")]

mod cancel;
mod events;
mod exclusion;
mod loss;
mod runtime;
mod with_lock;

use lock_async::{Admin, Config, Error, Guard, Locks};
use std::time::Duration;

/// Long enough that nothing in a test runs out by itself.
const LONG: Duration = Duration::from_secs(60 * 60);
const SHORT: Duration = Duration::from_secs(3);
/// For which a lease of [`SHORT`] counts.
const VALID: Duration = Duration::from_millis(2499);
/// Soon: nobody waited for a lease to run out.
const SOON: Duration = Duration::from_secs(10);

/// A file of a test's own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("locks.db")
    }

    /// A connection of its own, as another process would have.
    async fn locks(&self, ttl: Duration) -> Locks {
        Locks::open(Config::sqlite(self.path()).ttl(ttl)).await.expect("connected")
    }

    /// A connection that knows nothing of locks.
    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).expect("opened")
    }
}

/// Shows that nobody has the name, or soon nobody will, and that the connection works.
async fn is_freed(locks: &Locks, others: &Locks, name: &str) {
    for locks in [others, locks] {
        let guard = locks.try_lock_for(name, SOON).await.expect("asked").expect("freed");
        assert!(guard.is_held());
        guard.release().await.expect("released");
    }
}

/// SQLite would read another file than the one of this name, or a database in memory that excludes nobody.
#[tokio::test]
async fn a_name_that_sqlite_reads_otherwise_is_no_files() {
    for (name, why) in [
        (":memory:", "in memory"),
        ("file:x.db?mode=ro", "URIs"),
        ("", "names no file"),
        ("folder/", "name of a folder"),
    ] {
        for refused in [
            Locks::open(Config::sqlite(name)).await.map(drop),
            Admin::open(Config::sqlite(name)).await.map(drop),
        ] {
            let error = refused.expect_err(name);
            assert!(matches!(error, Error::Config(_)), "{name:?}: {error:?}");
            assert!(error.to_string().contains(why), "{name:?}: {error}");
        }
    }
}

/// All futures and values can be sent to other threads, and guards shared.
#[test]
fn what_is_public_can_be_sent() {
    fn sent<T: Send + Sync + 'static>() {}
    fn future<T: Send>(_: impl FnOnce(&'static Locks, Guard) -> T) {}
    sent::<Locks>();
    sent::<Guard>();
    sent::<lock_async::Error>();
    future(|locks, _| locks.lock("a"));
    future(|locks, _| locks.try_lock("a"));
    future(|locks, _| locks.try_lock_for("a", SOON));
    future(|locks, _| locks.with_lock("a", async |guard: &Guard| guard.fence()));
    future(|_, guard| guard.release());
    future(|_, guard| async move { guard.lost().await });
    future(|_, _| Locks::connect("sqlite:a"));
    future(|_, _| Locks::open(Config::sqlite("a")));
    future(|_, _| Admin::open(Config::sqlite("a")));
    future(|locks, _| locks.shutdown());
}
