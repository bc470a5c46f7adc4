//! Connections that a function of the caller's makes.

use lock_core::Failure;
use lock_shared::factory::{Fault, failed, late, panicked};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

type Making<C> = Pin<Box<dyn Future<Output = Result<C, Fault>> + Send>>;

/// A function of the caller's that makes connections. It runs on a task of its own, so that it delays nobody, and its
/// panics end there.
pub(crate) struct Factory<C>(Arc<dyn Fn() -> Making<C> + Send + Sync>);

impl<C> Clone for Factory<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Send + 'static> Factory<C> {
    /// The function `make`, whose connections become such by `into`.
    pub(crate) fn new<T, E, F>(
        make: impl Fn() -> F + Send + Sync + 'static,
        into: fn(T) -> C,
    ) -> Self
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: 'static,
        E: Into<Fault> + 'static,
    {
        Self(Arc::new(move || {
            let making = make();
            Box::pin(async move { making.await.map(into).map_err(Into::into) })
        }))
    }

    /// Makes a connection. If that takes longer than `limit`, the function's future is dropped.
    pub(crate) async fn make(&self, limit: Duration) -> Result<C, Failure> {
        let make = self.0.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { make().await });
        match timeout(limit, task.join_next()).await {
            Ok(Some(Ok(made))) => made.map_err(failed),
            Ok(_) => Err(panicked()),
            Err(_) => Err(late()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn errors_and_panics_are_told_and_the_next_call_may_succeed() {
        let calls = Arc::new(AtomicUsize::new(0));
        let make = move || {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            async move {
                match call {
                    0 => Err("no\nway"),
                    1 => panic!("on purpose"),
                    call => Ok(call),
                }
            }
        };
        let factory = Factory::new(make, |call| call);
        assert_eq!(factory.make(SOON).await, Err(Failure::NotSent("no way".to_string())));
        assert_eq!(factory.make(SOON).await, Err(panicked()));
        assert_eq!(factory.make(SOON).await, Ok(2));
    }

    /// Not in its future: in what comes before.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_itself_may_panic_or_block() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (calls, ended) = (AtomicUsize::new(0), std::sync::Mutex::new(ended));
        let make = move || {
            assert_ne!(calls.fetch_add(1, Ordering::SeqCst), 0, "on purpose");
            let _ = ended.lock().expect("unpoisoned").recv();
            async { Ok::<_, Fault>(()) }
        };
        let factory = Factory::new(make, |()| ());
        assert_eq!(factory.make(SOON).await, Err(panicked()));
        let made = tokio::spawn(async move { factory.make(Duration::from_millis(20)).await });
        let made = timeout(SOON, made).await;
        drop(end);
        assert_eq!(made.expect("in time").expect("no panic"), Err(late()));
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_dropped() {
        let called = Arc::new(());
        let calls = called.clone();
        let make = move || {
            let call = calls.clone();
            async move {
                pending::<()>().await;
                drop(call);
                Ok::<_, Fault>(())
            }
        };
        let factory = Factory::new(make, |()| ());
        let made = timeout(SOON, factory.make(Duration::from_millis(20))).await;
        assert_eq!(made, Ok(Err(late())));
        let is_dropped = async {
            while Arc::strong_count(&called) > 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, is_dropped).await.expect("dropped");
    }
}
