//! The measurements that an attempt and a hold record.

use super::names::{ACQUIRE_DURATION, ACQUIRES, HELD, HOLD_DURATION, LOST, METADATA};
use super::queue::{Entry, Queue};
use crate::wish::Wish;
use crate::{clock, process::Process};
use lock_core::config::{Error, ReleaseError};
use lock_core::{Instant, LockName, LostReason};
use metrics::{Key, Label, with_recorder};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// One acquire, from the call to its end. One that is dropped before counts as cancelled.
pub struct Attempt {
    began: Instant,
    name: Option<LockName>,
    waits: bool,
    process: Process,
    ended: bool,
}

impl Attempt {
    /// Begins with the call.
    pub fn begin(wish: &Wish) -> Self {
        let (name, waits) = (wish.recorded_as().cloned(), !wish.once());
        Self { began: clock::now(), name, waits, process: Process::current(), ended: false }
    }

    /// Ends with the result of the call.
    pub fn ended<T>(mut self, acquired: &Result<T, Error>) {
        let outcome = match acquired {
            Ok(_) => "granted",
            Err(Error::Busy(_)) if self.waits => "timed_out",
            Err(Error::Busy(_)) => "busy",
            Err(Error::Cancelled) => "cancelled",
            Err(Error::Unavailable(_)) => "unavailable",
            Err(Error::Closed) => "closed",
            Err(_) => "refused",
        };
        self.end(outcome);
    }

    fn end(&mut self, outcome: &'static str) {
        // In a fork, the recorder's mutexes may be locked for ever.
        if std::mem::replace(&mut self.ended, true) || !self.process.is_current() {
            return;
        }
        let took = clock::now().since(self.began);
        let (count, time) = (
            key(ACQUIRES, Some(("outcome", outcome)), self.name.as_ref()),
            key(ACQUIRE_DURATION, Some(("outcome", outcome)), self.name.as_ref()),
        );
        contained(|| {
            with_recorder(|recorder| {
                recorder.register_counter(&count, &METADATA).increment(1);
                recorder.register_histogram(&time, &METADATA).record(took);
            });
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end("cancelled");
    }
}

/// One hold, from its grant to its release or loss.
pub struct Hold {
    since: Instant,
    valid: Duration,
    /// The name that is recorded, if any, once its guard was made.
    name: OnceLock<Option<LockName>>,
    stage: AtomicU8,
}

const GRANTED: u8 = 0;
/// Its caller has it.
const HELD_NOW: u8 = 1;
/// Its caller has released it, in time as far as anybody knew.
const RELEASED: u8 = 2;
const OVER: u8 = 3;

impl Hold {
    /// A grant that counts for `valid` unless renewed. Records nothing.
    pub fn new(valid: Duration) -> Self {
        let stage = AtomicU8::new(GRANTED);
        Self { since: clock::now(), valid, name: OnceLock::new(), stage }
    }

    /// The caller has its guard.
    pub fn begin(&self, wish: &Wish) {
        let name = self.name.get_or_init(|| wish.recorded_as().cloned());
        if self.leave(&[GRANTED], HELD_NOW).is_some() {
            Queue::here().begin();
            let key = key(HELD, None, name.as_ref());
            contained(|| {
                with_recorder(|recorder| {
                    recorder.register_gauge(&key, &METADATA).increment(1.0);
                });
            });
        }
    }

    /// A renewal was confirmed, of a lease that counted until `deadline`. Calls no recorder, and allocates nothing.
    pub fn renewed(&self, deadline: Instant) {
        let margin = deadline.since(clock::now());
        let age = self.valid.saturating_sub(margin);
        self.queue(Entry::Renewed { age, margin });
    }

    /// A renewal failed. Calls no recorder, and allocates nothing.
    pub fn renewal_failed(&self) {
        self.queue(Entry::RenewalFailed);
    }

    fn queue(&self, entry: Entry) {
        if self.stage.load(Ordering::SeqCst) == HELD_NOW {
            Queue::here().push(entry);
        }
    }

    /// The lock was lost. Calls no recorder.
    pub fn lost(&self, reason: &LostReason) {
        self.end(&[GRANTED, HELD_NOW], reason);
    }

    /// The caller has released the lock, whose lease counted until `deadline`. Calls the recorder.
    pub fn released(&self, deadline: Instant) {
        let now = clock::now();
        let late = deadline <= now;
        if self.leave(&[HELD_NOW], if late { OVER } else { RELEASED }).is_none() {
            self.leave(&[GRANTED], OVER);
            return;
        }
        let (held, name) = (now.since(self.since), self.name.get().and_then(Option::as_ref));
        contained(|| match late {
            // The caller was the first to look.
            true => lost("deadline", name, Some(held)),
            false => over(held, name),
        });
    }

    /// The release that the caller wanted ended so. It may have found out that the lock had been lost. Calls no recorder.
    pub fn found(&self, release: &Result<(), ReleaseError>) {
        if let Err(ReleaseError::Lost(reason)) = release {
            self.end(&[GRANTED, HELD_NOW, RELEASED], reason);
        }
    }

    /// Goes on to the stage `to`, if it is at one of these. Returns which one it was.
    fn leave(&self, from: &[u8], to: u8) -> Option<u8> {
        let order = Ordering::SeqCst;
        self.stage.fetch_update(order, order, |at| from.contains(&at).then_some(to)).ok()
    }

    /// Ends with a loss, if it is at one of these stages.
    fn end(&self, from: &[u8], reason: &LostReason) {
        if *reason == LostReason::Forked {
            return;
        }
        let Some(before) = self.leave(from, OVER) else { return };
        let held = (before == HELD_NOW).then(|| clock::now().since(self.since));
        let reason = match reason {
            LostReason::Deadline { .. } => "deadline",
            LostReason::Taken => "taken",
            LostReason::Disconnected { .. } => "disconnected",
            LostReason::Unattended => "unattended",
            LostReason::Gone { .. } => "gone",
            _ => "other",
        };
        let name = self.name.get().cloned().flatten();
        Queue::here().push(Entry::Lost { reason, name, held });
    }
}

/// Records the end of a hold.
fn over(held: Duration, name: Option<&LockName>) {
    let (count, time) = (key(HELD, None, name), key(HOLD_DURATION, None, name));
    with_recorder(|recorder| {
        recorder.register_gauge(&count, &METADATA).decrement(1.0);
        recorder.register_histogram(&time, &METADATA).record(held);
    });
}

/// Records a loss.
pub(super) fn lost(reason: &'static str, name: Option<&LockName>, held: Option<Duration>) {
    let count = key(LOST, Some(("reason", reason)), name);
    with_recorder(|recorder| recorder.register_counter(&count, &METADATA).increment(1));
    if let Some(held) = held {
        over(held, name);
    }
}

fn key(
    name: &'static str,
    label: Option<(&'static str, &'static str)>,
    of: Option<&LockName>,
) -> Key {
    let label = label.map(|(key, value)| Label::from_static_parts(key, value));
    let of = of.map(|of| Label::new("lock", of.as_str().to_string()));
    Key::from_parts(name, label.into_iter().chain(of).collect::<Vec<_>>())
}

/// Calls a recorder. Its panic ends here.
pub(super) fn contained(record: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(record));
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::config::{Busy, Wait};
    use metrics::{Counter, Gauge, Histogram, KeyName, Metadata, Recorder, SharedString, Unit};
    use std::sync::Mutex;

    /// The keys that were recorded.
    #[derive(Default)]
    struct Keys(Mutex<Vec<String>>);

    impl Keys {
        fn add(&self, key: &Key) {
            let labels = key.labels().map(|label| format!(" {}", label.value()));
            let text = key.name().to_string() + &labels.collect::<String>();
            self.0.lock().expect("unpoisoned").push(text);
        }
    }

    impl Recorder for Keys {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            self.add(key);
            Counter::noop()
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            self.add(key);
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            self.add(key);
            Histogram::noop()
        }
    }

