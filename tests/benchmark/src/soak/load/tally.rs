//! What contenders have come to.

use crate::sample::Sample;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What contenders share with the one who samples.
pub(crate) struct Tally {
    /// How long a contender keeps its lock, about.
    pub(crate) hold: Duration,
    /// A fault that is seeded, or nothing.
    pub(crate) fault: String,
    began: Instant,
    contenders: Vec<Contender>,
    contending: AtomicUsize,
    lost: AtomicU64,
    ends: AtomicBool,
}

#[derive(Default)]
struct Contender {
    grants: AtomicU64,
    /// When its wait began, in milliseconds from the beginning, from 1; 0 if it does not wait.
    waits: AtomicU64,
    longest_wait: AtomicU64,
}

impl Tally {
    pub(crate) fn new(contenders: usize, hold: Duration) -> Self {
        Self {
            hold,
            fault: std::env::var("LOCK_SOAK_FAULT").unwrap_or_default(),
            began: Instant::now(),
            contenders: (0..contenders).map(|_| Contender::default()).collect(),
            contending: AtomicUsize::new(contenders),
            lost: AtomicU64::new(0),
            ends: AtomicBool::new(false),
        }
    }

    /// Whether contenders go on. If they do, this one waits from now on.
    pub(crate) fn waits(&self, contender: usize) -> bool {
        let goes_on = !self.ends.load(SeqCst);
        match goes_on {
            true => self.contenders[contender].waits.store(self.now(), SeqCst),
            false => drop(self.contending.fetch_sub(1, SeqCst)),
        }
        goes_on
    }

    /// A contender has its lock, for the time that is returned.
    pub(crate) fn granted(&self, contender: usize) -> Duration {
        let one = &self.contenders[contender];
        one.longest_wait.fetch_max(self.now() - one.waits.swap(0, SeqCst), SeqCst);
        one.grants.fetch_add(1, SeqCst);
        match &*self.fault {
            "descriptor" => std::mem::forget(std::fs::File::open("/dev/null")),
            "memory" => std::mem::forget(std::hint::black_box(vec![1_u8; 32 << 10])),
            "thread" => drop(std::thread::spawn(std::thread::park)),
            _ => {}
        }
        // Not all at the same time.
        self.hold.mul_f64(0.75 + (contender * 37 % 50) as f64 / 100.0)
    }

    /// How long a contender rests after its release. A waiter for which the server has no connection left asks once a second,
    /// and would never find the lock free.
    pub(crate) fn rest(&self) -> Duration {
        self.hold / 3
    }

    /// A lock was lost, or could not be acquired or released.
    pub(crate) fn lost(&self, error: &dyn std::fmt::Display) {
        self.lost.fetch_add(1, SeqCst);
        eprintln!("{:.1} s: {error}", self.began.elapsed().as_secs_f64());
    }

    pub(crate) fn stop(&self) {
        self.ends.store(true, SeqCst);
    }

    /// Contenders that have not ended.
    pub(crate) fn contending(&self) -> usize {
        self.contending.load(SeqCst)
    }

    /// Adds the counts, of which `lost` locks are not held that should be.
    pub(crate) fn complete(&self, sample: Sample, lost: usize) -> Sample {
        let now = self.now();
        let longest = self.contenders.iter().map(|one| {
            let waits = one.waits.load(SeqCst);
            one.longest_wait.load(SeqCst).max(if waits == 0 {
                0
            } else {
                now.saturating_sub(waits)
            })
        });
        let grants = || self.contenders.iter().map(|one| one.grants.load(SeqCst));
        Sample {
            handoffs: grants().sum(),
            lost: self.lost.load(SeqCst) + lost as u64,
            longest_wait: longest.max().unwrap_or(0),
            left_out: grants().filter(|grants| *grants == 0).count() as u64,
            ..sample
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }
}
