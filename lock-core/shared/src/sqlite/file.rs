//! A database file: opening it, creating it, and checking that it is still the file that was opened.

use super::fork::Used;
use super::machine::{identity, network_file_system, stat};
use super::rows::{describe, rows};
use lock_core::Failure;
use lock_core::config::ConfigError;
use lock_core::sql::sqlite::file::{Files, SET_GROUP_ID, check_name, no_shared_log, shared_mode};
use lock_core::sql::sqlite::statement_failed;
use lock_core::sql::{ConnectError, Refusal, Rows, Statement};
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, FileControl, OpenFlags, OptionalExtension};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Number of attempts to open a file that changes meanwhile.
const ATTEMPTS: u32 = 8;

/// Time limit for the check that a connection of the caller's locks its file.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, and its file.
pub struct File {
    connection: Connection,
    /// The user's name of the file, as an absolute path.
    named: PathBuf,
    /// SQLite's name of the file. The names of its journals are derived from it.
    real: PathBuf,
    /// The connection's name of the file's database.
    schema: String,
    /// The identities of the database, its log and its index.
    files: Files,
    /// True if no lasting log may be created beside the file.
    no_log: bool,
    _used: Used,
}

impl File {
    /// Opens the file. If it is missing and its folder exists, `creates` says whether to create it.
    pub fn open(path: &Path, creates: bool) -> Result<Self, ConfigError> {
        let fault = |reason: String| wrong(path, reason);
        Used::check().map_err(|reason| fault(reason.to_string()))?;
        check_name(&path.to_string_lossy()).map_err(|reason| fault(reason.to_string()))?;
        // SQLite never reads an absolute path as a URI, and the working folder may change.
        let named = std::path::absolute(path).map_err(|error| fault(error.to_string()))?;
        if !creates && matches!(stat(&named), Ok(None)) {
            return Err(fault(
                "it does not exist: no lock was ever taken there, or it was deleted".to_string(),
            ));
        }
        let folder = named.parent().unwrap_or(Path::new("/"));
        let about = match std::fs::metadata(folder) {
            Ok(about) if about.is_dir() => about,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(fault(not_found(&error)));
            }
            _ => return Err(fault("its folder does not exist: create it first".to_string())),
        };
        for _ in 0..ATTEMPTS {
            let Some(found) = stat(&named).map_err(|error| fault(not_found(&error)))? else {
                if !creates {
                    break;
                }
                create(&named, folder, &about).map_err(fault)?;
                continue;
            };
            found.check().map_err(|reason| fault(reason.to_string()))?;
            // Without O_CREAT, which the kernel may forbid for another user's file.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = match Connection::open_with_flags(&named, flags) {
                Ok(connection) => connection,
                Err(_) if stat(&named).is_ok_and(|found| found.is_none()) => continue,
                Err(error) => return Err(fault(explained(&named, &error))),
            };
            if connection.is_readonly("main").unwrap_or(false) {
                return Err(fault(not_writable(&named)));
            }
            let file = Self::bind(connection, named.clone(), "main").map_err(fault)?;
            if let Some(mut file) = file {
                file.no_log = no_shared_log(about.mode());
                file.keep_journal().map_err(|error| fault(explained(&named, &error)))?;
                return Ok(file);
            }
        }
        Err(fault(match named.read_link() {
            Ok(to) => format!(
                "it is a symbolic link to {}, which does not exist: create it first, as an empty file",
                to.display()
            ),
            Err(_) => "something removes it again and again".to_string(),
        }))
    }

    /// Uses a connection of the caller's, and the file of its database `schema`.
    pub fn with(connection: Connection, schema: &str) -> Result<Self, ConfigError> {
        let path = "SELECT file FROM pragma_database_list WHERE name = ?1 COLLATE NOCASE";
        let path = connection.query_row(path, [schema], |row| row.get::<_, Option<String>>(0));
        let path = match path.optional() {
            Ok(path) => PathBuf::from(path.flatten().unwrap_or_default()),
            Err(error) => return Err(wrong(Path::new(schema), describe(&error).1)),
        };
        let fault = |reason: String| wrong(&path, reason);
        if path.as_os_str().is_empty() {
            let reason = "the connection has no file, and no other process sees a database in memory: open a file";
            return Err(wrong(Path::new(schema), reason.to_string()));
        }
        Used::check().map_err(|reason| fault(reason.to_string()))?;
        let gone = || fault("it is no longer the file that was opened: open it again".to_string());
        let found = stat(&path).map_err(|error| fault(error.to_string()))?.ok_or_else(gone)?;
        found.check().map_err(|reason| fault(reason.to_string()))?;
        let file = Self::bind(connection, path.clone(), schema).map_err(fault)?.ok_or_else(gone)?;
        file.check_session().map_err(fault)?;
        file.excludes_others().map_err(fault)?;
        Ok(file)
    }

    /// Stores the connection's file. `None` if the name leads to another file by now.
    fn bind(connection: Connection, named: PathBuf, schema: &str) -> Result<Option<Self>, String> {
        let real = std::fs::canonicalize(&named).map_err(|error| error.to_string())?;
        if let Some(kind) = real.parent().and_then(network_file_system) {
            return Err(format!(
                "it is on {kind}, where other machines may use it too: choose a local disk, or a database server"
            ));
        }
        let before = identity(&named).map_err(|error| error.to_string())?;
        let mut moved = 0;
        let asked = connection.file_control(Some(schema), FileControl::HasMoved(&mut moved));
        asked.map_err(|_| "SQLite does not keep it in a file: open a plain file".to_string())?;
        let mut files = Files { named: before, real: before, ..Files::default() };
        let (schema, no_log, _used) = (schema.to_string(), false, Used::new());
        let mut file = Self { connection, named, real, schema, files, no_log, _used };
        let now = file.look().map_err(|error| error.to_string())?;
        let same =
            moved == 0 && before.is_some() && files.still(Files { log: None, index: None, ..now });
        file.files = files;
        Ok(same.then_some(file))
    }

    /// Checks that the connection is idle, and that its settings let it write, leave the file to others between two
    /// statements, and leave it whole after a crash.
    fn check_session(&self) -> Result<(), String> {
        let plain = |error: rusqlite::Error| describe(&error).1;
        if !self.connection.is_autocommit() {
            return Err(Refusal::InTransaction.to_string());
        }
        self.connection.busy_timeout(PATIENCE).map_err(plain)?;
        let ask = |setting: &str| {
            let schema = Some(self.schema.as_str());
            let asked = self.connection.pragma_query_value(schema, setting, |row| {
                Ok(match row.get_ref(0)? {
                    ValueRef::Integer(number) => number.to_string(),
                    value => value.as_str()?.to_string(),
                })
            });
            asked.map_err(plain)
        };
        if ask("query_only")? != "0" {
            return Err("its connection may only read: switch query_only off".to_string());
        }
        if ask("locking_mode")? == "exclusive" {
            let advice = "its connection keeps the file to itself: have locking_mode set to NORMAL";
            return Err(advice.to_string());
        }
        match ask("journal_mode")? {
            mode if ["off", "memory"].contains(&mode.as_str()) => Err(format!(
                "its connection keeps no journal on the disk, without which a crash can leave a broken file: have journal_mode set to WAL or DELETE, not to {mode}"
            )),
            _ => Ok(()),
        }
    }

    /// Checks that another connection to the file notices when this one writes. It does not if this
    /// connection takes no file locks.
    fn excludes_others(&self) -> Result<(), String> {
        let plain = |error: rusqlite::Error| describe(&error).1;
        let schema = self.schema.as_str();
        let schema_is_main = schema.eq_ignore_ascii_case("main");
        if schema_is_main && self.connection.is_readonly(schema).unwrap_or(false) {
            return Err("its connection may only read: open it for writing".to_string());
        }
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(plain)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let other = Connection::open_with_flags(&self.real, flags).and_then(|other| {
            other.busy_timeout(Duration::ZERO)?;
            other.execute_batch("BEGIN IMMEDIATE")
        });
        self.connection.execute_batch("ROLLBACK").map_err(plain)?;
        match other {
            Ok(()) => Err(
                "its connection does not lock the file: open it with SQLite's own VFS, and without nolock"
                    .to_string(),
            ),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            Err(error) => Err(describe(&error).1),
        }
    }

    /// Keeps the log when the last connection closes. Otherwise each process that is alone with the file
    /// would copy the log into the file at its end, and the next one would begin a new log. That takes twice
    /// as long as the locks themselves. The log is kept short, because the next connection reads all of it.
    fn keep_journal(&self) -> rusqlite::Result<()> {
        if self.no_log {
            // A log may exist that was created earlier, or by another folder's rules. If it cannot be removed
            // now, the connection works with it, or a later statement fails.
            self.connection.busy_timeout(Duration::ZERO)?;
            let _ = self.connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()));
        }
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection.query_row("PRAGMA wal_autocheckpoint = 100", [], |_| Ok(()))
    }

    /// The user's name of the file, as an absolute path.
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// True if no lasting log may be created beside the file.
    pub fn no_log(&self) -> bool {
        self.no_log
    }

    /// Runs a statement. Its result counts only if the file is still where others find it.
    pub fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        self.check().map_err(|failure| match failure {
            Failure::Unknown(message) => Failure::NotSent(message),
            gone => gone,
        })?;
        let connection = &self.connection;
        let result =
            connection.busy_timeout(limit).and_then(|()| rows(connection, &self.schema, statement));
        self.check()?;
        result.map_err(|error| {
            let text = explained(&self.real, &error);
            statement_failed(describe(&error).0, &self.about(&text))
        })
    }

    fn check(&mut self) -> Result<(), Failure> {
        let now = self.look().map_err(|error| Failure::Unknown(self.about(&error.to_string())))?;
        if self.files.still(now) {
            return Ok(());
        }
        // The content of the old log must not get into a file that others use.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        Err(Failure::Gone(self.about(
            "it was deleted or replaced, and with it all locks in it: keep it in a folder that nothing cleans up",
        )))
    }

    fn look(&self) -> std::io::Result<Files> {
        let beside = |end: &str| {
            let mut path = self.real.clone().into_os_string();
            path.push(end);
            identity(Path::new(&path))
        };
        let named = identity(&self.named)?;
        let real = if self.named == self.real { named } else { identity(&self.real)? };
        Ok(Files { named, real, log: beside("-wal")?, index: beside("-shm")? })
    }

    fn about(&self, text: &str) -> String {
        wrong(&self.named, text.to_string()).to_string()
    }
}

