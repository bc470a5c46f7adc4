//! Statements on a connection: what is repeated is prepared, all else is sent as text.

use super::trouble::{Trouble, guarded};
use lock_core::Failure;
use lock_core::sql::mysql::{inline, is_unprepared, statement_failed};
use lock_core::sql::{Rows, Statement, Value};
use mysql_async::consts::ColumnType;
use mysql_async::prelude::{Protocol, Queryable};
use mysql_async::{Conn, DriverError, QueryResult};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More rows than this, no statement of ours returns.
const ROWS: usize = 10_000;

/// The repeated texts that were run on one connection. They are few, and stay prepared until it ends.
#[derive(Default)]
pub(super) struct Statements(BTreeMap<Arc<str>, Form>);

/// How a text is run the next time.
enum Form {
    /// Once run as text: a task that takes one lock needs no second round trip.
    NotYet,
    Prepared(mysql_async::Statement),
    /// The server, or what is on the way to it, does not have it prepared.
    Text,
}

impl Statements {
    /// Runs a statement.
    pub(super) async fn run(
        &mut self,
        client: &mut Conn,
        statement: &Statement,
    ) -> Result<Rows, Failure> {
        if let Some(prepared) = self.prepared(client, statement).await? {
            let params = params(statement);
            let executed = async { rows(client.exec_iter(prepared, params).await?).await };
            match guarded(executed).await {
                Err(trouble) if is_unprepared(trouble.code()) => {
                    self.0.insert(statement.text.clone(), Form::Text);
                }
                result => return result.map_err(|trouble| failed(&trouble)),
            }
        }
        let text = inline(statement);
        let queried = async { rows(client.query_iter(text).await?).await };
        guarded(queried).await.map_err(|trouble| failed(&trouble))
    }

    /// What is to be executed, unless it is the text that is to be sent.
    async fn prepared(
        &mut self,
        client: &mut Conn,
        statement: &Statement,
    ) -> Result<Option<mysql_async::Statement>, Failure> {
        if !statement.repeated {
            return Ok(None);
        }
        let Some(form) = self.0.get_mut(&statement.text) else {
            self.0.insert(statement.text.clone(), Form::NotYet);
            return Ok(None);
        };
        if let Form::NotYet = form {
            *form = match guarded(client.prep(&*statement.text)).await {
                Ok(prepared) => Form::Prepared(prepared),
                Err(trouble) => match failed(&trouble) {
                    failure @ Failure::Unknown(_) => return Err(failure),
                    // Nothing was done. If the text itself is at fault, it fails by itself.
                    _ => Form::Text,
                },
            };
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

fn params(statement: &Statement) -> Vec<mysql_async::Value> {
    let params = statement.params.iter().map(|value| match value {
        Value::Int(number) => mysql_async::Value::Int(*number),
        Value::Text(text) => mysql_async::Value::Bytes(text.clone().into_bytes()),
        Value::Null | Value::Texts(_) => mysql_async::Value::NULL,
    });
    params.collect()
}

/// The rows, or the number that the server sent along with its OK.
async fn rows<P: Protocol>(result: QueryResult<'_, '_, P>) -> mysql_async::Result<Rows> {
    if result.columns_ref().is_empty() {
        let number = result.last_insert_id().unwrap_or(0);
        result.drop_result().await?;
        return Ok(vec![vec![i64::try_from(number).map_or(Value::Null, Value::Int)]]);
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

/// A row's values: what was executed sends numbers as such, what was sent as text as digits. What is
/// neither an integer nor a text, no statement of ours returns; the core takes NULL for a surprise.
fn values(row: mysql_async::Row) -> Vec<Value> {
    let columns = row.columns();
    let values = row.unwrap_raw().into_iter().zip(columns.iter());
    values
        .map(|(value, column)| {
            let integer = matches!(
                column.column_type(),
                ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_LONGLONG
            );
            match value {
                Some(mysql_async::Value::Int(number)) if integer => Value::Int(number),
                Some(mysql_async::Value::Bytes(bytes)) => match String::from_utf8(bytes) {
                    Ok(text) if integer => text.parse().map_or(Value::Null, Value::Int),
                    Ok(text) => Value::Text(text),
                    Err(_) => Value::Null,
                },
                _ => Value::Null,
            }
        })
        .collect()
}