    fn recorded(what: impl FnOnce()) -> Vec<String> {
        let keys = Keys::default();
        metrics::with_local_recorder(&keys, what);
        keys.0.into_inner().expect("unpoisoned")
    }

    #[test]
    fn an_attempt_counts_once_by_its_outcome() {
        let busy = || Error::from(Busy::new(LockName::new("a").expect("a name"), None));
        for (wait, end, outcome) in [
            (Wait::Never, Some(Ok(())), "granted"),
            (Wait::Never, Some(Err(busy())), "busy"),
            (Wait::For(Duration::from_secs(1)), Some(Err(busy())), "timed_out"),
            (Wait::Forever, Some(Err(Error::Cancelled)), "cancelled"),
            (Wait::Forever, Some(Err(Error::Unavailable(String::new()))), "unavailable"),
            (Wait::Forever, Some(Err(Error::Closed)), "closed"),
            (Wait::Forever, None, "cancelled"),
        ] {
            let told = recorded(|| {
                let mut wish = Wish::new("a").expect("a name");
                wish.wait = wait;
                let attempt = Attempt::begin(&wish);
                match &end {
                    Some(end) => attempt.ended(end),
                    None => drop(attempt),
                }
            });
            let all = [ACQUIRES, ACQUIRE_DURATION].map(|name| format!("{name} {outcome}"));
            assert_eq!(told, all, "{end:?}");
        }
    }

    /// The process was stopped past the lease, and the guard was dropped before anybody looked.
    #[test]
    fn a_loss_that_nobody_saw_before_the_release_is_recorded_as_one() {
        let second = Duration::from_secs(1);
        for (left, recorded) in [
            (second * 60, &["lock_held", "lock_hold_duration_seconds"][..]),
            (
                Duration::ZERO,
                &["lock_lost_total deadline", "lock_held", "lock_hold_duration_seconds"],
            ),
        ] {
            let told = self::recorded(|| {
                let hold = Hold::new(second);
                hold.begin(&Wish::new("a").expect("a name"));
                let deadline = clock::now().after(left);
                hold.released(deadline);
                hold.released(deadline);
            });
            assert_eq!(told[0], HELD, "the grant");
            assert_eq!(told[1..], *recorded);
        }
    }

    /// Its caller had gone before the answer came.
    #[test]
    fn a_grant_that_nobody_got_is_no_hold() {
        let told = recorded(|| Hold::new(Duration::ZERO).released(clock::now()));
        assert_eq!(told, [""; 0]);
    }
}
