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
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
        allow(unused_variables)
    )]
    pub fn connect_admin(self) -> Result<Admin, Error> {
        let Self { target, settings } = self;
        let kind = target.kind();
        let timing = settings.timing(kind)?;
        let named = settings.table.is_some();
        let codec = match settings.codec(kind)? {
            Codec::Table(codec) => codec,
            #[cfg(feature = "consul")]
            Codec::Session(codec) => {
                return consul(target, codec, settings.token, timing.connect());
            }
            _ => return Err(ConfigError::NotShown(settings.protocol(kind)).into()),
        };
        let place: Result<Box<dyn Ask>, Error> = match target {
            #[cfg(feature = "postgres")]
            Target::At(Place::Postgres(server)) => {
                server.tls.check()?;
                let request = timing.connect();
                let connects = crate::backend::postgres::Connects { server, request, holder: None };
                open(codec, connects, named, timing)
            }
            #[cfg(feature = "postgres")]
            Target::PostgresClient(session) => open(codec, Handed(Some(*session)), named, timing),
            #[cfg(feature = "mysql")]
            Target::At(Place::Mysql(server)) => {
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
            Target::At(Place::Sqlite(path)) => {
                let session = crate::backend::sqlite::Sqlite::look(&path)?;
                open(session.fit(codec), Handed(Some(session)), named, timing)
            }
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(connection) => {
                let session = {
                    let schema = settings.schema();
                    crate::backend::sqlite::Sqlite::with(*connection, schema)?
                };
                open(codec, Handed(Some(session)), named, timing)
            }
            #[allow(unreachable_patterns)]
            _ => Err(nowhere()),
        };
        place.map(Admin::with)
    }
}

#[cfg(feature = "consul")]
fn consul(
    target: Target,
    codec: lock_core::http::consul::Codec,
    token: Option<String>,
    budget: Duration,
) -> Result<Admin, Error> {
    use crate::backend::consul::{ConsulAdmin, Requests};
    // With Consul alone, there is no other.
    #[allow(irrefutable_let_patterns)]
    let Target::At(Place::Consul(server)) = target else { return Err(nowhere()) };
    let requests = Requests::new(codec, &server, token)?;
    Ok(Admin::with(Box::new(ConsulAdmin { requests, budget })))
}

fn open<S: Source>(
    codec: sql::Codec,
    mut source: S,
    named: bool,
    timing: Timing,
) -> Result<Box<dyn Ask>, Error> {
    // No lease hurries.
    let budget = if S::RECONNECTS { timing.connect() } else { timing.request() };
    let session = source.session(false).ok_or_else(nowhere)?;
    Ok(Box::new(TableAdmin::open(codec, session, named, budget)?))
}
