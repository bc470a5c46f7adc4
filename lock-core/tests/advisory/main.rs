//! Advisory locks in SQL: what rows and failures mean, what is refused, and that nothing surprising
//! is taken for a grant.

mod exchange;
mod flow;
mod hostile;
mod setup;
mod sql_lock;

use lock_core::sql::advisory::{Codec, Key, Prefix, Session, mysql, postgres};
use lock_core::sql::{Rows, Step, Value};
use lock_core::{Claim, LockName, Mode, Owner};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(30);
/// When the servers of these tests started, in µs.
const SINCE: i64 = 1_000_000;

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// Rows of place and number.
fn said(numbers: &[i64]) -> Rows {
    (1..).zip(numbers).map(|(place, number)| vec![int(place), int(*number)]).collect()
}

fn claim(name: &str, mode: Mode) -> Claim {
    Claim { mode, ..Claim::new(LockName::new(name).expect("good"), Owner::new(0xa)) }
}

fn claims(names: &[&str]) -> Vec<Claim> {
    names.iter().map(|name| claim(name, Mode::Exclusive)).collect()
}

/// What PostgreSQL answers while a connection is set up.
fn postgres_setup() -> Vec<Rows> {
    let find = vec![vec![int(77), text("mark")]];
    vec![
        vec![vec![int(140_000), int(0), int(SINCE), text(""), text("on")]],
        find.clone(),
        find,
        vec![],
    ]
}

/// What MySQL or MariaDB answers.
fn mysql_setup(version: &str) -> Vec<Rows> {
    let find =
        vec![int(77), text("mark"), text(version), text("0"), int(SINCE + 9_000_000), int(1_000)];
    let done = || vec![vec![int(0)]];
    vec![done(), done(), vec![vec![text("Uptime"), text("9")]], vec![find], vec![], vec![]]
}

/// The step after all `answers`, or the first one that is no statement, and the connection.
fn set_up(codec: &Codec, id: Option<u32>, answers: Vec<Rows>) -> (Step, Option<Session>) {
    let mut setup = codec.setup(TTL, id);
    let mut step = setup.step(None);
    for rows in answers {
        let Step::Run(_) = step else { break };
        step = setup.step(Some(Ok(rows)));
    }
    (step, setup.session().cloned())
}

/// A codec with a connection that is ready.
fn on_postgres(key: Key) -> (Codec, Session) {
    let codec = postgres::codec(key);
    let session = set_up(&codec, Some(77), postgres_setup()).1.expect("ready");
    (codec, session)
}

fn on_mysql(version: &str) -> (Codec, Session) {
    let codec = mysql::codec(Prefix::default());
    let session = set_up(&codec, Some(77), mysql_setup(version)).1.expect("ready");
    (codec, session)
}

/// All of them.
fn all() -> [(Codec, Session); 3] {
    [on_postgres(Key::Hash), on_mysql("8.0.11"), on_mysql("10.6.1-MariaDB")]
}
