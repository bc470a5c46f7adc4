//! The configuration of locks.

use crate::env::Environment;
use crate::place::Place;
use crate::settings::{Kind, Settings};
use lock_core::TableName;
use lock_core::config::{ConfigError, Durability, Expiry, Protocol};
use lock_core::sql::advisory::Key;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

/// The configuration of locks: their place, and settings such as the TTL. `Locks::open` and `Admin::open` of
/// either driver take it.
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
/// Several servers are separated by commas, as in `postgres://app@db1,db2:5433/app`. The first that takes writes
/// is used, and another after a fail-over. With Consul, it is the first agent that can be connected to.
/// `target_session_attrs` with PostgreSQL may be `any`, `read-write` or `primary`, which mean the same here.
///
/// A URL's parameters do the same as the methods here: `protocol=advisory`, `ttl=30s`, `request_timeout=5s`,
/// `label=…`, `warn_wait=30s`, `warn_hold=10m`; `protocol=node-distributed-lock` beside the npm package of this name; `table=ops.locks` with lock tables; `keys=int`, `prefix=…`, `waiting=16`, `longest_ttl=1m` with advisory locks;
/// `token=…` with Consul.
///
/// `path` with Consul is that of a proxy before the agent, as in `consul://proxy/locks?path=/consul`. `ns`,
/// `partition` and `dc` are Consul's namespace, admin partition and datacenter, for all requests.
/// `server_name` is the name in the certificate of Consul's agent, if it is not that of the host.
///
/// PostgreSQL also takes libpq's `sslmode` (`disable`, `allow`, `prefer`, `require`, `verify-ca`,
/// `verify-full`) and `sslrootcert`. MySQL and MariaDB take the same, except for `allow` and `verify-ca`.
/// Consul takes `disable` and `verify-full`. The default is `prefer` on this machine (`disable` with Consul),
/// and `verify-full` to any other host. `sslrootcert=system` means `verify-full` with the default
/// authorities.
///
/// `passfile` with PostgreSQL names a file in the form of `~/.pgpass`, from which a missing password comes.
///
/// In a user name or password, `%` is written `%25`, `@` `%40`, `/` `%2F`, `?` `%3F`, `#` `%23`, and a space
/// `%20`.
///
/// # The environment
///
/// [`from_url`](Self::from_url), and so `parse`, `Locks::connect` and `Admin::connect`, take a URL as it is,
/// because where locks are kept must not depend on variables that nobody thought of.
/// [`from_url_and_env`](Self::from_url_and_env) completes it as the server's own clients do:
///
/// | a URL | missing parts come from |
/// |---|---|
/// | `postgres://` | `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE`, `PGSSLROOTCERT`, `PGTARGETSESSIONATTRS`, and a password from the file that `PGPASSFILE` names, or from `~/.pgpass` |
/// | `mysql://`, `mariadb://` | `MYSQL_HOST`, `MYSQL_TCP_PORT`, `MYSQL_PWD` |
/// | `consul://` | `CONSUL_HTTP_ADDR`, `CONSUL_HTTP_SSL`, `CONSUL_CACERT`, `CONSUL_TLS_SERVER_NAME`, `CONSUL_HTTP_TOKEN_FILE`, `CONSUL_HTTP_TOKEN`, `CONSUL_NAMESPACE`, `CONSUL_PARTITION` |
///
/// The host is then this machine by default: with PostgreSQL, `/var/run/postgresql` if that folder exists, or
/// else `localhost`. An empty variable counts as unset. A variable alone names no place.
#[must_use]
#[derive(Clone, Default)]
pub struct Config {
    /// The place. `None` for a connection of the caller's.
    pub(crate) place: Option<Place>,
    pub(crate) settings: Settings,
}

