//! Connections to SQLite that are the caller's, with tables and settings of their own. Both drivers, and each way to hand a
//! connection over.

use crate::sqlite_file::Folder;
use lock_sync::{Config, Error, TableName};
use lock_tests::drivers::{Locks, wait};
use rusqlite::Connection;
use std::path::Path;

/// The locks of a connection on which `begin` was run, for each way to hand it over.
fn handed(path: &Path, begin: &str, table: &str) -> Vec<(&'static str, Result<Locks, Error>)> {
    let (path, begin) = (path.to_path_buf(), begin.to_string());
    let make = move || {
        let connection = Connection::open(&path)?;
        connection.execute_batch(&begin)?;
        Ok::<_, rusqlite::Error>(connection)
    };
    let own = || make().expect("opened");
    let config = || Config::new().table(TableName::new(table).expect("a good name"));
    let tokio = wait(lock_async::Locks::with_sqlite(own(), config()));
    let made = wait(lock_async::Locks::from_sqlite(make.clone(), config()));
    vec![
        ("with", lock_sync::Locks::with_sqlite(own(), config()).map(Locks::Blocking)),
        ("from", lock_sync::Locks::from_sqlite(make.clone(), config()).map(Locks::Blocking)),
        ("with, tokio", tokio.map(Locks::Tokio)),
        ("from, tokio", made.map(Locks::Tokio)),
    ]
}

/// The same, each of which is refused for what `says`.
#[track_caller]
fn refused(path: &Path, begin: &str, table: &str, says: &str) {
    for (who, locks) in handed(path, begin, table) {
        let Err(error) = locks else { panic!("{who} is not refused after {begin:?}") };
        let line = error.to_string();
        assert!(line.contains(says) && !line.contains('\n'), "{who}, {begin:?}: {line}");
    }
}

fn journal(path: &Path) -> String {
    let connection = Connection::open(path).expect("opened");
    connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("asked")
}

/// SQLite looks for a table in its database of temporary ones first.
#[test]
fn a_temporary_table_or_view_hides_no_lock_table() {
    let columns = "'' AS name, '' AS owner, 1 AS fence, '' AS boot, 1 AS expires_us, 1 AS acquired_us, 0 AS queue, 0 AS served, '' AS holder";
    let ddl = Config::sqlite("a.db").create_table().expect("a statement");
    for hidden in [
        ddl.replace("CREATE TABLE", "CREATE TEMPORARY TABLE"),
        format!("CREATE TEMPORARY VIEW locks AS SELECT {columns}"),
    ] {
        // The table is made by the one who holds the lock, and then by the connection that was handed over.
        for exists in [true, false] {
            let folder = Folder::new();
            let path = folder.path("locks.db");
            let open = || lock_sync::Locks::open(Config::sqlite(&path)).expect("opened");
            let guard = exists.then(|| open().lock("a").expect("free"));
            if !exists {
                Connection::open(&path).and_then(|new| new.execute_batch("VACUUM")).expect("made");
            }
            for (who, locks) in handed(&path, &hidden, "locks") {
                let locks = locks.unwrap_or_else(|error| panic!("{who}, {hidden}: {error}"));
                let taken = locks.try_lock("a").expect("asked");
                assert_eq!(taken.is_none(), exists, "{who}, {hidden}: two hold it");
                assert!(taken.is_none_or(|guard| guard.release().is_ok()), "{who}, {hidden}");
                let ours = locks.lock("b").expect("free");
                assert!(open().try_lock("b").expect("asked").is_none(), "{who}, {hidden}");
                ours.release().expect("released");
            }
            assert!(guard.is_none_or(|guard| guard.release().is_ok()));
        }
    }
}

/// No two connections share it.
#[test]
fn a_table_among_the_temporary_ones_is_refused() {
    let folder = Folder::new();
    let path = folder.path("locks.db");
    for table in ["temp.locks", "TEMP.jobs"] {
        refused(&path, "", table, "");
        refused(&path, "CREATE TEMPORARY TABLE another (id INTEGER)", table, "");
        let url = format!("sqlite:{}?table={table}", path.display());
        let [sync, tokio] = [
            lock_sync::Locks::connect(&url).map(drop),
            wait(lock_async::Locks::connect(&url)).map(drop),
        ];
        for opened in [sync, tokio] {
            let error = opened.expect_err("refused").to_string();
            assert!(error.contains("is a temporary table here"), "{error}");
        }
    }
}

