//! The measurements that are recorded of locks. The recorder is the program's, so that these tests have a process of their own, in which one
//! runs at a time. `conformance` has those of every place.

mod hostile;

use lock_sync::{Config, Error};
use lock_tests::drivers::{Driven, Driver, Locks, wait};
use lock_tests::place::Place;
use lock_tests::proxy::eventually;
use lock_tests::recorder::Recorder;
use metrics::Unit;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(30);
/// Renewed every second.
const SHORT: Duration = Duration::from_secs(3);

macro_rules! both {
    ($($name:ident)*) => {
        mod blocking {
            $(#[test]
            fn $name() { crate::$name(&crate::Alone::with(crate::Driver::Blocking)) })*
        }
        mod asynchronous {
            $(#[test]
            fn $name() { crate::$name(&crate::Alone::with(crate::Driver::Tokio)) })*
        }
    };
}

use hostile::{
    one_may_acquire_locks, one_that_blocks_delays_no_renewal_and_no_answer,
    one_that_panics_costs_nothing_but_its_records,
};

both! {
    renewals_are_recorded_with_their_age_and_what_was_left
    a_loss_by_the_deadline_is_recorded_and_so_are_the_failures_before
    a_loss_that_only_the_release_finds_is_recorded_once
    each_outcome_is_recorded
    names_are_recorded_only_where_it_is_asked_for
    metrics_have_units
    one_that_blocks_delays_no_renewal_and_no_answer
    one_that_panics_costs_nothing_but_its_records
    one_may_acquire_locks
}

/// An SQLite file, while no other test of this program runs.
struct Alone {
    place: Driven,
    recorder: Recorder,
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    fn with(driver: Driver) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let recorder = Recorder::installed();
        recorder.clear();
        Self { place: Driven::new(driver, Place::sqlite()), recorder, _turn: turn }
    }

    fn locks(&self, ttl: Duration) -> Locks {
        self.place.locks(ttl)
    }

    /// A connection that keeps to no rules.
    fn raw(&self) -> rusqlite::Connection {
        let path = self.place.url().strip_prefix("sqlite:").expect("a file");
        let raw = rusqlite::Connection::open(path).expect("opened");
        raw.busy_timeout(TTL).expect("set");
        raw
    }

    fn counts(&self, id: &str, count: u64) {
        let counted = eventually(|| self.recorder.counter(id) >= count);
        let found = self.recorder.counter(id);
        assert!(counted && found == count, "{id}: {found}, not {count}: {:?}", self.recorder.ids());
    }
}

fn renewals_are_recorded_with_their_age_and_what_was_left(alone: &Alone) {
    let locks = alone.locks(SHORT);
    let guard = locks.lock("a").expect("free");
    let valid = guard.valid_for().as_secs_f64();
    let ages = || alone.recorder.histogram("lock_renewal_age_seconds");
    assert!(eventually(|| ages().len() >= 2), "{:?}", alone.recorder.ids());
    guard.release().expect("released");
    let (ages, margins) = (ages(), alone.recorder.histogram("lock_renewal_margin_seconds"));
    for (age, margin) in ages.iter().zip(&margins) {
        // It is about a second old when it is renewed, and not yet lost.
        assert!(*age >= 0.9 && *margin > 0.0, "{ages:?} {margins:?}");
        assert!((age + margin - valid).abs() < 1e-6, "{ages:?} {margins:?}");
    }
    // Not all of them were late.
    assert!(ages.iter().any(|age| *age < valid / 2.0), "{ages:?} {margins:?}");
    // The thread may just be recording the last one.
    let renewed = || alone.recorder.counter("lock_renewals_total{outcome=\"renewed\"}");
    let recorded = || alone.recorder.histogram("lock_renewal_margin_seconds").len() as u64;
    assert!(eventually(|| renewed() == recorded()));
}

fn a_loss_by_the_deadline_is_recorded_and_so_are_the_failures_before(alone: &Alone) {
    let locks = alone.locks(SHORT);
    let guard = locks.lock("a").expect("free");
    assert_eq!(alone.recorder.gauge("lock_held"), Some(1.0));
    let blocker = alone.raw();
    blocker.execute_batch("BEGIN IMMEDIATE").expect("blocked");
    alone.counts("lock_lost_total{reason=\"deadline\"}", 1);
    assert!(!guard.is_held());
    assert!(alone.recorder.counter("lock_renewals_total{outcome=\"failed\"}") > 0);
    blocker.execute_batch("COMMIT").expect("unblocked");
    assert!(eventually(|| alone.recorder.gauge("lock_held") == Some(0.0)));
    drop(guard);
    let held = alone.recorder.histogram("lock_hold_duration_seconds");
    assert!(held.len() == 1 && held[0] >= 2.4, "until the loss, and once: {held:?}");
    alone.counts("lock_lost_total{reason=\"deadline\"}", 1);
}

/// The runtime is held up, so that nobody sees the end of the lease.
#[test]
fn a_loss_that_nobody_saw_before_the_drop_is_recorded_as_one() {
    let alone = Alone::with(Driver::Tokio);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let config = alone.place.config(Duration::from_secs(1));
        let locks = lock_async::Locks::open(config).await.expect("connected");
        let guard = locks.lock("a").await.expect("free");
        std::thread::sleep(guard.remaining() + Duration::from_millis(1));
        drop(guard);
    });
    alone.counts("lock_lost_total{reason=\"deadline\"}", 1);
    assert_eq!(alone.recorder.gauge("lock_held"), Some(0.0));
}

