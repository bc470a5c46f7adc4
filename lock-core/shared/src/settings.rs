//! The settings of locks, for any place.

use lock_core::config::{ConfigError, Durability, Expiry, Protocol};
use lock_core::http::consul::Scope;
use lock_core::http::{self, KeyTemplate};
use lock_core::sql::advisory::{Key, Prefix};
use lock_core::sql::node_distributed_lock;
use lock_core::table::is_unprintable;
use lock_core::{ClaimError, LockName, Mode, TableName, Timing, WarnAfter, consul, sql, table};
use std::fmt;
use std::time::Duration;

/// The settings of locks, apart from the place where they are kept.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) longest_ttl: Option<Duration>,
    pub(crate) request: Option<Duration>,
    pub(crate) table: Option<TableName>,
    pub(crate) durability: Option<Durability>,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) keys: Option<Key>,
    pub(crate) prefix: Option<String>,
    pub(crate) waiting: Option<usize>,
    pub(crate) token: Option<String>,
    /// The name in the certificate of Consul's agent, if it is not that of the host.
    pub(crate) server_name: Option<String>,
    /// The part of Consul, and the path of its API.
    pub(crate) scope: Scope,
    pub(crate) label: Option<String>,
    /// The times after which waits and holds are warned of.
    pub(crate) warn_after: WarnAfter,
    /// The first connect is made when the first lock is wanted.
    pub(crate) lazy: bool,
    /// True if metrics have the locks' names.
    pub(crate) metrics_by_name: bool,
}

/// The codec of requests.
#[derive(Clone)]
pub enum Codec {
    Table(Box<sql::Codec>),
    Advisory(sql::advisory::Codec),
    Session(http::consul::Codec),
}

impl Codec {
    /// True if each lock is a lease of its own, whose TTL is nobody else's.
    pub(crate) fn has_own_ttls(&self) -> bool {
        matches!(self, Self::Table(codec) if !codec.is_shared_with_peers())
    }

    /// Fails if there is no lock of this name and mode.
    pub(crate) fn check(&self, name: &LockName, mode: Mode) -> Result<(), ClaimError> {
        match self {
            Self::Table(codec) => codec.check(name, mode),
            Self::Advisory(codec) => codec.check(name, mode),
            Self::Session(codec) => codec.check(name, mode),
        }
    }

    /// Fails if no lock can be kept for so long after its grant.
    pub(crate) fn check_keep(&self, keep: Duration) -> Result<(), ClaimError> {
        match self {
            Self::Table(codec) => codec.check_keep(keep),
            Self::Advisory(_) | Self::Session(_) => Err(ClaimError::NoKeep),
        }
    }
}

/// The kinds of servers, and SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mysql,
    Consul,
    Sqlite,
}

const TABLES: &str = "lock tables";
const NO_TABLE: ConfigError = ConfigError::Setting { name: "the table", belongs: TABLES };

impl Kind {
    /// The name of the kind, for people.
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL or MariaDB",
            Self::Consul => "Consul",
            Self::Sqlite => "SQLite",
        }
    }

    /// The protocols of the kind, for people.
    fn has(self) -> &'static str {
        match self {
            Self::Postgres => "table, advisory, node-distributed-lock",
            Self::Mysql => "table, advisory, sql-lock",
            Self::Consul => "session",
            Self::Sqlite => "table",
        }
    }

    /// The default protocol.
    pub(crate) fn default_protocol(self) -> Protocol {
        match self {
            Self::Consul => Protocol::Session,
            _ => Protocol::Table,
        }
    }
}

impl Settings {
    /// The protocol that was chosen, or the default one.
    pub(crate) fn protocol(&self, kind: Kind) -> Protocol {
        self.protocol.unwrap_or(kind.default_protocol())
    }

