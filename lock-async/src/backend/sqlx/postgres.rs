//! PostgreSQL, over a pool of sqlx's.

use super::{Results, Server, message};
use lock_core::Failure;
use lock_core::sql::postgres::{connect_failed, inline, statement_failed};
use lock_core::sql::{Statement, Value};
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::{Column, Error, Executor, Row, TypeInfo};
use std::time::Duration;

impl Server for Postgres {
    const BEFORE: usize = 3;
    const AFTER: usize = 1;

    /// The level changes twice, which fails inside a transaction that has read anything. The time limit ends with the
    /// transaction. The statement carries the other settings.
    fn script(statement: &Statement, limit: Duration) -> String {
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SELECT set_config('statement_timeout', '{}', true); {}; COMMIT AND NO CHAIN",
            limit.as_millis().max(1),
            inline(statement)
        )
    }

    fn undo() -> String {
        "ROLLBACK AND NO CHAIN".to_string()
    }

    fn run<'a>(connection: &'a mut PgConnection, script: &'a str) -> Results<'a, Self> {
        connection.fetch_many(sqlx::raw_sql(script))
    }

    /// A value that is neither a `bigint` nor a text becomes NULL, which the core rejects.
    fn values(row: &PgRow) -> Vec<Value> {
        let value = |at: usize| match row.column(at).type_info().name() {
            "INT8" => row.try_get(at).map_or(Value::Null, Value::Int),
            "TEXT" => row.try_get(at).map_or(Value::Null, Value::Text),
            _ => Value::Null,
        };
        (0..row.len()).map(value).collect()
    }

    fn failure(error: &Error, connecting: bool) -> Failure {
        let meaning = if connecting { connect_failed } else { statement_failed };
        meaning(code(error).as_deref(), &message(error))
    }

    /// Its isolation level can no longer be set, or it has failed.
    fn is_inside(error: &Error) -> bool {
        matches!(code(error).as_deref(), Some("25001" | "25P02"))
    }
}

fn code(error: &Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
