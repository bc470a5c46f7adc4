//! How SQLite finds the rows that a statement is about.

use crate::{Table, run};
use lock_core::sql::{Exchange, Statement, Value};
use lock_core::table::Command;
use lock_core::{Claim, Instant, LockName, Mode, Owner};
use std::time::Duration;

fn claims(names: &[&str]) -> Vec<Claim> {
    let claim = |name: &&str| Claim {
        name: LockName::new(name).expect("good"),
        owner: Owner::new(1),
        mode: Mode::Exclusive,
    };
    names.iter().map(claim).collect()
}

#[test]
fn no_statement_reads_the_whole_table() {
    let table = Table::new();
    let ttl = Duration::from_secs(1);
    let mut seen = 0;
    for names in [&["a"][..], &["a", "b"]] {
        let claims = || claims(names);
        let commands = [
            Command::Acquire { claims: claims(), ttl, holder: "h".into() },
            Command::Renew { leases: claims(), ttl },
            Command::Release { leases: claims() },
            Command::Look { claims: claims() },
        ];
        for command in commands {
            let mut exchange: Exchange = table.codec.encode(&command, Instant::default());
            while let Some(statement) = exchange.poll_statement() {
                for step in plan(&table, &statement) {
                    let whole = step.starts_with("SCAN l") || step.starts_with("SCAN locks");
                    assert!(!whole, "{step}: {}", statement.text);
                }
                seen += 1;
                // Somebody else has what is asked for, and nobody waits for it.
                let held = |name: &&str| {
                    let texts = [name.to_string(), "h".to_string()].map(Value::Text);
                    [texts.to_vec(), vec![Value::Int(1); 2], vec![Value::Int(0)]].concat()
                };
                let asks = statement.text.trim_start().starts_with("SELECT");
                exchange.handle_rows(if asks { names.iter().map(held).collect() } else { vec![] });
            }
        }
    }
    assert_eq!(seen, 14, "claims, looks and marks after them, renewals, releases");
}

fn plan(table: &Table, statement: &Statement) -> Vec<String> {
    let mut explain = statement.clone();
    explain.text = format!("EXPLAIN QUERY PLAN {}", statement.text).into();
    let rows = run(&table.db, &explain).expect("explained");
    let step = |row: Vec<Value>| match row.into_iter().last() {
        Some(Value::Text(step)) => step,
        other => panic!("{other:?}"),
    };
    rows.into_iter().map(step).collect()
}
