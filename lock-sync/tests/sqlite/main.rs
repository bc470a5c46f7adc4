//! What the blocking driver promises in any place, shown where no server is needed.
#![cfg(feature = "sqlite")]

mod callbacks;
mod cancel;
mod pins;
mod subscribers;
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
        Locks::open(Config::sqlite(self.path()).ttl(ttl)).expect("connected")
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

    /// Makes the lease of one lock somebody else's.
    fn rob_of(&self, name: &str) {
        let rob = "UPDATE locks SET owner = 'thief' WHERE name = ?1";
        assert_eq!(self.raw().execute(rob, [name]), Ok(1));
    }

    /// When the lease of a lock ends, on whatever clock.
    fn expires(&self, name: &str) -> i64 {
        let query = "SELECT expires_us FROM locks WHERE name = ?1";
        self.raw().query_row(query, [name], |row| row.get(0)).expect("there is a row")
    }
}

/// Whether it is so before long.
fn soon(so: impl Fn() -> bool) -> bool {
    let until = std::time::Instant::now() + SOON;
    while !so() {
        if until < std::time::Instant::now() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
