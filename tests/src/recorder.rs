//! A recorder of metrics that tests can ask, for the whole program.

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

/// Something that a test does instead of recording in peace: blocks, panics, or acquires a lock.
type Reaction = Arc<dyn Fn() + Send + Sync>;

/// A metric, as `name{label="value"}`, with its labels in order.
type Id = String;

#[derive(Default)]
struct Recorded {
    counters: BTreeMap<Id, u64>,
    gauges: BTreeMap<Id, f64>,
    histograms: BTreeMap<Id, Vec<f64>>,
    units: BTreeMap<String, Option<Unit>>,
    reactions: BTreeMap<Id, Reaction>,
}

static RECORDED: Mutex<Option<Recorded>> = Mutex::new(None);

/// The recorder of this program.
#[derive(Clone, Copy, Debug)]
pub struct Recorder;

struct Handle(Id);

impl Recorder {
    /// Installs it, if that is still to be done.
    pub fn installed() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| metrics::set_global_recorder(Self).expect("the only one"));
        Self
    }

    /// The value of a counter, such as `lock_lost_total{reason="taken"}`.
    pub fn counter(self, id: &str) -> u64 {
        with(|recorded| recorded.counters.get(id).copied().unwrap_or_default())
    }

    /// The value of a gauge.
    pub fn gauge(self, id: &str) -> Option<f64> {
        with(|recorded| recorded.gauges.get(id).copied())
    }

    /// The values that a histogram was given.
    pub fn histogram(self, id: &str) -> Vec<f64> {
        with(|recorded| recorded.histograms.get(id).cloned().unwrap_or_default())
    }

    /// The unit that a metric was described with.
    pub fn unit(self, name: &str) -> Option<Unit> {
        with(|recorded| recorded.units.get(name).copied().flatten())
    }

    /// Every metric that was recorded.
    pub fn ids(self) -> Vec<String> {
        with(|it| {
            let ids = it.counters.keys().chain(it.gauges.keys()).chain(it.histograms.keys());
            ids.cloned().collect()
        })
    }

    /// Forgets what was recorded, and every reaction.
    pub fn clear(self) {
        let old = lock().take();
        drop(old);
    }

    /// Calls `reaction` each time that a metric is about to be recorded.
    pub fn on(self, id: &str, reaction: impl Fn() + Send + Sync + 'static) {
        with(|recorded| recorded.reactions.insert(id.to_string(), Arc::new(reaction)));
    }
}

fn lock() -> MutexGuard<'static, Option<Recorded>> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(call: impl FnOnce(&mut Recorded) -> T) -> T {
    call(lock().get_or_insert_default())
}

fn id(key: &Key) -> Id {
    let mut labels: Vec<_> =
        key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
    labels.sort();
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    format!("{}{labels}", key.name())
}

impl Handle {
    fn react(&self) {
        let reaction = with(|recorded| recorded.reactions.get(&self.0).cloned());
        if let Some(reaction) = reaction {
            reaction();
        }
    }

    fn add(&self, value: f64) {
        self.react();
        with(|recorded| *recorded.gauges.entry(self.0.clone()).or_default() += value);
    }
}

impl CounterFn for Handle {
    fn increment(&self, value: u64) {
        self.react();
        with(|recorded| *recorded.counters.entry(self.0.clone()).or_default() += value);
    }

    fn absolute(&self, value: u64) {
        self.react();
        with(|recorded| recorded.counters.insert(self.0.clone(), value));
    }
}

impl GaugeFn for Handle {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        self.react();
        with(|recorded| recorded.gauges.insert(self.0.clone(), value));
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.react();
        with(|recorded| recorded.histograms.entry(self.0.clone()).or_default().push(value));
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        with(|recorded| recorded.units.insert(name.as_str().to_string(), unit));
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        with(|recorded| recorded.units.insert(name.as_str().to_string(), unit));
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        with(|recorded| recorded.units.insert(name.as_str().to_string(), unit));
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Handle(id(key))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Handle(id(key))))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Handle(id(key))))
    }
}
