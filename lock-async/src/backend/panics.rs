//! Panics of the clients.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The error for a client that panicked.
pub(crate) const PANICKED: &str = "the client panicked";

/// Polls a client's future. A panic becomes `None`.
pub(crate) async fn guarded<T>(call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx).map(Some)))
            .unwrap_or(Poll::Ready(None))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_no_answer() {
        assert_eq!(guarded(async { 1 }).await, Some(1));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        };
        assert_eq!(guarded::<()>(panics).await, None);
    }
}
