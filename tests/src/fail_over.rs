//! Contenders for a lock whose server is killed again and again, and what they saw.

use crate::drivers::{Driven, Driver, Guard, Locks};
use crate::place::Place;
use crate::withlock::eventually;
use lock_sync::{Error, LostReason};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A primary, and at least one server that can replace it.
pub trait Cluster {
    /// The place of the locks, by the addresses of all servers.
    fn place(&self) -> Place;

    /// Cuts the other server off, so that it lacks what is committed from now on, if that may be.
    fn part(&mut self) {}

    /// Kills the primary.
    fn kill(&mut self);

    /// Makes another server the primary.
    fn promote(&mut self);

    /// Starts a server in the place of the killed one.
    fn repair(&mut self);
}

/// The number of kills: `LOCK_TEST_KILLS`, or else a few.
pub fn kills(few: usize) -> usize {
    std::env::var("LOCK_TEST_KILLS").map_or(few, |many| many.parse().expect("a number"))
}

/// A time in which a guard said that it is held, from its first word to its last.
#[derive(Clone, Copy, Debug)]
struct Hold {
    from: Instant,
    until: Instant,
    fence: u64,
}

/// What contenders saw.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of kills.
    pub kills: usize,
    /// The number of grants of the lock that is contended for.
    pub grants: usize,
    /// How often two guards said at once that they are held.
    pub overlaps: usize,
    /// How often a fence was not greater than that of the grant before.
    pub fallen: usize,
    /// How often another lock, held during the kill, was still held afterwards, and by nobody else.
    pub kept: usize,
    /// How often its holder lost it because the fail-over took too long.
    pub told: usize,
    /// How often the servers had forgotten it: it was granted to another, or its holder was told that it is not its.
    pub forgotten: usize,
    /// How often the fence of its next holder was not greater.
    pub hidden: usize,
    /// From before each kill to the next grant of the lock that is contended for.
    pub waits: Vec<Duration>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, grants, overlaps, fallen, kept, told, forgotten, hidden, waits } = self;
        let mut waits = waits.clone();
        waits.sort();
        let (p50, max) = (waits.get(waits.len() / 2), waits.last());
        write!(
            f,
            "{kills} kills: {grants} grants, {overlaps} overlaps, {fallen} fences not greater; a lock that was held: {kept} kept, {told} lost by the deadline, {forgotten} forgotten, {hidden} not shown by the fence; next grant after p50 {p50:?}, max {max:?}"
        )
    }
}

/// Threads that acquire and release one lock, each on connections of its own.
struct Contenders {
    stop: Arc<AtomicBool>,
    holds: Arc<Mutex<Vec<Hold>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Contenders {
    fn start(all: Vec<Locks>) -> Self {
        let (stop, holds) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let contend = |(at, locks): (u64, Locks)| {
            let (stop, holds) = (stop.clone(), holds.clone());
            let hold = Duration::from_millis(5 + 7 * at);
            std::thread::spawn(move || contend(&locks, hold, &stop, &holds))
        };
        let threads = (0..).zip(all).map(contend).collect();
        Self { stop, holds, threads }
    }

    fn holds(&self) -> Vec<Hold> {
        self.holds.lock().expect("unpoisoned").clone()
    }

    /// The first grant after `then`.
    fn next_after(&self, then: Instant) -> Instant {
        let next = || self.holds().iter().map(|hold| hold.from).filter(|from| *from > then).min();
        eventually("a grant after a kill", || next().is_some());
        next().expect("there")
    }

    fn end(self) -> Vec<Hold> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let mut holds = self.holds.lock().expect("unpoisoned").clone();
        holds.sort_by_key(|hold| hold.from);
        holds
    }
}

fn contend(locks: &Locks, hold: Duration, stop: &AtomicBool, holds: &Mutex<Vec<Hold>>) {
    while !stop.load(Ordering::SeqCst) {
        let guard = match locks.try_lock_for("contended", Duration::from_secs(10)) {
            Ok(Some(guard)) => guard,
            Ok(None) => continue,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
        };
        let from = Instant::now();
        let mut until = None;
        loop {
            // What is true a moment later was true at this one.
            let at = Instant::now();
            if !guard.is_held() || at > from + hold {
                break;
            }
            until = Some(at);
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(until) = until {
            let fence = guard.fence().get();
            holds.lock().expect("unpoisoned").push(Hold { from, until, fence });
        }
        // In a fail-over, nobody can say whether it was.
        let _ = guard.release();
    }
}

/// Kills the primary `kills` times while both drivers contend for a lock, and another lock is held.
pub fn run(cluster: &mut dyn Cluster, ttl: Duration, kills: usize) -> Report {
    let place = Driven::new(Driver::Mixed, cluster.place());
    let [holder, rival] = [place.locks(ttl), place.locks(ttl)];
    let contenders = Contenders::start((0..4).map(|_| place.locks(ttl)).collect());
    let mut report = Report { kills, ..Report::default() };
    for round in 0..kills {
        cluster.part();
        let kept = acquired(&holder, "kept");
        let begun = contenders.holds().len();
        eventually("some grants", || contenders.holds().len() > begun + 8);
        // Not always in the same moment of an acquire or a release.
        std::thread::sleep(Duration::from_millis((round as u64 * 7) % 23));
        let before = Instant::now();
        cluster.kill();
        let dead = Instant::now();
        cluster.promote();
        report.waits.push(contenders.next_after(dead) - before);
        report.judge(&kept, &rival);
        let _ = kept.release();
        cluster.repair();
    }
    report.count(&contenders.end());
    report
}

/// Contends for a lock through each of these, for so long.
pub fn crowd(all: Vec<Locks>, time: Duration) -> Report {
    let contenders = Contenders::start(all);
    std::thread::sleep(time);
    let mut report = Report::default();
    report.count(&contenders.end());
    report
}

impl Report {
    /// Counts what is in these holds, which are in the order of their beginnings.
    fn count(&mut self, holds: &[Hold]) {
        self.grants = holds.len();
        // The one that lasts longest so far is the one to overlap with.
        let mut last: Option<Instant> = None;
        for pair in holds.windows(2) {
            let until = last.map_or(pair[0].until, |last| last.max(pair[0].until));
            self.overlaps += usize::from(pair[1].from <= until);
            self.fallen += usize::from(pair[1].fence <= pair[0].fence);
            last = Some(until);
        }
    }

    /// What became of a lock that was held while the primary was killed.
    fn judge(&mut self, kept: &Guard, rival: &Locks) {
        let stolen = loop {
            match rival.try_lock("kept") {
                Ok(stolen) => break stolen,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        };
        // The order matters: a guard that is held now was held when the other was granted.
        match kept.lost_reason() {
            None if stolen.is_none() => self.kept += 1,
            Some(LostReason::Deadline { .. }) => self.told += 1,
            _ => self.forgotten += 1,
        }
        let Some(stolen) = stolen else { return };
        self.hidden += usize::from(stolen.fence() <= kept.fence());
        let _ = stolen.release();
    }
}

/// Acquires a lock, whatever happens to its server meanwhile.
fn acquired(locks: &Locks, name: &str) -> Guard {
    loop {
        match locks.lock(name) {
            Ok(guard) => return guard,
            Err(error) => assert!(Error::is_transient(&error), "{error}"),
        }
    }
}
