//! Pins of a lock, in a transaction of each client.

use lock_core::PinError;
use lock_shared::pin::Pin;

/// A transaction in which a lock can be [pinned](crate::Guard::pin).
///
/// With the feature of its database, each of these is one: `postgres::Transaction`, `mysql::Transaction` and
/// `rusqlite::Transaction`. For another client, there is [`Guard::pin_statement`](crate::Guard::pin_statement).
pub trait PinTransaction: sealed::Sealed {
    /// The client's error.
    type Error;

    #[doc(hidden)]
    fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<Self::Error>>;
}

mod sealed {
    pub trait Sealed {}
}

#[cfg(feature = "postgres")]
impl sealed::Sealed for postgres::Transaction<'_> {}

#[cfg(feature = "postgres")]
impl PinTransaction for postgres::Transaction<'_> {
    type Error = postgres::Error;

    fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<postgres::Error>> {
        let statement = pin.on_postgres()?;
        let params = lock_shared::postgres::pin_params(&statement);
        let row = self.query_typed(&statement.text, &params).map_err(PinError::Client)?;
        PinError::unless(!row.is_empty())
    }
}

#[cfg(feature = "mysql")]
impl sealed::Sealed for mysql::Transaction<'_> {}

#[cfg(feature = "mysql")]
impl PinTransaction for mysql::Transaction<'_> {
    type Error = mysql::Error;

    fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<mysql::Error>> {
        use mysql::prelude::Queryable;
        let statement = pin.on_mysql()?;
        match self.query_first::<mysql::Row, _>(statement.inline()) {
            Ok(row) => PinError::unless(row.is_some()),
            Err(error) => {
                let blamed = match &error {
                    mysql::Error::MySqlError(told) => pin.blamed(told.code),
                    _ => None,
                };
                Err(blamed.map_or_else(|| PinError::Client(error), PinError::from))
            }
        }
    }
}

#[cfg(feature = "sqlite")]
impl sealed::Sealed for rusqlite::Transaction<'_> {}

#[cfg(feature = "sqlite")]
impl PinTransaction for rusqlite::Transaction<'_> {
    type Error = rusqlite::Error;

    fn pin(&mut self, pin: Pin<'_>) -> Result<(), PinError<rusqlite::Error>> {
        lock_shared::sqlite::pin(self, &pin)
    }
}
