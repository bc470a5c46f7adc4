//! Opening `Locks` by a configuration.

use super::Locks;
use crate::Config;
use crate::backend::sql::Connections;
use crate::backend::{Backends, Provided, Source};
use crate::driver::Driver;
use lock_core::config::{ConfigError, Error};
use lock_shared::check::Check;
use lock_shared::pin::Pins;
use lock_shared::place::Place;
use lock_shared::plan::{Plan, unsupported};
use lock_shared::settings::{Codec, Kind};
use std::sync::Arc;

impl Locks {
    /// Connects to the place that `config` names, and checks that locks are safe there: the server, its
    /// settings and the table. A missing table is created. Whether the account may write to it, the first acquire tells.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let url = format!("sqlite:{}/locks.db?table=jobs", folder.path().display());
    /// use lock_sync::{Config, Locks};
    /// use std::time::Duration;
    ///
    /// let config: Config = url.parse()?;
    /// let locks = Locks::open(config.ttl(Duration::from_secs(10)).label("nightly"))?;
    /// let guard = locks.lock("report")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`]: the configuration, the server or the table cannot be used.
    pub fn open(config: Config) -> Result<Self, Error> {
        let (place, plan) = Plan::at(config)?;
        crate::events::ignored(&plan);
        match place {
            #[cfg(feature = "postgres")]
            Place::Postgres(server) => {
                server.tls.check()?;
                let (request, holder) = (plan.timing.request(), plan.holder());
                start(plan, crate::backend::postgres::Connects { server, request, holder })
            }
            #[cfg(feature = "mysql")]
            Place::Mysql(server) => {
                server.check()?;
                let (timing, holder) = (plan.timing, plan.holder());
                start(plan, crate::backend::mysql::Connects { server, timing, holder })
            }
            #[cfg(feature = "sqlite")]
            Place::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::open(&path)?;
                start(plan.in_file(session.no_log()), Provided(Some(session)))
            }
            #[cfg(feature = "consul")]
            Place::Consul(server) => consul(&plan, server),
            #[allow(unreachable_patterns)]
            _ => Err(Place::unknown().into()),
        }
    }

    /// Uses a PostgreSQL client of yours, with the settings of `config`, which [names no place](Config::new).
    ///
    /// The client's settings are yours, and stay as they are; it may be one of a pool, or go through a pooler. Its
    /// statements must commit by themselves. Each of them carries the settings that matter, and none is prepared. With
    /// the settings of [`session_options`](lock_core::sql::postgres::session_options), which our own connections have,
    /// statements are prepared, and end at the server when we have given them up. If
    /// the connection breaks, locks that are held are lost at their deadline, and new ones are refused;
    /// [`from_postgres`](Self::from_postgres) takes a function that makes another.
    ///
    /// While a server is silent, a call over a client of yours waits until the system gives the connection up, also a release:
    /// the client knows no limit for one answer. Give it `tcp_user_timeout` and `keepalives`. Losses are told by their
    /// deadlines all the same.
    ///
    /// A server notifies waiters about releases, on a second connection. A client of yours has no second
    /// connection, so waiters poll, at least once a second.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    #[cfg(feature = "postgres")]
    pub fn with_postgres(client: postgres::Client, config: Config) -> Result<Self, Error> {
        // First of all: by itself, a client must not be dropped on a runtime.
        let session = crate::backend::postgres::Postgres::with(client);
        start(Plan::brought(config, Kind::Postgres)?, Provided(Some(session)))
    }

    /// Uses a MySQL or MariaDB connection of yours, with the settings of `config`, which [names no
    /// place](Config::new).
    ///
    /// The connection needs a chosen database and a read timeout, and must not be inside a transaction. Its
    /// session's settings are changed to those that locks need. If the connection breaks, locks that are held
    /// are lost at their deadline, and new ones are refused; [`from_mysql`](Self::from_mysql) takes a function that makes
    /// another.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    #[cfg(feature = "mysql")]
    pub fn with_mysql(connection: mysql::Conn, config: Config) -> Result<Self, Error> {
        let session = crate::backend::mysql::Mysql::with(connection);
        start(Plan::brought(config, Kind::Mysql)?, Provided(Some(session)))
    }

    /// Uses an SQLite connection of yours, with the settings of `config`, which [names no
    /// place](Config::new).
    ///
    /// The connection must not be inside a transaction. One that keeps no journal on the disk (`journal_mode` `OFF` or
    /// `MEMORY`), keeps the file to itself (`locking_mode` `EXCLUSIVE`) or may only read is refused. Its other settings stay
    /// as they are, but for `synchronous`, its busy timeout, and the journal of a file that has no lock table yet. Its temporary
    /// tables are not looked at.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    #[cfg(feature = "sqlite")]
    pub fn with_sqlite(connection: rusqlite::Connection, config: Config) -> Result<Self, Error> {
        let plan = Plan::brought(config, Kind::Sqlite)?;
        let session = crate::backend::sqlite::Sqlite::with(connection, plan.schema())?;
        start(plan, Provided(Some(session)))
    }
}

/// Starts a driver whose connections are opened as they are needed: the first one now, unless the plan is lazy.
pub(super) fn start<S: Source>(plan: Plan, source: S) -> Result<Locks, Error> {
    let flow = plan.flow().ok_or_else(unsupported)?;
    let (check, pins) = (plan.check(), Pins::default());
    let connections = Connections::new(flow, source, plan.timing, check.clone(), pins.clone());
    drive(&plan, connections, check, pins)
}

#[cfg(feature = "consul")]
fn consul(plan: &Plan, server: lock_shared::consul::Server) -> Result<Locks, Error> {
    use crate::backend::consul::Agents;
    let Codec::Session(codec) = &plan.codec else { return Err(unsupported()) };
    let (check, pins) = (plan.check(), Pins::of_keys(codec.clone()));
    let agents = Agents::new(codec.clone(), server, plan, check.clone())?;
    drive(plan, agents, check, pins)
}

fn drive(
    plan: &Plan,
    mut backends: impl Backends,
    check: Check,
    pins: Pins,
) -> Result<Locks, Error> {
    let system =
        |error: std::io::Error| ConfigError::System(format!("it cannot start a thread: {error}"));
    let reached = if plan.is_lazy() { None } else { Some(backends.connect()?) };
    let engine = plan.engine(reached);
    let driver = Driver::start(engine, Box::new(backends), plan.within()).map_err(system)?;
    Ok(Locks::with(Arc::new(driver), check).kept_in(pins))
}
