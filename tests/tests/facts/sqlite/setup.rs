//! What a connection goes through before its first command.

use crate::sqlite::{Table, set_up};
use lock_core::sql::{Refusal, Step, sqlite};
use lock_core::{Failure, TableName};
use rusqlite::{Connection, OpenFlags};

#[test]
fn setup_twice_is_harmless() {
    let table = Table::new();
    table.acquire("a", 1);
    let before = table.rows();
    let (end, ran) = set_up(&table.db, &table.codec);
    assert_eq!((end, ran.len()), (Step::Ready, 2), "{ran:?}");
    assert_eq!(table.rows(), before);
}

#[test]
fn setup_needs_no_right_to_write_when_the_table_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("locks.db");
    let codec = sqlite::codec(TableName::default(), "boot-1");
    let db = Connection::open(&file).expect("a database");
    assert_eq!(set_up(&db, &codec).0, Step::Ready);
    let reader = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY);
    assert_eq!(set_up(&reader.expect("readable"), &codec).0, Step::Ready);
}

#[test]
fn a_table_that_may_not_be_created_is_told_with_the_statement_that_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("locks.db");
    Connection::open(&file).expect("a database").execute_batch("VACUUM").expect("written");
    let reader = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let codec = sqlite::codec(TableName::default(), "boot-1");
    let (end, _) = set_up(&reader.expect("readable"), &codec);
    let Step::Refuse(refusal @ Refusal::NoTable { .. }) = end else { panic!("{end:?}") };
    let Refusal::NoTable { ddl, reason, .. } = &refusal else { panic!("{refusal:?}") };
    assert!(reason.contains("readonly"), "{reason}");
    assert_eq!(refusal.to_string().lines().count(), 1);
    // It is a statement that makes a table which will do.
    let db = Connection::open(&file).expect("a database");
    db.execute_batch(ddl).expect("created");
    assert_eq!(set_up(&db, &codec).1.len(), 2);
}

#[test]
fn a_table_with_more_columns_will_do() {
    let db = Connection::open_in_memory().expect("a database");
    let codec = sqlite::codec(TableName::default(), "boot-1");
    let ddl = codec.create_table().replace("owner TEXT,", "owner TEXT, note TEXT,");
    db.execute_batch(&ddl).expect("created");
    assert_eq!(set_up(&db, &codec).0, Step::Ready);
    assert!(Table { db, codec, now: 1 }.acquire("a", 1).is_some());
}

#[test]
fn tables_unlike_a_lock_table_are_refused() {
    let codec = sqlite::codec(TableName::default(), "boot-1");
    let good = codec.create_table();
    const NAME: &str = "name TEXT PRIMARY KEY NOT NULL";
    assert!(good.contains(NAME));
    let without_key = good.replace(", WITHOUT ROWID", "").replace(NAME, "name TEXT NOT NULL");
    let unlike = [
        "CREATE TABLE locks (id INTEGER PRIMARY KEY)".into(),
        "CREATE TABLE locks (name TEXT PRIMARY KEY NOT NULL, owner TEXT)".into(),
        "CREATE VIEW locks AS SELECT '' AS name, '' AS owner, 1 AS fence, '' AS boot, 1 AS expires_us, 1 AS acquired_us, 0 AS queue, 0 AS served, '' AS holder".into(),
        good.replace(NAME, "name BLOB PRIMARY KEY NOT NULL"),
        // `Foo` and `foo` would be one lock.
        good.replace(NAME, "name TEXT PRIMARY KEY NOT NULL COLLATE NOCASE"),
        good.replace("fence INTEGER", "fence REAL"),
        good.replace("  owner TEXT,", "  \"Owner\" TEXT,"),
        without_key.replace("name TEXT", "id INTEGER PRIMARY KEY, name TEXT"),
        good.replace(NAME, "name TEXT").replace("\n) STRICT", "\n, PRIMARY KEY (name, boot)) STRICT"),
        without_key,
    ];
    for ddl in unlike {
        let db = Connection::open_in_memory().expect("a database");
        db.execute_batch(&ddl).unwrap_or_else(|error| panic!("{error}: {ddl}"));
        let (Step::Refuse(refusal @ Refusal::WrongShape { .. }), _) = set_up(&db, &codec) else {
            panic!("not refused: {ddl}")
        };
        assert_eq!(refusal.to_string().lines().count(), 1);
    }
}

#[test]
fn a_table_of_that_name_in_another_schema_is_not_meant() {
    let db = Connection::open_in_memory().expect("a database");
    db.execute_batch("ATTACH ':memory:' AS ops; CREATE TABLE ops.locks (id INTEGER)")
        .expect("made");
    assert_eq!(set_up(&db, &sqlite::codec(TableName::default(), "boot-1")).0, Step::Ready);
    let ops = TableName::new("ops.locks").expect("a good name");
    let refused = set_up(&db, &sqlite::codec(ops, "boot-1")).0;
    assert!(matches!(refused, Step::Refuse(Refusal::WrongShape { .. })), "{refused:?}");
}

#[test]
fn a_file_that_is_no_database_is_an_error_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("locks.db");
    std::fs::write(&file, "this is a text and not a database, and long enough to tell\n".repeat(9))
        .expect("written");
    let db = Connection::open(&file).expect("opened at first use");
    let codec = sqlite::codec(TableName::default(), "boot-1");
    let Step::Failed(Failure::Rejected { retry: false, message, .. }) = set_up(&db, &codec).0
    else {
        panic!("not rejected")
    };
    assert_eq!(message.lines().count(), 1);
}