/// Opens the file that has the name now, or creates one. A connection of the caller's has no `path`: its file
/// may not be ours to open.
pub fn reopen(path: Option<&Path>, creates: bool) -> Result<File, ConnectError> {
    let Some(path) = path else {
        let message = "the file of the connection that was handed over was deleted or replaced: open it again, and connect with that";
        return Err(ConnectError::NoWay(message.to_string()));
    };
    File::open(path, creates).map_err(|error| Failure::NotSent(error.to_string()).into())
}

fn wrong(path: &Path, reason: String) -> ConfigError {
    ConfigError::File { path: path.display().to_string(), reason }
}

/// SQLite's error, or the reason behind it.
fn explained(path: &Path, error: &rusqlite::Error) -> String {
    let (code, message) = describe(error);
    match code {
        // SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_AUTH
        Some(3 | 8 | 14 | 23) => inaccessible(path).unwrap_or_else(|| {
            let more = "check the permissions, and the limit for open files (ulimit -n)";
            format!("{message}: {more}")
        }),
        // SQLITE_FULL
        Some(13) => "its disk is full".to_string(),
        // SQLITE_NOTADB
        Some(26) => "it is no SQLite database: name another file".to_string(),
        _ => message,
    }
}

/// The error for the first that may not be written to: the database, its folder, its journals.
fn inaccessible(path: &Path) -> Option<String> {
    let real = std::fs::canonicalize(path).unwrap_or(path.to_path_buf());
    let is_closed =
        |path: &Path| matches!(access(path, Access::WRITE_OK), Err(error) if error != Errno::NOENT);
    if is_closed(&real) {
        return Some(not_writable(&real));
    }
    if real.parent().is_some_and(is_closed) {
        return Some(
            "its folder may not be written to: check the folder's permissions".to_string(),
        );
    }
    let journals = ["-wal", "-shm", "-journal"].map(|end| {
        let mut path = real.clone().into_os_string();
        path.push(end);
        PathBuf::from(path)
    });
    let closed = journals.iter().find(|path| is_closed(path))?;
    Some(format!("{}, which belongs to it: {}", closed.display(), not_writable(closed)))
}

