//! What is told to `tracing`, by this driver alone and by both.

lock_shared::events!();

/// A bug: the driver has ended, and every guard was told that its lock is lost.
pub(crate) fn ended() {
    tracing::error!("a thread of the locks panicked: all of them count as lost");
}

/// The system has no thread to give.
pub(crate) fn no_thread(error: &std::io::Error) {
    tracing::warn!(%error, "no thread for a request: it is made on another's");
}

/// The subscriber was slower than what there was to tell.
pub(crate) fn missed(count: usize) {
    tracing::warn!(count, "events were left out: the subscriber is too slow");
}
