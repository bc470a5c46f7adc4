//! Sessions on an SQLite file.

use super::Session;
use super::factory::Factory;
use lock_core::Failure;
use lock_core::config::ConfigError;
use lock_core::sql::{ConnectError, Rows, Statement};
use lock_shared::sqlite::{File, reopen};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An SQLite connection. It is opened again when its file is no longer where it was, and after an I/O error, which may be one
/// of the connection: its log was deleted, say. Another may do better.
pub(crate) struct Sqlite {
    /// The file. `None` if its name leads to another file by now.
    file: Option<File>,
    again: Again,
}

/// The way to the file that has the name now.
enum Again {
    /// Open this path; `creates` says whether a missing file is created.
    Path { path: PathBuf, creates: bool },
    /// The caller makes a connection, in which the table is in the database `schema`.
    Made { factory: Factory<Connection>, schema: String },
    /// There is none to the file of a connection of the caller's.
    Gone,
}

impl Sqlite {
    /// Opens the file, creating it if its folder exists.
    pub(crate) fn open(path: &Path) -> Result<Self, ConfigError> {
        Self::at(path, true)
    }

    /// Opens the file if it is there.
    pub(crate) fn look(path: &Path) -> Result<Self, ConfigError> {
        Self::at(path, false)
    }

    fn at(path: &Path, creates: bool) -> Result<Self, ConfigError> {
        let file = File::open(path, creates)?;
        let path = file.named().to_path_buf();
        Ok(Self { file: Some(file), again: Again::Path { path, creates } })
    }

    /// Uses a connection of the caller's, and the file of its database `schema`.
    pub(crate) fn with(connection: Connection, schema: &str) -> Result<Self, ConfigError> {
        Ok(Self { file: Some(File::with(connection, schema)?), again: Again::Gone })
    }

    /// Uses connections that the caller makes.
    pub(crate) fn made(factory: Factory<Connection>, schema: &str) -> Self {
        Self { file: None, again: Again::Made { factory, schema: schema.to_string() } }
    }

    /// True if no lasting log may be created beside the file.
    pub(crate) fn no_log(&self) -> bool {
        self.file.as_ref().is_some_and(File::no_log)
    }
}

impl Again {
    fn is_possible(&self) -> bool {
        !matches!(self, Again::Gone)
    }
}

fn closed() -> Failure {
    Failure::NotSent("the file is not open".to_string())
}

impl Session for Sqlite {
    fn is_open(&self) -> bool {
        self.file.is_some()
    }

    fn open(&mut self, budget: Duration) -> Result<(), ConnectError> {
        if self.file.is_some() {
            return Ok(());
        }
        let opened = match &mut self.again {
            Again::Path { path, creates } => reopen(Some(path), *creates),
            Again::Gone => reopen(None, false),
            Again::Made { factory, schema } => File::with(factory.make(budget)?, schema)
                .map_err(|error| Failure::NotSent(error.to_string()).into()),
        };
        self.file = Some(opened?);
        Ok(())
    }

    fn file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.named().to_path_buf())
    }

    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure> {
        let file = self.file.as_mut().ok_or_else(closed)?;
        let result = file.run(statement, budget);
        let fails = matches!(result, Err(Failure::Unknown(_))) && self.again.is_possible();
        if fails || matches!(result, Err(Failure::Gone(_))) {
            self.file = None;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Error;
    use rusqlite::ffi::{Error as Code, SQLITE_IOERR};
    use rusqlite::functions::{Context, FunctionFlags};

    const LIMIT: Duration = Duration::from_secs(10);

    fn fails(_: &Context<'_>) -> rusqlite::Result<i64> {
        Err(Error::SqliteFailure(Code::new(SQLITE_IOERR), None))
    }

    /// A connection to this file, on which `fails()` is an I/O error.
    fn connected(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS a (b)")?;
        connection.create_scalar_function("fails", 0, FunctionFlags::SQLITE_UTF8, fails)?;
        Ok(connection)
    }

    /// It is checked that a lock on the file keeps out another connection, which must not wait for that. The least of several
    /// times, for a busy machine delays some.
    #[test]
    fn a_connection_is_taken_over_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let takes = |number: u32| {
            let connection = connected(&folder.path().join(format!("{number}.db")));
            let (connection, began) = (connection.expect("opened"), std::time::Instant::now());
            Sqlite::with(connection, "main").expect("a file");
            began.elapsed()
        };
        let least = (0..3).map(takes).min().expect("three");
        assert!(least < Duration::from_secs(3), "{least:?}");
    }

    /// The connection may be what is wrong. One that was handed over is kept, for there is no other.
    #[test]
    fn a_connection_with_an_error_of_the_disk_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("locks.db");
        let brought = Sqlite::with(connected(&path).expect("opened"), "main").expect("a file");
        let made = Factory::new(move || connected(&path), |connection| connection);
        for (mut session, again) in [(brought, false), (Sqlite::made(made, "main"), true)] {
            session.open(LIMIT).expect("opened");
            let failed = session.run(&Statement::new("SELECT fails()", []), LIMIT);
            assert!(matches!(failed, Err(Failure::Unknown(_))), "{failed:?}");
            assert_ne!(session.is_open(), again);
        }
    }
}
