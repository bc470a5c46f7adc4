//! What locks are made with.

use crate::backend::{One, SqlTable};
use crate::driver::Driver;
use crate::error::{ConfigError, Error};
use crate::locks::Locks;
use lock_core::sql::Codec;
use lock_core::table::Table;
use lock_core::{Engine, TableName, Timing};
use std::fmt;
use std::time::Duration;

const SCHEMES: &str = "postgres://, postgresql://, mysql://, mariadb://, sqlite:";

/// What locks are made with: where they are kept, and how long a lease lasts.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use lock_async::Config;
/// # use std::time::Duration;
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}/locks.db?table=jobs", folder.path().display());
/// let config: Config = url.parse()?;
/// let locks = config.ttl(Duration::from_secs(10)).label("nightly").connect().await?;
/// let guard = locks.lock("report").await?;
/// # Ok(())
/// # }
/// ```
///
/// A URL's parameters do the same: `ttl=30s`, `request_timeout=5s`, `table=ops.locks`, `label=…`.
/// PostgreSQL also takes libpq's `sslmode` (`disable`, `prefer`, `require`, `verify-ca`,
/// `verify-full`) and `sslrootcert`, and so do MySQL and MariaDB, except for `verify-ca`. Without
/// `sslmode`, it is `prefer` on this machine and `verify-full` to any other host. MySQL and MariaDB
/// also take `socket`, the path of a Unix socket.
#[must_use]
pub struct Config {
    target: Target,
    ttl: Duration,
    request: Option<Duration>,
    table: TableName,
    label: Option<String>,
}

enum Target {
    #[cfg(feature = "postgres")]
    Postgres { config: Box<tokio_postgres::Config>, tls: crate::backend::postgres::Tls },
    #[cfg(feature = "postgres")]
    PostgresClient(Box<tokio_postgres::Client>),
    #[cfg(feature = "mysql")]
    Mysql(crate::backend::mysql::Server),
    #[cfg(feature = "mysql")]
    MysqlConnection(Box<mysql_async::Conn>),
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
    #[cfg(feature = "sqlite")]
    SqliteConnection(Box<rusqlite::Connection>),
}

