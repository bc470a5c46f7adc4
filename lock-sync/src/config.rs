//! What locks are made with.

mod admin;
mod start;

use lock_core::TableName;
use lock_core::config::{ConfigError, Protocol};
use lock_core::sql::advisory::Key;
use lock_shared::place::{self, Place};
use lock_shared::settings::{Kind, Settings};
use std::fmt;
use std::time::Duration;

/// What locks are made with: where they are kept, and how long a lease lasts.
///
/// ```
/// # use lock_sync::Config;
/// # use std::time::Duration;
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}/locks.db?table=jobs", folder.path().display());
/// let config: Config = url.parse()?;
/// let locks = config.ttl(Duration::from_secs(10)).label("nightly").connect()?;
/// let guard = locks.lock("report")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # URLs
///
/// | | |
/// |---|---|
/// | `postgres://USER@HOST/DATABASE`, `postgresql://…` | as libpq has it |
/// | `mysql://USER@HOST/DATABASE`, `mariadb://…` | `socket` is the path of a Unix socket |
/// | `consul://HOST:PORT/PREFIX` | port 8500, or 8501 with TLS, and prefix `locks`, when nothing else is said |
/// | `sqlite:FILE` | |
///
/// A URL's parameters do what the methods here do: `protocol=advisory`, `ttl=30s`,
/// `request_timeout=5s`, `label=…`; `table=ops.locks` with lock tables; `keys=int`, `prefix=…`,
/// `waiting=16` with advisory locks; `token=…` with Consul.
///
/// PostgreSQL also takes libpq's `sslmode` (`disable`, `prefer`, `require`, `verify-ca`,
/// `verify-full`) and `sslrootcert`, and so do MySQL and MariaDB, except for `verify-ca`, and Consul,
/// which has only `disable` and `verify-full`. Without `sslmode`, it is `prefer` on this machine
/// (`disable` with Consul), and `verify-full` to any other host.
#[must_use]
pub struct Config {
    target: Target,
    settings: Settings,
}

enum Target {
    At(Place),
    #[cfg(feature = "postgres")]
    PostgresClient(Box<crate::backend::postgres::Postgres>),
    #[cfg(feature = "mysql")]
    MysqlConnection(Box<mysql::Conn>),
    #[cfg(feature = "sqlite")]
    SqliteConnection(Box<rusqlite::Connection>),
}

impl Target {
    fn kind(&self) -> Kind {
        match self {
            Target::At(place) => place.kind(),
            #[cfg(feature = "postgres")]
            Target::PostgresClient(_) => Kind::Postgres,
            #[cfg(feature = "mysql")]
            Target::MysqlConnection(_) => Kind::Mysql,
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(_) => Kind::Sqlite,
        }
    }
}

/// The kinds of places in this build. A [`Place`] may be of another, for the other driver in the same program.
const KINDS: &[Kind] = &[
    #[cfg(feature = "postgres")]
    Kind::Postgres,
    #[cfg(feature = "mysql")]
    Kind::Mysql,
    #[cfg(feature = "consul")]
    Kind::Consul,
    #[cfg(feature = "sqlite")]
    Kind::Sqlite,
];

