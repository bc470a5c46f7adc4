//! Locks over connections that a function of the caller's makes.

use super::Locks;
use super::open::start;
use crate::Config;
use crate::backend::Provided;
use crate::backend::factory::Factory;
use lock_core::config::Error;
use lock_shared::factory::Fault;
use lock_shared::plan::Plan;
use lock_shared::settings::Kind;
use std::ops::DerefMut;

impl Locks {
    /// Uses PostgreSQL clients that `connect` makes, one at a time, with the settings of `config`, which [names no
    /// place](Config::new). When a client breaks, the function is called again.
    ///
    /// It returns anything that leads to a client: a `Box` of one, or a pool's guard. Nobody else may use that client
    /// meanwhile: a lock that is granted inside a transaction of somebody else's is undone with it. Each client is used as
    /// [with one client](Self::with_postgres), whose settings stay as they are, and which needs limits for a server that falls silent.
    ///
    /// ```no_run
    /// use lock_sync::{Config, Locks};
    /// use postgres::{Client, NoTls};
    ///
    /// let connect = || Client::connect("host=db user=app", NoTls).map(Box::new);
    /// let locks = Locks::from_postgres(connect, Config::new())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The function runs on a thread of its own. If it takes longer than a request may, it is left behind, and its
    /// result is used when it comes. A panic in it is an error. Advisory locks are refused: a connection might come back
    /// to its pool with a lock on it.
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
        start(Plan::supplied(config, Kind::Postgres)?, factory)
    }

    /// Uses connections to MySQL or MariaDB that `connect` makes, one at a time, with the settings of `config`, which
    /// [names no place](Config::new). When a connection breaks, the function is called again.
    ///
    /// Each connection is used as [with one](Self::with_mysql): it needs a read timeout, without which a server that falls
    /// silent keeps a release waiting without a bound, and its session's settings are changed. One of a pool must leave the pool first (`mysql::PooledConn::unwrap`).
    ///
    /// ```no_run
    /// use lock_sync::{Config, Locks};
    /// use mysql::{Opts, OptsBuilder, Pool, PooledConn};
    /// use std::time::Duration;
    ///
    /// // A URL cannot have it.
    /// let options = OptsBuilder::from_opts(Opts::from_url("mysql://app@db/app")?)
    ///     .read_timeout(Some(Duration::from_secs(5)));
    /// let pool = Pool::new(options)?;
    /// let locks = Locks::from_mysql(move || pool.get_conn().map(PooledConn::unwrap), Config::new())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The function runs on a thread of its own. If it takes longer than a request may, it is left behind, and its
    /// result is used when it comes. A panic in it is an error. Advisory locks are refused.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    #[cfg(feature = "mysql")]
    pub fn from_mysql<E: Into<Fault>>(
        connect: impl Fn() -> Result<mysql::Conn, E> + Send + Sync + 'static,
        config: Config,
    ) -> Result<Self, Error> {
        let factory = Factory::new(connect, |connection| connection);
        start(Plan::supplied(config, Kind::Mysql)?, factory)
    }

    /// Uses an SQLite connection that `open` opens, with the settings of `config`, which [names no
    /// place](Config::new). When its file was deleted or replaced, the function is called again.
    ///
    /// Each connection is used as [with one](Self::with_sqlite). The function runs on a thread of its own. A panic in it
    /// is an error.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open); [`Error::Unavailable`] with the function's error.
    #[cfg(feature = "sqlite")]
    pub fn from_sqlite<E: Into<Fault>>(
        open: impl Fn() -> Result<rusqlite::Connection, E> + Send + Sync + 'static,
        config: Config,
    ) -> Result<Self, Error> {
        let plan = Plan::supplied(config, Kind::Sqlite)?;
        let factory = Factory::new(open, |connection| connection);
        let session = crate::backend::sqlite::Sqlite::made(factory, plan.schema());
        start(plan, Provided(Some(session)))
    }
}
