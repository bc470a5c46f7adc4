//! The measurements that are recorded of locks, in every place. The locks of each test have names of their own, which are recorded with them.

use crate::kept::ENDS;
use crate::places::{SHORT, SOON, TTL};
use lock_sync::{Config, LostReason};
use lock_tests::drivers::{Driven, Locks};
use lock_tests::proxy::eventually;
use lock_tests::recorder::Recorder;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The metrics of one lock.
struct Metrics {
    name: String,
    recorder: Recorder,
}

impl Metrics {
    /// Of a name that no other test of this program has.
    fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let last = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("metered-{}-{last}", std::process::id());
        Self { name, recorder: Recorder::installed() }
    }

    fn id(&self, metric: &str, label: &str) -> String {
        format!("{metric}{{lock={:?}{label}}}", self.name)
    }

    fn ended(&self, outcome: &str) -> u64 {
        let label = format!(",outcome={outcome:?}");
        let ended = self.recorder.counter(&self.id("lock_acquires_total", &label));
        let took = self.recorder.histogram(&self.id("lock_acquire_duration_seconds", &label));
        assert_eq!(took.len() as u64, ended, "{outcome}");
        ended
    }

    fn held(&self) -> Option<f64> {
        self.recorder.gauge(&self.id("lock_held", ""))
    }

    fn holds(&self) -> Vec<f64> {
        self.recorder.histogram(&self.id("lock_hold_duration_seconds", ""))
    }

    fn lost(&self, reason: &str) -> u64 {
        self.recorder.counter(&self.id("lock_lost_total", &format!(",reason={reason:?}")))
    }
}

fn named(place: &Driven, ttl: Duration) -> Locks {
    place.set(ttl, |config: Config| config.metrics_by_name(true))
}

pub(crate) fn attempts_and_holds_are_recorded(place: &Driven) {
    let of = Metrics::new();
    let (ours, theirs) = (named(place, TTL), named(place, TTL));
    let guard = ours.lock(&of.name).expect("free");
    assert_eq!((of.ended("granted"), of.held(), of.holds().len()), (1, Some(1.0), 0));
    assert!(theirs.try_lock(&of.name).expect("asked").is_none());
    let limit = Duration::from_millis(300);
    assert!(theirs.try_lock_for(&of.name, limit).expect("asked").is_none());
    assert_eq!((of.ended("busy"), of.ended("timed_out"), of.ended("granted")), (1, 1, 1));
    guard.release().expect("released");
    assert_eq!((of.held(), of.holds().len()), (Some(0.0), 1));
    // It does not matter how a hold ends.
    for (more, end) in (1..).zip(ENDS) {
        end(theirs.lock(&of.name).expect("free"));
        let recorded = (of.ended("granted"), of.held(), of.holds().len());
        assert_eq!(recorded, (1 + more, Some(0.0), 1 + more as usize));
    }
    assert!(of.holds()[0] >= limit.as_secs_f64(), "{:?}", of.holds());
}

pub(crate) fn permits_and_several_locks_are_recorded_as_one(place: &Driven) {
    let (any, all, other) = (Metrics::new(), Metrics::new(), Metrics::new());
    let locks = named(place, TTL);
    let permit = locks.acquire(&any.name).permits(2).wait().expect("free");
    let several = locks.acquire(&all.name).and(&other.name).wait().expect("free");
    for of in [&any, &all] {
        assert_eq!((of.ended("granted"), of.held()), (1, Some(1.0)));
    }
    assert_eq!((other.ended("granted"), other.held()), (0, None), "under the first name");
    drop((permit, several));
    for of in [&any, &all] {
        assert_eq!((of.held(), of.holds().len()), (Some(0.0), 1));
    }
}

pub(crate) fn losses_are_recorded_with_their_reason(place: &Driven) {
    let of = Metrics::new();
    let locks = named(place, SHORT);
    let guard = locks.lock(&of.name).expect("free");
    let reason = match place.rob(&of.name) {
        LostReason::Taken => "taken",
        LostReason::Disconnected { .. } => "disconnected",
        LostReason::Gone { .. } => "gone",
        other => panic!("{other:?}"),
    };
    let until = std::time::Instant::now() + SOON;
    while guard.is_held() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(eventually(|| of.lost(reason) == 1 && of.held() == Some(0.0)), "{reason}");
    drop(guard);
    assert!(eventually(|| !of.holds().is_empty()), "{reason}");
    assert_eq!((of.lost(reason), of.held(), of.holds().len()), (1, Some(0.0), 1), "once");
}

pub(crate) fn renewals_are_recorded(place: &Driven) {
    let recorder = Recorder::installed();
    let renewed = || recorder.counter("lock_renewals_total{outcome=\"renewed\"}");
    let ages = || recorder.histogram("lock_renewal_age_seconds").len();
    let before = (renewed(), ages());
    let locks = place.locks(SHORT);
    let guard = locks.lock("renewed").expect("free");
    // Other tests have theirs, which is why `metered` has a program of its own.
    assert!(eventually(|| renewed() > before.0 && ages() > before.1));
    assert!(guard.is_held());
}
