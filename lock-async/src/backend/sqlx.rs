//! Statements on the connections of a pool of sqlx's, which others use, too.
//!
//! A connection is taken from the pool for one statement, and given back after it. The statement goes out in a
//! transaction of its own, as one text without parameters, together with the settings that it needs: one round trip,
//! no prepared statement, and no setting that stays on the connection. On MySQL and MariaDB, the same text puts back the
//! settings that do not end with a transaction. A connection whose state is in doubt, because the statement was cut off or
//! the server did not answer, is closed instead of given back.

#[cfg(feature = "sqlx-mysql")]
mod mysql;
#[cfg(feature = "sqlx-postgres")]
mod postgres;

use super::panics::{PANICKED, guarded};
use super::{Session, Source, left};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lock_core::Failure;
use lock_core::sql::{ConnectError, Rows, Statement, Value};
use sqlx::pool::PoolConnection;
use sqlx::{Database, Either, Error, Pool};
use std::ops::DerefMut;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// More rows than any of our statements returns.
const ROWS: usize = 10_000;

/// What a script's statements return: rows, and a result at the end of each.
type Results<'a, D> =
    BoxStream<'a, Result<Either<<D as Database>::QueryResult, <D as Database>::Row>, Error>>;

/// The parts that differ between databases.
pub(crate) trait Server: Database {
    /// The statements of a script before the one that it is about, and after that.
    const BEFORE: usize;
    const AFTER: usize;

    /// The statement in a transaction of its own, with its settings.
    fn script(statement: &Statement, limit: Duration) -> String;

    /// Ends the transaction of a script that failed, and puts back what it has set.
    fn undo() -> String;

    /// Runs a script.
    fn run<'a>(connection: &'a mut Self::Connection, script: &'a str) -> Results<'a, Self>;

    /// A row's values.
    fn values(row: &Self::Row) -> Vec<Value>;

    /// The rows of the statement, which ended with this result.
    fn rows(_: &Statement, rows: Rows, _: &Self::QueryResult) -> Rows {
        rows
    }

    /// The failure of a statement, or with `connecting` of a connect, that the error stands for.
    fn failure(error: &Error, connecting: bool) -> Failure;

    /// True if the script failed because the connection is inside a transaction.
    fn is_inside(error: &Error) -> bool;
}

/// The connections of a pool.
pub(crate) struct Pooled<D: Database> {
    pool: Pool<D>,
    /// True from a connect until a connection breaks.
    is_open: bool,
}

impl<D: Server> Source for Pool<D> {
    type Session = Pooled<D>;

    fn session(&mut self) -> Option<Pooled<D>> {
        Some(Pooled { pool: self.clone(), is_open: false })
    }
}

/// A connection for one statement. It is closed when this is dropped.
struct Taken<D: Database>(Option<PoolConnection<D>>);

impl<D: Database> Taken<D> {
    /// Gives the connection back to the pool.
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

/// Without a goodbye, because the server may not be listening.
impl<D: Database> Drop for Taken<D> {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}

impl<D: Server> Pooled<D> {
    async fn take(&self, limit: Duration) -> Result<Taken<D>, ConnectError> {
        let busy = "no connection of the pool came free in time: allow it more (max_connections)";
        match timeout(limit, guarded(self.pool.acquire())).await {
            Ok(Some(Ok(connection))) => Ok(Taken(Some(connection))),
            Err(_) | Ok(Some(Err(Error::PoolTimedOut))) => {
                Err(Failure::NotSent(busy.to_string()).into())
            }
            Ok(Some(Err(Error::PoolClosed))) => {
                Err(ConnectError::NoWay("the pool was closed: connect again".to_string()))
            }
            Ok(Some(Err(error))) => Err(D::failure(&error, true).into()),
            Ok(None) => Err(Failure::NotSent(PANICKED.to_string()).into()),
        }
    }
}

impl<D: Server> Session for Pooled<D> {
    fn is_open(&self) -> bool {
        self.is_open
    }

    fn shared(&self) -> bool {
        true
    }