impl Config {
    /// Reads a URL. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConfigError`]: what is wrong, without repeating the URL.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        if !escapes_are_whole(url) {
            return Err(ConfigError::Url(
                "each % must be followed by two hexadecimal digits (% itself is %25)".to_string(),
            ));
        }
        let mut parameters = Parameters::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            parameters.take(&name, value.into_owned())?;
        }
        let target = match base.split_once(':') {
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => parameters.postgres(base)?,
            #[cfg(feature = "mysql")]
            Some(("mysql" | "mariadb", _)) => parameters.mysql(base)?,
            #[cfg(feature = "sqlite")]
            Some(("sqlite", path)) => parameters.sqlite(path)?,
            _ => return Err(ConfigError::Scheme(SCHEMES)),
        };
        let mut config = Self::new(target);
        config.ttl = parameters.ttl.unwrap_or(Timing::DEFAULT_TTL);
        config.request = parameters.request;
        config.label = parameters.label;
        config.table = parameters.table.unwrap_or_default();
        config.timing()?;
        Ok(config)
    }

    /// A file, for the processes of one machine. Its folder must exist.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl Into<std::path::PathBuf>) -> Self {
        Self::new(Target::Sqlite(path.into()))
    }

    /// An SQLite connection of yours. It must not be inside a transaction.
    #[cfg(feature = "sqlite")]
    pub fn sqlite_connection(connection: rusqlite::Connection) -> Self {
        Self::new(Target::SqliteConnection(Box::new(connection)))
    }

    /// A PostgreSQL client of yours, for which you made the settings: its statements must commit by
    /// themselves, and `statement_timeout` should be set. Its connection is polled by a task of
    /// yours. When it breaks, or an answer does not come in time, locks that are held are lost at
    /// their deadline, and new ones are refused: there is no way to another.
    #[cfg(feature = "postgres")]
    pub fn postgres_client(client: tokio_postgres::Client) -> Self {
        Self::new(Target::PostgresClient(Box::new(client)))
    }

    /// A MySQL or MariaDB connection of yours, with a database chosen, and not from a pool. It must not
    /// be inside a transaction; its session's settings are changed to what the locks need. When it
    /// breaks, or an answer does not come in time, locks that are held are lost at their deadline, and
    /// new ones are refused: there is no way to another.
    #[cfg(feature = "mysql")]
    pub fn mysql_connection(connection: mysql_async::Conn) -> Self {
        Self::new(Target::MysqlConnection(Box::new(connection)))
    }

    /// How long a lease lasts unless renewed: 1 s to 24 h, 30 s by default. It is how long others
    /// wait after a holder died.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long one request may take: at most a third of the time that a lease counts as held, by
    /// default a quarter of it or 5 s.
    pub fn request_timeout(mut self, request: Duration) -> Self {
        self.request = Some(request);
        self
    }

    /// The table that locks are kept in, `locks` by default.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// Stored with each lock beside host and process id, for people who wait for it.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The label where none was given yet, by the URL or by [`label`](Self::label).
    pub fn default_label(mut self, label: impl Into<String>) -> Self {
        self.label.get_or_insert_with(|| label.into());
        self
    }

    /// The statement that creates the table, for those who want to create it by hand.
    ///
    /// # Errors
    /// [`ConfigError`] if this machine cannot keep locks so.
    pub fn create_table(&self) -> Result<String, ConfigError> {
        Ok(self.codec()?.create_table())
    }

    /// Connects, checks the server and the table, and creates the table if it is missing.
    ///
    /// # Errors
    /// [`Error`]: the configuration, the server or the table cannot be used, or there is no tokio
    /// runtime to run on.
    ///
    /// # Panics
    /// If the runtime has no timer, or for a server no I/O: build it with `enable_all`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the connection. A table that was missing may have been created.
    pub async fn connect(self) -> Result<Locks, Error> {
        tokio::runtime::Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        let timing = self.timing()?;
        let codec = self.codec()?;
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)
            .map_err(|error| ConfigError::System(format!("no random numbers: {error}")))?;
        let config = lock_core::Config::new(timing, u128::from_ne_bytes(seed));
        let engine = Engine::new(Table::new(timing.ttl(), &self.holder()), config);
        let budget = timing.request();
        Ok(Locks::with(match self.target {
            #[cfg(feature = "postgres")]
            Target::Postgres { config, tls } => {
                use crate::backend::postgres::{Postgres, check};
                check(&tls).await?;
                let session = Postgres::new(*config, tls, budget);
                Driver::start(engine, One(Some(SqlTable::open(codec, session, budget).await?)))
            }
            #[cfg(feature = "postgres")]
            Target::PostgresClient(client) => {
                let session = crate::backend::postgres::Postgres::with(*client);
                Driver::start(engine, One(Some(SqlTable::open(codec, session, budget).await?)))
            }
            #[cfg(feature = "mysql")]
            Target::Mysql(server) => {
                use crate::backend::mysql::{Mysql, check};
                let session = Mysql::new(check(server).await?);
                Driver::start(engine, One(Some(SqlTable::open(codec, session, budget).await?)))
            }
            #[cfg(feature = "mysql")]
            Target::MysqlConnection(connection) => {
                let session = crate::backend::mysql::Mysql::with(*connection);
                Driver::start(engine, One(Some(SqlTable::open(codec, session, budget).await?)))
            }
            #[cfg(feature = "sqlite")]
            Target::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::open(path).await?;
                Driver::start(engine, One(Some(SqlTable::open(codec, session, budget).await?)))
            }
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(connection) => {
                let session = crate::backend::sqlite::Sqlite::with(*connection).await?;
                Driver::start(engine, One(Some(SqlTable::open(codec, session, budget).await?)))
            }
        }))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            ttl: Timing::DEFAULT_TTL,
            request: None,
            table: TableName::default(),
            label: None,
        }
    }

    fn timing(&self) -> Result<Timing, ConfigError> {
        let timing = Timing::new(self.ttl)?;
        Ok(match self.request {
            Some(request) => timing.with_request(request)?,
            None => timing,
        })
    }

    fn codec(&self) -> Result<Codec, ConfigError> {
        Ok(match self.target {
            #[cfg(feature = "postgres")]
            Target::Postgres { .. } | Target::PostgresClient(_) => {
                lock_core::sql::postgres::codec(self.table.clone())
            }
            #[cfg(feature = "mysql")]
            Target::Mysql(_) | Target::MysqlConnection(_) => {
                lock_core::sql::mysql::codec(self.table.clone())
            }
            #[cfg(feature = "sqlite")]
            Target::Sqlite(_) | Target::SqliteConnection(_) => {
                lock_core::sql::sqlite::codec(self.table.clone(), &crate::backend::sqlite::boot()?)
            }
        })
    }

    /// Who we are, for people who wait for our locks.
    fn holder(&self) -> String {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let label = self.label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
        format!("{host} pid {}{label}", std::process::id())
    }
}

/// Without what is in the URL: there may be a password in it.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("ttl", &self.ttl)
            .field("table", &self.table)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// A URL's parameters.
