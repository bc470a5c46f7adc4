//! Opening `Locks` by a configuration.

use super::Locks;
use crate::backend::sql::Connections;
use crate::backend::{Backends, Provided, Source};
use crate::driver::Driver;
use crate::{Config, runtime};
use lock_core::config::Error;
use lock_shared::check::Check;
use lock_shared::pin::Pins;
use lock_shared::place::Place;
use lock_shared::plan::{Plan, unsupported};
use lock_shared::settings::{Codec, Kind};

impl Locks {
    /// Connects to the place that `config` names, and checks that locks are safe there: the server, its
    /// settings and the table. A missing table is created. Whether the account may write to it, the first acquire tells.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let url = format!("sqlite:{}/locks.db?table=jobs", folder.path().display());
    /// use lock_async::{Config, Locks};
    /// use std::time::Duration;
    ///
    /// let config: Config = url.parse()?;
    /// let locks = Locks::open(config.ttl(Duration::from_secs(10)).label("nightly")).await?;
    /// let guard = locks.lock("report").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error`]: the configuration, the server or the table cannot be used, or there is no tokio
    /// runtime to run on. It needs a timer, and I/O for a server that a URL names: build it with `enable_all`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the connection. A table that was missing may have been created, and
    /// a session in Consul, without locks, lives for up to two TTLs.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let (place, plan) = Plan::at(config)?;
        runtime::check_for(&place)?;
        crate::events::ignored(&plan);
        match place {
            #[cfg(feature = "postgres")]
            Place::Postgres(server) => {
                use crate::backend::postgres::{Connects, check};
                check(&server.tls).await?;
                let (request, holder) = (plan.timing.request(), plan.holder());
                start(plan, Connects { server, request, holder }).await
            }
            #[cfg(feature = "mysql")]
            Place::Mysql(server) => {
                use crate::backend::mysql::{Connects, check};
                let server = check(server).await?;
                let (request, holder) = (plan.timing.request(), plan.holder());
                start(plan, Connects { server, request, holder }).await
            }
            #[cfg(feature = "sqlite")]
            Place::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::open(path).await?;
                start(plan.in_file(session.no_log()), Provided(Some(session))).await
            }
            #[cfg(feature = "consul")]
            Place::Consul(server) => consul(&plan, server).await,
            #[allow(unreachable_patterns)]
            _ => Err(Place::unknown().into()),
        }
    }

    /// Uses a PostgreSQL client of yours, with the settings of `config`, which [names no place](Config::new).
    ///
    /// The client's settings are yours, and stay as they are; it may be one of a pool, or go through a pooler. Its
    /// statements must commit by themselves. Each of them carries the settings that matter, and none is prepared. With
    /// the settings of [`session_options`](lock_core::sql::postgres::session_options), which our own connections have,
    /// statements are prepared, and end at the server when we have given them up. A
    /// task of yours polls the client's connection. If the connection breaks, or an answer does not come in
    /// time, locks that are held are lost at their deadline, and new ones are refused; [`from_postgres`](Self::from_postgres)
    /// takes a function that makes another.
    ///
    /// A server notifies waiters about releases, on a second connection. A client of yours has no second
    /// connection, so waiters poll, at least once a second.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    #[cfg(feature = "postgres")]
    pub async fn with_postgres(
        client: tokio_postgres::Client,
        config: Config,
    ) -> Result<Self, Error> {
        let session = crate::backend::postgres::Postgres::with(client);
        start(Plan::brought(config, Kind::Postgres)?, Provided(Some(session))).await
    }

    /// Uses a MySQL or MariaDB connection of yours, with the settings of `config`, which [names no
    /// place](Config::new).
    ///
    /// The connection needs a chosen database, must not be inside a transaction, and must not come from a
    /// pool. Its session's settings are changed to those that locks need. If the connection breaks, or an
    /// answer does not come in time, locks that are held are lost at their deadline, and new ones are
    /// refused; [`from_mysql`](Self::from_mysql) takes a function that makes another.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    #[cfg(feature = "mysql")]
    pub async fn with_mysql(connection: mysql_async::Conn, config: Config) -> Result<Self, Error> {
        let session = crate::backend::mysql::Mysql::with(connection);
        start(Plan::brought(config, Kind::Mysql)?, Provided(Some(session))).await
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
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    #[cfg(feature = "sqlite")]
    pub async fn with_sqlite(
        connection: rusqlite::Connection,
        config: Config,
    ) -> Result<Self, Error> {
        runtime::check()?;
        let plan = Plan::brought(config, Kind::Sqlite)?;
        let session = crate::backend::sqlite::Sqlite::with(connection, plan.schema()).await?;
        start(plan, Provided(Some(session))).await
    }
}

/// Starts a driver whose connections are opened as they are needed: the first one now, unless the plan is lazy.
pub(super) async fn start<S: Source>(plan: Plan, source: S) -> Result<Locks, Error> {
    runtime::check()?;
    let flow = plan.flow().ok_or_else(unsupported)?;
    let (check, pins) = (plan.check(), Pins::default());
    let connections = Connections::new(flow, source, plan.timing, check.clone(), pins.clone());
    drive(&plan, connections, check, pins).await
}

#[cfg(feature = "consul")]
async fn consul(plan: &Plan, server: lock_shared::consul::Server) -> Result<Locks, Error> {
    use crate::backend::consul::{Agents, Requests};
    let Codec::Session(codec) = &plan.codec else { return Err(unsupported()) };
    let (check, pins) = (plan.check(), Pins::of_keys(codec.clone()));
    let requests = Requests::new(codec.clone(), server, plan.token()).await?;
    drive(plan, Agents::new(requests, plan, check.clone()), check, pins).await
}

async fn drive<F: Backends>(
    plan: &Plan,
    mut backends: F,
    check: Check,
    pins: Pins,
) -> Result<Locks, Error> {
    let reached = if plan.is_lazy() { None } else { Some(backends.connect().await?) };
    let driver = Driver::start(plan.engine(reached), backends, plan.within());
    Ok(Locks::with(driver, check).kept_in(pins))
}
