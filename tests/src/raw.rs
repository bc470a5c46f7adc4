//! The core's statements on a connection of the test's own, without a driver in between.

use lock_core::sql::{Codec, Rows, Statement, Step, Value};
use lock_core::{Failure, Instant, Reply, Request};
use mysql::QueryResult;
use mysql::consts::ColumnType;
use mysql::prelude::Protocol;
use postgres::types::{ToSql, Type};
use rusqlite::types::{ToSqlOutput, ValueRef};

/// A connection that statements can be run on.
pub trait Raw {
    /// Runs a statement.
    ///
    /// # Errors
    /// The dialect's failure for the server's error.
    fn run(&mut self, statement: &Statement) -> Result<Rows, Failure>;

    /// Runs SQL that is none of the core's.
    fn batch(&mut self, sql: &str);

    /// Resets the session, as poolers do before they hand a connection on.
    fn reset(&mut self);

    /// Runs the connection's checks, which create the table if it is missing.
    ///
    /// # Errors
    /// The step that ends the checks otherwise.
    fn set_up(&mut self, codec: &Codec) -> Result<(), Step> {
        let mut setup = codec.setup();
        let mut answer = None;
        loop {
            match setup.step(answer) {
                Step::Run(statement) => answer = Some(self.run(&statement)),
                Step::Ready => return Ok(()),
                other => return Err(other),
            }
        }
    }

