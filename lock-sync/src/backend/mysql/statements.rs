//! Statements on a connection: sent as text, or prepared and executed.

use super::trouble::{Trouble, guarded};
use lock_core::Failure;
use lock_core::sql::mysql::{inline, statement_failed, value};
use lock_core::sql::{Prepared, Rows, Run, Statement, Value};
use mysql::consts::ColumnType;
use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, DriverError, QueryResult};
use std::time::{Duration, Instant};

/// More rows than this, no statement of ours returns.
const ROWS: usize = 10_000;

/// Runs the statements of one connection.
#[derive(Default)]
pub(super) struct Statements(Prepared<mysql::Statement>);

impl Statements {
    /// Runs a statement within `budget`, as far as that can be: the client's limits hold for each of its
    /// answers.
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
                Run::Text => guarded(|| rows(client.query_iter(inline(statement))?)),
                Run::Execute(prepared) => {
                    guarded(|| rows(client.exec_iter(prepared, params(statement))?))
                }
                Run::Prepare => {
                    let prepared = guarded(|| client.prep(&*statement.text));
                    let prepared = prepared.map_err(|trouble| failed(&trouble));
                    let left = until.saturating_duration_since(Instant::now());
                    self.0.prepared(statement, prepared, sent.elapsed(), left)?;
                    continue;
                }
            };
            match result.map_err(|trouble| failed(&trouble)) {
                Err(failure) if self.0.was_lost(statement, &failure) => {}
                result => {
                    self.0.ran(sent.elapsed());
                    return result;
                }
            }
        }
    }
}

/// What the server's error, or its silence, means.
fn failed(trouble: &Trouble) -> Failure {
    statement_failed(trouble.code(), &trouble.describe())
}

fn params(statement: &Statement) -> Vec<mysql::Value> {
    let params = statement.params.iter().map(|value| match value {
        Value::Int(number) => mysql::Value::Int(*number),
        Value::Text(text) => mysql::Value::Bytes(text.clone().into_bytes()),
        Value::Null | Value::Texts(_) => mysql::Value::NULL,
    });
    params.collect()
}

/// The rows, or the number that the server sent along with its OK.
fn rows<P: Protocol>(result: QueryResult<'_, '_, '_, P>) -> mysql::Result<Rows> {
    if result.columns().as_ref().is_empty() {
        let number = result.last_insert_id().unwrap_or(0);
        return Ok(vec![vec![i64::try_from(number).map_or(Value::Null, Value::Int)]]);
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

/// A row's values.
fn values(row: mysql::Row) -> Vec<Value> {
    let columns = row.columns();
    let values = row.unwrap_raw().into_iter().zip(columns.iter());
    values
        .map(|(wire, column)| {
            let is_integer = matches!(
                column.column_type(),
                ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_LONGLONG
            );
            match wire {
                Some(mysql::Value::Int(number)) if is_integer => Value::Int(number),
                Some(mysql::Value::Bytes(bytes)) => value(bytes, is_integer),
                _ => Value::Null,
            }
        })
        .collect()
}
