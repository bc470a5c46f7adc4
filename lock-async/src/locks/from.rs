//! Locks over connections that a function of the caller's makes.

use super::Locks;
use super::open::start;
use crate::backend::Provided;
use crate::{Config, runtime};
use lock_core::config::Error;
use lock_shared::factory::Fault;
use lock_shared::plan::Plan;
use lock_shared::settings::Kind;
use std::future::Future;
use std::ops::Deref;

impl Locks {
    /// Uses PostgreSQL clients that `connect` makes, one at a time, with the settings of `config`, which [names no
    /// place](Config::new). When a client breaks, the function is called again.
    ///
    /// It returns anything that leads to a client: a `Box` of one, or a pool's guard. Nobody else may use that client
    /// meanwhile, so no `Arc` of one that is in use: a lock that is granted inside a transaction of another task's is
    /// undone with it. Each client is used as [with one client](Self::with_postgres), whose settings stay as they are. A
    /// task of yours polls its connection.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use lock_async::{Config, Locks};
    /// use tokio_postgres::{Error, NoTls};
    ///
    /// let connect = || async {
    ///     let (client, connection) = tokio_postgres::connect("host=db user=app", NoTls).await?;
    ///     tokio::spawn(connection);
    ///     Ok::<_, Error>(Box::new(client))
    /// };
    /// let locks = Locks::from_postgres(connect, Config::new()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The function runs on a task of its own, within the time limit of a request. A panic in it is an error. Advisory
    /// locks are refused: a connection might come back to its pool with a lock on it.
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
        start(Plan::supplied(config, Kind::Postgres)?, factory).await
    }

    /// Uses connections to MySQL or MariaDB that `connect` makes, one at a time, with the settings of `config`, which
    /// [names no place](Config::new). When a connection breaks, the function is called again.
    ///
    /// Each connection is used as [with one](Self::with_mysql): its session's settings are changed. It may come from a
    /// `mysql_async::Pool`, to which it does not go back: it is closed in the end.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use lock_async::{Config, Locks};
    ///
    /// let pool = mysql_async::Pool::new("mysql://app@db/app");
    /// let locks = Locks::from_mysql(move || pool.get_conn(), Config::new()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The function runs on a task of its own, within the time limit of a request. A panic in it is an error. Advisory
    /// locks are refused.
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
        start(Plan::supplied(config, Kind::Mysql)?, factory).await
    }

    /// Uses an SQLite connection that `open` opens, with the settings of `config`, which [names no
    /// place](Config::new). When its file was deleted or replaced, the function is called again.
    ///
    /// Each connection is used as [with one](Self::with_sqlite). The function may block: it runs on the thread of the
    /// connection. A panic in it is an error.
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
        let plan = Plan::supplied(config, Kind::Sqlite)?;
        let limit = plan.timing.connect();
        let session = crate::backend::sqlite::Sqlite::made(open, plan.schema(), limit).await?;
        start(plan, Provided(Some(session))).await
    }
}
