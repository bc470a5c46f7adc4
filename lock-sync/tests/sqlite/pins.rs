//! A pin of several locks, and one that waits.

use lock_sync::{Locks, NotPinnable, PinError};
use std::sync::Mutex;
use std::time::Duration;

#[test]
fn a_pin_of_several_locks_fails_if_one_of_them_is_another_s() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("locks.db");
    let locks = Locks::connect(&format!("sqlite:{}", file.display())).expect("connected");
    let mut db = rusqlite::Connection::open(&file).expect("opened");
    db.busy_timeout(Duration::from_secs(10)).expect("set");
    let guard = locks.acquire("b").and("a").wait().expect("free");
    let mut transaction = db.transaction().expect("begun");
    guard.pin(&mut transaction).expect("both are ours");
    transaction.commit().expect("committed");
    assert!(matches!(guard.pin_statement(), Err(NotPinnable::Several)));
    // Somebody takes the second, and the guard has not heard of it.
    db.execute("UPDATE locks SET fence = fence + 1, owner = 'another' WHERE name = 'b'", [])
        .expect("taken");
    let mut transaction = db.transaction().expect("begun");
    assert!(matches!(guard.pin(&mut transaction), Err(PinError::Unseen)));
}

/// A connection that is writing.
static WRITES: Mutex<Option<rusqlite::Connection>> = Mutex::new(None);

/// SQLite asks whether to wait for another connection.
fn commit_the_other(_asked: i32) -> bool {
    let writes = WRITES.lock().expect("no panic").take();
    writes.is_some_and(|db| db.execute_batch("COMMIT").is_ok())
}

#[test]
fn a_pin_waits_for_another_transaction_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("locks.db");
    let locks = Locks::connect(&format!("sqlite:{}", file.display())).expect("connected");
    let guard = locks.lock("a").expect("free");
    let other = rusqlite::Connection::open(&file).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE orders (number INTEGER)").expect("begun");
    *WRITES.lock().expect("no panic") = Some(other);
    let mut db = rusqlite::Connection::open(&file).expect("opened");
    db.busy_handler(Some(commit_the_other)).expect("set");
    // SQLite waits for nobody in a transaction that has read.
    let mut transaction = db.transaction().expect("begun");
    let read = transaction.query_row("SELECT count(*) FROM locks", [], |row| row.get::<_, i64>(0));
    assert_eq!(read, Ok(1));
    assert!(matches!(guard.pin(&mut transaction), Err(PinError::Client(_))));
    transaction.rollback().expect("ended");
    assert!(WRITES.lock().expect("no panic").is_some(), "the other is still writing");
    let mut transaction = db.transaction().expect("begun");
    guard.pin(&mut transaction).expect("it waits");
    transaction.execute("INSERT INTO orders VALUES (1)", []).expect("the other has committed");
    transaction.commit().expect("committed");
}
