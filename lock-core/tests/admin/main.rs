//! An operator's requests about a lock table. No server is needed.

mod answers;
mod pages;
mod statements;

use lock_core::admin::{AdminRequest, AdminResponse};
use lock_core::sql::{Codec, Rows, Statement, Value, mysql, postgres, sqlite};
use lock_core::{Failure, Fence, Instant, LockName, TableName};
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(5_000_000_999);

fn on_postgres() -> Codec {
    postgres::codec(TableName::default())
}

fn on_sqlite() -> Codec {
    sqlite::codec(TableName::default(), "boot-1")
}

fn on_mysql() -> Codec {
    mysql::codec(TableName::default())
}

fn all() -> [Codec; 3] {
    [on_postgres(), on_sqlite(), on_mysql()]
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn list(after: Option<&str>) -> AdminRequest {
    AdminRequest::List { after: after.map(String::from) }
}

fn status() -> AdminRequest {
    AdminRequest::Status { name: LockName::new("a").expect("good") }
}

fn breaks(fence: u64) -> AdminRequest {
    AdminRequest::Break { name: LockName::new("a").expect("good"), fence: Fence::new(fence) }
}

fn purge(unused: Duration) -> AdminRequest {
    AdminRequest::purge(unused).expect("long enough")
}

/// All statements for the request, each of which returns `rows`, and the answer.
fn run(
    codec: &Codec,
    request: &AdminRequest,
    rows: &Rows,
) -> (Vec<Statement>, Result<AdminResponse, Failure>) {
    let mut exchange = codec.encode_admin(request, NOW);
    let mut statements = Vec::new();
    while let Some(statement) = exchange.poll_statement() {
        statements.push(statement);
        exchange.handle_rows(rows.clone());
    }
    (statements, exchange.finish())
}

fn statements(codec: &Codec, request: &AdminRequest) -> Vec<Statement> {
    run(codec, request, &Rows::new()).0
}
