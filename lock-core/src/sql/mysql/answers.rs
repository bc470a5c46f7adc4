//! What a server answers, as rows.

use crate::sql::{Rows, Statement, Value};
use alloc::string::String;
use alloc::vec::Vec;

/// Whether a statement returns rows, if only none. Any other is answered by a number.
pub fn returns_rows(statement: &Statement) -> bool {
    ["SELECT", "SHOW"].iter().any(|first| statement.text.trim_start().starts_with(first))
}

/// The rows that a statement without rows stands for: one number of the server's OK.
pub fn answer(statement: &Statement, last_insert_id: u64, affected_rows: u64) -> Rows {
    let text = statement.text.trim_start();
    match affected_rows {
        _ if text.starts_with("DELETE") => one(i64::try_from(affected_rows).ok()),
        0 if text.starts_with("INSERT") => nothing(),
        _ => one(i64::try_from(last_insert_id).ok()),
    }
}

/// The answer to claims that wrote no row: all were denied, or the session is not one in which they count.
pub(in crate::sql) fn nothing() -> Rows {
    one(Some(-1))
}

fn one(number: Option<i64>) -> Rows {
    alloc::vec![alloc::vec![number.map_or(Value::Null, Value::Int)]]
}

/// What a column's bytes are: an integer's are its digits where the statement was sent as text. What is
/// neither an integer nor a text, no statement of ours returns; NULL is a surprise wherever it comes.
pub fn value(bytes: Vec<u8>, is_integer: bool) -> Value {
    match String::from_utf8(bytes) {
        Ok(digits) if is_integer => digits.parse().map_or(Value::Null, Value::Int),
        Ok(text) => Value::Text(text),
        Err(_) => Value::Null,
    }
}
