//! A pin of several locks.

use lock_sync::{Locks, NotPinnable, PinError};

#[test]
fn a_pin_of_several_locks_fails_if_one_of_them_is_another_s() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("locks.db");
    let locks = Locks::connect(&format!("sqlite:{}", file.display())).expect("connected");
    let mut db = rusqlite::Connection::open(&file).expect("opened");
    db.busy_timeout(std::time::Duration::from_secs(10)).expect("set");
    let guard = locks.acquire("b").and("a").wait().expect("free");
    let mut transaction = db.transaction().expect("begun");
    guard.pin(&mut transaction).expect("both are ours");
    transaction.commit().expect("committed");
    assert!(matches!(guard.pin_statement(), Err(NotPinnable::Several)));
    // Somebody takes the second, and the guard has not heard of it.
    db.execute("UPDATE locks SET fence = fence + 1, owner = 'another' WHERE name = 'b'", [])
        .expect("taken");
    let mut transaction = db.transaction().expect("begun");
    assert!(matches!(guard.pin(&mut transaction), Err(PinError::Lost(_))));
}
