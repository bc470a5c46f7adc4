//! The way to the locks for operators.

use super::{Codec, Config, Target};
use crate::admin::{Admin, Ask};
use crate::backend::admin::TableAdmin;
use crate::backend::{Handed, Source};
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
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
        allow(unused_variables)
    )]
    pub fn connect_admin(self) -> Result<Admin, Error> {
        let timing = self.timing()?;
        let named = self.table.is_some();
        let codec = match self.codec()? {
            Codec::Table(codec) => codec,
            #[cfg(feature = "consul")]
            Codec::Session(codec) => return self.consul_admin(codec, timing.connect()),
            _ => return Err(ConfigError::NotShown(self.chosen()).into()),
        };
        let place: Result<Box<dyn Ask>, Error> = match self.target {
            #[cfg(feature = "postgres")]
            Target::Postgres { config, tls } => {
                tls.check()?;
                let server = crate::backend::postgres::Server {
                    config,
                    tls,
                    request: timing.connect(),
                    holder: None,
                };
                open(codec, server, named, timing)
            }
            #[cfg(feature = "postgres")]
            Target::PostgresClient(session) => open(codec, Handed(Some(*session)), named, timing),
            #[cfg(feature = "mysql")]
            Target::Mysql(server) => {
                server.check()?;
                let connects = crate::backend::mysql::Connects { server, timing, holder: None };
                open(codec, connects, named, timing)
            }
            #[cfg(feature = "mysql")]
            Target::MysqlConnection(connection) => {
                let session = crate::backend::mysql::Mysql::with(*connection);
                open(codec, Handed(Some(session)), named, timing)
            }
            #[cfg(feature = "sqlite")]
            Target::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::look(&path)?;
                open(session.fit(codec), Handed(Some(session)), named, timing)
            }
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(connection) => {
                let session = {
                    let schema = super::schema(self.table.as_ref());
                    crate::backend::sqlite::Sqlite::with(*connection, schema)?
                };
                open(codec, Handed(Some(session)), named, timing)
            }
            #[cfg(feature = "consul")]
            Target::Consul(_) => Err(no_way()),
        };
        place.map(Admin::with)
    }

    #[cfg(feature = "consul")]
    #[allow(clippy::infallible_destructuring_match)] // With Consul alone.
    fn consul_admin(
        self,
        codec: lock_core::http::consul::Codec,
        budget: Duration,
    ) -> Result<Admin, Error> {
        use crate::backend::consul::{ConsulAdmin, Requests};
        let server = match &self.target {
            Target::Consul(server) => server,
            #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
            _ => return Err(no_way()),
        };
        let requests = Requests::new(codec, server, self.token)?;
        Ok(Admin::with(Box::new(ConsulAdmin { requests, budget })))
    }
}

fn open<S: Source>(
    codec: sql::Codec,
    mut source: S,
    named: bool,
    timing: Timing,
) -> Result<Box<dyn Ask>, Error> {
    // No lease hurries.
    let budget = if S::RECONNECTS { timing.connect() } else { timing.request() };
    let session = source.session(false).ok_or_else(no_way)?;
    Ok(Box::new(TableAdmin::open(codec, session, named, budget)?))
}

/// A codec of another server's. [`Config`] makes none.
fn no_way() -> Error {
    ConfigError::System("there is no way to the server".to_string()).into()
}
