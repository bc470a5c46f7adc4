//! The client on the threads of async runtimes.
//!
//! The client contains a runtime, and a runtime panics when it is used or dropped on another runtime's worker
//! thread. It would work on a thread for blocking (`spawn_blocking`), but nothing here can tell the two
//! apart.

use std::io;
use std::panic::resume_unwind;
use std::thread::Builder;
use tokio::runtime::Handle;

/// Calls `work` on a thread where the client may be used: on this thread, or on a thread of our own if this
/// one belongs to a runtime.
///
/// # Errors
/// The system cannot start a thread. `work` is dropped on this thread then.
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
