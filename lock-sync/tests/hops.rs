//! Locks that nobody else wants are taken and freed on the calling thread.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

use lock_sync::Locks;
use std::time::{Duration, Instant};

const PAIRS: u64 = 2_000;
/// The pump and the keeper, and the thread that records metrics.
const THREADS: usize = if cfg!(feature = "metrics") { 3 } else { 2 };

#[test]
fn locks_taken_again_and_again_wake_no_other_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let locks =
        Locks::connect(&format!("sqlite:{}/locks.db", folder.path().display())).expect("connected");
    let pair = || locks.lock("a").expect("free").release().expect("freed");
    pair();
    // A thread gives itself its name.
    let soon = Instant::now() + Duration::from_secs(10);
    while in_background().len() < THREADS && Instant::now() < soon {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (began, before) = (Instant::now(), waits());
    (0..PAIRS).for_each(|_| pair());
    // Each of the two looks once a second whether it is still needed.
    let looks = 2 * (began.elapsed().as_secs() + 1);
    let woken = waits() - before;
    assert!(woken <= looks + PAIRS / 100, "{woken} times in {PAIRS} pairs");
}

/// How often the threads in the background have gone to sleep.
fn waits() -> u64 {
    let threads = in_background();
    assert_eq!(threads.len(), THREADS);
    let count = |status: &String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    };
    threads.iter().map(count).sum()
}

/// What the system says of each of them.
fn in_background() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .expect("threads")
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .filter(|status| status.starts_with("Name:\tlock "))
        .collect()
}
