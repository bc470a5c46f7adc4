//! A migration runner: many instances of a service start at once, and each migration runs once.
//!
//! ```text
//! cargo run -p lock-sync --example migrate
//! ```
//!
//! Three threads stand for three machines. The first one to acquire the lock migrates. The others wait, and find
//! nothing left to do. Each migration carries the fence, so a runner that was stopped until its lock was lost changes
//! nothing.

use lock_sync::{Fence, Locks};
use rusqlite::Connection;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

const MIGRATIONS: [&str; 3] = [
    "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "ALTER TABLE customer ADD COLUMN city TEXT",
    "CREATE INDEX customer_city ON customer (city)",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let results = std::thread::scope(|scope| {
        let instances: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| start(folder.path()).map_err(|error| error.to_string())))
            .collect();
        instances.into_iter().map(|instance| instance.join().expect("no panic")).collect()
    });
    let results: Result<Vec<usize>, String> = results;
    let mut applied = results?;
    applied.sort_unstable();
    println!("migrations applied by each instance: {applied:?}");
    Ok(())
}

/// The first task of each instance of the service. Returns the number of migrations that it applied.
fn start(folder: &Path) -> Result<usize, Box<dyn Error>> {
    // A service would name its database server here.
    let locks = Locks::connect(&format!("sqlite:{}/locks.db", folder.display()))?;
    let guard = locks.lock("migrations")?;
    let mut applied = 0;
    let mut db = Connection::open(folder.join("app.db"))?;
    db.busy_timeout(Duration::from_secs(5))?;
    prepare(&db)?;
    while guard.is_held() && migrate_one(&mut db, guard.fence())? {
        applied += 1;
    }
    guard.release()?;
    Ok(applied)
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, fence INTEGER NOT NULL);
         INSERT INTO schema_version SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM schema_version)",
    )
}

/// Applies the next migration, and records it in the same transaction. Returns whether there was one.
fn migrate_one(db: &mut Connection, fence: Fence) -> Result<bool, Box<dyn Error>> {
    let fence = i64::try_from(fence.get())?;
    let transaction = db.transaction()?;
    let version: u16 =
        transaction.query_row("SELECT version FROM schema_version", [], |row| row.get(0))?;
    let Some(sql) = MIGRATIONS.get(usize::from(version)) else { return Ok(false) };
    let ours = transaction.execute(
        "UPDATE schema_version SET version = version + 1, fence = ?1 WHERE fence <= ?1",
        [fence],
    )?;
    if ours == 0 {
        return Err("somebody with a later fence has been here: our lock was lost".into());
    }
    transaction.execute_batch(sql)?;
    transaction.commit()?;
    Ok(true)
}