    /// Fails if the settings cannot work, as far as that is known without a connection.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), ConfigError> {
        self.timing(kind)?;
        self.codec(kind).map(drop)
    }

    /// The time that a lease lasts unless renewed.
    pub(crate) fn ttl(&self, kind: Kind) -> Duration {
        self.ttl.unwrap_or(match self.protocol(kind) {
            Protocol::NodeDistributedLock => node_distributed_lock::DEFAULT_TTL,
            _ => Timing::DEFAULT_TTL,
        })
    }

    /// The timing of leases and requests.
    pub(crate) fn timing(&self, kind: Kind) -> Result<Timing, ConfigError> {
        let ttl = self.ttl(kind);
        let timing = Timing::new(ttl)?;
        let timing = match self.protocol(kind) {
            Protocol::Session => Timing::new(consul::lease(ttl))?,
            Protocol::Advisory | Protocol::SqlLock => {
                let longest = self.longest_ttl.unwrap_or(Timing::DEFAULT_TTL);
                timing.with_longest_ttl(longest)?
            }
            _ => timing,
        };
        Ok(match self.request {
            Some(request) => timing.with_request(request)?,
            None => timing,
        })
    }

    /// The codec. Fails if the kind does not have the protocol, or a setting does not belong to it.
    pub(crate) fn codec(&self, kind: Kind) -> Result<Codec, ConfigError> {
        let chosen = self.protocol(kind);
        let table = || self.table.clone().unwrap_or_default();
        let boxed = |codec| Codec::Table(Box::new(codec));
        let codec = match (kind, chosen) {
            (Kind::Postgres, Protocol::Table) => boxed(sql::postgres::codec(table())),
            (Kind::Postgres, Protocol::Advisory) => {
                Codec::Advisory(sql::advisory::postgres::codec(self.keys.unwrap_or_default()))
            }
            (Kind::Postgres, Protocol::NodeDistributedLock) => {
                let table = match &self.table {
                    Some(table) => table.clone(),
                    None => TableName::new(node_distributed_lock::DEFAULT_TABLE)?,
                };
                boxed(node_distributed_lock::codec(table, self.ttl(kind)))
            }
            (Kind::Mysql, Protocol::Table) => boxed(sql::mysql::codec(table())),
            (Kind::Mysql, Protocol::Advisory) => {
                let prefix = self.prefix.as_deref().map(Prefix::new).transpose()?;
                Codec::Advisory(sql::advisory::mysql::codec(prefix.unwrap_or_default()))
            }
            (Kind::Mysql, Protocol::SqlLock) => Codec::Advisory(sql::advisory::sql_lock::codec()),
            (Kind::Consul, Protocol::Session) => {
                let keys = self.prefix.as_deref().map(KeyTemplate::under).transpose()?;
                let codec = http::consul::Codec::new(keys.unwrap_or_default(), self.ttl(kind));
                Codec::Session(codec.within(self.scope.clone()))
            }
            #[cfg(feature = "sqlite")]
            (Kind::Sqlite, Protocol::Table) => {
                boxed(sql::sqlite::codec(table(), &crate::sqlite::boot()?))
            }
            (kind, protocol) => {
                let (place, has) = (kind.name(), kind.has());
                return Err(ConfigError::Protocol { place, protocol, has });
            }
        };
        let codec = match codec {
            Codec::Table(codec) if self.durability == Some(Durability::Relaxed) => {
                boxed(codec.relaxed())
            }
            codec => codec,
        };
        let codec = match codec {
            Codec::Table(codec) if self.expiry == Some(Expiry::Observed) => boxed(codec.watched()),
            codec => codec,
        };
        let stray = |given: bool, fits: bool, name, belongs| match given && !fits {
            true => Err(ConfigError::Setting { name, belongs }),
            false => Ok(()),
        };
        let (advisory, session) = (chosen == Protocol::Advisory, chosen == Protocol::Session);
        let postgres = kind == Kind::Postgres;
        let table = matches!(chosen, Protocol::Table | Protocol::NodeDistributedLock);
        stray(self.table.is_some(), table, "table", TABLES)?;
        let on_server = chosen == Protocol::Table && kind != Kind::Sqlite;
        let servers = "tables on PostgreSQL, MySQL and MariaDB";
        stray(self.durability.is_some(), on_server, "durability", servers)?;
        stray(self.expiry.is_some(), on_server, "expiry", servers)?;
        stray(self.keys.is_some(), advisory && postgres, "keys", "PostgreSQL's advisory locks")?;
        let prefixed = "the advisory locks of MySQL and MariaDB, and to Consul";
        stray(self.prefix.is_some(), session || (advisory && !postgres), "prefix", prefixed)?;
        stray(self.waiting.is_some(), advisory, "waiting", "advisory locks")?;
        let of_server = advisory || chosen == Protocol::SqlLock;
        stray(self.longest_ttl.is_some(), of_server, "longest_ttl", "advisory locks")?;
        stray(self.token.is_some(), session, "token", "Consul")?;
        Ok(codec)
    }

    /// The statement that creates the table.
    pub(crate) fn create_table(&self, kind: Kind) -> Result<String, ConfigError> {
        match self.codec(kind)? {
            Codec::Table(codec) => Ok(codec.create_table()),
            Codec::Advisory(codec) => codec.create_table().map(str::to_string).ok_or(NO_TABLE),
            Codec::Session(_) => Err(NO_TABLE),
        }
    }

    /// The label of a holder: host, process id and the label of the settings.
    pub(crate) fn holder(&self) -> String {
        labeled(&self.process(), self.label.as_deref())
    }

    /// The host and the process id.
    pub(crate) fn process(&self) -> String {
        let host = rustix::system::uname();
        format!("{} pid {}", host.nodename().to_string_lossy(), std::process::id())
    }

    /// The database of an SQLite connection that the table is in.
    pub(crate) fn schema(&self) -> &str {
        self.table.as_ref().and_then(|table| table.parts().0).unwrap_or("main")
    }
}

