//! What locks are made with.

mod admin;
mod start;
mod url;

use crate::error::ConfigError;
use lock_core::config::Protocol;
use lock_core::consul::Consul;
use lock_core::http::KeyTemplate;
use lock_core::sql::advisory::{Key, Prefix};
use lock_core::table::Table;
use lock_core::{TableName, Timing, http, sql};
use std::fmt;
use std::time::Duration;

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
    protocol: Option<Protocol>,
    ttl: Duration,
    request: Option<Duration>,
    table: Option<TableName>,
    keys: Option<Key>,
    prefix: Option<String>,
    waiting: Option<usize>,
    token: Option<String>,
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
    #[cfg(feature = "consul")]
    Consul(crate::backend::consul::Server),
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
        url::read(url)
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
    /// themselves, and `statement_timeout` should be set. Best are those of
    /// [`session_options`](lock_core::sql::postgres::session_options), which our own connections have: without
    /// them, a plan that was made while the table was small may read all of it for every batch. Its connection
    /// is polled by a task of yours. When it breaks, or an answer does not come in time, locks that are held are
    /// lost at their deadline, and new ones are refused: there is no way to another.
    ///
    /// A waiter of ours is told by the server when a lock was freed, on a second connection. Over a client of
    /// yours there is none, so waiters ask again, after a second at most.
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

    /// How the locks are kept: see [`Protocol`].
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// How long a lease lasts unless renewed: 1 s to 24 h, 30 s by default. It is how long others
    /// wait after a holder died; with Consul, up to twice that and the lock-delay, which is as long
    /// as the TTL, but 1 min at most. Consul takes no less than 10 s unless it was told to.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long one request may take: at most a third of the time that a lease counts as held, by
    /// default a quarter of it or 5 s. A request includes connecting anew, so on a slow link it gets more by
    /// itself, up to that quarter; each step of the first connect gets 10 s. A time that is given here is kept, also
    /// for the first connect, which is refused if it does not do.
    pub fn request_timeout(mut self, request: Duration) -> Self {
        self.request = Some(request);
        self
    }

    /// The table that locks are kept in, `locks` by default.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = Some(table);
        self
    }

    /// Which of PostgreSQL's advisory locks a name stands for: [`Key::Hash`] by default.
    pub fn keys(mut self, keys: Key) -> Self {
        self.keys = Some(keys);
        self
    }

    /// What the names of locks begin with at the server, so that others do not mean the same ones:
    /// with `GET_LOCK` of MySQL and MariaDB, `withlock:` by default (see
    /// [`Prefix`]); with Consul, the part of its keys before `/NAME/lock`, `locks` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How many acquires may wait in the server's queue at once, each on a connection of its own; 16
    /// by default. Those beyond it ask again and again. With advisory locks.
    pub fn waiting(mut self, connections: usize) -> Self {
        self.waiting = Some(connections);
        self
    }

    /// Consul's ACL token. It is sent in a header, and shown nowhere.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Stored with each lock beside host and process id, for people who wait for it. With advisory
    /// locks, it is with the connection: PostgreSQL shows it as `application_name`. (To MySQL and
    /// MariaDB the client of this crate cannot tell it yet; lock-sync's does.)
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
    /// [`ConfigError`] if this machine cannot keep locks so, or there is no table.
    pub fn create_table(&self) -> Result<String, ConfigError> {
        match self.codec()? {
            Codec::Table(codec) => Ok(codec.create_table()),
            _ => Err(ConfigError::Setting { name: "the table", belongs: TABLES }),
        }
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            protocol: None,
            ttl: Timing::DEFAULT_TTL,
            request: None,
            table: None,
            keys: None,
            prefix: None,
            waiting: None,
            token: None,
            label: None,
        }
    }

    /// Whether it can work, as far as that shows without connecting.
    fn check(&self) -> Result<(), ConfigError> {
        self.timing()?;
        self.codec().map(drop)
    }

    fn timing(&self) -> Result<Timing, ConfigError> {
        let timing = Timing::new(self.ttl)?;
        let timing = match self.chosen() {
            Protocol::Session => Timing::new(Consul::new(self.ttl, "").lease())?,
            _ => timing,
        };
        Ok(match self.request {
            Some(request) => timing.with_request(request)?,
            None => timing,
        })
    }

    fn chosen(&self) -> Protocol {
        self.protocol.unwrap_or(self.target.place().default)
    }

    /// What makes the requests, if there is such a protocol there, and the settings belong to it.
    fn codec(&self) -> Result<Codec, ConfigError> {
        let place = self.target.place();
        let chosen = self.chosen();
        let codec = match (&self.target, chosen) {
            #[cfg(feature = "postgres")]
            (Target::Postgres { .. } | Target::PostgresClient(_), Protocol::Table) => {
                Codec::Table(sql::postgres::codec(self.table.clone().unwrap_or_default()))
            }
            #[cfg(feature = "postgres")]
            (Target::Postgres { .. } | Target::PostgresClient(_), Protocol::Advisory) => {
                Codec::Advisory(sql::advisory::postgres::codec(self.keys.unwrap_or_default()))
            }
            #[cfg(feature = "mysql")]
            (Target::Mysql(_) | Target::MysqlConnection(_), Protocol::Table) => {
                Codec::Table(sql::mysql::codec(self.table.clone().unwrap_or_default()))
            }
            #[cfg(feature = "mysql")]
            (Target::Mysql(_) | Target::MysqlConnection(_), Protocol::Advisory) => {
                let prefix = self.prefix.as_deref().map(Prefix::new).transpose()?;
                Codec::Advisory(sql::advisory::mysql::codec(prefix.unwrap_or_default()))
            }
            #[cfg(feature = "consul")]
            (Target::Consul(_), Protocol::Session) => {
                let keys = self.prefix.as_deref().map(KeyTemplate::under).transpose()?;
                Codec::Session(http::consul::Codec::new(keys.unwrap_or_default()))
            }
            #[cfg(feature = "sqlite")]
            (Target::Sqlite(_) | Target::SqliteConnection(_), Protocol::Table) => {
                let table = self.table.clone().unwrap_or_default();
                Codec::Table(sql::sqlite::codec(table, &lock_shared::sqlite::boot()?))
            }
            _ => {
                let Place { name: place, has, .. } = place;
                return Err(ConfigError::Protocol { place, protocol: chosen, has });
            }
        };
        let stray = |given: bool, fits: bool, name, belongs| match given && !fits {
            true => Err(ConfigError::Setting { name, belongs }),
            false => Ok(()),
        };
        let (advisory, session) = (chosen == Protocol::Advisory, chosen == Protocol::Session);
        let postgres = place.name == POSTGRES;
        stray(self.table.is_some(), chosen == Protocol::Table, "table", TABLES)?;
        stray(self.keys.is_some(), advisory && postgres, "keys", "PostgreSQL's advisory locks")?;
        let prefixed = "the advisory locks of MySQL and MariaDB, and to Consul";
        stray(self.prefix.is_some(), session || (advisory && !postgres), "prefix", prefixed)?;
        stray(self.waiting.is_some(), advisory, "waiting", "advisory locks")?;
        stray(self.token.is_some(), session, "token", "Consul")?;
        Ok(codec)
    }

    /// Who we are, for people who wait for our locks.
    fn holder(&self) -> String {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let label = self.label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
        let holder = format!("{host} pid {}{label}", std::process::id());
        let shown = holder.chars().take(Table::MAX_HOLDER_BYTES);
        shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

const POSTGRES: &str = "PostgreSQL";
const TABLES: &str = "lock tables";

/// What makes the requests.
#[derive(Clone)]
enum Codec {
    Table(sql::Codec),
    Advisory(sql::advisory::Codec),
    Session(http::consul::Codec),
}

/// A backend, for people.
struct Place {
    name: &'static str,
    /// Its protocols.
    has: &'static str,
    default: Protocol,
}

impl Target {
    fn place(&self) -> Place {
        let (name, has, default) = match self {
            #[cfg(feature = "postgres")]
            Target::Postgres { .. } | Target::PostgresClient(_) => {
                (POSTGRES, "table, advisory", Protocol::Table)
            }
            #[cfg(feature = "mysql")]
            Target::Mysql(_) | Target::MysqlConnection(_) => {
                ("MySQL or MariaDB", "table, advisory", Protocol::Table)
            }
            #[cfg(feature = "consul")]
            Target::Consul(_) => ("Consul", "session", Protocol::Session),
            #[cfg(feature = "sqlite")]
            Target::Sqlite(_) | Target::SqliteConnection(_) => ("SQLite", "table", Protocol::Table),
        };
        Place { name, has, default }
    }
}

/// Without what is in the URL, where there may be a password, and without the token.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut config = f.debug_struct("Config");
        config.field("ttl", &self.ttl);
        config.field("table", &self.table.clone().unwrap_or_default());
        config.field("label", &self.label);
        if let Some(protocol) = &self.protocol {
            config.field("protocol", protocol);
        }
        if let Some(keys) = &self.keys {
            config.field("keys", keys);
        }
        if let Some(prefix) = &self.prefix {
            config.field("prefix", prefix);
        }
        if let Some(waiting) = &self.waiting {
            config.field("waiting", waiting);
        }
        config.finish_non_exhaustive()
    }
}

/// The database of a connection that the table is in.
#[cfg(feature = "sqlite")]
fn schema(table: Option<&TableName>) -> &str {
    table.and_then(|table| table.parts().0).unwrap_or("main")
}
