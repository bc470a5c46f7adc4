//! The client on the threads of async runtimes.
//!
//! The client contains a runtime of its own, and a runtime panics when it is used or dropped on a worker thread
//! of another. On a thread for blocking (`spawn_blocking`) it would work, but the two look alike from here.

use std::io;
use std::panic::resume_unwind;
use std::thread::Builder;
use tokio::runtime::Handle;

/// Calls `work` where the client may be used: on this thread, or, if that belongs to a runtime, on a thread of
/// ours, while this one waits.
///
/// # Errors
/// The system has no thread to give. `work` is dropped here then.
pub(super) fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if Handle::try_current().is_err_and(|error| error.is_missing_context()) {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = Builder::new().name("lock client".to_string()).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use std::thread;

    fn id() -> thread::ThreadId {
        outside(|| thread::current().id()).expect("a thread")
    }

    #[test]
    fn an_ordinary_thread_uses_the_client_itself() {
        assert_eq!(id(), thread::current().id());
    }

    #[test]
    fn a_runtimes_thread_leaves_that_to_another() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            assert_ne!(id(), thread::current().id());
            let free = outside(|| Handle::try_current().is_err()).expect("a thread");
            assert!(free, "that one belongs to no runtime");
            // As it would on this one.
            assert!(catch_unwind(|| outside(|| panic!("on purpose"))).is_err());
        });
        assert_eq!(id(), thread::current().id(), "which it does no more");
    }
}
