//! Parameters, rows and errors.

use crate::handshake::advice;
use lock_core::sql::Value;
use lock_core::sql::postgres::{connect_failed, statement_failed};
use lock_core::{Failure, PinParam, PinStatement};
use std::error::Error as _;
use std::io;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

const CLOSED: &str = "the server closed the connection";

/// The client's error for a password that is missing.
const NO_PASSWORD: &str = "password missing";

pub fn param(value: &Value) -> (&(dyn ToSql + Sync), Type) {
    match value {
        Value::Null => (&None::<i64>, Type::INT8),
        Value::Int(number) => (number, Type::INT8),
        Value::Text(text) => (text, Type::TEXT),
        Value::Texts(texts) => (texts, Type::TEXT_ARRAY),
        Value::Ints(numbers) => (numbers, Type::INT8_ARRAY),
    }
}

/// The parameters of a pin.
pub fn pin_params(pin: &PinStatement) -> Vec<(&(dyn ToSql + Sync), Type)> {
    pin.params.iter().map(pin_param).collect()
}

fn pin_param(value: &PinParam) -> (&(dyn ToSql + Sync), Type) {
    match value {
        PinParam::Int(number) => (number, Type::INT8),
        PinParam::Text(text) => (text, Type::TEXT),
        PinParam::Bytes(bytes) => (bytes, Type::BYTEA),
    }
}

/// A row's values. Our statements return only `bigint` and text. Any other type becomes NULL, which the core
/// rejects.
pub fn row(row: &Row) -> Vec<Value> {
    (0..row.len())
        .map(|at| match *row.columns()[at].type_() {
            Type::INT8 => row.try_get(at).ok().flatten().map_or(Value::Null, Value::Int),
            Type::TEXT => row.try_get(at).ok().flatten().map_or(Value::Null, Value::Text),
            _ => Value::Null,
        })
        .collect()
}

/// The failure of a statement, by the server's error or its silence.
pub fn failed(error: &Error) -> Failure {
    let (code, message) = describe(error);
    statement_failed(code.as_deref(), &message)
}

/// The client's error for a host that is not the one to be chosen.
const NO_WRITES: &str = "database does not allow writes";

/// The failure of a connect.
pub fn not_connected(error: &Error) -> Failure {
    let (code, mut message) = describe(error);
    if message.ends_with(NO_PASSWORD) {
        let why = "the server asks for a password, and there is none: put it into the URL, PGPASSWORD or ~/.pgpass";
        return Failure::refused(why.to_string());
    }
    if message.ends_with(NO_WRITES) {
        message =
            "it takes no writes: it is a standby, or its transactions are read-only".to_string();
    }
    match advice(error) {
        Some(advice) => Failure::refused(format!("{message}: {advice}")),
        None => connect_failed(code.as_deref(), &message),
    }
}

/// The SQLSTATE, and the error in one line. Neither contains data that the client sent.
pub fn describe(error: &Error) -> (Option<String>, String) {
    if let Some(answer) = error.as_db_error() {
        return (Some(answer.code().code().to_string()), answer.message().to_string());
    }
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = match cause.downcast_ref().map(io::Error::kind) {
            // Whatever the client was about, it is the silence that someone must look into.
            Some(io::ErrorKind::TimedOut) => return (None, cause.to_string()),
            // The text is about TLS, and long, though the server may have been killed.
            Some(io::ErrorKind::UnexpectedEof) => format!("{message}: {CLOSED}"),
            _ => format!("{message}: {cause}"),
        };
        source = cause.source();
    }
    (None, message)
}
