//! The queue of events for a `tracing` subscriber, which may block or panic.

use lock_shared::threads::{Builder, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use tracing::Level;
use tracing::level_filters::LevelFilter;

/// Events beyond this number are counted instead of kept.
const MOST: usize = 1024;

type Event = Box<dyn FnOnce() + Send>;

/// Hands events over to the subscriber, in order, on a thread that nobody waits for. The thread lives
/// as long as there is something to tell.
#[derive(Clone, Default)]
pub(crate) struct Teller(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    missed: usize,
    /// True while there is a thread.
    telling: bool,
}

impl Teller {
    /// Queues a call of `event`, which emits an event of `level`. Does not block.
    pub(crate) fn tell(&self, level: Level, event: impl FnOnce() + Send + 'static) {
        // This asks no subscriber. Warnings are for the loggers of `log`, too, which are none.
        if level > Level::WARN && LevelFilter::current() < level {
            return;
        }
        if !self.keep(Box::new(event)) {
            return;
        }
        let teller = self.clone();
        let life = move || teller.run();
        if Builder::new().name("lock events".to_string()).spawn(life).is_err() {
            // The next event tries again.
            self.lock().telling = false;
        }
    }

    /// Puts an event in the queue, or counts it. Returns true if a thread is needed.
    fn keep(&self, event: Event) -> bool {
        let mut queue = self.lock();
        if queue.events.len() >= MOST {
            queue.missed += 1;
        } else {
            queue.events.push_back(event);
        }
        !std::mem::replace(&mut queue.telling, true)
    }

    fn run(&self) {
        while let Some((event, missed)) = self.next() {
            // A subscriber's panic ends here.
            let _ = catch_unwind(AssertUnwindSafe(event));
            if missed > 0 {
                let _ = catch_unwind(|| crate::events::missed(missed));
            }
        }
    }

    fn next(&self) -> Option<(Event, usize)> {
        let mut queue = self.lock();
        let event = queue.events.pop_front();
        queue.telling = event.is_some();
        event.map(|event| (event, std::mem::take(&mut queue.missed)))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::HoldState;
    use lock_core::config::ReleaseError;
    use lock_core::{Failure, Fence, Instant, LockName, LostReason};
    use std::time::Duration;

    lock_shared::listener!();

    #[test]
    fn events_are_told_in_order_also_after_a_panic() {
        let (teller, told) = (Teller::default(), Arc::new(Mutex::new(Vec::new())));
        for number in 0..4 {
            let told = told.clone();
            let needs_thread = teller.keep(Box::new(move || {
                assert_ne!(number, 1, "on purpose");
                told.lock().expect("unpoisoned").push(number);
            }));
            assert_eq!(needs_thread, number == 0);
        }
        teller.run();
        assert_eq!(*told.lock().expect("unpoisoned"), [0, 2, 3]);
        assert!(teller.keep(Box::new(|| {})), "the thread has ended");
    }

    /// A program may have a logger of `log` instead.
    #[test]
    fn warnings_are_told_without_a_subscriber() {
        let (teller, (tell, told)) = (Teller::default(), std::sync::mpsc::channel());
        for level in [Level::TRACE, Level::DEBUG, Level::WARN, Level::ERROR] {
            let tell = tell.clone();
            teller.tell(level, move || tell.send(level).expect("heard"));
        }
        drop(tell);
        assert_eq!(told.iter().collect::<Vec<_>>(), [Level::WARN, Level::ERROR]);
    }

    #[test]
    fn what_goes_wrong_with_a_guard_is_a_warning() {
        let teller = Teller::default();
        let name = LockName::new("a").expect("a good name");
        let (fence, deadline) = (Fence::new(1), Instant::from_nanos(1));
        let cell = HoldState::new(name, fence, deadline, Duration::ZERO, teller.clone());
        let cell = Arc::new(cell);
        let failure = Failure::Unknown("cut off".to_string());
        // As if a thread was about to tell them.
        teller.lock().telling = true;
        cell.tell_renewed();
        cell.tell_released(Ok(()));
        assert_eq!(teller.lock().events.len(), 0, "nobody may want these");
        cell.tell_renewal_failed(failure);
        cell.tell_held_long(Duration::ZERO, None);
        cell.tell_lost(LostReason::Taken);
        cell.tell_released(Err(ReleaseError::Lost(LostReason::Taken)));
        assert_eq!(teller.lock().events.len(), 4);
    }

    #[test]
    fn events_beyond_a_number_are_counted_and_that_is_told_once() {
        let teller = Teller::default();
        for _ in 0..MOST + 3 {
            teller.keep(Box::new(|| {}));
        }
        let listener = Listener::default();
        tracing::subscriber::with_default(listener.clone(), || teller.run());
        let left_out = "message=the subscriber is too slow: events were left out;missed=3;";
        assert_eq!(*listener.0.lock().expect("unpoisoned"), left_out);
    }
}
