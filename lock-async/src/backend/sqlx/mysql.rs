//! MySQL and MariaDB, over a pool of sqlx's.

use super::{Results, Server, message};
use lock_core::Failure;
use lock_core::sql::mysql::{
    LIMITS, answer, connect_failed, inline, returns_rows, statement_failed, value,
};
use lock_core::sql::{Rows, Statement, Value};
use sqlx::mysql::{MySql, MySqlConnection, MySqlDatabaseError, MySqlQueryResult, MySqlRow};
use sqlx::{Column, Error, Executor, Row, TypeInfo};
use std::time::Duration;

/// Keeps the session's limits.
const KEPT: &str = "SET @withlock_row = @@SESSION.innodb_lock_wait_timeout, @withlock_table = @@SESSION.lock_wait_timeout, \
     @withlock_rows = @@SESSION.sql_select_limit, @withlock_joins = @@SESSION.sql_big_selects, \
     @withlock_text = @@SESSION.group_concat_max_len";

/// Puts them back. Where they were not kept, it changes nothing, or fails, and then the connection is closed.
const RESTORED: &str = "SET SESSION innodb_lock_wait_timeout = COALESCE(@withlock_row, @@SESSION.innodb_lock_wait_timeout), \
     SESSION lock_wait_timeout = COALESCE(@withlock_table, @@SESSION.lock_wait_timeout), \
     SESSION sql_select_limit = COALESCE(@withlock_rows, @@SESSION.sql_select_limit), \
     SESSION sql_big_selects = COALESCE(@withlock_joins, @@SESSION.sql_big_selects), \
     SESSION group_concat_max_len = COALESCE(@withlock_text, @@SESSION.group_concat_max_len), \
     @withlock_row = NULL, @withlock_table = NULL, @withlock_rows = NULL, @withlock_joins = NULL, @withlock_text = NULL";

impl Server for MySql {
    const BEFORE: usize = 2;
    const AFTER: usize = 2;

    /// The first statement is about the next transaction only, and fails inside of one. The third commits by itself: a
    /// Galera cluster that rolls back a transaction does not tell a script that began it. The last does nothing unless
    /// the session commits nothing by itself, where nothing is granted. The server ends a statement that waits for a row or
    /// for the table's definition as soon as on a connection of our own, and cuts off no result; neither knows a setting
    /// that ends with a transaction.
    fn script(statement: &Statement, _: Duration) -> String {
        format!(
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {KEPT}, {LIMITS}; {}; {RESTORED}; COMMIT AND NO CHAIN NO RELEASE",
            inline(statement)
        )
    }

    fn undo() -> String {
        format!("ROLLBACK AND NO CHAIN; {RESTORED}")
    }

    fn run<'a>(connection: &'a mut MySqlConnection, script: &'a str) -> Results<'a, Self> {
        connection.fetch_many(sqlx::raw_sql(script))
    }

    fn values(row: &MySqlRow) -> Vec<Value> {
        let one = |at: usize| {
            let kind = row.column(at).type_info().name();
            let is_integer = kind.starts_with("BIGINT") || kind.starts_with("INT");
            let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(at).ok().flatten();
            bytes.map_or(Value::Null, |bytes| value(bytes, is_integer))
        };
        (0..row.len()).map(one).collect()
    }

    /// A statement that returns no rows is answered by a number. This client's flags change the number of affected rows
    /// of all but a `DELETE`.
    fn rows(statement: &Statement, rows: Rows, result: &MySqlQueryResult) -> Rows {
        if returns_rows(statement) {
            return rows;
        }
        answer(statement, result.last_insert_id(), result.rows_affected())
    }

    fn failure(error: &Error, connecting: bool) -> Failure {
        let meaning = if connecting { connect_failed } else { statement_failed };
        meaning(number(error), &message(error))
    }

    fn is_inside(error: &Error) -> bool {
        number(error) == Some(1568)
    }
}

fn number(error: &Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}
