//! Cancelling a wait from another thread.

use lock_shared::threads::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

type Wake = Box<dyn FnOnce() + Send>;

/// Cancels waits for locks from any thread: those that were [given](crate::Acquire::cancelled_by) it or a clone.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let locks = lock_sync::Locks::connect(&format!("sqlite:{}/l.db", folder.path().display()))?;
/// use lock_sync::{Cancel, Error};
///
/// let guard = locks.lock("queue")?;
/// let cancel = Cancel::new();
/// let (clone, waiter) = (cancel.clone(), locks.clone());
/// let waiting = std::thread::spawn(move || waiter.acquire("queue").cancelled_by(&clone).wait());
/// cancel.cancel();
/// assert_eq!(waiting.join().expect("no panic").map(drop), Err(Error::Cancelled));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cancelled: bool,
    /// The waits, by number.
    waits: BTreeMap<u64, Wake>,
    last: u64,
}

impl Cancel {
    /// Cancels nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the waits with [`Error::Cancelled`](crate::Error::Cancelled), those that have begun and those that begin
    /// later. Does not wait for them. A lock that was acquired before stays acquired.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        let waits = std::mem::take(&mut state.waits);
        drop(state);
        waits.into_values().for_each(|wake| wake());
    }

    /// True once [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Has `wake` called when this is cancelled, until the result is dropped. [`None`] if it is cancelled already.
    pub(crate) fn register(&self, wake: impl FnOnce() + Send + 'static) -> Option<Registered> {
        let mut state = self.lock();
        if state.cancelled {
            return None;
        }
        state.last += 1;
        let number = state.last;
        state.waits.insert(number, Box::new(wake));
        Some(Registered { cancel: self.clone(), number })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait that can be cancelled.
pub(crate) struct Registered {
    cancel: Cancel,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let wake = self.cancel.lock().waits.remove(&self.number);
        drop(wake);
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program may have one token for all its waits.
    #[test]
    fn each_wait_is_cancelled() {
        let (cancel, (tell, told)) = (Cancel::new(), std::sync::mpsc::channel());
        let _waits = [1, 2, 3].map(|number| {
            let tell = tell.clone();
            cancel.register(move || tell.send(number).expect("heard")).expect("not cancelled")
        });
        cancel.clone().cancel();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(cancel.is_cancelled() && cancel.register(|| ()).is_none());
    }

    /// What it wakes may be about to end, and so to want its mutex.
    #[test]
    fn a_wait_is_woken_without_a_mutex() {
        let (cancel, (tell, told)) = (Cancel::new(), std::sync::mpsc::channel());
        let other = cancel.clone();
        let wake = move || tell.send(other.is_cancelled()).expect("heard");
        let wait = cancel.register(wake).expect("not cancelled");
        std::thread::spawn(move || {
            cancel.cancel();
            drop(wait);
        });
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(60)), Ok(true));
    }

    #[test]
    fn nothing_of_a_wait_that_has_ended_is_left() {
        let (cancel, owned) = (Cancel::new(), Arc::new(()));
        let waits = owned.clone();
        let wait = cancel.register(move || drop(waits)).expect("not cancelled");
        assert_eq!(Arc::strong_count(&owned), 2);
        drop(wait);
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}