/// The error for a path that could not be followed.
fn not_found(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "its folder may not be entered: choose another".to_string(),
        _ => error.to_string(),
    }
}

fn not_writable(path: &Path) -> String {
    if access(path, Access::WRITE_OK) == Err(Errno::ROFS) {
        return "its file system is read-only".to_string();
    }
    let owner =
        std::fs::metadata(path).map(|about| format!(" (it belongs to user {})", about.uid()));
    let owner = owner.unwrap_or_default();
    format!("it may not be written to: check its permissions{owner}")
}

/// Creates an empty file, which is an empty database, unless the name exists. The file gets its permissions
/// before its name, because others may open it at any moment.
fn create(path: &Path, folder: &Path, about: &std::fs::Metadata) -> Result<(), String> {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    let failed = |error: std::io::Error| {
        match error.kind() {
        ErrorKind::PermissionDenied => {
            "it does not exist, and its folder may not be written to: check the folder's permissions".into()
        }
        _ => error.to_string(),
    }
    };
    let (new, file) = loop {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let new = folder.join(format!(".locks-{}-{number}.new", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => break (new, opened.map_err(failed)?),
        }
    };
    let made = (|| {
        if let Some(mode) = shared_mode(about.mode()) {
            if about.mode() & SET_GROUP_ID == 0 {
                // A user outside of that group may not do this. The file's mode then admits all who may enter the
                // folder.
                let _ = std::os::unix::fs::fchown(&file, None, Some(about.gid()));
            }
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        // A hard link would give the file two names for a moment, and others refuse such a file.
        super::machine::rename_new(&new, path)
    })();
    drop(file);
    match made {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = std::fs::remove_file(&new);
            if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(failed(error)) }
        }
    }
}
