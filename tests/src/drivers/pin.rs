//! Transactions of a user's program, in which a guard of either driver is pinned.

use super::{Guard, wait};
use crate::place::{client, mysql_client};
use lock_sync::PinError;
use mysql_async::prelude::Queryable as _;
use sqlx::{Connection, Executor};
use std::fmt::Display;
use std::time::Duration;

/// The client of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The one that the driver itself uses.
    Own,
    /// sqlx, where the driver is lock-async.
    Sqlx,
}

/// Begins a transaction in the database of `url`, pins the lock, runs the statements, calls `meanwhile`, and commits.
///
/// # Errors
/// The pin's, with the client's error as text. The transaction is then rolled back.
pub fn in_transaction(
    guard: &Guard,
    by: Client,
    url: &str,
    statements: &[String],
    meanwhile: impl FnOnce(),
) -> Result<(), PinError<String>> {
    let url = &url.replacen("mariadb://", "mysql://", 1);
    match guard {
        _ if url.starts_with("sqlite") => {
            let path = url.trim_start_matches("sqlite:");
            let mut connection = rusqlite::Connection::open(path).map_err(failed)?;
            connection.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
            let mut transaction = connection.transaction().map_err(failed)?;
            match guard {
                Guard::Blocking(guard) => guard.pin(&mut transaction).map_err(plain)?,
                Guard::Tokio(guard) => wait(guard.pin(&mut transaction)).map_err(plain)?,
            }
            for sql in statements {
                transaction.execute_batch(sql).map_err(failed)?;
            }
            meanwhile();
            transaction.commit().map_err(failed)
        }
        Guard::Blocking(guard) if url.starts_with("postgres") => {
            let mut client = client(url);
            let mut transaction = client.transaction().map_err(failed)?;
            guard.pin(&mut transaction).map_err(plain)?;
            for sql in statements {
                transaction.batch_execute(sql).map_err(failed)?;
            }
            meanwhile();
            transaction.commit().map_err(failed)
        }
        Guard::Blocking(guard) => {
            use mysql::prelude::Queryable;
            let mut client = mysql_client(url);
            let mut transaction =
                client.start_transaction(mysql::TxOpts::default()).map_err(failed)?;
            guard.pin(&mut transaction).map_err(plain)?;
            for sql in statements {
                transaction.query_drop(sql).map_err(failed)?;
            }
            meanwhile();
            transaction.commit().map_err(failed)
        }
        Guard::Tokio(guard) if url.starts_with("postgres") && by == Client::Sqlx => wait(async {
            let mut client = sqlx::PgConnection::connect(url).await.map_err(failed)?;
            let mut transaction = client.begin().await.map_err(failed)?;
            guard.pin(&mut transaction).await.map_err(plain)?;
            for sql in statements {
                transaction.execute(&**sql).await.map_err(failed)?;
            }
            tokio::task::block_in_place(meanwhile);
            transaction.commit().await.map_err(failed)
        }),
        Guard::Tokio(guard) if url.starts_with("postgres") => wait(async {
            let connecting = tokio_postgres::connect(url, tokio_postgres::NoTls);
            let (mut client, connection) = connecting.await.map_err(failed)?;
            tokio::spawn(connection);
            let mut transaction = client.transaction().await.map_err(failed)?;
            guard.pin(&mut transaction).await.map_err(plain)?;
            for sql in statements {
                transaction.batch_execute(sql).await.map_err(failed)?;
            }
            tokio::task::block_in_place(meanwhile);
            transaction.commit().await.map_err(failed)
        }),
        Guard::Tokio(guard) if by == Client::Sqlx => wait(async {
            let mut client = sqlx::MySqlConnection::connect(url).await.map_err(failed)?;
            let mut transaction = client.begin().await.map_err(failed)?;
            guard.pin(&mut transaction).await.map_err(plain)?;
            for sql in statements {
                transaction.execute(&**sql).await.map_err(failed)?;
            }
            tokio::task::block_in_place(meanwhile);
            transaction.commit().await.map_err(failed)
        }),
        Guard::Tokio(guard) => wait(async {
            let mut client = mysql_async::Conn::from_url(url).await.map_err(failed)?;
            let begin = client.start_transaction(mysql_async::TxOpts::default());
            let mut transaction = begin.await.map_err(failed)?;
            guard.pin(&mut transaction).await.map_err(plain)?;
            for sql in statements {
                transaction.query_drop(&**sql).await.map_err(failed)?;
            }
            tokio::task::block_in_place(meanwhile);
            transaction.commit().await.map_err(failed)
        }),
    }
}

fn failed<E: Display>(error: E) -> PinError<String> {
    PinError::Client(error.to_string())
}

fn plain<E: Display>(error: PinError<E>) -> PinError<String> {
    match error {
        PinError::Lost(reason) => PinError::Lost(reason),
        PinError::Unseen => PinError::Unseen,
        PinError::Unsupported(why) => PinError::Unsupported(why),
        PinError::Client(error) => failed(error),
        _ => PinError::Client("an error of another kind".to_string()),
    }
}
