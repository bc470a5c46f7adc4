//! An `Admin` over a pool of sqlx's.

use super::Admin;
use super::open::table;
use crate::{Config, SqlxPool};
use lock_core::config::Error;
use lock_shared::plan::Plan;
use lock_shared::settings::Kind;

impl Admin {
    /// Uses a pool of sqlx's, as [`Locks::with_sqlx`](crate::Locks::with_sqlx) does: a connection is taken from it for each
    /// statement, and given back after it.
    ///
    /// # Errors
    /// [`Error`] as for [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    pub async fn with_sqlx(pool: impl Into<SqlxPool>, config: Config) -> Result<Self, Error> {
        match pool.into() {
            #[cfg(feature = "sqlx-postgres")]
            SqlxPool::Postgres(pool) => {
                table(Plan::supplied(config, Kind::Postgres)?.to_look()?, pool).await
            }
            #[cfg(feature = "sqlx-mysql")]
            SqlxPool::Mysql(pool) => {
                table(Plan::supplied(config, Kind::Mysql)?.to_look()?, pool).await
            }
        }
    }
}
