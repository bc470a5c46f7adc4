//! The queue of what a driver records, and the thread that hands it to the recorder. Each process has one.

use super::names::{AGE, MARGIN, METADATA, MISSED, RENEWALS_FAILED, RENEWALS_RENEWED};
use super::recorded::{contained, lost};
use crate::process::PerProcess;
use lock_core::LockName;
use metrics::with_recorder;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Entries beyond this number are counted instead of kept.
const MOST: usize = 4096;

pub(super) enum Entry {
    Renewed { age: Duration, margin: Duration },
    RenewalFailed,
    Lost { reason: &'static str, name: Option<LockName>, held: Option<Duration> },
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    missed: u64,
    /// True once there is a thread.
    runs: bool,
    /// True while the thread sleeps. Waking nobody would cost a system call.
    asleep: bool,
}

impl Queue {
    /// The queue of this process.
    pub(super) fn here() -> &'static Self {
        static FIRST: OnceLock<PerProcess<Queue>> = OnceLock::new();
        PerProcess::here(&FIRST, Self::default)
    }

    /// Starts the thread, if that is still to be done.
    pub(super) fn begin(&'static self) {
        if std::mem::replace(&mut self.lock().runs, true) {
            return;
        }
        let thread = std::thread::Builder::new().name("lock metrics".to_string());
        if thread.spawn(|| self.run()).is_err() {
            // The next hold tries again.
            self.lock().runs = false;
        }
    }

    /// Queues an entry, or counts it if there are too many. Blocks for moments only.
    pub(super) fn push(&self, entry: Entry) {
        let mut waiting = self.lock();
        if waiting.entries.len() < MOST {
            waiting.entries.push_back(entry);
        } else {
            waiting.missed += 1;
        }
        let wake = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if wake {
            self.changed.notify_one();
        }
    }

    fn run(&self) {
        loop {
            let (entry, missed) = self.next();
            contained(|| record(entry));
            if missed > 0 {
                contained(|| {
                    with_recorder(|recorder| {
                        recorder.register_counter(&MISSED, &METADATA).increment(missed);
                    });
                });
            }
        }
    }

    fn next(&self) -> (Entry, u64) {
        let mut waiting = self.lock();
        loop {
            if let Some(entry) = waiting.entries.pop_front() {
                return (entry, std::mem::take(&mut waiting.missed));
            }
            waiting.asleep = true;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(entry: Entry) {
    match entry {
        Entry::Renewed { age, margin } => with_recorder(|recorder| {
            recorder.register_counter(&RENEWALS_RENEWED, &METADATA).increment(1);
            recorder.register_histogram(&AGE, &METADATA).record(age);
            recorder.register_histogram(&MARGIN, &METADATA).record(margin);
        }),
        Entry::RenewalFailed => with_recorder(|recorder| {
            recorder.register_counter(&RENEWALS_FAILED, &METADATA).increment(1);
        }),
        Entry::Lost { reason, name, held } => lost(reason, name.as_ref(), held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_beyond_a_number_are_counted() {
        let queue = Queue::default();
        for _ in 0..MOST + 3 {
            queue.push(Entry::RenewalFailed);
        }
        assert!(matches!(queue.next(), (Entry::RenewalFailed, 3)));
        assert!(matches!(queue.next(), (Entry::RenewalFailed, 0)), "told once");
        assert_eq!(queue.lock().entries.len(), MOST - 2);
    }

    #[test]
    fn room_that_was_made_once_is_used_again() {
        let queue = Queue::default();
        let (age, margin) = (Duration::ZERO, Duration::ZERO);
        queue.push(Entry::Renewed { age, margin });
        let room = queue.lock().entries.capacity();
        for _ in 0..10_000 {
            queue.next();
            queue.push(Entry::Renewed { age, margin });
        }
        assert_eq!(queue.lock().entries.capacity(), room);
    }
}
