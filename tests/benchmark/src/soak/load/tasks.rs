//! With lock-async.

use super::{HELD, Tally, held, shared};
use lock_async::{Admin, Locks};
use std::time::Duration;
use tokio::time::sleep;

/// Acquires all, and calls `watch` with what counts lost locks.
pub(crate) fn run(
    url: &str,
    prefix: &str,
    tally: &std::sync::Arc<Tally>,
    watch: impl FnOnce(&dyn Fn() -> usize),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let (both, guards) = runtime.block_on(async {
        let both = [
            Locks::connect(url).await.expect("connected"),
            Locks::connect(url).await.expect("connected"),
        ];
        let mut guards = Vec::new();
        for at in 0..HELD {
            guards.push(both[0].lock(held(prefix, at)).await.expect("free"));
        }
        (both, guards)
    });
    for contender in 0..tally.contending() {
        let (locks, name, tally) =
            (both[contender % 2].clone(), shared(prefix, contender, tally), tally.clone());
        runtime.spawn(async move { contend(&locks, &name, contender, &tally).await });
    }
    if tally.fault == "loss" {
        let (name, fence) = (guards[1].name().clone(), guards[1].fence());
        runtime.block_on(async {
            let mut admin = Admin::connect(url).await.expect("connected");
            admin.break_hold(name, fence).await.expect("broken");
        });
    }
    watch(&|| guards.iter().filter(|guard| !guard.is_held()).count());
    runtime.block_on(async {
        for guard in guards {
            guard.release().await.unwrap_or_else(|error| tally.lost(&error));
        }
    });
}

async fn contend(locks: &Locks, name: &str, contender: usize, tally: &Tally) {
    while tally.waits(contender) {
        match locks.lock(name).await {
            Ok(guard) => {
                sleep(tally.granted(contender)).await;
                guard.release().await.unwrap_or_else(|error| tally.lost(&error));
                sleep(tally.rest()).await;
            }
            Err(error) => {
                tally.lost(&error);
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