/// A file has no databases but its own.
#[test]
fn a_database_that_the_connection_does_not_have_is_told_with_the_file() {
    let folder = Folder::new();
    let path = folder.path("locks.db");
    let url = format!("sqlite:{}?table=ops.locks", path.display());
    let [sync, tokio] = [
        lock_sync::Locks::connect(&url).map(drop),
        wait(lock_async::Locks::connect(&url)).map(drop),
    ];
    for opened in [sync, tokio] {
        let error = opened.expect_err("refused").to_string();
        let file = path.display().to_string();
        assert!(error.contains("unknown database") && error.contains(&file), "{error}");
        assert!(!error.contains("PRAGMA") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_connection_inside_a_transaction_is_refused_as_on_a_server() {
    let folder = Folder::new();
    let path = folder.path("locks.db");
    let says = "the connection is inside a transaction: commit it or roll it back before you hand the connection over";
    for begin in ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT a"] {
        refused(&path, begin, "locks", says);
    }
}

/// A crash in the middle of a commit would leave a file that cannot be used, or nobody else could use it.
#[test]
fn a_connection_that_others_could_not_share_the_file_with_is_refused() {
    let folder = Folder::new();
    let path = folder.path("locks.db");
    refused(&path, "PRAGMA journal_mode = OFF", "locks", "journal_mode");
    refused(&path, "PRAGMA journal_mode = MEMORY", "locks", "journal_mode");
    refused(&path, "PRAGMA locking_mode = EXCLUSIVE", "locks", "locking_mode");
    refused(&path, "PRAGMA query_only = ON", "locks", "may only read");
    let attached = format!("ATTACH '{}' AS side;", folder.path("side.db").display());
    for (set, says) in
        [("journal_mode = MEMORY", "journal_mode"), ("locking_mode = EXCLUSIVE", "locking_mode")]
    {
        refused(&path, &format!("{attached} PRAGMA side.{set}"), "side.locks", says);
    }
}

/// The other settings change nothing about locks.
#[test]
fn other_settings_of_a_connection_do_no_harm() {
    let folder = Folder::new();
    let path = folder.path("locks.db");
    let settings = "PRAGMA case_sensitive_like = ON; PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; \
        PRAGMA reverse_unordered_selects = ON; PRAGMA ignore_check_constraints = ON; PRAGMA synchronous = OFF; \
        PRAGMA read_uncommitted = ON; PRAGMA temp_store = MEMORY";
    let all = handed(&path, settings, "locks");
    let all: Vec<_> = all.into_iter().map(|(who, locks)| locks.expect(who)).collect();
    for (at, locks) in all.iter().enumerate() {
        let guards: Vec<_> = ["a", "A", "b"].map(|name| locks.lock(name).expect("free")).into();
        for name in ["a", "A", "b"] {
            assert!(all[(at + 1) % all.len()].try_lock(name).expect("asked").is_none());
        }
        guards.into_iter().for_each(|guard| guard.release().expect("released"));
    }
}

/// Only the lock table's file gets a write-ahead log, not all that are attached to the connection.
#[test]
fn other_databases_of_the_connection_keep_their_journal() {
    for (table, log) in [("locks", 0), ("side.locks", 1)] {
        let folder = Folder::new();
        let paths = ["main.db", "side.db"].map(|name| folder.path(name));
        for path in &paths {
            let made = Connection::open(path).expect("opened");
            made.execute_batch("CREATE TABLE another (id INTEGER)").expect("made");
        }
        let attached = format!("ATTACH '{}' AS side", paths[1].display());
        for (who, locks) in handed(&paths[0], &attached, table) {
            locks.expect(who).lock("a").expect("free").release().expect("released");
        }
        for (at, path) in paths.iter().enumerate() {
            let expected = if at == log { "wal" } else { "delete" };
            assert_eq!(journal(path), expected, "{table}, {}", path.display());
        }
    }
}