/// The label of a holder: its process, and a label of its own.
pub(crate) fn labeled(process: &str, label: Option<&str>) -> String {
    let label = label.filter(|label| !label.trim().is_empty());
    let label = label.map(|label| format!(" ({label})")).unwrap_or_default();
    let holder = format!("{process}{label}");
    let shown = holder.chars().take(table::MAX_LABEL_BYTES);
    shown.map(|c| if is_unprintable(c) { ' ' } else { c }).collect()
}

/// Prints as `Config`, without the URL, which may contain a password, and without the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut config = f.debug_struct("Config");
        config.field("ttl", &self.ttl.unwrap_or(Timing::DEFAULT_TTL));
        if let Some(longest) = &self.longest_ttl {
            config.field("longest_ttl", longest);
        }
        if let Some(request) = &self.request {
            config.field("request_timeout", request);
        }
        config.field("table", &self.table.clone().unwrap_or_default());
        config.field("label", &self.label);
        if self.warn_after != WarnAfter::default() {
            config.field("warn_after", &self.warn_after);
        }
        if let Some(protocol) = &self.protocol {
            config.field("protocol", protocol);
        }
        if let Some(durability) = &self.durability {
            config.field("durability", durability);
        }
        if let Some(expiry) = &self.expiry {
            config.field("expiry", expiry);
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
        if self.scope != Scope::default() {
            config.field("scope", &self.scope);
        }
        if self.lazy {
            config.field("lazy", &true);
        }
        if self.metrics_by_name {
            config.field("metrics_by_name", &true);
        }
        config.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs with short TTLs and those with the default one are safe from each other without a setting.
    #[test]
    fn advisory_locks_wait_for_the_default_ttl_of_others() {
        let seconds = Duration::from_secs;
        let longest = |protocol, kind, ttl, longest_ttl: Option<u64>| {
            let (protocol, ttl) = (Some(protocol), Some(seconds(ttl)));
            let longest_ttl = longest_ttl.map(seconds);
            let settings = Settings { protocol, ttl, longest_ttl, ..Settings::default() };
            settings.timing(kind).expect("good").longest_ttl().as_secs()
        };
        for (protocol, kind) in [
            (Protocol::Advisory, Kind::Postgres),
            (Protocol::Advisory, Kind::Mysql),
            (Protocol::SqlLock, Kind::Mysql),
        ] {
            assert_eq!(longest(protocol, kind, 5, None), 30);
            assert_eq!(longest(protocol, kind, 60, None), 60);
            assert_eq!(longest(protocol, kind, 5, Some(90)), 90);
            assert_eq!(longest(protocol, kind, 5, Some(1)), 5, "its own counts, too");
        }
    }

    /// The program may have set them, and there may be no URL.
    #[test]
    fn a_time_that_cannot_be_is_told_by_the_name_of_its_setting() {
        let protocol = Some(Protocol::Advisory);
        let longest_ttl = Some(Duration::MAX);
        let too_long = Settings { protocol, longest_ttl, ..Settings::default() };
        let short = |request| Settings { request: Some(request), ..Settings::default() };
        for (settings, told) in [
            (too_long, "the longest TTL must"),
            (short(Duration::ZERO), "the request timeout must"),
            (short(Duration::from_nanos(1)), "the request timeout must"),
            (short(Duration::from_millis(9)), "the request timeout must"),
        ] {
            let error = settings.timing(Kind::Postgres).expect_err(told).to_string();
            assert!(error.starts_with(told), "{error}");
        }
        assert!(short(Duration::from_millis(10)).timing(Kind::Postgres).is_ok());
    }

    #[test]
    fn durability_and_expiry_are_chosen_apart() {
        for durability in [None, Some(Durability::Relaxed)] {
            for expiry in [None, Some(Expiry::Observed)] {
                let settings = Settings { durability, expiry, ..Settings::default() };
                for (kind, plain) in [
                    (Kind::Postgres, sql::postgres::codec(TableName::default())),
                    (Kind::Mysql, sql::mysql::codec(TableName::default())),
                ] {
                    let relaxed = if durability.is_some() { plain.relaxed() } else { plain };
                    let wanted = if expiry.is_some() { relaxed.watched() } else { relaxed };
                    let codec = settings.codec(kind).expect("it fits");
                    let is_wanted = matches!(codec, Codec::Table(codec) if *codec == wanted);
                    assert!(is_wanted, "{kind:?} {durability:?} {expiry:?}");
                }
            }
        }
    }

    #[test]
    fn an_empty_label_is_none() {
        for label in [None, Some(""), Some(" "), Some("\n")] {
            assert_eq!(labeled("host pid 7", label), "host pid 7");
        }
    }

    #[test]
    fn a_label_is_cut_and_has_no_control_characters() {
        let label = format!("two\nlines {}", "x".repeat(999));
        let told = labeled("host pid 7", Some(&label));
        assert_eq!(told.chars().count(), table::MAX_LABEL_BYTES);
        assert!(told.starts_with("host pid 7 (two lines x"), "{told}");
    }
}
