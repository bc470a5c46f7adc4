//! Every statement that is ever sent, next to what was agreed on.
//!
//! `UPDATE_STATEMENTS=1 cargo test -p lock-tests --test statements` writes the files anew; then
//! read the difference.

use lock_core::sql::{Codec, Rows, Setup, Statement, Step, Value, mysql, postgres, sqlite};
use lock_core::table::Command;
use lock_core::{Claim, Instant, LockName, Mode, Owner, TableName};
use std::path::Path;
use std::time::Duration;

fn claims() -> Vec<Claim> {
    vec![Claim {
        name: LockName::new("a").expect("a good name"),
        owner: Owner::new(1),
        mode: Mode::Exclusive,
    }]
}

fn acquire(claims: Vec<Claim>) -> Command {
    Command::Acquire { claims, ttl: Duration::from_secs(30), holder: "".into() }
}

/// The statement of `command`, or the one that follows when its first one returned `rows`.
fn statement(codec: &Codec, command: &Command, rows: Option<Rows>) -> String {
    let mut exchange = codec.encode(command, Instant::default());
    if let Some(rows) = rows {
        exchange.handle_rows(rows);
    }
    exchange.poll_statement().expect("a statement").text.to_string()
}

/// The statements for commands. Those that take names return `denied` if they took none.
fn commands(codec: &Codec, denied: Rows) -> [(&'static str, String); 4] {
    let ttl = Duration::from_secs(30);
    let acquire = acquire(claims());
    let renew = Command::Renew { leases: claims(), ttl };
    let release = Command::Release { leases: claims() };
    [
        ("acquire: take the names that are free", statement(codec, &acquire, None)),
        ("acquire: who has the others", statement(codec, &acquire, Some(denied))),
        ("renew", statement(codec, &renew, None)),
        ("release", statement(codec, &release, None)),
    ]
}

fn step(setup: &mut Setup, answer: Option<Rows>) -> String {
    match setup.step(answer.map(Ok)) {
        Step::Run(Statement { text, .. }) => text.to_string(),
        other => panic!("nothing to run: {other:?}"),
    }
}

fn check_file(dialect: &str, statements: Vec<(&str, String)>) {
    let mut text = String::new();
    for (what, statement) in statements {
        text += &format!("-- {what}\n{};\n\n", statement.trim());
    }
    text.pop();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("statements").join(dialect);
    if std::env::var_os("UPDATE_STATEMENTS").is_some() {
        std::fs::write(&file, &text).expect("the file can be written");
    }
    let agreed = std::fs::read_to_string(&file).expect("the file is there");
    assert!(agreed == text, "{dialect} has changed, to:\n{text}");
}

#[test]
fn postgres_statements_are_those_agreed_on() {
    let codec = postgres::codec(TableName::default());
    let row = |commit: &str, kind: Value| {
        let columns = "acquired_at timestamptz, expires_at timestamptz, fence int8, holder text, name text C, owner text";
        let [commit, columns] = [commit, columns].map(|text| Value::Text(text.into()));
        vec![vec![Value::Int(0), Value::Int(170_000), commit, kind, columns, Value::Int(1)]]
    };
    let mut setup = codec.setup();
    let check = step(&mut setup, None);
    let create = step(&mut setup, Some(row("off", Value::Null)));
    assert_eq!(create, codec.create_table());
    assert_eq!(step(&mut setup, Some(vec![])), check, "and again");
    let durable = step(&mut setup, Some(row("off", Value::Text("rp".into()))));
    let setup = [
        ("setup: what kind of server and table is this", check),
        ("setup, if there is no such table", create),
        ("setup, if commits do not wait for the disk", durable),
    ];
    check_file("postgres.sql", setup.into_iter().chain(commands(&codec, vec![])).collect());
}

#[test]
fn sqlite_statements_are_those_agreed_on() {
    let codec = sqlite::codec(TableName::default(), "");
    let mut setup = codec.setup();
    let durable = step(&mut setup, None);
    let check = step(&mut setup, Some(vec![]));
    let journal = step(&mut setup, Some(vec![vec![Value::Null]]));
    let create = step(&mut setup, Some(vec![]));
    assert_eq!(create, codec.create_table());
    assert_eq!(step(&mut setup, Some(vec![])), check, "and again");
    let setup = [
        ("setup: a commit waits for the disk", durable),
        ("setup: what table is this", check),
        ("setup, if there is no such table: readers do not block the writer", journal),
        ("setup, if there is no such table", create),
    ];
    check_file("sqlite.sql", setup.into_iter().chain(commands(&codec, vec![])).collect());
}

#[test]
fn mysql_statements_are_those_agreed_on() {
    let codec = mysql::codec(TableName::default());
    let number = || vec![vec![Value::Int(0)]];
    let mut setup = codec.setup();
    let session = step(&mut setup, None);
    let isolation = step(&mut setup, Some(number()));
    let check = step(&mut setup, Some(number()));
    let [version, read_only] = ["8.0.11", "0"].map(|text| Value::Text(text.into()));
    let mut missing = vec![version, read_only, Value::Int(1), Value::Int(0)];
    missing.extend([Value::Null, Value::Null, Value::Int(0), Value::Int(0)]);
    let create = step(&mut setup, Some(vec![missing]));
    assert_eq!(create, codec.create_table());
    assert_eq!(step(&mut setup, Some(number())), check, "and again");
    let several = acquire(vec![claims(), claims()].concat());
    let setup = [
        ("setup: what the session goes by", session),
        ("setup: nothing is locked but what is meant", isolation),
        ("setup: what kind of server and table is this", check),
        ("setup, if there is no such table", create),
    ];
    let mine = [(
        "several claims: which are their owner's (after acquire and renew, before release)",
        statement(&codec, &several, Some(number())),
    )];
    let statements = setup.into_iter().chain(commands(&codec, number())).chain(mine);
    check_file("mysql.sql", statements.collect());
}
