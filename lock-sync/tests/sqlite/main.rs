//! What the blocking driver promises in any place, shown where no server is needed.
#![cfg(feature = "sqlite")]

mod with_lock;

use lock_sync::{Config, Locks};
use std::time::Duration;

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// No test waits for such a lease to end.
const LONG: Duration = Duration::from_secs(60);

/// A file with locks.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("locks.db")
    }

    fn locks(&self, ttl: Duration) -> Locks {
        Config::sqlite(self.path()).ttl(ttl).connect().expect("connected")
    }

    /// A connection that keeps to no rules.
    fn raw(&self) -> rusqlite::Connection {
        let raw = rusqlite::Connection::open(self.path()).expect("opened");
        raw.busy_timeout(SOON).expect("set");
        raw
    }

    /// Makes all leases somebody else's.
    fn rob(&self) {
        let changed = self.raw().execute("UPDATE locks SET owner = 'thief'", []).expect("robbed");
        assert_ne!(changed, 0, "there is something to rob");
    }
}
