//! Statements on a connection: sent as text, or prepared and executed.

use super::call::{CallError, guarded};
use lock_core::Failure;
use lock_core::sql::mysql::{answer, inline, statement_failed};
use lock_core::sql::{Prepared, Rows, Run, Statement};
use lock_shared::mysql::{params, values};
use mysql_async::prelude::{Protocol, Queryable};
use mysql_async::{Conn, DriverError, QueryResult};
use std::time::{Duration, Instant};

/// More rows than any of our statements returns.
const ROWS: usize = 10_000;

/// Runs the statements of one connection.
#[derive(Default)]
pub(super) struct Statements(Prepared<mysql_async::Statement>);

impl Statements {
    /// Runs a statement, and gives it up after `limit`.
    pub(super) async fn run(
        &mut self,
        client: &mut Conn,
        statement: &Statement,
        limit: Duration,
    ) -> Result<Rows, Failure> {
        let until = Instant::now() + limit;
        loop {
            let sent = Instant::now();
            let result = match self.0.run(statement, until.saturating_duration_since(sent)) {
                Run::Text => {
                    let text = inline(statement);
                    guarded(async { rows(statement, client.query_iter(text).await?).await }).await
                }
                Run::Execute(prepared) => {
                    let params = params(statement);
                    guarded(async {
                        rows(statement, client.exec_iter(prepared, params).await?).await
                    })
                    .await
                }
                Run::Prepare => {
                    let prepared = guarded(client.prep(&*statement.text)).await;
                    let prepared = prepared.map_err(|error| failed(&error));
                    let left = until.saturating_duration_since(Instant::now());
                    self.0.prepared(statement, prepared, sent.elapsed(), left)?;
                    continue;
                }
            };
            match result.map_err(|error| failed(&error)) {
                Err(failure) if self.0.was_lost(statement, &failure) => {}
                result => {
                    self.0.ran(sent.elapsed());
                    return result;
                }
            }
        }
    }
}

/// The failure of a statement, by the server's error or its silence.
fn failed(error: &CallError) -> Failure {
    statement_failed(error.code(), &error.describe())
}

/// The rows, or the number in the server's OK.
async fn rows<P: Protocol>(
    statement: &Statement,
    result: QueryResult<'_, '_, P>,
) -> mysql_async::Result<Rows> {
    if result.columns_ref().is_empty() {
        let id = result.last_insert_id().unwrap_or(0);
        let rows = answer(statement, id, result.affected_rows());
        result.drop_result().await?;
        return Ok(rows);
    }
    let mut rows = Rows::new();
    let take = |row| {
        if rows.len() <= ROWS {
            rows.push(values(row));
        }
    };
    result.for_each_and_drop(take).await?;
    if rows.len() > ROWS {
        return Err(DriverError::UnexpectedPacket { payload: Vec::new() }.into());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server may have executed the statement.
    #[tokio::test]
    async fn a_panic_of_the_client_leaves_it_open_what_became_of_the_statement() {
        let panicked = guarded(async { panic!("on purpose") }).await as Result<(), CallError>;
        let failure = panicked.map_err(|error| failed(&error)).expect_err("a panic");
        assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
    }
}
