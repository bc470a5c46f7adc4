//! Statements, and their rows and errors.

use lock_core::sql::{Rows, Statement, Value};
use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use rustix::process::{Resource, getrlimit};

/// Runs a statement about the connection's database `schema`.
pub(super) fn rows(
    connection: &Connection,
    schema: &str,
    statement: &Statement,
) -> rusqlite::Result<Rows> {
    connection.pragma_update(
        Some(schema),
        "synchronous",
        if statement.durable { "FULL" } else { "NORMAL" },
    )?;
    let mut prepared = connection.prepare_cached(&statement.text)?;
    let columns = prepared.column_count();
    let params = rusqlite::params_from_iter(statement.params.iter().map(Param));
    let rows = prepared.query_map(params, |row| {
        (0..columns)
            .map(|at| {
                Ok(match row.get_ref(at)? {
                    ValueRef::Integer(number) => Value::Int(number),
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    // Our statements return none of these. The core rejects NULL.
                    ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
                })
            })
            .collect()
    })?;
    rows.collect()
}

struct Param<'a>(&'a Value);

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            // The SQLite dialect has no arrays.
            Value::Null | Value::Texts(_) | Value::Ints(_) => ValueRef::Null,
        }))
    }
}

/// SQLite's primary result code, and its message, without the statement.
pub(super) fn describe(error: &rusqlite::Error) -> (Option<i32>, String) {
    let message = match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let detailed = error.sqlite_error().map(|inner| inner.extended_code);
    let limit = detailed.filter(|code| matches!(*code, SQLITE_IOERR_WRITE | SQLITE_IOERR_SHMSIZE));
    // SQLite does not say why.
    let limit = limit.and_then(|_| getrlimit(Resource::Fsize).current);
    let and = limit.map(|limit| format!("; no file may exceed {limit} bytes here (ulimit -f)"));
    (detailed.map(|code| code & 0xff), message + &and.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_statement_waits_for_the_disk_and_no_other() {
        const FULL: i64 = 2;
        const NORMAL: i64 = 1;
        const OFF: i64 = 0;
        // The setting is one of each database of the connection.
        for (schema, other) in [("main", "side"), ("side", "main")] {
            let connection = Connection::open_in_memory().expect("opened");
            connection.execute_batch("ATTACH '' AS side").expect("attached");
            for schema in [schema, other] {
                connection.pragma_update(Some(schema), "synchronous", "OFF").expect("set");
            }
            let of = |schema| format!("pragma_synchronous('{schema}')");
            let asked = format!(
                "SELECT a.synchronous, b.synchronous FROM {} AS a, {} AS b",
                of(schema),
                of(other)
            );
            let mut statement = Statement::new(asked, []);
            // The later statements are found prepared.
            for (durable, level) in [(true, FULL), (false, NORMAL), (true, FULL), (false, NORMAL)] {
                statement.durable = durable;
                let levels = vec![vec![Value::Int(level), Value::Int(OFF)]];
                assert_eq!(rows(&connection, schema, &statement), Ok(levels), "{schema}");
            }
        }
    }

    #[test]
    fn an_error_has_its_primary_code() {
        let detailed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_READ);
        let (code, _) = describe(&rusqlite::Error::SqliteFailure(detailed, None));
        assert_eq!(code, Some(rusqlite::ffi::SQLITE_IOERR));
    }
}
