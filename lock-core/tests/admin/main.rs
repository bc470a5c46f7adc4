//! An operator's questions about a lock table. No server is needed.

mod answers;
mod pages;
mod statements;

use lock_core::admin::{Answer, Question};
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

fn list(after: Option<&str>) -> Question {
    Question::List { after: after.map(String::from) }
}

fn status() -> Question {
    Question::Status { name: LockName::new("a").expect("good") }
}

fn breaks(fence: u64) -> Question {
    Question::Break { name: LockName::new("a").expect("good"), fence: Fence::new(fence) }
}

fn purge(unused: Duration) -> Question {
    Question::purge(unused).expect("long enough")
}

/// All statements for the question, each of which returns `rows`, and the answer.
fn run(
    codec: &Codec,
    question: &Question,
    rows: &Rows,
) -> (Vec<Statement>, Result<Answer, Failure>) {
    let mut exchange = codec.ask(question, NOW);
    let mut statements = Vec::new();
    while let Some(statement) = exchange.poll_statement() {
        statements.push(statement);
        exchange.handle_rows(rows.clone());
    }
    (statements, exchange.finish())
}

fn statements(codec: &Codec, question: &Question) -> Vec<Statement> {
    run(codec, question, &Rows::new()).0
}