impl Config {
    /// Reads a URL. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConfigError`]: what is wrong, without repeating the URL.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let (place, settings) = lock_shared::url::read(url, KINDS)?;
        Ok(Self { target: Target::At(place), settings })
    }

    /// A file, for the processes of one machine. Its folder must exist.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl Into<std::path::PathBuf>) -> Self {
        Self::new(Target::At(Place::Sqlite(path.into())))
    }

    /// An SQLite connection of yours. It must not be inside a transaction.
    #[cfg(feature = "sqlite")]
    pub fn sqlite_connection(connection: rusqlite::Connection) -> Self {
        Self::new(Target::SqliteConnection(Box::new(connection)))
    }

    /// A PostgreSQL client of yours, for which you made the settings: its statements must commit by
    /// themselves, and `statement_timeout` should be set. Best are those of
    /// [`session_options`](lock_core::sql::postgres::session_options), which our own connections have: without
    /// them, a plan that was made while the table was small may read all of it for every batch. When its
    /// connection breaks, locks that are held are lost at their deadline, and new ones are refused: there is
    /// no way to another.
    ///
    /// A waiter of ours is told by the server when a lock was freed, on a second connection. Over a client of
    /// yours there is none, so waiters ask again, after a second at most.
    #[cfg(feature = "postgres")]
    pub fn postgres_client(client: postgres::Client) -> Self {
        Self::new(Target::PostgresClient(Box::new(crate::backend::postgres::Postgres::with(
            client,
        ))))
    }

    /// A MySQL or MariaDB connection of yours, with a database chosen. It must have a read timeout,
    /// and is refused inside a transaction; its session's settings are changed to what the locks
    /// need. When it breaks, locks that are held are lost at their deadline, and new ones are
    /// refused: there is no way to another.
    #[cfg(feature = "mysql")]
    pub fn mysql_connection(connection: mysql::Conn) -> Self {
        Self::new(Target::MysqlConnection(Box::new(connection)))
    }

    /// How the locks are kept: see [`Protocol`].
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.settings.protocol = Some(protocol);
        self
    }

    /// How long a lease lasts unless renewed: 1 s to 24 h, 30 s by default. It is how long others
    /// wait after a holder died; with Consul, up to twice that and the lock-delay, which is as long
    /// as the TTL, but 1 min at most. Consul takes no less than 10 s unless it was told to.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// How long one request may take: at most a third of the time that a lease counts as held, by
    /// default a quarter of it or 5 s. A request includes connecting anew, so on a slow link it gets more by
    /// itself, up to that quarter; each step of the first connect gets 10 s. A time that is given here is kept, also
    /// for the first connect, which is refused if it does not do.
    pub fn request_timeout(mut self, request: Duration) -> Self {
        self.settings.request = Some(request);
        self
    }

    /// The table that locks are kept in, `locks` by default.
    pub fn table(mut self, table: TableName) -> Self {
        self.settings.table = Some(table);
        self
    }

    /// Which of PostgreSQL's advisory locks a name stands for: [`Key::Hash`] by default.
    pub fn keys(mut self, keys: Key) -> Self {
        self.settings.keys = Some(keys);
        self
    }

    /// What the names of locks begin with at the server, so that others do not mean the same ones:
    /// with `GET_LOCK` of MySQL and MariaDB, `withlock:` by default (see
    /// [`Prefix`](crate::Prefix)); with Consul, the part of its keys before `/NAME/lock`, `locks` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = Some(prefix.into());
        self
    }

    /// How many acquires may wait in the server's queue at once, each on a connection of its own; 16
    /// by default. Those beyond it ask again and again. With advisory locks.
    pub fn waiting(mut self, connections: usize) -> Self {
        self.settings.waiting = Some(connections);
        self
    }

    /// Consul's ACL token. It is sent in a header, and shown nowhere.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Some(token.into());
        self
    }

    /// Stored with each lock beside host and process id, for people who wait for it. With advisory
    /// locks, it is with the connection: PostgreSQL shows it as `application_name`, MySQL and MariaDB
    /// as the connection attribute `holder`.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.settings.label = Some(label.into());
        self
    }

    /// The label where none was given yet, by the URL or by [`label`](Self::label).
    pub fn default_label(mut self, label: impl Into<String>) -> Self {
        self.settings.label.get_or_insert_with(|| label.into());
        self
    }

    /// The statement that creates the table, for those who want to create it by hand.
    ///
    /// # Errors
    /// [`ConfigError`] if this machine cannot keep locks so, or there is no table.
    pub fn create_table(&self) -> Result<String, ConfigError> {
        self.settings.create_table(self.target.kind())
    }

    fn new(target: Target) -> Self {
        Self { target, settings: Settings::default() }
    }

    /// For how long a grant or a renewal will count: five sixths of the TTL, and a little less.
    ///
    /// # Errors
    /// [`ConfigError`]: the configuration cannot work.
    pub fn valid_for(&self) -> Result<Duration, ConfigError> {
        Ok(self.settings.timing(self.target.kind())?.valid())
    }

    /// Where the locks are kept, as a URL without password, token or other settings: for messages and
    /// logs. Two configurations with the same place keep their locks in the same place.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] {
    /// let url = "postgres://app:secret@db:5433/app?ttl=10s&table=ops.locks";
    /// let config = lock_sync::Config::from_url(url)?;
    /// assert_eq!(config.place(), "postgres://app@db:5433/app?table=ops.locks");
    /// # }
    /// # Ok::<(), lock_sync::ConfigError>(())
    /// ```
    pub fn place(&self) -> String {
        let kind = self.target.kind();
        let base = match &self.target {
            Target::At(place) => place.base(&self.settings),
            // With Consul alone, there is no other.
            #[allow(unreachable_patterns)]
            _ => kind.scheme().to_string(),
        };
        place::url(base, kind, &self.settings)
    }
}

/// Without what is in the URL, where there may be a password, and without the token.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
