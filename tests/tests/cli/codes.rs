//! What `withlock` promises to scripts: exit codes, output, environment, and where locks are kept.

mod command;
mod outcomes;
mod places;

use lock_tests::place::{Place, client};
use lock_tests::withlock::{Ended, Sandbox, binary, copy_binary, eventually, url};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions, metadata, set_permissions, write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Outlives any test.
const STAY: &str = "exec sleep 600";

/// A row of an SQLite file: name, fence, holder.
type Row = (String, i64, String);

/// The rows in an SQLite file, looked at past withlock. Without a file or a table there are none.
fn rows(path: &Path) -> Vec<Row> {
    if !path.exists() {
        return Vec::new();
    }
    let file = rusqlite::Connection::open(path).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    let Ok(mut query) = file.prepare("SELECT name, fence, holder FROM locks ORDER BY name") else {
        return Vec::new();
    };
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.expect("asked").map(|row| row.expect("a row")).collect()
}

/// The rows in a PostgreSQL table; none if there is no table.
fn rows_at(place: &Place) -> Vec<Row> {
    let table = place.table();
    let query = format!("SELECT name, fence, holder FROM {table} ORDER BY name COLLATE \"C\"");
    let rows = client(place.url()).query(&query, &[]).unwrap_or_default();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn names(rows: Vec<Row>) -> Vec<String> {
    rows.into_iter().map(|(name, ..)| name).collect()
}

/// A complaint is one line that says whose it is, and nothing on standard output.
#[track_caller]
fn complains(ended: &Ended) {
    let line = ended.stderr.strip_suffix('\n').expect("a line");
    assert!(line.starts_with("withlock: ") && !line.contains('\n'), "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
}

/// Runs `withlock`, by a shell so that it can redirect.
fn redirected(sandbox: &Sandbox, args: &[&str], redirection: &str) -> Ended {
    let script = format!("exec \"$W\" \"$@\" {redirection}");
    let mut command = sandbox.command("sh");
    command.args(["-c", &script, "sh"]).args(args).env("WITHLOCK_URL", sandbox.url());
    sandbox.start(&mut command).end()
}
