//! SQLite does not survive a fork.
//!
//! SQLite counts a file's locks per process. A fork has a copy of the count, but not the locks. A connection
//! that the fork opens to the same file would rely on its parent's locks, and lose them when the parent ends.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The files that are open.
static FILES: Files = Files::new();

struct Files {
    /// The process that opened a file last.
    process: AtomicU32,
    /// Number of files that it has open.
    open: AtomicUsize,
}

/// A file that is open in this process.
pub(super) struct Used(());

impl Used {
    /// Fails if this process must not open a file.
    pub(super) fn check() -> Result<(), &'static str> {
        if FILES.may_grow() {
            return Ok(());
        }
        Err(
            "this process was forked from one that has an SQLite file open, which SQLite does not support: fork before you open a file, or exec a program after the fork",
        )
    }

    pub(super) fn new() -> Self {
        FILES.opened();
        Self(())
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        FILES.closed();
    }
}

impl Files {
    const fn new() -> Self {
        Self { process: AtomicU32::new(0), open: AtomicUsize::new(0) }
    }

    /// The number is read first: another thread may open the first file meanwhile, which says whose it is before it counts.
    fn may_grow(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0 || self.is_current()
    }

    fn opened(&self) {
        self.process.store(std::process::id(), Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    fn closed(&self) {
        if self.is_current() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn is_current(&self) -> bool {
        self.process.load(Ordering::SeqCst) == std::process::id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::spin_loop;
    use std::sync::atomic::AtomicBool;
    use std::thread::scope;

    /// Neither has forked.
    #[test]
    fn two_threads_may_open_the_first_file_at_once() {
        for _ in 0..2_000 {
            let (files, go) = (Files::new(), AtomicBool::new(false));
            scope(|scope| {
                let looks = scope.spawn(|| {
                    go.store(true, Ordering::SeqCst);
                    (0..50).all(|_| files.may_grow())
                });
                while !go.load(Ordering::SeqCst) {
                    spin_loop();
                }
                files.opened();
                assert!(looks.join().expect("no panic"));
            });
        }
    }

    #[test]
    fn a_fork_of_a_process_with_an_open_file_opens_none() {
        let files = Files::new();
        files.opened();
        files.process.store(std::process::id() + 1, Ordering::SeqCst);
        assert!(!files.may_grow());
        files.closed();
        assert!(!files.may_grow(), "its parent has it open");
    }
}
