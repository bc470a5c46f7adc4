//! What holding many locks costs.

use crate::Backend;
use lock_async::Locks;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(22);

/// Prints processor time and memory while so many locks are held, with a TTL of 30 s.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## Held: locks with a TTL of 30 s, over one connection of lock-async, {SPAN:?}\n");
    println!("| | held | took to acquire, s | processor, % of a core | memory more, MiB |");
    println!("|---|---|---|---|---|");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for backend in backends {
        // How it grows is shown once: that takes minutes.
        let growing = backend.name == "PostgreSQL table";
        for many in if growing { &[1, 1_000, 10_000, 100_000][..] } else { &[10_000] } {
            let many = *many;
            let Ok(locks) = runtime.block_on(Locks::connect(&backend.url)) else { continue };
            let memory = resident();
            let began = Instant::now();
            let guards = runtime.block_on(async {
                let wanted = (0..many).map(|at| {
                    let locks = locks.clone();
                    async move { locks.lock(&format!("held-{at}")).await.expect("free") }
                });
                let mut tasks = tokio::task::JoinSet::new();
                wanted.for_each(|task| drop(tasks.spawn(task)));
                tasks.join_all().await
            });
            let took = began.elapsed();
            let before = processor();
            runtime.block_on(async { tokio::time::sleep(SPAN).await });
            let used = processor().saturating_sub(before);
            let held = guards.iter().filter(|guard| guard.is_held()).count();
            let more = resident().saturating_sub(memory);
            println!(
                "| {} | {held} of {many} | {:.2} | {:.2} | {:.0} |",
                backend.name,
                took.as_secs_f64(),
                used.as_secs_f64() / SPAN.as_secs_f64() * 100.0,
                more as f64 / (1 << 20) as f64,
            );
            runtime.block_on(async {
                let mut releases = tokio::task::JoinSet::new();
                guards.into_iter().for_each(|guard| drop(releases.spawn(guard.release())));
                releases.join_all().await;
            });
        }
    }
}

/// Processor time that this process has used.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
