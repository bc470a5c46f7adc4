//! An operator's questions about a lock table. No server is needed.

mod answers;
mod statements;

use lock_core::admin::Question;
use lock_core::sql::{Codec, Value, mysql, postgres, sqlite};
use lock_core::{Fence, LockName, TableName};
use std::time::Duration;

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
    Question::Purge { unused }
}
