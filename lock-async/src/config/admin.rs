//! The way to the locks for operators.

use super::{Codec, Config, Target};
use crate::admin::{Admin, Ask};
use crate::backend::admin::TableAdmin;
use crate::backend::{Handed, Source, nowhere};
use crate::error::{ConfigError, Error};
use lock_core::sql;
use std::time::Duration;

impl Config {
    /// Connects for looking at locks and freeing them by hand: at those in a table, or in Consul. A
    /// database server and its table are checked as by [`connect`](Self::connect), but nothing is created:
    /// where the default table does not exist, no lock was ever taken.
    ///
    /// # Errors
    /// [`Error`]: the configuration, the server or the table cannot be used; or a table that was named, or an
    /// SQLite file, does not exist; or they are advisory locks, which do not tell their names.
    ///
    /// # Cancel safety
    /// Dropping the future ends the connection.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
        allow(unused_variables)
    )]
    pub async fn connect_admin(self) -> Result<Admin, Error> {
        tokio::runtime::Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        let timing = self.timing()?;
        let (budget, named) = (timing.request(), self.table.is_some());
        let codec = match self.codec()? {
            Codec::Table(codec) => codec,
            #[cfg(feature = "consul")]
            Codec::Session(codec) => return self.consul_admin(codec, budget).await,
            _ => return Err(ConfigError::NotShown(self.chosen()).into()),
        };
        let place = match self.target {
            #[cfg(feature = "postgres")]
            Target::Postgres { config, tls } => {
                use crate::backend::postgres::{Server, check};
                check(&tls).await?;
                let server = Server { config, tls, request: budget, holder: None };
                open(codec, server, named, budget).await
            }
            #[cfg(feature = "postgres")]
            Target::PostgresClient(client) => {
                let session = crate::backend::postgres::Postgres::with(*client);
                open(codec, Handed(Some(session)), named, budget).await
            }
            #[cfg(feature = "mysql")]
            Target::Mysql(server) => {
                use crate::backend::mysql::{Connects, check};
                let server = check(server).await?;
                open(codec, Connects { server, request: budget, holder: None }, named, budget).await
            }
            #[cfg(feature = "mysql")]
            Target::MysqlConnection(connection) => {
                let session = crate::backend::mysql::Mysql::with(*connection);
                open(codec, Handed(Some(session)), named, budget).await
            }
            #[cfg(feature = "sqlite")]
            Target::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::look(path).await?;
                open(session.fit(codec), Handed(Some(session)), named, budget).await
            }
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(connection) => {
                let schema = super::schema(self.table.as_ref());
                let session = crate::backend::sqlite::Sqlite::with(*connection, schema).await?;
                open(codec, Handed(Some(session)), named, budget).await
            }
            #[cfg(feature = "consul")]
            Target::Consul(_) => Err(nowhere()),
        };
        place.map(Admin::with)
    }

    #[cfg(feature = "consul")]
    #[allow(clippy::infallible_destructuring_match)] // With Consul alone.
    async fn consul_admin(
        self,
        codec: lock_core::http::consul::Codec,
        budget: Duration,
    ) -> Result<Admin, Error> {
        use crate::backend::consul::{ConsulAdmin, Requests};
        let server = match self.target {
            Target::Consul(server) => server,
            #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
            _ => return Err(nowhere()),
        };
        let requests = Requests::new(codec, server, self.token).await?;
        Ok(Admin::with(Box::new(ConsulAdmin { requests, budget })))
    }
}

async fn open(
    codec: sql::Codec,
    mut source: impl Source,
    named: bool,
    budget: Duration,
) -> Result<Box<dyn Ask>, Error> {
    let session = source.session().ok_or_else(nowhere)?;
    Ok(Box::new(TableAdmin::open(codec, session, named, budget).await?))
}
