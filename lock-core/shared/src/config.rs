//! What locks are made with.

use crate::place::Place;
use crate::settings::{Kind, Settings};
use lock_core::TableName;
use lock_core::config::{ConfigError, Protocol};
use lock_core::sql::advisory::Key;
use std::fmt;
use std::time::Duration;

/// What locks are made with: where they are kept, and how long a lease lasts. `Locks::open` and `Admin::open` take it, of
/// either driver.
///
/// ```
/// # use lock_shared::Config;
/// # use std::time::Duration;
/// # #[cfg(feature = "postgres")] {
/// let config: Config = "postgres://app@db/app?table=jobs".parse()?;
/// let config = config.ttl(Duration::from_secs(10)).label("nightly");
/// # }
/// # Ok::<(), lock_core::config::ConfigError>(())
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
#[derive(Clone, Default)]
pub struct Config {
    /// Absent for a connection that is brought.
    pub(crate) place: Option<Place>,
    pub(crate) settings: Settings,
}

impl Config {
    /// Settings without a place: for a connection of yours, with `Locks::with_postgres`, `with_mysql` and
    /// `with_sqlite`.
    ///
    /// One type has the settings of both, as in `tokio_postgres`, whose `Config` is for `connect` and for `connect_raw`;
    /// but a place beside a connection is refused, and not ignored, since the connection may lead to another.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a URL. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConfigError`]: what is wrong, without repeating the URL.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let (place, settings) = crate::url::read(url)?;
        Ok(Self { place: Some(place), settings })
    }

    /// A file, for the processes of one machine. Its folder must exist. With the feature `sqlite`.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl Into<std::path::PathBuf>) -> Self {
        Self { place: Some(Place::Sqlite(path.into())), ..Self::default() }
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
    /// [`Prefix`](lock_core::sql::advisory::Prefix)); with Consul, the part of its keys before `/NAME/lock`,
    /// `locks` by default.
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
    /// as the connection attribute `holder`, which the client of lock-async cannot send yet.
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
    /// [`ConfigError`] if this machine cannot keep locks so, or there is no table or no place.
    pub fn create_table(&self) -> Result<String, ConfigError> {
        self.settings.create_table(self.kind()?)
    }

    /// For how long a grant or a renewal will count: five sixths of the TTL, and a little less.
    ///
    /// # Errors
    /// [`ConfigError`]: the configuration cannot work, or names no place.
    pub fn valid_for(&self) -> Result<Duration, ConfigError> {
        Ok(self.settings.timing(self.kind()?)?.valid())
    }

    /// Where the locks are kept, as a URL without password, token or other settings: for messages and
    /// logs. Two configurations with the same place keep their locks in the same place. Empty if there is none.
    ///
    /// ```
    /// # use lock_shared::Config;
    /// # #[cfg(feature = "postgres")] {
    /// let url = "postgres://app:secret@db:5433/app?ttl=10s&table=ops.locks";
    /// let config = Config::from_url(url)?;
    /// assert_eq!(config.place(), "postgres://app@db:5433/app?table=ops.locks");
    /// # }
    /// # Ok::<(), lock_core::config::ConfigError>(())
    /// ```
    pub fn place(&self) -> String {
        self.place.as_ref().map(|place| place.url(&self.settings)).unwrap_or_default()
    }

    fn kind(&self) -> Result<Kind, ConfigError> {
        self.place.as_ref().map(Place::kind).ok_or(ConfigError::NoPlace)
    }
}

impl std::str::FromStr for Config {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        Self::from_url(url)
    }
}

/// Without what is in the URL, where there may be a password, and without the token.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
