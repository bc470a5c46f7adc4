//! The queue of what a driver records, and the thread that hands it to the recorder. Each process has one.

use super::names::{AGE, MARGIN, METADATA, MISSED, RENEWALS_FAILED, RENEWALS_RENEWED};
use super::recorded::{contained, lost};
use crate::process::PerProcess;
use lock_core::LockName;
use metrics::with_recorder;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Renewals beyond this number of entries are counted instead of kept. Losses are kept: each is the end of a hold, of which the
/// recorder counts how many there are.
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
        if waiting.entries.len() < MOST || matches!(entry, Entry::Lost { .. }) {
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
    use crate::metrics::Hold;
    use crate::wish::Wish;
    use lock_core::{Failure, LostReason};
    use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder};
    use metrics::{SharedString, Unit};
    use std::collections::BTreeMap;
    use std::sync::{Arc, Once};

    /// What all threads recorded: the increments of each counter, and a 1 for each value of a histogram.
    static RECORDED: Mutex<BTreeMap<String, Vec<u64>>> = Mutex::new(BTreeMap::new());

    struct Recording;

    struct Counted(String);

    impl Counted {
        fn new(key: &Key) -> Self {
            let labels = key.labels().map(|label| format!(" {}", label.value()));
            Self(key.name().to_string() + &labels.collect::<String>())
        }
    }

    impl CounterFn for Counted {
        fn increment(&self, value: u64) {
            let mut recorded = RECORDED.lock().expect("unpoisoned");
            recorded.entry(self.0.clone()).or_default().push(value);
        }

        fn absolute(&self, _: u64) {}
    }

    impl Recorder for Recording {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(Counted::new(key)))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Counted::new(key).increment(1);
            Histogram::noop()
        }
    }

    fn record_all() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| metrics::set_global_recorder(Recording).expect("the only one"));
    }

    fn increments(key: &str) -> Vec<u64> {
        RECORDED.lock().expect("unpoisoned").get(key).cloned().unwrap_or_default()
    }

    /// Waits for the thread. The limit is for a thread that does nothing.
    #[track_caller]
    fn wait_for(key: &str, times: usize) {
        for _ in 0..60_000 {
            if increments(key).len() >= times {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{key} was recorded {} times", increments(key).len());
    }

    #[test]
    fn what_a_slow_recorder_missed_is_recorded_once() {
        record_all();
        let queue: &'static Queue = Box::leak(Box::default());
        for _ in 0..MOST + 3 {
            queue.push(Entry::RenewalFailed);
        }
        queue.begin();
        wait_for("lock_renewals_total failed", MOST);
        // Once this one is recorded, all before is.
        queue.push(Entry::RenewalFailed);
        wait_for("lock_renewals_total failed", MOST + 1);
        assert_eq!(increments("lock_metrics_dropped_total"), [3]);
    }

    #[test]
    fn each_loss_is_recorded_with_its_reason_and_ends_a_hold_that_had_begun() {
        record_all();
        let failure = Failure::refused("the file was deleted".to_string());
        let wish = Wish::new("a").expect("a name");
        let second = Duration::from_secs(1);
        Hold::new(second).lost(&LostReason::Unattended);
        let reasons = [
            (LostReason::Deadline { last_failure: None }, "deadline"),
            (LostReason::Taken, "taken"),
            (LostReason::Disconnected { last_failure: None }, "disconnected"),
            (LostReason::Gone { failure }, "gone"),
            (LostReason::Unattended, "unattended"),
        ];
        for (reason, _) in &reasons {
            let hold = Hold::new(second);
            hold.begin(&wish);
            hold.lost(reason);
            hold.lost(reason);
        }
        wait_for("lock_hold_duration_seconds", reasons.len());
        for (_, label) in &reasons {
            let times = if *label == "unattended" { 2 } else { 1 };
            assert_eq!(increments(&format!("lock_lost_total {label}")), vec![1; times], "{label}");
        }
        assert_eq!(increments("lock_hold_duration_seconds").len(), reasons.len());
    }

    #[test]
    fn the_first_hold_alone_starts_a_thread() {
        let queue: &'static Queue = Box::leak(Box::default());
        assert!(!queue.lock().runs);
        queue.begin();
        assert!(queue.lock().runs);
    }

    #[test]
    fn entries_beyond_a_number_are_counted() {
        let queue = Queue::default();
        for _ in 0..MOST + 3 {
            queue.push(Entry::RenewalFailed);
        }
        queue.push(Entry::Lost { reason: "taken", name: None, held: None });
        assert!(matches!(queue.next(), (Entry::RenewalFailed, 3)));
        assert!(matches!(queue.next(), (Entry::RenewalFailed, 0)), "told once");
        assert_eq!(queue.lock().entries.len(), MOST - 1, "a loss is kept");
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
