//! What it costs a claim that it waits for pins, and what a pin costs.

use crate::Backend;
use crate::floor::Kind;
use crate::ours::{NAME, any, bound, rows};
use crate::times::{Times, ratio, us};
use lock_core::sql::{Codec, Statement, mysql as mysql_table, postgres as pg_table};
use lock_core::{Fence, LockName, TableName};
use lock_tests::place::{client, mysql_client, with_settings};
use mysql::prelude::Queryable;
use postgres::types::ToSql;
use std::time::Instant;

const ROUNDS: usize = 40;
const PAIRS: usize = 50;

/// A user's data, and a write.
const DATA: &str = "DROP TABLE IF EXISTS bench_data; CREATE TABLE bench_data (n INT); INSERT INTO bench_data VALUES (0)";
const WRITE: &str = "UPDATE bench_data SET n = n + 1";

/// Prints a table: a lock and an unlock without and with what a claim does for pins, by turns.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## Pins: our statements alone\n");
    println!(
        "| | lock and unlock without p50 µs | with | × | a transaction of one write | with a pin | × |"
    );
    println!("|---|---|---|---|---|---|---|");
    for backend in backends.iter().filter(|backend| backend.writes) {
        let mut pairs: Pairs = match &backend.floor {
            Kind::Postgres(url) => postgres(url),
            Kind::Mysql(url) => mysql(url),
            _ => continue,
        };
        let [mut without, mut with, mut plain, mut pinned] = [(); 4].map(|()| Times::default());
        for round in 0..=ROUNDS {
            let all = [&mut without, &mut with, &mut plain, &mut pinned];
            for (times, call) in all.into_iter().zip(&mut pairs) {
                let once = |_| {
                    let began = Instant::now();
                    call();
                    began.elapsed()
                };
                let taken: Vec<_> = (0..PAIRS).map(once).collect();
                if round > 0 {
                    times.extend(taken);
                }
            }
        }
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            backend.name,
            us(without.percentile(50)),
            us(with.percentile(50)),
            ratio(with.percentile(50), without.percentile(50)),
            us(plain.percentile(50)),
            us(pinned.percentile(50)),
            ratio(pinned.percentile(50), plain.percentile(50)),
        );
    }
}

/// A lock and an unlock without and with it, a transaction without and with a pin.
type Pairs = [Box<dyn FnMut()>; 4];

fn table(name: &str) -> TableName {
    TableName::new(name).expect("a good name")
}

/// The pin of a lock that is held, and of which nothing is known but that.
fn pin(codec: &Codec, fence: i64) -> String {
    let (name, fence) = (LockName::new("bench").expect("good"), Fence::new(fence as u64));
    codec.pin(&name, fence).inline().to_string()
}

fn postgres(url: &str) -> Pairs {
    let pair = |name: &str, words: &str| -> Box<dyn FnMut()> {
        let mut client = client(&with_settings(url));
        let statements = rows(&mut client, &pg_table::codec(table(name)), NAME);
        let statements = statements.map(|statement| {
            let text = statement.text.replace(words, "");
            (client.prepare(&text).expect("prepared"), statement.params)
        });
        Box::new(move || {
            for (prepared, params) in &statements {
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(any).collect();
                assert_eq!(client.query(prepared, &params).expect("done").len(), 1);
            }
        })
    };
    let without = pair("bench_without_pins", "name = excluded.name, ");
    let with = pair("bench_with_pins", "$$ nothing $$");
    let mut user = client(url);
    let query = "SELECT fence FROM bench_pinned";
    let held = |user: &mut postgres::Client| {
        let codec = pg_table::codec(table("bench_pinned"));
        let mut own = client(&with_settings(url));
        let [claim, _] = rows(&mut own, &codec, NAME);
        lock_tests::raw::Raw::run(&mut own, &claim).expect("granted");
        pin(&codec, user.query_one(query, &[]).expect("a row").get(0))
    };
    let text = held(&mut user);
    user.batch_execute(DATA).expect("made");
    let transaction = |pin: Option<String>| -> Box<dyn FnMut()> {
        let mut user = client(url);
        Box::new(move || {
            user.simple_query("BEGIN").expect("begun");
            if let Some(pin) = &pin {
                assert_eq!(user.simple_query(pin).expect("pinned").len(), 3);
            }
            user.simple_query(WRITE).expect("written");
            user.simple_query("COMMIT").expect("ended");
        })
    };
    [without, with, transaction(None), transaction(Some(text))]
}

fn mysql(url: &str) -> Pairs {
    let pair = |name: &str, drops: bool| -> Box<dyn FnMut()> {
        let mut client = mysql_client(url);
        let statements = rows(&mut client, &mysql_table::codec(table(name)), NAME);
        if drops {
            // It may be gone since an earlier run.
            let _ = client.query_drop(format!("ALTER TABLE {name} DROP INDEX pin"));
        }
        let statements = statements.map(|Statement { text, params, .. }| {
            let params: Vec<mysql::Value> = params.iter().map(bound).collect();
            (client.prep(&*text).expect("prepared"), mysql::Params::from(params))
        });
        Box::new(move || {
            for (prepared, params) in &statements {
                client.exec_drop(prepared, params.clone()).expect("done");
            }
        })
    };
    let (without, with) = (pair("bench_without_pins", true), pair("bench_with_pins", false));
    let codec = mysql_table::codec(table("bench_pinned"));
    let mut user = mysql_client(url);
    let [claim, _] = rows(&mut user, &codec, NAME);
    lock_tests::raw::Raw::run(&mut user, &claim).expect("granted");
    let fence = user.query_first("SELECT fence FROM bench_pinned").expect("asked");
    let text = pin(&codec, fence.expect("a row"));
    for statement in DATA.split(';') {
        user.query_drop(statement).expect("made");
    }
    let transaction = |pin: Option<String>| -> Box<dyn FnMut()> {
        let mut user = mysql_client(url);
        Box::new(move || {
            user.query_drop("BEGIN").expect("begun");
            if let Some(pin) = &pin {
                assert!(user.query_first::<i64, _>(pin).expect("asked").is_some());
            }
            user.query_drop(WRITE).expect("written");
            user.query_drop("COMMIT").expect("ended");
        })
    };
    [without, with, transaction(None), transaction(Some(text))]
}