#[derive(Default)]
struct Parameters {
    ttl: Option<Duration>,
    request: Option<Duration>,
    table: Option<TableName>,
    label: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    /// Those that are not ours.
    others: Vec<(String, String)>,
}

impl Parameters {
    fn take(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let wrong = |reason: String| ConfigError::Parameter { name: name.to_string(), reason };
        let duration = |text: &str| {
            humantime::parse_duration(text)
                .map_err(|error| wrong(format!("{error} (example: {name}=30s)")))
        };
        match name {
            "ttl" => self.ttl = Some(duration(&value)?),
            "request_timeout" => self.request = Some(duration(&value)?),
            "table" => self.table = Some(TableName::new(&value)?),
            "label" => self.label = Some(value),
            "sslmode" => self.sslmode = Some(value),
            "sslrootcert" => self.sslrootcert = Some(value),
            _ if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                self.others.push((name.to_string(), value));
            }
            // It may be the rest of a password: do not repeat it.
            _ => {
                let hint = "what follows the first ? is no list of parameters (in a password, ? is %3F and & is %26)";
                return Err(ConfigError::Url(hint.to_string()));
            }
        }
        Ok(())
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self, base: &str) -> Result<Target, ConfigError> {
        use crate::backend::postgres::{Tls, config, is_local};
        use crate::backend::sslmode::SslMode;
        const KNOWN: &str = "ttl, request_timeout, table, label, sslmode, sslrootcert, and those of the server's client";
        const CLIENT: [&str; 13] = [
            "host",
            "hostaddr",
            "port",
            "user",
            "password",
            "dbname",
            "application_name",
            "options",
            "connect_timeout",
            "target_session_attrs",
            "channel_binding",
            "keepalives",
            "keepalives_idle",
        ];
        if let Some((name, _)) =
            self.others.iter().find(|(name, _)| !CLIENT.contains(&name.as_str()))
        {
            return Err(ConfigError::UnknownParameter { name: name.clone(), known: KNOWN });
        }
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.others)
            .finish();
        // The client's parser knows %20, but not + for a space.
        let config = config(&format!("{base}?{}", query.replace('+', "%20")))?;
        let mode = match self.sslmode()? {
            Some(mode) => mode,
            None if is_local(&config) => SslMode::Prefer,
            None => SslMode::VerifyFull,
        };
        let root_cert = self.sslrootcert.as_ref().map(Into::into);
        Ok(Target::Postgres { config: Box::new(config), tls: Tls { mode, root_cert } })
    }

    #[cfg(feature = "mysql")]
    fn mysql(&self, base: &str) -> Result<Target, ConfigError> {
        let mut socket = None;
        for (name, value) in &self.others {
            if name != "socket" {
                return Err(ConfigError::UnknownParameter {
                    name: name.clone(),
                    known: "ttl, request_timeout, table, label, sslmode, sslrootcert, socket",
                });
            }
            socket = Some(value.clone());
        }
        let root_cert = self.sslrootcert.as_ref().map(Into::into);
        let server = crate::backend::mysql::Server::read(base, socket, self.sslmode()?, root_cert)?;
        Ok(Target::Mysql(server))
    }

    #[cfg(any(feature = "mysql", feature = "postgres"))]
    fn sslmode(&self) -> Result<Option<crate::backend::sslmode::SslMode>, ConfigError> {
        let Some(text) = &self.sslmode else { return Ok(None) };
        let mode = crate::backend::sslmode::SslMode::parse(text);
        mode.map(Some).ok_or_else(|| ConfigError::Parameter {
            name: "sslmode".to_string(),
            reason: "must be disable, prefer, require, verify-ca or verify-full".to_string(),
        })
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(&self, path: &str) -> Result<Target, ConfigError> {
        let ours = self
            .sslmode
            .as_ref()
            .map(|_| "sslmode")
            .or(self.sslrootcert.as_ref().map(|_| "sslrootcert"));
        if let Some(name) = self.others.first().map(|(name, _)| name.as_str()).or(ours) {
            return Err(ConfigError::UnknownParameter {
                name: name.to_string(),
                known: "ttl, request_timeout, table, label",
            });
        }
        // sqlite:relative, sqlite:/absolute, sqlite:///absolute
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = percent_encoding::percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| ConfigError::Url("the path is not UTF-8".to_string()))?;
        if path.is_empty() || path == ":memory:" || path.contains('\0') {
            return Err(ConfigError::Url("it names no file: sqlite:path/to/locks.db".to_string()));
        }
        Ok(Target::Sqlite(path.into_owned().into()))
    }
}

fn escapes_are_whole(url: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = url.as_bytes();
    bytes
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte != b'%' || (hex(bytes.get(at + 1)) && hex(bytes.get(at + 2))))
}