    /// Carries out a request that was made at `now`.
    ///
    /// # Errors
    /// What the core says of a statement's failure, or of the rows.
    fn ask(&mut self, codec: &Codec, request: &Request, now: Instant) -> Result<Reply, Failure> {
        let mut exchange = codec.encode(request, now);
        while let Some(statement) = exchange.poll_statement() {
            match self.run(&statement) {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        exchange.finish()
    }
}

impl<R: Raw + ?Sized> Raw for Box<R> {
    fn run(&mut self, statement: &Statement) -> Result<Rows, Failure> {
        (**self).run(statement)
    }

    fn batch(&mut self, sql: &str) {
        (**self).batch(sql);
    }

    fn reset(&mut self) {
        (**self).reset();
    }
}

impl Raw for rusqlite::Connection {
    fn batch(&mut self, sql: &str) {
        self.execute_batch(sql).expect("run");
    }

    fn reset(&mut self) {
        panic!("SQLite has no sessions");
    }

    fn run(&mut self, statement: &Statement) -> Result<Rows, Failure> {
        let mut prepared = self.prepare_cached(&statement.text).expect("a statement");
        let width = prepared.column_count();
        let params = statement.params.iter().map(|value| {
            ToSqlOutput::Borrowed(match value {
                Value::Null => ValueRef::Null,
                Value::Int(number) => ValueRef::Integer(*number),
                Value::Text(text) => ValueRef::Text(text.as_bytes()),
                Value::Texts(_) | Value::Ints(_) => panic!("SQLite has no arrays"),
            })
        });
        let mut rows =
            prepared.query(rusqlite::params_from_iter(params)).expect("parameters that fit");
        let mut all = Rows::new();
        while let Some(row) = rows.next().expect("a row") {
            let value = |column| match row.get_ref(column).expect("a column") {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => Value::Int(number),
                ValueRef::Text(text) => {
                    Value::Text(std::str::from_utf8(text).expect("UTF-8").into())
                }
                other => panic!("a surprise: {other:?}"),
            };
            all.push((0..width).map(value).collect());
        }
        Ok(all)
    }
}

impl Raw for postgres::Client {
    fn batch(&mut self, sql: &str) {
        self.batch_execute(sql).expect("run");
    }

    fn reset(&mut self) {
        self.batch("DISCARD ALL");
    }

    fn run(&mut self, statement: &Statement) -> Result<Rows, Failure> {
        pg_rows(self.query_typed(&statement.text, &pg_params(statement)))
    }
}

/// A client in a runtime that also moves its bytes.
impl Raw for (tokio::runtime::Handle, tokio_postgres::Client) {
    fn batch(&mut self, sql: &str) {
        self.0.block_on(self.1.batch_execute(sql)).expect("run");
    }

    fn reset(&mut self) {
        self.batch("DISCARD ALL");
    }

    fn run(&mut self, statement: &Statement) -> Result<Rows, Failure> {
        pg_rows(self.0.block_on(self.1.query_typed(&statement.text, &pg_params(statement))))
    }
}

fn pg_params(statement: &Statement) -> Vec<(&(dyn ToSql + Sync), Type)> {
    let param = |value| match value {
        &Value::Null => panic!("no parameter is NULL"),
        Value::Int(number) => (number as &(dyn ToSql + Sync), Type::INT8),
        Value::Text(text) => (text as &(dyn ToSql + Sync), Type::TEXT),
        Value::Texts(texts) => (texts as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
        Value::Ints(numbers) => (numbers as &(dyn ToSql + Sync), Type::INT8_ARRAY),
    };
    statement.params.iter().map(param).collect()
}

fn pg_rows(result: Result<Vec<postgres::Row>, postgres::Error>) -> Result<Rows, Failure> {
    let row = |row: &postgres::Row| {
        let value = |at: usize| match *row.columns()[at].type_() {
            Type::INT8 => row.get::<_, Option<i64>>(at).map_or(Value::Null, Value::Int),
            _ => row.get::<_, Option<String>>(at).map_or(Value::Null, Value::Text),
        };
        (0..row.len()).map(value).collect()
    };
    match result {
        Ok(rows) => Ok(rows.iter().map(row).collect()),
        Err(error) => {
            let Some(answer) = error.as_db_error() else {
                let message = error.to_string();
                return Err(lock_core::sql::postgres::statement_failed(None, &message));
            };
            let code = Some(answer.code().code());
            Err(lock_core::sql::postgres::statement_failed(code, answer.message()))
        }
    }
}

/// A statement without rows returns its number, as the dialect expects it. A repeated statement is prepared
/// from the first time on, and the drivers' tests cover it as text.
impl Raw for mysql::Conn {
    fn batch(&mut self, sql: &str) {
        mysql::prelude::Queryable::query_drop(self, sql).expect("run");
    }

    fn reset(&mut self) {
        mysql::Conn::reset(self).expect("reset");
    }

    fn run(&mut self, statement: &Statement) -> Result<Rows, Failure> {
        use mysql::prelude::Queryable;
        let rows = if statement.repeated {
            let params: Vec<_> = statement.params.iter().map(mysql_param).collect();
            self.exec_iter(&*statement.text, params).and_then(mysql_rows)
        } else {
            self.query_iter(lock_core::sql::mysql::inline(statement)).and_then(mysql_rows)
        };
        rows.map_err(|error| match error {
            mysql::Error::MySqlError(error) => {
                lock_core::sql::mysql::statement_failed(Some(error.code), &error.message)
            }
            other => lock_core::sql::mysql::statement_failed(None, &other.to_string()),
        })
    }
}

fn mysql_param(value: &Value) -> mysql::Value {
    match value {
        Value::Int(number) => mysql::Value::from(*number),
        Value::Text(text) => mysql::Value::from(text),
        other => panic!("no parameter is {other:?}"),
    }
}

fn mysql_rows<P: Protocol>(result: QueryResult<'_, '_, '_, P>) -> mysql::Result<Rows> {
    if result.columns().as_ref().is_empty() {
        let number = result.last_insert_id().unwrap_or(0);
        return Ok(vec![vec![Value::Int(number.try_into().expect("no more than an i64"))]]);
    }
    result.map(|row| Ok(mysql_row(&row?))).collect()
}

fn mysql_row(row: &mysql::Row) -> Vec<Value> {
    let value = |at: usize| {
        let integer = matches!(
            row.columns_ref()[at].column_type(),
            ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_LONGLONG
        );
        match row.as_ref(at).expect("a column") {
            mysql::Value::NULL => Value::Null,
            _ if integer => Value::Int(row.get(at).expect("an integer")),
            mysql::Value::Bytes(_) => Value::Text(row.get(at).expect("a text")),
            other => panic!("a surprise: {other:?}"),
        }
    };
    (0..row.len()).map(value).collect()
}