fn a_loss_that_only_the_release_finds_is_recorded_once(alone: &Alone) {
    let locks = alone.locks(TTL);
    let guard = locks.lock("a").expect("free");
    alone.raw().execute("UPDATE locks SET owner = 'thief'", []).expect("robbed");
    // Nobody knows of it before: the release finds the lock gone, as far as that is a release.
    assert!(guard.release().is_err());
    alone.counts("lock_lost_total{reason=\"taken\"}", 1);
    assert!(eventually(|| alone.recorder.gauge("lock_held") == Some(0.0)));
    assert!(eventually(|| alone.recorder.histogram("lock_hold_duration_seconds").len() == 1));
}

fn each_outcome_is_recorded(alone: &Alone) {
    let (ours, theirs) = (alone.locks(TTL), alone.locks(SHORT));
    let held = ours.lock("a").expect("free");
    let limit = Duration::from_millis(200);
    assert!(theirs.try_lock("a").expect("asked").is_none());
    assert!(theirs.try_lock_for("a", limit).expect("asked").is_none());
    let wrong = "CREATE TRIGGER no BEFORE INSERT ON locks WHEN NEW.name = 'no' BEGIN SELECT RAISE(ABORT, 'no'); END";
    let raw = alone.raw();
    raw.execute_batch(wrong).expect("created");
    assert!(matches!(theirs.lock("no").map(drop), Err(Error::Refused(_))));
    raw.execute_batch("BEGIN EXCLUSIVE").expect("blocked");
    assert!(matches!(theirs.try_lock("b").map(drop), Err(Error::Unavailable(_))));
    raw.execute_batch("COMMIT").expect("unblocked");
    cancel(&theirs);
    theirs.close();
    assert_eq!(theirs.lock("b").map(drop), Err(Error::Closed));
    held.release().expect("released");
    let outcomes =
        ["granted", "busy", "timed_out", "refused", "unavailable", "cancelled", "closed"];
    for outcome in outcomes {
        alone.counts(&format!("lock_acquires_total{{outcome=\"{outcome}\"}}"), 1);
        let id = format!("lock_acquire_duration_seconds{{outcome=\"{outcome}\"}}");
        let times = alone.recorder.histogram(&id);
        let least = if outcome == "timed_out" { limit.as_secs_f64() } else { 0.0 };
        assert!(times.len() == 1 && times[0] >= least, "{id}: {times:?}");
    }
    assert_eq!(alone.recorder.histogram("lock_hold_duration_seconds").len(), 1);
    assert_eq!(alone.recorder.gauge("lock_held"), Some(0.0));
}

/// Waits for a lock that somebody has, and no longer.
fn cancel(locks: &Locks) {
    match locks {
        Locks::Blocking(locks) => {
            let cancel = lock_sync::Cancel::new();
            cancel.cancel();
            let waited = locks.acquire("a").cancelled_by(&cancel).wait().map(drop);
            assert_eq!(waited, Err(Error::Cancelled));
        }
        Locks::Tokio(locks) => wait(async {
            let waiting = tokio::time::timeout(Duration::from_millis(50), locks.lock("a"));
            assert!(waiting.await.is_err());
        }),
    }
}

fn names_are_recorded_only_where_it_is_asked_for(alone: &Alone) {
    let named = alone.place.set(TTL, |config: Config| config.metrics_by_name(true));
    let unnamed = alone.locks(TTL);
    for locks in [&named, &unnamed] {
        locks.lock("some \"name\"").expect("free").release().expect("released");
    }
    let name = "lock=\"some \\\"name\\\"\"";
    let ids = alone.recorder.ids();
    let with_name: Vec<_> = ids.iter().filter(|id| id.contains(name)).collect();
    assert_eq!((ids.len(), with_name.len()), (8, 4), "{ids:?}");
    alone.counts("lock_acquires_total{outcome=\"granted\"}", 1);
    alone.counts(&format!("lock_acquires_total{{{name},outcome=\"granted\"}}"), 1);
    assert_eq!(alone.recorder.gauge(&format!("lock_held{{{name}}}")), Some(0.0));
}

fn metrics_have_units(alone: &Alone) {
    drop(alone.locks(TTL));
    for (name, unit) in [
        ("lock_acquires_total", Unit::Count),
        ("lock_acquire_duration_seconds", Unit::Seconds),
        ("lock_held", Unit::Count),
        ("lock_hold_duration_seconds", Unit::Seconds),
        ("lock_lost_total", Unit::Count),
        ("lock_renewals_total", Unit::Count),
        ("lock_renewal_age_seconds", Unit::Seconds),
        ("lock_renewal_margin_seconds", Unit::Seconds),
        ("lock_metrics_dropped_total", Unit::Count),
    ] {
        assert_eq!(alone.recorder.unit(name), Some(unit), "{name}");
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(page).expect("read");
        assert!(page.contains(&format!("`{name}`")), "{name} is not on its page");
    }
}
