//! Where a test keeps its locks: a backend and a table of its own.

use lock_sync::{Config, Locks, TableName};
use mysql::prelude::Queryable;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A backend, and a table that no other test uses.
pub struct Place {
    url: String,
    table: String,
    /// Of the SQLite file.
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    /// An SQLite file.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}/locks.db", folder.path().display());
        Self { url, table: "locks".to_string(), _folder: Some(folder) }
    }

    /// The PostgreSQL server that the environment names.
    pub fn postgres() -> Self {
        Self::at(&postgres_url())
    }

    /// The MySQL server that the environment names.
    pub fn mysql() -> Self {
        Self::at(&server_url("MYSQL_URL"))
    }

    /// The MariaDB server that the environment names.
    pub fn mariadb() -> Self {
        Self::at(&server_url("MARIADB_URL"))
    }

    /// A server.
    pub fn at(url: &str) -> Self {
        static TABLES: AtomicU32 = AtomicU32::new(0);
        let table =
            format!("locks_{}_{}", std::process::id(), TABLES.fetch_add(1, Ordering::Relaxed));
        Self { url: url.to_string(), table, _folder: None }
    }

    /// The same table by another way.
    pub fn through(&self, url: &str) -> Self {
        Self { url: url.to_string(), table: self.table.clone(), _folder: None }
    }

    /// The URL, without parameters.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// A configuration with this TTL.
    pub fn config(&self, ttl: Duration) -> Config {
        let config: Config = self.url.parse().expect("a good URL");
        config.ttl(ttl).table(TableName::new(&self.table).expect("a good table"))
    }

    /// A connection of its own, as another process would have.
    pub fn locks(&self, ttl: Duration) -> Locks {
        self.config(ttl).connect().expect("connected")
    }

    /// Runs SQL on the table, past the library; `{table}` is its name.
    pub fn tamper(&self, sql: &str) {
        let sql = sql.replace("{table}", &self.table);
        if let Some(path) = self.url.strip_prefix("sqlite:") {
            let connection = rusqlite::Connection::open(path).expect("opened");
            connection.busy_timeout(Duration::from_secs(5)).expect("set");
            connection.execute_batch(&sql).expect("run");
        } else if self.url.starts_with("m") {
            mysql_client(&self.url).query_drop(&sql).expect("run");
        } else {
            client(&self.url).batch_execute(&sql).expect("run");
        }
    }
}

/// A client that knows nothing of locks.
pub fn client(url: &str) -> postgres::Client {
    postgres::Client::connect(url, postgres::NoTls).expect("connected")
}

/// A client of MySQL or MariaDB that knows nothing of locks.
pub fn mysql_client(url: &str) -> mysql::Conn {
    let url = url.replacen("mariadb://", "mysql://", 1);
    let opts = mysql::Opts::from_url(&url).expect("a good URL");
    let opts = mysql::OptsBuilder::from_opts(opts).prefer_socket(false);
    mysql::Conn::new(opts).expect("connected")
}

/// The server for tests.
pub fn postgres_url() -> String {
    server_url("POSTGRES_URL")
}

fn server_url(variable: &str) -> String {
    let missing = |_| panic!("{variable}: tests/run starts a server and sets it");
    std::env::var(variable).unwrap_or_else(missing)
}
