//! Statements on a connection: what is repeated is prepared, all else is sent as text.

use super::trouble::{Trouble, guarded};
use lock_core::Failure;
use lock_core::sql::mysql::{inline, is_unprepared, statement_failed};
use lock_core::sql::{Rows, Statement, Value};
use mysql::consts::ColumnType;
use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, DriverError, QueryResult};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More rows than this, no statement of ours returns.
const ROWS: usize = 10_000;

/// The repeated texts that were run on one connection. They are few, and stay prepared until it ends.
#[derive(Default)]
pub(super) struct Statements(BTreeMap<Arc<str>, Form>);

/// How a text is run the next time.
enum Form {
    /// Once run as text: a script that takes one lock needs no second round trip.
    NotYet,
    Prepared(mysql::Statement),
    /// The server, or what is on the way to it, does not have it prepared.
    Text,
}

impl Statements {
    /// Runs a statement. The client's limits hold for each of its answers, so that what is prepared is
    /// executed only if that took less than `budget`.
    pub(super) fn run(
        &mut self,
        client: &mut Conn,
        statement: &Statement,
        budget: Duration,
    ) -> Result<Rows, Failure> {
        if let Some(prepared) = self.prepared(client, statement, budget)? {
            match guarded(|| rows(client.exec_iter(prepared, params(statement))?)) {
                Err(trouble) if is_unprepared(trouble.code()) => {
                    self.0.insert(statement.text.clone(), Form::Text);
                }
                result => return result.map_err(|trouble| failed(&trouble)),
            }
        }
        let text = inline(statement);
        guarded(|| rows(client.query_iter(text)?)).map_err(|trouble| failed(&trouble))
    }

    /// What is to be executed, unless it is the text that is to be sent.
    fn prepared(
        &mut self,
        client: &mut Conn,
        statement: &Statement,
        budget: Duration,
    ) -> Result<Option<mysql::Statement>, Failure> {
        if !statement.repeated {
            return Ok(None);
        }
        let Some(form) = self.0.get_mut(&statement.text) else {
            self.0.insert(statement.text.clone(), Form::NotYet);
            return Ok(None);
        };
        if let Form::NotYet = form {
            let began = Instant::now();
            *form = match guarded(|| client.prep(&*statement.text)) {
                Ok(prepared) => Form::Prepared(prepared),
                Err(trouble) => match failed(&trouble) {
                    failure @ Failure::Unknown(_) => return Err(failure),
                    // Nothing was done. If the text itself is at fault, it fails by itself.
                    _ => Form::Text,
                },
            };
            if began.elapsed() >= budget {
                return Err(Failure::NotSent("no answer in time".to_string()));
            }
        }
        match form {
            Form::Prepared(prepared) => Ok(Some(prepared.clone())),
            _ => Ok(None),
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

/// A row's values: what was executed sends numbers as such, what was sent as text as digits. What is
/// neither an integer nor a text, no statement of ours returns; the core takes NULL for a surprise.
fn values(row: mysql::Row) -> Vec<Value> {
    let columns = row.columns();
    let values = row.unwrap_raw().into_iter().zip(columns.iter());
    values
        .map(|(value, column)| {
            let integer = matches!(
                column.column_type(),
                ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_LONGLONG
            );
            match value {
                Some(mysql::Value::Int(number)) if integer => Value::Int(number),
                Some(mysql::Value::Bytes(bytes)) => match String::from_utf8(bytes) {
                    Ok(text) if integer => text.parse().map_or(Value::Null, Value::Int),
                    Ok(text) => Value::Text(text),
                    Err(_) => Value::Null,
                },
                _ => Value::Null,
            }
        })
        .collect()
}
