//! A tokio service that works only while it holds a lock, and stops when the lock is lost.
//!
//! ```text
//! cargo run -p lock-async --example service
//! ```
//!
//! The work is a future like any other. `select!` drops it when the lock is lost: that is told by the
//! lease's deadline at the latest, also when the database is silent, and so before anybody else can
//! have the lock. Then the service waits for its next turn.

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
    let locks = config.ttl(Duration::from_secs(1)).connect().await?;

    let result = serve(&locks, &file).await;
    // What an error dropped on its way out is released here: the runtime ends with `main`.
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
        // That it was lost is no news; that a release failed would be.
        let _ = guard.release().await;
    }
    Ok(())
}

/// What may be done by one at a time. It can be dropped at each await.
async fn work(guard: &Guard) {
    for _ in 0..4 {
        // Right before anything that cannot be undone, and with the fence for what is written to.
        if !guard.is_held() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// As an operator does with `withlock --break`.
fn somebody_takes_it_away(file: &Path) {
    let db = rusqlite::Connection::open(file).expect("it is there");
    db.busy_timeout(Duration::from_secs(5)).expect("set");
    db.execute_batch("UPDATE locks SET owner = NULL, fence = fence + 1").expect("done");
}
