//! The place of a test's locks: a backend, and locks of its own.

use crate::consul::Consul;
use crate::proxy::{Mode, Proxy, server_of};
use crate::servers::Server;
use lock_sync::{Config, Guard, Locks, LostReason};
use mysql::prelude::Queryable;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// A backend, and a table, database or prefix that no other test uses.
pub struct Place {
    url: String,
    table: String,
    keeps: Keeps,
    /// A test has changed the locks past the drivers.
    tampered: AtomicBool,
    _own: Option<Own>,
}

/// The form of a lock in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// A row.
    Rows,
    /// A lock of the server's own.
    Advisory,
    /// A row that an open transaction has locked, in a database of the test's own.
    Locked,
    /// A key.
    Keys,
}

/// Things that exist only for one test.
enum Own {
    /// The folder of the SQLite file.
    Folder { _folder: tempfile::TempDir },
    /// A pooler, which tests that run at the same time share.
    Pooler { _pooler: Arc<Server> },
    /// A database, to which PostgreSQL's advisory locks belong, and the table of `sql-lock`.
    Database { server: String, name: String },
}

/// Of a server that has started, advisory locks are to be had after a second, or after the test's TTL.
const SOON: &str = "longest_ttl=1s";

impl Place {
    /// An SQLite file.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}/locks.db", folder.path().display());
        let own = Some(Own::Folder { _folder: folder });
        Self {
            url,
            table: "locks".to_string(),
            keeps: Keeps::Rows,
            tampered: AtomicBool::new(false),
            _own: own,
        }
    }

    /// The PostgreSQL server that the environment names.
    pub fn postgres() -> Self {
        Self::at(&postgres_url())
    }

    /// The same through a pooler that hands each transaction to another connection.
    pub fn postgres_pooled() -> Self {
        static POOLER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        Self::behind(&POOLER, "default_pool_size = 3")
    }

    /// The same through a pooler that hands each client to a connection, and drops our settings.
    pub fn postgres_pooled_sessions() -> Self {
        static POOLER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let ini =
            "pool_mode = session\nignore_startup_parameters = options\ndefault_pool_size = 100";
        Self::behind(&POOLER, ini)
    }

    fn behind(pooler: &Mutex<Weak<Server>>, ini: &str) -> Self {
        let mut known = pooler.lock().unwrap_or_else(PoisonError::into_inner);
        let pooler =
            known.upgrade().unwrap_or_else(|| Arc::new(Server::pgbouncer(&postgres_url(), ini)));
        *known = Arc::downgrade(&pooler);
        Self {
            tampered: AtomicBool::new(false),
            _own: Some(Own::Pooler { _pooler: pooler.clone() }),
            ..Self::at(pooler.url())
        }
    }

    /// The MySQL server that the environment names.
    pub fn mysql() -> Self {
        Self::at(&server_url("MYSQL_URL"))
    }

    /// The MariaDB server that the environment names.
    pub fn mariadb() -> Self {
        Self::at(&server_url("MARIADB_URL"))
    }

    /// PostgreSQL's advisory locks.
    pub fn postgres_advisory() -> Self {
        Self::advisory_at(&postgres_url())
    }

    /// MySQL's `GET_LOCK`.
    pub fn mysql_advisory() -> Self {
        Self::advisory_at(&server_url("MYSQL_URL"))
    }

    /// MariaDB's `GET_LOCK`.
    pub fn mariadb_advisory() -> Self {
        Self::advisory_at(&server_url("MARIADB_URL"))
    }

    /// The row locks of `sql-lock`, on MySQL.
    pub fn mysql_sql_lock() -> Self {
        Self::sql_lock_at(&server_url("MYSQL_URL"))
    }

    /// The row locks of `sql-lock`, on MariaDB.
    pub fn mariadb_sql_lock() -> Self {
        Self::sql_lock_at(&server_url("MARIADB_URL"))
    }

    /// The Consul that the environment names.
    pub fn consul() -> Self {
        Self::consul_at(&server_url("CONSUL_URL"))
    }

    /// A server.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_string(),
            table: fresh(),
            keeps: Keeps::Rows,
            tampered: AtomicBool::new(false),
            _own: None,
        }
    }

    /// A server's advisory locks.
    pub fn advisory_at(url: &str) -> Self {
        let name = fresh();
        let (url, own) = if url.starts_with("postgres") {
            client(url).batch_execute(&format!("CREATE DATABASE {name}")).expect("made");
            let (server, _) = url.rsplit_once('/').expect("a database");
            let own = Own::Database { server: url.to_string(), name: name.clone() };
            (format!("{server}/{name}"), Some(own))
        } else {
            (url.to_string(), None)
        };
        Self {
            url,
            table: name,
            keeps: Keeps::Advisory,
            tampered: AtomicBool::new(false),
            _own: own,
        }
    }

    /// The row locks of `sql-lock`, in a database of the test's own at a server.
    pub fn sql_lock_at(url: &str) -> Self {
        let name = fresh();
        mysql_client(url).query_drop(format!("CREATE DATABASE {name}")).expect("made");
        let (server, _) = url.rsplit_once('/').expect("a database");
        let own = Some(Own::Database { server: url.to_string(), name: name.clone() });
        let url = format!("{server}/{name}");
        let tampered = AtomicBool::new(false);
        Self { url, table: name, keeps: Keeps::Locked, tampered, _own: own }
    }

    /// A Consul, at its `http://` address.
    pub fn consul_at(url: &str) -> Self {
        let name = fresh();
        let url = format!("{}/{name}", url.replacen("http://", "consul://", 1));
        Self { url, table: name, keeps: Keeps::Keys, tampered: AtomicBool::new(false), _own: None }
    }

    /// The table that a test's other process has made.
    pub fn of(url: &str, table: &str) -> Self {
        Self {
            url: url.to_string(),
            table: table.to_string(),
            keeps: Keeps::Rows,
            tampered: AtomicBool::new(false),
            _own: None,
        }
    }

    /// The same locks at another URL.
    pub fn through(&self, url: &str) -> Self {
        Self {
            url: url.to_string(),
            table: self.table.clone(),
            keeps: self.keeps,
            tampered: AtomicBool::new(false),
            _own: None,
        }
    }

    /// The URL, without parameters.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL, with the parameters that name the test's own locks.
    pub fn whole_url(&self) -> String {
        let Self { url, table, .. } = self;
        let parameters = match self.keeps {
            Keeps::Rows => format!("table={table}"),
            Keeps::Advisory if url.starts_with("postgres") => format!("protocol=advisory&{SOON}"),
            Keeps::Advisory => format!("protocol=advisory&{SOON}&prefix={}", self.prefix()),
            Keeps::Locked => format!("protocol=sql-lock&{SOON}"),
            Keeps::Keys => return url.clone(),
        };
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}{parameters}")
    }

    /// The table, or the database or prefix that replaces it.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The form of its locks.
    pub fn keeps(&self) -> Keeps {
        self.keeps
    }

    /// A configuration with this TTL.
    pub fn config(&self, ttl: Duration) -> Config {
        let config: Config = self.whole_url().parse().expect("a good URL");
        config.ttl(ttl)
    }

    /// A connection of its own, as another process would have.
    pub fn locks(&self, ttl: Duration) -> Locks {
        Locks::open(self.config(ttl)).expect("connected")
    }

    /// Acquires a lock as a process that dies or loses its network right after.
    pub fn abandon(&self, name: &str, ttl: Duration) -> (Guard, Proxy) {
        let proxy = Proxy::start(&server_of(&self.url));
        let guard = self.through(&proxy.url(&self.url)).locks(ttl).lock(name).expect("taken");
        proxy.set(Mode::Unplugged);
        (guard, proxy)
    }

    /// Takes a lock from its holder, at the server. Returns the reason that the holder must report.
    pub fn rob(&self, name: &str) -> LostReason {
        self.tampered.store(true, Ordering::SeqCst);
        match self.keeps {
            Keeps::Rows => {
                self.tamper("UPDATE {table} SET owner = 'thief'");
                LostReason::Taken
            }
            Keeps::Advisory if self.url.starts_with("postgres") => {
                self.tamper("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())");
                LostReason::Disconnected { last_failure: None }
            }
            Keeps::Advisory => {
                let mut client = mysql_client(&self.url);
                let name = format!("CONCAT('{}', LEFT(SHA2('{name}', 256), 32))", self.prefix());
                let holder = format!("SELECT IS_USED_LOCK({name})");
                let holder: Option<Option<u64>> = client.query_first(holder).expect("asked");
                let holder = holder.flatten().expect("somebody has it");
                client.query_drop(format!("KILL {holder}")).expect("ended");
                LostReason::Disconnected { last_failure: None }
            }
            Keeps::Locked => {
                let (_, holders) = self.connections();
                assert_eq!(holders.len(), 1, "one has it, and nobody waits");
                let kill = format!("KILL {}", holders[0]);
                mysql_client(&self.url).query_drop(kill).expect("ended");
                LostReason::Disconnected { last_failure: None }
            }
            Keeps::Keys => {
                let (server, prefix) = self.url.rsplit_once('/').expect("a prefix");
                let consul = Consul::at(&server.replacen("consul://", "http://", 1));
                consul.rob(&format!("{prefix}/{name}/lock"));
                LostReason::Taken
            }
        }
    }

    /// Has PostgreSQL write down for which `synchronous_commit` grants and renewals commit.
    pub fn log_commits(&self) {
        self.tamper(
            "CREATE TABLE {table}_log (commits text);
             CREATE FUNCTION {table}_see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO {table}_log VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER see AFTER UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW WHEN (NEW.owner IS NOT NULL) EXECUTE FUNCTION {table}_see()",
        );
    }

    /// What was [written down](Self::log_commits) since the last call.
    pub fn logged_commits(&self) -> Vec<String> {
        let taken = format!("DELETE FROM {}_log RETURNING commits", self.table);
        let rows = client(&self.url).query(&taken, &[]).expect("asked");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Runs SQL on the table, past the library; `{table}` is its name.
    pub fn tamper(&self, sql: &str) {
        self.tampered.store(true, Ordering::SeqCst);
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

    /// A text in the URLs of these locks, as drivers tell them, and in no others.
    pub(crate) fn mark(&self) -> String {
        match self.keeps {
            Keeps::Rows if self.url.starts_with("sqlite:") => self.url.clone(),
            Keeps::Advisory if self.url.starts_with('m') => {
                format!("prefix={}", self.table.replacen("locks_", "", 1))
            }
            _ => self.table.clone(),
        }
    }

    /// The test changes the locks past the drivers, for example by an administrator's means.
    pub fn leave_to_others(&self) {
        self.tampered.store(true, Ordering::SeqCst);
    }

    /// Whether the locks were changed past the drivers.
    pub fn is_tampered(&self) -> bool {
        self.tampered.load(Ordering::SeqCst)
    }

    /// The connections to the database at MySQL or MariaDB, and those of them that are in a transaction. The server's
    /// table of transactions would be one from a moment ago.
    pub fn connections(&self) -> (Vec<u64>, Vec<u64>) {
        let mut client = mysql_client(&self.url);
        let text = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
        let all: Vec<u64> = client.query(text).expect("asked");
        let status: Option<(String, String, String)> =
            client.query_first("SHOW ENGINE INNODB STATUS").expect("asked");
        let (_, _, status) = status.expect("a row");
        let active = status.split("---TRANSACTION").skip(1).filter(|one| one.contains(", ACTIVE"));
        let id = |one: &str| one.split("thread id ").nth(1)?.split(',').next()?.parse().ok();
        let active: Vec<u64> = active.filter_map(id).filter(|id| all.contains(id)).collect();
        (all, active)
    }

    /// The prefix of MySQL's and MariaDB's advisory locks.
    fn prefix(&self) -> String {
        format!("{}:", self.table.replacen("locks_", "", 1))
    }
}

/// On a thread of its own: by itself, the client must not be used on a runtime, and a test that fails there would end
/// all others with it.
impl Drop for Own {
    fn drop(&mut self) {
        let Own::Database { server, name } = self else { return };
        let remove = || {
            if server.starts_with('m') {
                return mysql_client(server)
                    .query_drop(format!("DROP DATABASE {name}"))
                    .unwrap_or(());
            }
            if let Ok(mut client) = postgres::Client::connect(server, postgres::NoTls) {
                let _ = client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
            }
        };
        let _ = std::thread::scope(|scope| scope.spawn(remove).join());
    }
}

/// A name that no other test uses.
fn fresh() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("locks_{}_{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

/// A plain client of PostgreSQL.
pub fn client(url: &str) -> postgres::Client {
    postgres::Client::connect(url, postgres::NoTls).expect("connected")
}

/// The URL of a PostgreSQL client whose session has the settings of the drivers' own.
pub fn with_settings(url: &str) -> String {
    let options = lock_core::sql::postgres::session_options(Duration::from_secs(600));
    let options = options.replace(' ', "%20").replace('=', "%3D").replace('\\', "%5C");
    format!("{url}?options={options}")
}

/// A plain client of MySQL or MariaDB.
pub fn mysql_client(url: &str) -> mysql::Conn {
    let url = url.replacen("mariadb://", "mysql://", 1);
    let opts = mysql::Opts::from_url(&url).expect("a good URL");
    let opts = mysql::OptsBuilder::from_opts(opts).prefer_socket(false);
    mysql::Conn::new(opts).expect("connected")
}

/// The URL of the PostgreSQL server for tests.
pub fn postgres_url() -> String {
    server_url("POSTGRES_URL")
}

fn server_url(variable: &str) -> String {
    let missing = |_| panic!("{variable}: tests/run starts a server and sets it");
    std::env::var(variable).unwrap_or_else(missing)
}
