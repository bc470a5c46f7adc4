//! Statements on a connection: sent as text, or prepared and executed.

use super::call::{CallError, guarded};
use lock_core::Failure;
use lock_core::sql::mysql::{answer, inline, statement_failed};
use lock_core::sql::{Prepared, Rows, Run, Statement};
use lock_shared::mysql::{params, values};
use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, DriverError, QueryResult};
use std::time::{Duration, Instant};

/// More rows than any of our statements returns.
const ROWS: usize = 10_000;

/// Runs the statements of one connection.
#[derive(Default)]
pub(super) struct Statements(Prepared<mysql::Statement>);

impl Statements {
    /// Runs a statement within `budget`, as far as possible: the client's limits apply to each answer of the
    /// statement.
    pub(super) fn run(
        &mut self,
        client: &mut Conn,
        statement: &Statement,
        budget: Duration,
    ) -> Result<Rows, Failure> {
        let until = Instant::now() + budget;
        loop {
            let sent = Instant::now();
            let result = match self.0.run(statement, until.saturating_duration_since(sent)) {
                Run::Text => guarded(|| rows(statement, client.query_iter(inline(statement))?)),
                Run::Execute(prepared) => {
                    guarded(|| rows(statement, client.exec_iter(prepared, params(statement))?))
                }
                Run::Prepare => {
                    let prepared = guarded(|| client.prep(&*statement.text));
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
fn rows<P: Protocol>(
    statement: &Statement,
    result: QueryResult<'_, '_, '_, P>,
) -> mysql::Result<Rows> {
    if result.columns().as_ref().is_empty() {
        let id = result.last_insert_id().unwrap_or(0);
        return Ok(answer(statement, id, result.affected_rows()));
    }
    let mut rows = Rows::new();
    for row in result {
        if rows.len() == ROWS {
            return Err(DriverError::UnexpectedPacket.into());
        }
        rows.push(values(row?));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server may have executed the statement.
    #[test]
    fn a_panic_of_the_client_leaves_it_open_what_became_of_the_statement() {
        let panicked = guarded(|| -> mysql::Result<()> { panic!("on purpose") });
        let failure = panicked.map_err(|error| failed(&error)).expect_err("a panic");
        assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
    }
}
