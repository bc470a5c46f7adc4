//! SQLite does not survive a fork.
//!
//! SQLite counts a file's locks per process. A fork has a copy of the count, but not the locks. A connection
//! that the fork opens to the same file would rely on its parent's locks, and lose them when the parent ends.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The process that opened a file last.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Number of files that it has open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file that is open in this process.
pub(super) struct Used(());

impl Used {
    /// Fails if this process must not open a file.
    pub(super) fn check() -> Result<(), &'static str> {
        if is_current() || OPEN.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        Err(
            "this process was forked from one that has an SQLite file open, which SQLite does not support: fork before you open a file, or exec a program after the fork",
        )
    }

    pub(super) fn new() -> Self {
        PROCESS.store(std::process::id(), Ordering::SeqCst);
        OPEN.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        if is_current() {
            OPEN.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn is_current() -> bool {
    PROCESS.load(Ordering::SeqCst) == std::process::id()
}
