//! A tokio service that works only while it holds a lock, and stops when the lock is lost.
//!
//! ```text
//! cargo run -p lock-async --example service
//! ```
//!
//! The work is a future like any other. `select!` drops it when the lock is lost. `guard.lost()` resolves by the lease's
//! deadline, even if the database is silent, and so before anyone else can acquire the lock. Then the service waits
//! for its next turn.

use lock_async::{Config, Guard, Locks};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("locks.db");
    // A service would name its database server here.
    let config: Config = format!("sqlite:{}", file.display()).parse()?;
    let locks = Locks::open(config.ttl(Duration::from_secs(1))).await?;

    let result = serve(&locks, &file).await;
    // The runtime ends with `main`, so this waits for the release of a guard that an error dropped.
    locks.shutdown().await?;
    result
}

async fn serve(locks: &Locks, file: &Path) -> Result<(), Box<dyn Error>> {
    for turn in 1..=2 {
        let guard = locks.lock("queue-consumer").await?;
        println!("turn {turn}: it is ours");
        if turn == 1 {
            somebody_takes_it_away(file);
        }
        tokio::select! {
            () = work(&guard) => println!("turn {turn}: the work is done"),
            reason = guard.lost() => println!("turn {turn}: stopped: {reason}"),
        }
        // The loss is known already. A failed release is not.
        let _ = guard.release().await;
    }
    Ok(())
}

/// The work of the lock's holder. It can be dropped at each await.
async fn work(guard: &Guard) {
    for _ in 0..4 {
        // A check right before each step that cannot be undone. The store of its results gets the fence.
        if !guard.is_held() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Breaks the lock, as an operator does with `withlock --break`.
fn somebody_takes_it_away(file: &Path) {
    let db = rusqlite::Connection::open(file).expect("it is there");
    db.busy_timeout(Duration::from_secs(5)).expect("set");
    db.execute_batch("UPDATE locks SET owner = NULL, fence = fence + 1").expect("done");
}
