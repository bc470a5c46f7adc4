//! The events for `tracing`: those of both drivers, and those of this one alone.

lock_shared::events!();

/// A bug ended the driver, and every guard counts as lost.
pub(crate) fn ended() {
    tracing::error!(
        "a thread of the driver panicked because of a bug: all its locks count as lost"
    );
}

/// The system cannot start a thread.
pub(crate) fn no_thread(error: &std::io::Error) {
    tracing::warn!(%error, "the system cannot start a thread for a request: another thread makes it");
}
