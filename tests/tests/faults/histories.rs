//! Twenty faults for clients of both drivers and `withlock` that contend for locks, and what they saw.
//!
//! `tests/histories` runs as many as are wanted, in every place.

use std::process::Command;

/// Clients under faults, each a process of its own. The checker reads their history.
fn the_history_keeps_the_promises(place: &str, cycles: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let history = folder.path().join("history");
    let output = Command::new(env!("CARGO_BIN_EXE_histories"))
        .args(["run", place, &cycles.to_string(), "1"])
        .arg(&history)
        .output()
        .expect("it runs");
    let told =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    println!("{}", told[0]);
    if !output.status.success() {
        // The lines around what was found are needed to understand it.
        let kept = folder.keep();
        panic!("{}; the history is in {}", told.join("\n"), kept.display());
    }
}

#[test]
fn a_history_of_sqlite_keeps_the_promises() {
    the_history_keeps_the_promises("sqlite", 5);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_history_of_postgres_keeps_the_promises() {
    the_history_keeps_the_promises("postgres", 5);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_history_of_postgres_advisory_locks_keeps_the_promises() {
    the_history_keeps_the_promises("postgres-advisory", 5);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_history_of_mariadb_whose_clock_is_set_keeps_the_promises() {
    the_history_keeps_the_promises("mariadb-observed", 5);
}
