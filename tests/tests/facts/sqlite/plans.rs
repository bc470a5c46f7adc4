//! How SQLite finds the rows that a statement is about.

use crate::sqlite::{Table, run};
use lock_core::sql::{Exchange, Statement, Value};
use lock_core::{Claim, Instant, LockName, Owner, Request, SessionName, Turn};
use rusqlite::StatementStatus;
use std::time::Duration;

fn claims(names: &[&str]) -> Vec<Claim> {
    let waits = |claim| Claim { turn: Turn::Of(None), ..claim };
    let claim = |name: &&str| waits(Claim::new(LockName::new(name).expect("good"), Owner::new(1)));
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
            Request::Acquire {
                session: SessionName::default(),
                claims: claims(),
                ttl,
                min_uptime: Duration::ZERO,
                label: "h".into(),
            },
            Request::Renew { claims: claims(), ttl },
            Request::Release {
                passed_over: None,
                session: SessionName::default(),
                claims: claims(),
            },
            Request::Probe { claims: claims() },
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
                    [texts.to_vec(), [1, 1, 0, 0, 1, 0, 0].map(Value::Int).to_vec()].concat()
                };
                let asks = statement.text.trim_start().starts_with("SELECT");
                exchange.handle_rows(if asks { names.iter().map(held).collect() } else { vec![] });
            }
        }
    }
    assert_eq!(seen, 16, "claims, looks and draws after them, renewals, releases");
}

/// Steps of the machine that SQLite has its statements run by.
#[test]
fn what_a_batch_costs_grows_no_faster_than_the_batch() {
    let ttl = Duration::from_secs(1);
    let cost = |count: usize, owner: u128, command: fn(Vec<Claim>, Duration) -> Request| {
        let mut table = Table::new();
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        table.acquire_all(&claims(&names));
        table.now += 1;
        let asked =
            claims(&names).into_iter().map(|claim| Claim { owner: Owner::new(owner), ..claim });
        let now = Instant::from_nanos(table.now * 1_000);
        let mut exchange = table.codec.encode(&command(asked.collect(), ttl), now);
        let mut steps = 0;
        while let Some(statement) = exchange.poll_statement() {
            exchange.handle_rows(run(&table.db, &statement).expect("it runs"));
            let prepared = table.db.prepare_cached(&statement.text).expect("cached");
            steps += prepared.get_status(StatementStatus::VmStep);
        }
        exchange.finish().expect("rows as they should be");
        steps
    };
    let acquire = |claims, ttl| Request::Acquire {
        session: SessionName::default(),
        claims,
        ttl,
        min_uptime: Duration::ZERO,
        label: "h".into(),
    };
    let renew = |leases, ttl| Request::Renew { claims: leases, ttl };
    let release = |leases, _| Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: leases,
    };
    let look = |claims, _| Request::Probe { claims };
    for (what, owner, command) in [
        ("again", 1, acquire as fn(Vec<Claim>, Duration) -> Request),
        ("in vain", 2, acquire),
        ("renewed", 1, renew),
        ("released", 1, release),
        ("looked at", 2, look),
    ] {
        let [few, many] = [32, 256].map(|count| cost(count, owner, command));
        assert!(few > 32 && many < few * 12, "{what}: {few}, eight times as many: {many}");
    }
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
