//! Pins of a lock, in a transaction of each client.

use lock_core::PinError;
use lock_shared::pin::Pin;
use std::future::Future;

/// A transaction in which a lock can be [pinned](crate::Guard::pin).
///
/// With the feature of its database, each of these is one: `tokio_postgres::Transaction`, `mysql_async::Transaction`,
/// `rusqlite::Transaction`, and sqlx's `Transaction` of PostgreSQL and of MySQL. For another client, there is
/// [`Guard::pin_statement`](crate::Guard::pin_statement).
pub trait PinTransaction: sealed::Sealed {
    /// The client's error.
    type Error;

    #[doc(hidden)]
    fn pin<'a>(
        &'a mut self,
        pin: Pin<'a>,
    ) -> impl Future<Output = Result<(), PinError<Self::Error>>> + Send + 'a;
}

mod sealed {
    pub trait Sealed {}
}

#[cfg(feature = "postgres")]
impl sealed::Sealed for tokio_postgres::Transaction<'_> {}

#[cfg(feature = "postgres")]
impl PinTransaction for tokio_postgres::Transaction<'_> {
    type Error = tokio_postgres::Error;

    async fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<tokio_postgres::Error>> {
        let statement = pin.on_postgres()?;
        let params = lock_shared::postgres::pin_params(&statement);
        let row = self.query_typed(&statement.text, &params).await.map_err(PinError::Client)?;
        PinError::unless(!row.is_empty())
    }
}

#[cfg(feature = "mysql")]
impl sealed::Sealed for mysql_async::Transaction<'_> {}

#[cfg(feature = "mysql")]
impl PinTransaction for mysql_async::Transaction<'_> {
    type Error = mysql_async::Error;

    async fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<mysql_async::Error>> {
        use mysql_async::prelude::Queryable;
        let statement = pin.on_mysql()?;
        match self.query_first::<mysql_async::Row, _>(statement.inline().to_string()).await {
            Ok(row) => PinError::unless(row.is_some()),
            Err(error) => {
                let blamed = match &error {
                    mysql_async::Error::Server(told) => pin.blamed(told.code),
                    _ => None,
                };
                Err(blamed.map_or_else(|| PinError::Client(error), PinError::from))
            }
        }
    }
}

#[cfg(feature = "sqlite")]
impl sealed::Sealed for rusqlite::Transaction<'_> {}

/// Without a wait: SQLite blocks.
#[cfg(feature = "sqlite")]
impl PinTransaction for rusqlite::Transaction<'_> {
    type Error = rusqlite::Error;

    fn pin<'a>(
        &'a mut self,
        pin: Pin<'a>,
    ) -> impl Future<Output = Result<(), PinError<rusqlite::Error>>> + Send + 'a {
        std::future::ready(lock_shared::sqlite::pin(self, &pin))
    }
}

#[cfg(feature = "sqlx-postgres")]
impl sealed::Sealed for sqlx::Transaction<'_, sqlx::Postgres> {}

#[cfg(feature = "sqlx-postgres")]
impl PinTransaction for sqlx::Transaction<'_, sqlx::Postgres> {
    type Error = sqlx::Error;

    async fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<sqlx::Error>> {
        use sqlx::Executor;
        let statement = pin.on_postgres()?;
        // As text: no statement stays prepared on a connection that may be a pooler's.
        let row = (&mut **self).fetch_optional(sqlx::raw_sql(statement.inline())).await;
        PinError::unless(row.map_err(PinError::Client)?.is_some())
    }
}

#[cfg(feature = "sqlx-mysql")]
impl sealed::Sealed for sqlx::Transaction<'_, sqlx::MySql> {}

#[cfg(feature = "sqlx-mysql")]
impl PinTransaction for sqlx::Transaction<'_, sqlx::MySql> {
    type Error = sqlx::Error;

    async fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<sqlx::Error>> {
        use sqlx::Executor;
        use sqlx::mysql::MySqlDatabaseError;
        let statement = pin.on_mysql()?;
        match (&mut **self).fetch_optional(sqlx::raw_sql(statement.inline())).await {
            Ok(row) => PinError::unless(row.is_some()),
            Err(error) => {
                let told = error.as_database_error();
                let told = told.and_then(|told| told.try_downcast_ref::<MySqlDatabaseError>());
                let blamed = told.and_then(|told| pin.blamed(told.number()));
                Err(blamed.map_or_else(|| PinError::Client(error), PinError::from))
            }
        }
    }
}
