//! An `Admin` over connections that a function of the caller's makes.

use super::Admin;
use super::open::table;
use crate::backend::Provided;
use crate::{Config, runtime};
use lock_core::config::Error;
use lock_shared::factory::Fault;
use lock_shared::plan::Plan;
use lock_shared::settings::Kind;
use std::future::Future;
use std::ops::Deref;

impl Admin {
    /// Uses PostgreSQL clients that `connect` makes, one at a time, as
    /// [`Locks::from_postgres`](crate::Locks::from_postgres) does. When a client breaks, the next call makes another.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    #[cfg(feature = "postgres")]
    pub async fn from_postgres<C, E, F>(
        connect: impl Fn() -> F + Send + Sync + 'static,
        config: Config,
    ) -> Result<Self, Error>
    where
        F: Future<Output = Result<C, E>> + Send + 'static,
        C: Deref<Target = tokio_postgres::Client> + Send + 'static,
        E: Into<Fault> + 'static,
    {
        use crate::backend::factory::Factory;
        use crate::backend::postgres::Held;
        let factory = Factory::new(connect, |client: C| Box::new(client) as Held);
        table(Plan::supplied(config, Kind::Postgres)?.to_look()?, factory).await
    }

    /// Uses connections to MySQL or MariaDB that `connect` makes, one at a time, as
    /// [`Locks::from_mysql`](crate::Locks::from_mysql) does. When a connection breaks, the next call makes another.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use lock_async::{Admin, Config};
    ///
    /// let pool = mysql_async::Pool::new("mysql://app@db/app");
    /// let mut admin = Admin::from_mysql(move || pool.get_conn(), Config::new()).await?;
    /// println!("{} locks are held", admin.list().await?.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    #[cfg(feature = "mysql")]
    pub async fn from_mysql<E, F>(
        connect: impl Fn() -> F + Send + Sync + 'static,
        config: Config,
    ) -> Result<Self, Error>
    where
        F: Future<Output = Result<mysql_async::Conn, E>> + Send + 'static,
        E: Into<Fault> + 'static,
    {
        let factory = crate::backend::factory::Factory::new(connect, |connection| connection);
        table(Plan::supplied(config, Kind::Mysql)?.to_look()?, factory).await
    }

    /// Uses an SQLite connection that `open` opens, as [`Locks::from_sqlite`](crate::Locks::from_sqlite) does. When its
    /// file was deleted or replaced, the next call opens another.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    #[cfg(feature = "sqlite")]
    pub async fn from_sqlite<E: Into<Fault>>(
        open: impl Fn() -> Result<rusqlite::Connection, E> + Send + 'static,
        config: Config,
    ) -> Result<Self, Error> {
        runtime::check()?;
        let plan = Plan::supplied(config, Kind::Sqlite)?.to_look()?;
        let limit = plan.timing.connect();
        let session = crate::backend::sqlite::Sqlite::made(open, plan.schema(), limit).await?;
        table(plan, Provided(Some(session))).await
    }
}
