//! Sessions on an SQLite file.

use super::Session;
use crate::error::ConfigError;
use lock_core::Failure;
use lock_core::sql::sqlite::statement_failed;
use lock_core::sql::{Rows, Statement, Value};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// An SQLite connection, on a thread of its own: a renewal must not queue behind whatever else the
/// program does on the runtime's blocking threads. It is opened once: a file does not go away like a
/// server does.
pub(crate) struct Sqlite {
    jobs: mpsc::Sender<Job>,
    /// Ends with the thread, when the file is closed.
    closed: oneshot::Receiver<Infallible>,
}

/// A statement to be run. Nobody waits for the answer when the time for it is over.
struct Job {
    statement: Statement,
    until: Instant,
    answer: oneshot::Sender<Result<Rows, Failure>>,
}

impl Sqlite {
    /// Opens the file, creating it if its folder exists.
    pub(crate) async fn open(path: std::path::PathBuf) -> Result<Self, ConfigError> {
        Self::start(move || open(&path)).await
    }

    /// A connection of the caller's.
    pub(crate) async fn with(connection: Connection) -> Result<Self, ConfigError> {
        Self::start(|| Ok(connection)).await
    }

    /// The thread ends when the session is dropped.
    async fn start(
        connect: impl FnOnce() -> Result<Connection, ConfigError> + Send + 'static,
    ) -> Result<Self, ConfigError> {
        let (jobs, todo) = mpsc::channel();
        let (tell, told) = oneshot::channel();
        let (alive, closed) = oneshot::channel();
        let thread = move || {
            let _alive = alive;
            match connect() {
                Ok(connection) => {
                    if tell.send(Ok(())).is_ok() {
                        work(&connection, &todo);
                    }
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        };
        std::thread::Builder::new()
            .name("lock sqlite".to_string())
            .spawn(thread)
            .map_err(|error| ConfigError::System(format!("no threads: {error}")))?;
        told.await.unwrap_or_else(|_| Err(ConfigError::System("SQLite panicked".to_string())))?;
        Ok(Self { jobs, closed })
    }
}

impl Session for Sqlite {
    fn is_open(&self) -> bool {
        true
    }

    async fn open(&mut self, _limit: Duration) -> Result<(), Failure> {
        Ok(())
    }

    /// One that has not answered in time is still ahead of those that come after it.
    async fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        let (answer, rows) = oneshot::channel();
        // SQLite is to give up first: then it is known that nothing was done.
        let until = Instant::now() + limit * 9 / 10;
        let panicked = || "SQLite panicked".to_string();
        let job = Job { statement: statement.clone(), until, answer };
        self.jobs.send(job).map_err(|_| Failure::NotSent(panicked()))?;
        match tokio::time::timeout(limit, rows).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(Failure::Unknown(panicked()))),
            Err(_) => Err(Failure::Unknown("no answer in time".to_string())),
        }
    }

    async fn close(self) {
        let Self { jobs, closed } = self;
        drop(jobs);
        // What hung has hung for the time it had.
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }
}

/// The thread's life.
fn work(connection: &Connection, todo: &mpsc::Receiver<Job>) {
    while let Ok(Job { statement, until, answer }) = todo.recv() {
        if answer.is_closed() {
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            connection
                .busy_timeout(until.saturating_duration_since(Instant::now()))
                .and_then(|()| rows(connection, &statement))
        }));
        let _ = answer.send(match result {
            Ok(result) => result.map_err(|error| {
                let (code, message) = describe(&error);
                statement_failed(code, &message)
            }),
            Err(_) => Err(Failure::Unknown("SQLite panicked".to_string())),
        });
    }
}

fn open(path: &Path) -> Result<Connection, ConfigError> {
    let wrong = |reason: String| ConfigError::File { path: path.display().to_string(), reason };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(wrong("its folder does not exist: create it first".to_string()));
    }
    if let Some(kind) = network_file_system(folder) {
        return Err(wrong(format!(
            "it is on {kind}, where other machines may use it too: choose a local disk, or a database server"
        )));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| wrong(describe(&error).1))?;
    if connection.is_readonly("main").unwrap_or(false) {
        return Err(wrong("it may not be written to: check its permissions".to_string()));
    }
    Ok(connection)
}

fn rows(connection: &Connection, statement: &Statement) -> rusqlite::Result<Rows> {
    connection.pragma_update(
        None,
        "synchronous",
        if statement.durable { "FULL" } else { "NORMAL" },
    )?;
    let mut prepared = connection.prepare_cached(&statement.text)?;
    let columns = prepared.column_count();
    let params = rusqlite::params_from_iter(statement.params.iter().map(Param));
    let rows = prepared.query_map(params, |row| {
        (0..columns)
            .map(|at| {
                Ok(match row.get_ref(at)? {
                    ValueRef::Integer(number) => Value::Int(number),
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    // No statement of ours returns these; the core takes NULL for a surprise.
                    ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
                })
            })
            .collect()
    })?;
    rows.collect()
}

struct Param<'a>(&'a Value);

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            // The SQLite dialect has no arrays.
            Value::Null | Value::Texts(_) => ValueRef::Null,
        }))
    }
}

/// SQLite's primary result code, and a line for people.
fn describe(error: &rusqlite::Error) -> (Option<i32>, String) {
    let code = error.sqlite_error().map(|inner| inner.extended_code & 0xff);
    (code, error.to_string())
}

/// The kind of network file system that `folder` is on, if it is known to be one. The numbers are
/// those of statfs(2).
#[cfg(target_os = "linux")]
fn network_file_system(folder: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(folder).ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(match found.f_type as u32 {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9P",
        0x5346_414f => "AFS",
        0x00c3_6400 => "CephFS",
        0x0bd0_0bd0 => "Lustre",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_folder: &Path) -> Option<&'static str> {
    None
}

/// Names the running kernel: the lease times in the file are of its clock.
#[cfg(target_os = "linux")]
pub(crate) fn boot() -> Result<String, ConfigError> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(|error| {
        ConfigError::System(format!("/proc/sys/kernel/random/boot_id: {error}"))
    })?;
    // A time namespace has a clock of its own, which the file's other users do not share.
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let shifted = |line: &str| {
        line.starts_with("boottime") && line.split_whitespace().skip(1).any(|n| n != "0")
    };
    if offsets.lines().any(shifted) {
        return Err(ConfigError::System(
            "this process runs in a time namespace, so its clock is not the machine's".to_string(),
        ));
    }
    Ok(id.trim().to_string())
}

/// Names the running kernel: the lease times in the file are of its clock.
#[cfg(not(target_os = "linux"))]
pub(crate) fn boot() -> Result<String, ConfigError> {
    Err(ConfigError::System("SQLite locks need Linux for now: use a database server".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_statement_waits_for_the_disk_and_no_other() {
        const FULL: i64 = 2;
        const NORMAL: i64 = 1;
        let connection = Connection::open_in_memory().expect("opened");
        let mut statement = Statement::new("SELECT * FROM pragma_synchronous", []);
        // Also when it is found prepared.
        for (durable, level) in [(true, FULL), (false, NORMAL), (true, FULL), (false, NORMAL)] {
            statement.durable = durable;
            assert_eq!(rows(&connection, &statement), Ok(vec![vec![Value::Int(level)]]));
        }
    }
}