impl Config {
    /// Settings without a place, for a connection of yours: `Locks::with_postgres`, `with_mysql`,
    /// `with_sqlite`, `with_sqlx`, `from_postgres`, `from_mysql` and `from_sqlite` take them.
    ///
    /// One type has both uses, as in `tokio_postgres`, whose `Config` is for `connect` and for `connect_raw`.
    /// A place beside a connection is an error, because the connection may lead to another place.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a URL. Nothing is connected yet. The environment is not read: see
    /// [`from_url_and_env`](Self::from_url_and_env).
    ///
    /// # Errors
    /// [`ConfigError`]: what is wrong, without repeating the URL.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        Self::read(url, None)
    }

    /// Reads a URL, and completes it as the server's own clients do, from this process's [environment
    /// variables](Self#the-environment) and `~/.pgpass`. [`place`](Self::place) tells where that leads.
    ///
    /// # Errors
    /// [`ConfigError`] as for [`from_url`](Self::from_url), or a variable or a file cannot be used.
    pub fn from_url_and_env(url: &str) -> Result<Self, ConfigError> {
        Self::from_url_with(url, |name| std::env::var_os(name))
    }

    /// Does the same with variables of yours: `variable` returns the value of the variable with the name that
    /// it is given.
    ///
    /// ```
    /// # use lock_shared::Config;
    /// # #[cfg(feature = "postgres")] {
    /// let variable = |name: &str| match name {
    ///     "PGHOST" => Some("db.example".into()),
    ///     "PGUSER" => Some("app".into()),
    ///     _ => None,
    /// };
    /// let config = Config::from_url_with("postgres:///jobs", variable)?;
    /// assert_eq!(config.place(), "postgres://app@db.example/jobs");
    /// # }
    /// # Ok::<(), lock_core::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] as for [`from_url_and_env`](Self::from_url_and_env).
    pub fn from_url_with(
        url: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        Self::read(url, Some(Environment::new(&variable)))
    }

    fn read(url: &str, env: Option<Environment<'_>>) -> Result<Self, ConfigError> {
        let (place, settings) = crate::url::read(url, env)?;
        Ok(Self { place: Some(place), settings })
    }

    /// A file, for the processes of one machine. Its folder must exist. With the feature `sqlite`.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl Into<std::path::PathBuf>) -> Self {
        Self { place: Some(Place::Sqlite(path.into())), ..Self::default() }
    }

    /// Sets the protocol of the locks; see [`Protocol`].
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.settings.protocol = Some(protocol);
        self
    }

    /// Sets the time that a lease lasts unless renewed: 1 s to 24 h, 30 s by default. Others wait as long
    /// after a holder dies. With Consul, they wait for up to twice that, and for the lock-delay, which is the
    /// TTL, but at most 1 min. Consul accepts no less than 10 s unless it is configured to.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = Some(ttl);
        self
    }

    /// Sets the longest TTL that anyone has who uses the same advisory locks: 30 s by default, or this program's TTL if it is
    /// longer, and 24 h at most. After a restart, a server knows nothing of the locks that it had granted, so no advisory lock is granted before
    /// it has run for that long: then everybody knows that their locks are lost. For advisory locks.
    pub fn longest_ttl(mut self, longest: Duration) -> Self {
        self.settings.longest_ttl = Some(longest);
        self
    }

    /// Sets the time limit of a request: at least 10 ms, and at most a third of the time that a lease counts as held. The default
    /// is a quarter of that time, but at most 5 s. A request includes connecting anew, so on a slow link the
    /// default grows, up to that quarter, and each step of the first connect gets 10 s. A time that is set
    /// here never grows. If it is too short, the first connect is refused.
    pub fn request_timeout(mut self, request: Duration) -> Self {
        self.settings.request = Some(request);
        self
    }

    /// Sets the table that locks are kept in, `locks` by default.
    pub fn table(mut self, table: TableName) -> Self {
        self.settings.table = Some(table);
        self
    }

    /// Sets whether grants and renewals must survive a crash of the server: [`Durability::Durable`] by default. For
    /// tables on servers.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = Some(durability);
        self
    }

    /// Sets whose clock ends a lease that is not renewed: the server's by default. All that use a table must agree on
    /// it. For tables on servers.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.settings.expiry = Some(expiry);
        self
    }

    /// True if a crash of the server may forget the locks.
    pub fn is_relaxed(&self) -> bool {
        self.settings.durability == Some(Durability::Relaxed)
    }

    /// Sets the mapping of names to PostgreSQL's advisory locks, [`Key::Hash`] by default.
    pub fn keys(mut self, keys: Key) -> Self {
        self.settings.keys = Some(keys);
        self
    }

    /// Sets the prefix of the locks' names at the server, so that programs with other prefixes have other
    /// locks. With `GET_LOCK` of MySQL and MariaDB, it is `withlock:` by default (see
    /// [`Prefix`](lock_core::sql::advisory::Prefix)). With Consul, it is the part of a key before
    /// `/NAME/lock`, and `locks` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = Some(prefix.into());
        self
    }

    /// Sets the number of acquires that may wait in the server's queue at once, each on a connection of its
    /// own; 16 by default. Acquires beyond it poll. For advisory locks.
    pub fn waiting(mut self, connections: usize) -> Self {
        self.settings.waiting = Some(connections);
        self
    }

    /// Sets Consul's ACL token. It is sent in a header, and shown nowhere.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Some(token.into());
        self
    }

    /// Sets the label that is stored with each lock, beside host and process id, for people who wait for it.
    /// An empty one is none. With advisory locks, the connection has it: PostgreSQL shows it as `application_name`, MySQL and
    /// MariaDB as the connection attribute `holder`, which the client of lock-async cannot send yet.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.settings.label = Some(label.into());
        self
    }

    /// Sets the label, unless the URL or [`label`](Self::label) has set one.
    pub fn default_label(mut self, label: impl Into<String>) -> Self {
        self.settings.label.get_or_insert_with(|| label.into());
        self
    }

    /// Sets the time after which a wait is warned of, once: `tracing` gets the event `waiting for long`, with the lock's name, the time
    /// waited, and the holder with the time that it has had the lock. The holder is known where locks are rows of a table, and where it is in
    /// this process. No wait is warned of by default.
    ///
    /// ```
    /// # use lock_shared::Config;
    /// # use std::time::Duration;
    /// let config = Config::new().warn_wait(Duration::from_secs(30)).warn_hold(Duration::from_secs(600));
    /// ```
    pub fn warn_wait(mut self, time: Duration) -> Self {
        self.settings.warn_after.wait = Some(time);
        self
    }

    /// Sets the time after which a hold is warned of, once: `tracing` gets the event `held for long`, with the lock's name, fence and
    /// label, and the time held. No hold is warned of by default.
    pub fn warn_hold(mut self, time: Duration) -> Self {
        self.settings.warn_after.hold = Some(time);
        self
    }

    /// Lets the locks connect when the first of them is wanted, and not before, so that a service may start before its database.
    /// `Locks::open`, and its like for connections of yours, then return without asking the server anything.
    ///
    /// Acquires are kept until the server is there, each until its own limit, as during a restart of the server: the
    /// failures are told to `on_waiting`, the connect is tried again after a back-off of up to a second, and an acquire
    /// with a limit ends with `Error::Unavailable`. `try_lock` waits for two request budgets.
    ///
    /// The reasons for which `open` would have refused for good (a wrong password, a standby, a pooler before advisory locks, a missing
    /// right, a server that is too far away for the TTL) ends all acquires that wait, each with the error that `open`
    /// would have returned. The next acquire tries again. `open` itself still fails for all that can be known without the
    /// server: settings, an SQLite file, certificates.
    ///
    /// Until the server is reached, `Locks::table` returns [`None`]. `Admin` connects at once.
    pub fn lazy(mut self) -> Self {
        self.settings.lazy = true;
        self
    }

    /// Sets whether metrics have the locks' names, as the label `lock`. They have not by default, for each name makes several time series of its own:
    /// switch it on for a few names that are known. Metrics of renewals never have them. With the feature `metrics`.
    #[cfg(feature = "metrics")]
    pub fn metrics_by_name(mut self, by_name: bool) -> Self {
        self.settings.metrics_by_name = by_name;
        self
    }

    /// Returns the statement that creates the table, for creating it by hand.
    ///
    /// # Errors
    /// [`ConfigError`] if this machine cannot keep locks so, or there is no table or no place.
    pub fn create_table(&self) -> Result<String, ConfigError> {
        self.settings.create_table(self.kind()?)
    }

    /// Returns the time that a grant or a renewal counts: a little less than five sixths of the TTL.
    ///
    /// # Errors
    /// [`ConfigError`]: the configuration cannot work, or names no place.
    pub fn valid_for(&self) -> Result<Duration, ConfigError> {
        Ok(self.settings.timing(self.kind()?)?.valid())
    }

    /// Returns the place of the locks as a URL without password, token or other settings, for messages and
    /// logs. Two configurations with equal places keep their locks in the same place. Empty if there is no
    /// place.
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

    /// Returns the part of the configuration that is ignored, and why: a file of passwords that other users may
    /// read. `open` reports it to `tracing`.
    pub fn warning(&self) -> Option<&str> {
        self.place.as_ref()?.warning()
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

impl TryFrom<&str> for Config {
    type Error = ConfigError;

    fn try_from(url: &str) -> Result<Self, ConfigError> {
        Self::from_url(url)
    }
}

/// Without what is in the URL, where there may be a password, and without the token.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

#[cfg(all(test, feature = "consul", feature = "mysql", feature = "postgres"))]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_secrets() {
        for url in [
            "postgres://u:hunter2@h/d?label=x",
            "postgres://h/d?password=hunter2&label=x",
            "mysql://u:hunter2@h/d?label=x",
            "consul://h?token=hunter2&label=x",
        ] {
            let shown = format!("{:?}", Config::from_url(url).expect(url));
            assert!(shown.contains("label: Some(\"x\")") && !shown.contains("hunter2"), "{shown}");
        }
        let shown = format!("{:?}", Config::new().token("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    /// Everything that can be set, for so many seconds.
    fn set(config: Config, seconds: u64, choices: (Protocol, Durability, Expiry, Key)) -> Config {
        let (protocol, durability, expiry, keys) = choices;
        let time = |times| Duration::from_secs(seconds * times);
        let name = format!("name{seconds}");
        config
            .protocol(protocol)
            .ttl(time(10))
            .request_timeout(time(1))
            .table(TableName::new(&name).expect("a good name"))
            .durability(durability)
            .expiry(expiry)
            .keys(keys)
            .prefix(&name)
            .waiting(seconds as usize)
            .longest_ttl(time(20))
            .token(&name)
            .label(&name)
            .warn_wait(time(2))
            .warn_hold(time(3))
    }

    /// Whoever sets something later knows better: the program better than the URL.
    #[test]
    fn the_last_setting_counts() {
        let first = (Protocol::Table, Durability::Relaxed, Expiry::Observed, Key::Pair);
        let last = (Protocol::Advisory, Durability::Durable, Expiry::Server, Key::Int);
        let once = set(Config::new(), 2, last);
        let twice = set(set(Config::new(), 1, first), 2, last);
        assert_eq!(format!("{twice:?}"), format!("{once:?}"));
        assert_eq!(twice.settings.token.as_deref(), Some("name2"));
        let url = "postgres://h/d?protocol=advisory&keys=pair&waiting=1&longest_ttl=1m&ttl=20s&request_timeout=3s&label=url&warn_wait=9s&warn_hold=8s";
        let by_url = set(Config::from_url(url).expect("a good URL"), 2, last);
        assert_eq!(format!("{by_url:?}"), format!("{once:?}"));
        assert_ne!(format!("{:?}", set(Config::new(), 1, first)), format!("{once:?}"));
        let named = once.default_label("usual");
        assert_eq!(named.settings.label.as_deref(), Some("name2"));
        let unnamed = Config::new().default_label("usual");
        assert_eq!(unnamed.settings.label.as_deref(), Some("usual"));
    }
}
