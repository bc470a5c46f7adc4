//! Connections that a function of the caller's makes.

use lock_core::Failure;
use lock_shared::factory::{Fault, failed, late, panicked};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

type Made<C> = Result<C, Failure>;

/// A function of the caller's that makes connections. It runs on a thread of its own, so that it can be left behind
/// when it takes too long, and may use a client that must not be used on an async runtime.
pub(crate) struct Factory<C> {
    make: Arc<dyn Fn() -> Made<C> + Send + Sync>,
    /// The call that took too long. As long as it does, there is no other.
    late: Option<Receiver<Made<C>>>,
}

impl<C> Clone for Factory<C> {
    fn clone(&self) -> Self {
        Self { make: self.make.clone(), late: None }
    }
}

impl<C: Send + 'static> Factory<C> {
    /// The function `make`, whose connections become such by `into`.
    pub(crate) fn new<T, E: Into<Fault>>(
        make: impl Fn() -> Result<T, E> + Send + Sync + 'static,
        into: fn(T) -> C,
    ) -> Self
    where
        T: 'static,
    {
        let make = move || {
            let made = catch_unwind(AssertUnwindSafe(&make)).map_err(|_| panicked())?;
            made.map(into).map_err(failed)
        };
        Self { make: Arc::new(make), late: None }
    }

    /// Makes a connection within `limit`.
    pub(crate) fn make(&mut self, limit: Duration) -> Made<C> {
        let made = match self.late.take() {
            Some(made) => made,
            None => self.begin()?,
        };
        match made.recv_timeout(limit) {
            Ok(made) => made,
            Err(RecvTimeoutError::Disconnected) => Err(panicked()),
            Err(RecvTimeoutError::Timeout) => {
                self.late = Some(made);
                Err(late())
            }
        }
    }

    fn begin(&self) -> Result<Receiver<Made<C>>, Failure> {
        // Without a buffer, a connection that nobody waits for any more is dropped on that thread.
        let (tell, made) = sync_channel(0);
        let make = self.make.clone();
        let call = move || drop(tell.send(make()));
        std::thread::Builder::new().name("lock connect".to_string()).spawn(call).map_err(
            |error| Failure::NotSent(format!("the system cannot start a thread: {error}")),
        )?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn errors_and_panics_are_told_and_the_next_call_may_succeed() {
        let calls = AtomicUsize::new(0);
        let make = move || match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Err("no\nway"),
            1 => panic!("on purpose"),
            call => Ok(call),
        };
        let mut factory = Factory::new(make, |call| call);
        assert_eq!(factory.make(SOON), Err(Failure::NotSent("no way".to_string())));
        assert_eq!(factory.make(SOON), Err(panicked()));
        assert_eq!(factory.make(SOON), Ok(2));
    }

    #[test]
    fn a_call_that_hangs_is_left_behind_and_is_the_only_one() {
        let calls = Arc::new(AtomicUsize::new(0));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (seen, wait) = (calls.clone(), std::sync::Mutex::new(wait));
        let make = move || {
            seen.fetch_add(1, Ordering::SeqCst);
            wait.lock().map(|wait| wait.recv().is_ok()).map_err(|_| "poisoned")
        };
        let mut factory = Factory::new(make, |made| made);
        for _ in 0..3 {
            assert_eq!(factory.make(Duration::from_millis(20)), Err(late()));
        }
        go.send(()).expect("it waits");
        assert_eq!(factory.make(SOON), Ok(true), "the first call's");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}
