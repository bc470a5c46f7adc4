//! An `Admin` over connections that a function of the caller's makes.

use super::Admin;
use super::open::table;
use crate::Config;
use crate::backend::Provided;
use crate::backend::factory::Factory;
use lock_core::config::Error;
use lock_shared::factory::Fault;
use lock_shared::plan::Plan;
use lock_shared::settings::Kind;
use std::ops::DerefMut;

impl Admin {
    /// Uses PostgreSQL clients that `connect` makes, one at a time, as
    /// [`Locks::from_postgres`](crate::Locks::from_postgres) does. When a client breaks, the next call makes another.
    ///
    /// ```no_run
    /// use lock_sync::{Admin, Config};
    /// use postgres::{Client, NoTls};
    ///
    /// let connect = || Client::connect("host=db user=app", NoTls).map(Box::new);
    /// let mut admin = Admin::from_postgres(connect, Config::new())?;
    /// println!("{} locks are held", admin.list()?.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    #[cfg(feature = "postgres")]
    pub fn from_postgres<C, E>(
        connect: impl Fn() -> Result<C, E> + Send + Sync + 'static,
        config: Config,
    ) -> Result<Self, Error>
    where
        C: DerefMut<Target = postgres::Client> + Send + 'static,
        E: Into<Fault>,
    {
        use crate::backend::postgres::Held;
        let factory = Factory::new(connect, |client: C| Box::new(client) as Held);
        table(Plan::supplied(config, Kind::Postgres)?.to_look()?, factory)
    }

    /// Uses connections to MySQL or MariaDB that `connect` makes, one at a time, as
    /// [`Locks::from_mysql`](crate::Locks::from_mysql) does. When a connection breaks, the next call makes another.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    #[cfg(feature = "mysql")]
    pub fn from_mysql<E: Into<Fault>>(
        connect: impl Fn() -> Result<mysql::Conn, E> + Send + Sync + 'static,
        config: Config,
    ) -> Result<Self, Error> {
        let factory = Factory::new(connect, |connection| connection);
        table(Plan::supplied(config, Kind::Mysql)?.to_look()?, factory)
    }

    /// Uses an SQLite connection that `open` opens, as [`Locks::from_sqlite`](crate::Locks::from_sqlite) does. When its
    /// file was deleted or replaced, the next call opens another.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    #[cfg(feature = "sqlite")]
    pub fn from_sqlite<E: Into<Fault>>(
        open: impl Fn() -> Result<rusqlite::Connection, E> + Send + Sync + 'static,
        config: Config,
    ) -> Result<Self, Error> {
        let plan = Plan::supplied(config, Kind::Sqlite)?.to_look()?;
        let factory = Factory::new(open, |connection| connection);
        let session = crate::backend::sqlite::Sqlite::made(factory, plan.schema());
        table(plan, Provided(Some(session)))
    }
}
