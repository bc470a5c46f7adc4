//! Parameters and rows.

use lock_core::sql::mysql::value;
use lock_core::sql::{Statement, Value};
use mysql_common::Row;
use mysql_common::Value as Wire;
use mysql_common::constants::ColumnType;

pub fn params(statement: &Statement) -> Vec<Wire> {
    let params = statement.params.iter().map(|value| match value {
        Value::Int(number) => Wire::Int(*number),
        Value::Text(text) => Wire::Bytes(text.clone().into_bytes()),
        Value::Null | Value::Texts(_) | Value::Ints(_) => Wire::NULL,
    });
    params.collect()
}

/// A row's values.
pub fn values(row: Row) -> Vec<Value> {
    let columns = row.columns();
    let values = row.unwrap_raw().into_iter().zip(columns.iter());
    values
        .map(|(wire, column)| {
            let is_integer = matches!(
                column.column_type(),
                ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_LONGLONG
            );
            match wire {
                Some(Wire::Int(number)) if is_integer => Value::Int(number),
                Some(Wire::Bytes(bytes)) => value(bytes, is_integer),
                _ => Value::Null,
            }
        })
        .collect()
}
