//! Opening an `Admin` by a configuration.

use super::Admin;
use crate::backend::admin::TableAdmin;
use crate::backend::{Provided, Source};
use crate::{Config, runtime};
use lock_core::config::Error;
use lock_shared::place::Place;
use lock_shared::plan::{Plan, unsupported};
use lock_shared::settings::{Codec, Kind};

impl Admin {
    /// Connects to the place that `config` names, with locks in a table or in Consul. A database server and
    /// its table are checked as by [`Locks::open`](crate::Locks::open), but nothing is created: if the
    /// default table does not exist, no lock was ever acquired.
    ///
    /// # Errors
    /// [`Error`]: the configuration, the server or the table cannot be used; a table that was named, or an
    /// SQLite file, does not exist; the locks are advisory, and have no names at the server; or there is no tokio
    /// runtime to run on, as for [`Locks::open`](crate::Locks::open).
    ///
    /// # Cancel safety
    /// Dropping the future ends the connection.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let (place, plan) = Plan::at(config)?;
        runtime::check_for(&place)?;
        crate::events::ignored(&plan);
        let plan = plan.to_look()?;
        match place {
            #[cfg(feature = "postgres")]
            Place::Postgres(server) => {
                use crate::backend::postgres::{Connects, check};
                check(&server.tls).await?;
                let request = plan.timing.connect();
                table(plan, Connects { server, request, holder: None }).await
            }
            #[cfg(feature = "mysql")]
            Place::Mysql(server) => {
                use crate::backend::mysql::{Connects, check};
                let (server, request) = (check(server).await?, plan.timing.connect());
                table(plan, Connects { server, request, holder: None }).await
            }
            #[cfg(feature = "sqlite")]
            Place::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::look(path).await?;
                table(plan.in_file(session.no_log()), Provided(Some(session))).await
            }
            #[cfg(feature = "consul")]
            Place::Consul(server) => consul(plan, server).await,
            #[allow(unreachable_patterns)]
            _ => Err(Place::unknown().into()),
        }
    }

    /// Uses a PostgreSQL client of yours, as [`Locks::with_postgres`](crate::Locks::with_postgres) does.
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
        table(Plan::brought(config, Kind::Postgres)?.to_look()?, Provided(Some(session))).await
    }

    /// Uses a MySQL or MariaDB connection of yours, as [`Locks::with_mysql`](crate::Locks::with_mysql) does.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    #[cfg(feature = "mysql")]
    pub async fn with_mysql(connection: mysql_async::Conn, config: Config) -> Result<Self, Error> {
        let session = crate::backend::mysql::Mysql::with(connection);
        table(Plan::brought(config, Kind::Mysql)?.to_look()?, Provided(Some(session))).await
    }

    /// Uses an SQLite connection of yours, as [`Locks::with_sqlite`](crate::Locks::with_sqlite) does.
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
        let plan = Plan::brought(config, Kind::Sqlite)?.to_look()?;
        let session = crate::backend::sqlite::Sqlite::with(connection, plan.schema()).await?;
        table(plan, Provided(Some(session))).await
    }
}

pub(super) async fn table<S: Source>(plan: Plan, mut source: S) -> Result<Admin, Error> {
    runtime::check()?;
    // No lease limits the time.
    let budget = if S::RECONNECTS { plan.timing.connect() } else { plan.timing.request() };
    let named = plan.is_named();
    let Codec::Table(codec) = plan.codec else { return Err(unsupported()) };
    let session = source.session().ok_or_else(unsupported)?;
    let admin = TableAdmin::open(*codec, session, named, S::TELLS, budget).await?;
    Ok(Admin::with(Box::new(admin)))
}

#[cfg(feature = "consul")]
async fn consul(plan: Plan, server: lock_shared::consul::Server) -> Result<Admin, Error> {
    use crate::backend::consul::{ConsulAdmin, Requests};
    use lock_core::http::consul::Watch;
    let (token, budget) = (plan.token(), plan.timing.connect());
    let Codec::Session(codec) = plan.codec else { return Err(unsupported()) };
    let requests = Requests::new(codec, server, token).await?;
    Ok(Admin::with(Box::new(ConsulAdmin { requests, budget, watch: Watch::default() })))
}