    async fn open(&mut self, limit: Duration) -> Result<(), ConnectError> {
        self.take(limit).await?.give_back();
        self.is_open = true;
        Ok(())
    }

    async fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        let left = left(Instant::now() + limit);
        let mut taken = self.take(limit).await.map_err(ConnectError::before_request)?;
        let Some(connection) = &mut taken.0 else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        let script = D::script(statement, left());
        let running = guarded(rows::<D>(connection.deref_mut(), &script, statement));
        let result = match timeout(left(), running).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(Failed::Else(Failure::Unknown(PANICKED.to_string()))),
            Err(_) => Err(Failed::Else(Failure::Unknown("no answer in time".to_string()))),
        };
        match result {
            Ok(rows) => {
                taken.give_back();
                Ok(rows)
            }
            Err(Failed::Inside) => Err(Failure::NotSent(
                "a connection of the pool was inside a transaction, and was closed".to_string(),
            )),
            Err(Failed::Else(failure)) => {
                self.is_open &= !matches!(failure, Failure::Unknown(_));
                // A server that only reads may not be the one to ask again.
                let may_serve = matches!(failure, Failure::Rejected { .. });
                if may_serve && !failure.is_read_only() {
                    let ends = guarded(rolled_back::<D>(connection.deref_mut()));
                    if timeout(left(), ends).await == Ok(Some(true)) {
                        taken.give_back();
                    }
                }
                Err(failure)
            }
        }
    }

    async fn close(self) {}
}

/// The end of a statement that was not carried out, or may not have been.
enum Failed {
    /// The connection is inside a transaction of somebody else's.
    Inside,
    Else(Failure),
}

async fn rows<D: Server>(
    connection: &mut D::Connection,
    script: &str,
    statement: &Statement,
) -> Result<Rows, Failed> {
    let (mut rows, mut ended, mut result) = (Rows::new(), 0, None);
    let mut results = D::run(connection, script);
    while let Some(next) = results.next().await {
        match next {
            Ok(Either::Left(end)) => {
                if ended == D::BEFORE {
                    result = Some(end);
                }
                ended += 1;
            }
            Ok(Either::Right(row)) if ended == D::BEFORE && rows.len() < ROWS => {
                rows.push(D::values(&row));
            }
            Ok(Either::Right(_)) => {}
            Err(error) if D::is_inside(&error) => return Err(Failed::Inside),
            Err(error) => {
                let failure = D::failure(&error, false);
                // The statement itself was carried out, and what followed was not.
                let is_done = ended > D::BEFORE;
                let unknown = || Failure::Unknown(failure.to_string());
                return Err(Failed::Else(if is_done { unknown() } else { failure }));
            }
        }
    }
    match result {
        Some(result) if ended == D::BEFORE + 1 + D::AFTER => Ok(D::rows(statement, rows, &result)),
        _ => Err(Failed::Else(Failure::Unknown("the answer is incomplete".to_string()))),
    }
}

/// Leaves the connection as it was before a statement that failed.
async fn rolled_back<D: Server>(connection: &mut D::Connection) -> bool {
    let script = D::undo();
    let mut results = D::run(connection, &script);
    while let Some(next) = results.next().await {
        if next.is_err() {
            return false;
        }
    }
    true
}

/// The server's message, or the client's.
fn message(error: &Error) -> String {
    match error {
        Error::Database(error) => error.message().to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server may have executed a statement by then, and a connect has sent nothing.
    fn is_in_doubt_only_after_a_statement<D: Server>() {
        let broken = Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let statement = D::failure(&broken, false);
        assert!(matches!(statement, Failure::Unknown(_)), "{statement:?}");
        let connect = D::failure(&broken, true);
        assert!(matches!(connect, Failure::NotSent(_)), "{connect:?}");
    }

    #[test]
    fn what_a_connection_that_broke_leaves_open_depends_on_what_was_sent() {
        #[cfg(feature = "sqlx-mysql")]
        is_in_doubt_only_after_a_statement::<sqlx::MySql>();
        #[cfg(feature = "sqlx-postgres")]
        is_in_doubt_only_after_a_statement::<sqlx::Postgres>();
    }
}
