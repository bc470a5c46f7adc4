//! SQLite does not survive a fork.
//!
//! It keeps account of a file's locks per process. A fork has a copy of the account, but not the locks: a connection
//! that it opens to the same file would rely on locks that are its parent's, and be cut off when the parent ends.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The last process that opened a file here.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// How many files it has open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file that is open in this process.
pub(super) struct Used(());

impl Used {
    /// Whether this process may open a file.
    pub(super) fn check() -> Result<(), &'static str> {
        if is_current() || OPEN.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        Err(
            "this process was forked from one that has an SQLite file open, which SQLite does not survive: fork first, or start a program after it (exec)",
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
