//! The way to the locks for operators.

use super::{Config, Target};
use crate::admin::{Admin, Ask};
use crate::backend::admin::TableAdmin;
use crate::backend::{Handed, Source, nowhere};
use lock_core::config::{ConfigError, Error};
use lock_core::{Timing, sql};
use lock_shared::place::Place;
use lock_shared::settings::Codec;
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
        let Self { target, settings } = self;
        let kind = target.kind();
        let timing = settings.timing(kind)?;
        let named = settings.table.is_some();
        let codec = match settings.codec(kind)? {
            Codec::Table(codec) => codec,
            #[cfg(feature = "consul")]
            Codec::Session(codec) => {
                return consul(target, codec, settings.token, timing.connect()).await;
            }
            _ => return Err(ConfigError::NotShown(settings.protocol(kind)).into()),
        };
        let place = match target {
            #[cfg(feature = "postgres")]
            Target::At(Place::Postgres(server)) => {
                use crate::backend::postgres::{Connects, check};
                check(&server.tls).await?;
                let connects = Connects { server, request: timing.connect(), holder: None };
                open(codec, connects, named, timing).await
            }
            #[cfg(feature = "postgres")]
            Target::PostgresClient(client) => {
                let session = crate::backend::postgres::Postgres::with(*client);
                open(codec, Handed(Some(session)), named, timing).await
            }
            #[cfg(feature = "mysql")]
            Target::At(Place::Mysql(server)) => {
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
            Target::At(Place::Sqlite(path)) => {
                let session = crate::backend::sqlite::Sqlite::look(path).await?;
                open(session.fit(codec), Handed(Some(session)), named, timing).await
            }
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(connection) => {
                let schema = settings.schema();
                let session = crate::backend::sqlite::Sqlite::with(*connection, schema).await?;
                open(codec, Handed(Some(session)), named, timing).await
            }
            #[allow(unreachable_patterns)]
            _ => Err(nowhere()),
        };
        place.map(Admin::with)
    }
}

#[cfg(feature = "consul")]
async fn consul(
    target: Target,
    codec: lock_core::http::consul::Codec,
    token: Option<String>,
    budget: Duration,
) -> Result<Admin, Error> {
    use crate::backend::consul::{ConsulAdmin, Requests};
    // With Consul alone, there is no other.
    #[allow(irrefutable_let_patterns)]
    let Target::At(Place::Consul(server)) = target else { return Err(nowhere()) };
    let requests = Requests::new(codec, server, token).await?;
    Ok(Admin::with(Box::new(ConsulAdmin { requests, budget })))
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
