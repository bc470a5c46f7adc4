//! What one process does in one place, with one driver.

mod tally;
mod tasks;
mod threads;

use crate::sample::{Sample, interval};
use crate::{HELD, WAITERS};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tally::Tally;

/// A wait of so long counts as one that never ends. A lease of a dead holder would end much earlier.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Holds and hands on, and samples for so many seconds after a time to warm up. Fails if a contender still waits at the end.
pub(crate) fn run(driver: &str, url: &str, seconds: u64) -> ExitCode {
    let tally = std::sync::Arc::new(Tally::new(
        3 * WAITERS,
        Duration::from_millis(seconds * 1000 / 20).min(Duration::from_secs(10)),
    ));
    // Advisory locks have one space of names at a server, also for another soak.
    let prefix = format!("{driver}-{}-", std::os::unix::process::parent_id());
    match driver {
        "lock-sync" => threads::run(url, &prefix, &tally, |lost| watch(&tally, seconds, lost)),
        _ => tasks::run(url, &prefix, &tally, |lost| watch(&tally, seconds, lost)),
    }
    ExitCode::from(u8::from(tally.contending() > 0))
}

/// The name of a lock that is held all the time.
fn held(prefix: &str, at: usize) -> String {
    format!("{prefix}held-{at}")
}

/// The name of the lock that a contender shares with another.
fn shared(prefix: &str, contender: usize, tally: &Tally) -> String {
    match contender {
        0 if tally.fault == "waiter" => held(prefix, 0),
        _ => format!("{prefix}shared-{}", contender / 2),
    }
}

/// Samples, and has the contenders end.
fn watch(tally: &Tally, seconds: u64, lost: &dyn Fn() -> usize) {
    std::thread::sleep((tally.hold * 3).max(Duration::from_secs(seconds / 20)));
    let (every, began) = (interval(seconds), Instant::now());
    let mut due = began;
    while due.duration_since(began) + every <= Duration::from_secs(seconds) {
        due += every;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        println!("{}", tally.complete(Sample::of_this_process(), lost()).to_line());
    }
    tally.stop();
    let until = Instant::now() + PATIENCE;
    while tally.contending() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
}
