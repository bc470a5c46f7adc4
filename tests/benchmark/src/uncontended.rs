//! One lock taken and freed again and again, with nobody in the way.

use crate::Backend;
use crate::floor::Floor;
use crate::ours::Ours;
use crate::times::{Times, ratio, us};
use std::time::Instant;

const ROUNDS: usize = 40;
const PAIRS: usize = 50;

/// Prints a table: both drivers beside the floor and beside our statements alone, by turns, so that noise
/// hits all alike.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## Uncontended: lock and unlock\n");
    println!(
        "| | floor p50 µs | our statements alone | × floor | lock-sync p50 µs | p99 | × floor | lock-async p50 µs | p99 | × floor | switches a pair: floor, lock-sync |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for backend in backends {
        let sync = lock_sync::Locks::connect(&backend.url).expect("connected");
        let tokio = runtime.block_on(lock_async::Locks::connect(&backend.url));
        let mut floor = Floor::new(&backend.floor);
        let mut ours = Ours::new(&backend.floor, backend.writes);
        let [mut raw, mut alone, mut blocking, mut asynchronous] =
            [(); 4].map(|()| Times::default());
        let [mut raw_switches, mut switches] = [0; 2];
        for round in 0..=ROUNDS {
            let warm = round > 0;
            let before = own_switches();
            let floor_times = times(|| backend.pair(&mut floor));
            let between = own_switches();
            let sync_times = times(|| {
                sync.lock("bench").expect("free").release().expect("freed");
            });
            let after = own_switches();
            let ours_times = times(|| ours.pair());
            let tokio_times = tokio.as_ref().map(|locks| {
                let locks = locks.clone();
                // In a task, as a service does it: what a runtime is blocked on is woken up through
                // the kernel.
                let pairs = runtime.spawn(async move {
                    let mut times = Vec::new();
                    for _ in 0..PAIRS {
                        let began = Instant::now();
                        locks.lock("bench").await.expect("free").release().await.expect("freed");
                        times.push(began.elapsed());
                    }
                    times
                });
                runtime.block_on(pairs).expect("no panic")
            });
            if warm {
                raw.extend(floor_times);
                alone.extend(ours_times);
                blocking.extend(sync_times);
                asynchronous.extend(tokio_times.into_iter().flatten());
                raw_switches += between - before;
                switches += after - between;
            }
        }
        let base = raw.percentile(50);
        let pairs = raw.len() as f64;
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2}, {:.2} |",
            backend.name,
            us(base),
            us(alone.percentile(50)),
            ratio(alone.percentile(50), base),
            us(blocking.percentile(50)),
            us(blocking.percentile(99)),
            ratio(blocking.percentile(50), base),
            us(asynchronous.percentile(50)),
            us(asynchronous.percentile(99)),
            ratio(asynchronous.percentile(50), base),
            raw_switches as f64 / pairs,
            switches as f64 / pairs,
        );
    }
}

fn times(mut call: impl FnMut()) -> Vec<std::time::Duration> {
    let once = |_| {
        let began = Instant::now();
        call();
        began.elapsed()
    };
    (0..PAIRS).map(once).collect()
}

/// How often threads of this process gave the processor up of their own accord: what a hop to
/// another thread would add to.
fn own_switches() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok())
        .filter_map(|status| {
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.and_then(|count| count.trim().parse::<u64>().ok())
        })
        .sum()
}
