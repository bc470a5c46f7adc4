//! Locks over a pool of sqlx's.

use super::Locks;
use super::open::start;
use crate::Config;
use lock_core::config::Error;
use lock_shared::plan::Plan;
use lock_shared::settings::Kind;

/// A pool of sqlx's, for [`Locks::with_sqlx`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SqlxPool {
    /// A pool of connections to PostgreSQL.
    #[cfg(feature = "sqlx-postgres")]
    Postgres(sqlx::PgPool),
    /// A pool of connections to MySQL or MariaDB.
    #[cfg(feature = "sqlx-mysql")]
    Mysql(sqlx::MySqlPool),
}

#[cfg(feature = "sqlx-postgres")]
impl From<sqlx::PgPool> for SqlxPool {
    fn from(pool: sqlx::PgPool) -> Self {
        Self::Postgres(pool)
    }
}

#[cfg(feature = "sqlx-mysql")]
impl From<sqlx::MySqlPool> for SqlxPool {
    fn from(pool: sqlx::MySqlPool) -> Self {
        Self::Mysql(pool)
    }
}

impl Locks {
    /// Uses a pool of sqlx's (a `PgPool` or a `MySqlPool`, of version 0.8), with the settings of `config`, which [names
    /// no place](Config::new).
    ///
    /// A connection is taken from the pool for each statement, and given back after it; no more than one at a time.
    /// Nothing stays on it: no setting, and no prepared statement. Each statement has a transaction of its own, at READ
    /// COMMITTED, whatever the connection's settings are. A connection in doubt is closed. If all connections break,
    /// the pool opens others, and held locks stay held.
    ///
    /// A renewal needs a connection, too. If other tasks have all of the pool's until a lease ends, the lock is
    /// lost. So allow the pool one connection more than tasks take while they hold a lock or wait for one.
    ///
    /// A server notifies waiters about releases, on a connection of their own. A pool has none for that, so waiters
    /// poll, at least once a second. Advisory locks live by a connection, and a pool has none for them, either:
    /// [`open`](Self::open) connects by a URL.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    pub async fn with_sqlx(pool: impl Into<SqlxPool>, config: Config) -> Result<Self, Error> {
        match pool.into() {
            #[cfg(feature = "sqlx-postgres")]
            SqlxPool::Postgres(pool) => start(Plan::supplied(config, Kind::Postgres)?, pool).await,
            #[cfg(feature = "sqlx-mysql")]
            SqlxPool::Mysql(pool) => start(Plan::supplied(config, Kind::Mysql)?, pool).await,
        }
    }
}
