//! The way to the locks for operators.

use super::{Config, Target};
use crate::admin::{Admin, Ask};
use crate::backend::admin::TableAdmin;
use crate::error::Error;

impl Config {
    /// Connects for looking at locks and freeing them by hand. The server and the table are checked
    /// as by [`connect`](Self::connect).
    ///
    /// # Errors
    /// [`Error`]: the configuration, the server or the table cannot be used.
    pub fn connect_admin(self) -> Result<Admin, Error> {
        let (codec, budget) = (self.codec()?, self.timing()?.request());
        let place: Box<dyn Ask> = match self.target {
            #[cfg(feature = "postgres")]
            Target::Postgres { config, tls } => {
                crate::backend::postgres::not_async()?;
                tls.check()?;
                let session = crate::backend::postgres::Postgres::new(*config, tls, budget);
                Box::new(TableAdmin::open(codec, session, budget)?)
            }
            #[cfg(feature = "postgres")]
            Target::PostgresClient(client) => {
                crate::backend::postgres::not_async()?;
                let session = crate::backend::postgres::Postgres::with(*client);
                Box::new(TableAdmin::open(codec, session, budget)?)
            }
            #[cfg(feature = "mysql")]
            Target::Mysql(server) => {
                server.check()?;
                let session = crate::backend::mysql::Mysql::new(server, budget);
                Box::new(TableAdmin::open(codec, session, budget)?)
            }
            #[cfg(feature = "mysql")]
            Target::MysqlConnection(connection) => {
                let session = crate::backend::mysql::Mysql::with(*connection);
                Box::new(TableAdmin::open(codec, session, budget)?)
            }
            #[cfg(feature = "sqlite")]
            Target::Sqlite(path) => {
                let session = crate::backend::sqlite::Sqlite::open(&path)?;
                Box::new(TableAdmin::open(codec, session, budget)?)
            }
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(connection) => {
                let session = crate::backend::sqlite::Sqlite::with(*connection);
                Box::new(TableAdmin::open(codec, session, budget)?)
            }
        };
        Ok(Admin::with(place))
    }
}
