//! The way to the locks for operators.

use super::{Codec, Config, Target};
use crate::admin::{Admin, Ask};
use crate::backend::admin::TableAdmin;
use crate::backend::{Handed, Source, nowhere};
use crate::error::{ConfigError, Error};
use lock_core::{Timing, sql};
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
        let named = self.table.is_some();
        let codec = match self.codec()? {
            Codec::Table(codec) => codec,
            #[cfg(feature = "consul")]
            Codec::Session(codec) => return self.consul_admin(codec, timing.connect()).await,
            _ => return Err(ConfigError::NotShown(self.chosen()).into()),
        };
        let place = match self.target {
            #[cfg(feature = "postgres")]
            Target::Postgres { config, tls } => {
                use crate::backend::postgres::{Server, check};
                check(&tls).await?;
                let server = Server { config, tls, request: timing.connect(), holder: None };
                open(codec, server, named, timing).await
            }
            #[cfg(feature = "postgres")]
            Target::PostgresClient(client) => {
                let session = crate::backend::postgres::Postgres::with(*client);
                open(codec, Handed(Some(session)), named, timing).await
            }
            #[cfg(feature = "mysql")]
            Target::Mysql(server) => {
                use crate::backend::mysql::{Connects, check};
                let server = check(server).await?;
                open(
                    codec,
                    Connects { server, request: timing.connect(), holder: None },
                    named,
                    timing,
                )
                .await
            }
            #[cfg(feature = "mysql")]
            Target::MysqlConnection(connection) => {
                let session = crate::backend::mysql::Mysql::with(*connection);
                open(codec, Handed(Some(session)), named, timing).await
            }
            #[cfg(feature = "sqlite")]
            Target::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::look(path).await?;
                open(session.fit(codec), Handed(Some(session)), named, timing).await
            }
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(connection) => {
                let schema = super::schema(self.table.as_ref());
                let session = crate::backend::sqlite::Sqlite::with(*connection, schema).await?;
                open(codec, Handed(Some(session)), named, timing).await
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

async fn open<S: Source>(
    codec: sql::Codec,
    mut source: S,
    named: bool,
    timing: Timing,
) -> Result<Box<dyn Ask>, Error> {
    // No lease hurries.
    let budget = if S::RECONNECTS { timing.connect() } else { timing.request() };
    let session = source.session().ok_or_else(nowhere)?;
    Ok(Box::new(TableAdmin::open(codec, session, named, budget).await?))
}
