//! Many tasks that take names of their own over one connection.

use crate::Backend;
use lock_async::Locks;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(3);

/// Prints pairs of lock and unlock a second.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## Throughput: tasks with a name each, over one connection of lock-async\n");
    println!("| | 1 task | 8 | 64 | 512 | 512 to 1 |");
    println!("|---|---|---|---|---|---|");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for backend in backends {
        let Ok(locks) = runtime.block_on(Locks::connect(&backend.url)) else { continue };
        let rates = [1, 8, 64, 512].map(|tasks| runtime.block_on(rate(&locks, tasks)));
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
            backend.name,
            rates[0],
            rates[1],
            rates[2],
            rates[3],
            rates[3] / rates[0]
        );
    }
}

async fn rate(locks: &Locks, tasks: usize) -> f64 {
    let began = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let locks = locks.clone();
        set.spawn(async move {
            let name = format!("task-{task}");
            let mut pairs = 0;
            while began.elapsed() < SPAN {
                let guard = locks.lock(&name).await.expect("free");
                guard.release().await.expect("freed");
                pairs += 1;
            }
            pairs
        });
    }
    let pairs: usize = set.join_all().await.into_iter().sum();
    pairs as f64 / began.elapsed().as_secs_f64()
}
