//! The system calls and instructions of a pair of lock and unlock, which do not depend on the hour.
//!
//! A process of its own makes pairs under `perf` and then under `valgrind`, few of them and then more. The difference is
//! the cost of the pairs, without the start. `valgrind` needs a build in which `rustix` goes through the C library
//! (`--features rustix/use-libc`): it hides the kernel's page of functions, where `rustix` looks for the clock.

use crate::Backend;
use crate::floor::Kind;
use crate::ours::{advisory_locks, any, rows};
use lock_core::TableName;
use lock_core::sql::{advisory, postgres as table};
use lock_tests::place::with_settings;
use postgres::types::ToSql;
use std::future::Future;
use std::process::Command;
use tokio::runtime::{Builder, Runtime};

/// The argument by which a process is told to make pairs. The maker, a URL, and a number follow.
pub(crate) const PAIRS: &str = "--pairs";

const FEW: u32 = 200;
const MORE: u32 = 1200;

/// Prints the counts of those who can make pairs with PostgreSQL.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## Counts: a pair of lock and unlock on PostgreSQL, in a spawned task\n");
    println!("| | by | system calls | thousand instructions of the program |");
    println!("|---|---|---|---|");
    for backend in backends.iter().filter(|one| matches!(one.floor, Kind::Postgres(_))) {
        let ours = ["tokio-postgres", "lock-async", "postgres", "lock-sync"];
        let peer = (!backend.writes).then_some("sqlx");
        for by in ours.into_iter().chain(peer) {
            let each = |count: fn(&str, &str, u32) -> f64| {
                let [few, more] = [FEW, MORE].map(|pairs| count(by, &backend.url, pairs));
                (more - few) / f64::from(MORE - FEW)
            };
            let (calls, instructions) = (each(system_calls), each(instructions) / 1e3);
            println!("| {} | {by} | {calls:.2} | {instructions:.1} |", backend.name);
        }
    }
    println!("\n`tokio-postgres` and `postgres` run the same statements as the locks, prepared.");
}

fn system_calls(by: &str, url: &str, pairs: u32) -> f64 {
    let mut perf = Command::new("perf");
    perf.args(["stat", "--field-separator=,", "--event=raw_syscalls:sys_enter"]);
    counted(perf, by, url, pairs, |line| {
        line.contains("raw_syscalls").then(|| line.split(',').next())?
    })
}

/// Those of the program, without the kernel's.
fn instructions(by: &str, url: &str, pairs: u32) -> f64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    counted(valgrind, by, url, pairs, |line| line.split_once("Collected :").map(|(_, sum)| sum))
}

/// The sum that a tool prints about a process that makes pairs.
fn counted(
    mut tool: Command,
    by: &str,
    url: &str,
    pairs: u32,
    sum: impl Fn(&str) -> Option<&str>,
) -> f64 {
    tool.arg(std::env::current_exe().expect("known")).args([PAIRS, by, url, &pairs.to_string()]);
    let output = tool.output().expect("the tool is installed");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told.lines().find_map(sum).and_then(|sum| sum.trim().parse().ok()).expect("a number")
}

/// Makes pairs, as one of the processes.
pub(crate) fn make(mut args: impl Iterator<Item = String>) {
    let mut next = || args.next().expect("by, URL, number");
    let (by, url, pairs) = (next(), next(), next().parse().expect("a number"));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    match &*by {
        "lock-async" => spawned(&runtime, with_lock_async(url, pairs)),
        "sqlx" => spawned(&runtime, with_sqlx(url, pairs)),
        "tokio-postgres" => with_tokio_postgres(&runtime, &url, pairs),
        "postgres" => with_postgres(&url, pairs),
        _ => with_lock_sync(&url, pairs),
    }
}

fn spawned(runtime: &Runtime, pairs: impl Future<Output = ()> + Send + 'static) {
    let pairs = runtime.spawn(pairs);
    runtime.block_on(pairs).expect("no panic");
}

async fn with_lock_async(url: String, pairs: u32) {
    let locks = lock_async::Locks::connect(&url).await.expect("connected");
    for _ in 0..pairs {
        locks.lock("counted").await.expect("free").release().await.expect("freed");
    }
}

fn with_lock_sync(url: &str, pairs: u32) {
    let locks = lock_sync::Locks::connect(url).expect("connected");
    for _ in 0..pairs {
        locks.lock("counted").expect("free").release().expect("freed");
    }
}

/// As its documentation shows it, over a pool without pings.
async fn with_sqlx(url: String, pairs: u32) {
    use sqlx::postgres::{PgAdvisoryLock, PgConnectOptions, PgPoolOptions};
    let options: PgConnectOptions = plain(&url).parse().expect("a URL");
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool.connect_with(options).await.expect("connected");
    let lock = PgAdvisoryLock::new("counted");
    for _ in 0..pairs {
        let connection = pool.acquire().await.expect("a connection");
        lock.acquire(connection).await.expect("free").release_now().await.expect("freed");
    }
}

fn with_tokio_postgres(runtime: &Runtime, url: &str, pairs: u32) {
    let settings = plain(url);
    let connecting = tokio_postgres::connect(&settings, tokio_postgres::NoTls);
    let (client, connection) = runtime.block_on(connecting).expect("connected");
    runtime.spawn(connection);
    let mut line = (runtime.handle().clone(), client);
    let statements = statements(&mut line, url);
    let (_, client) = line;
    spawned(runtime, async move {
        let mut prepared = Vec::new();
        for statement in statements {
            let text = client.prepare(&statement.text).await.expect("prepared");
            prepared.push((text, statement.params));
        }
        for _ in 0..pairs {
            for (text, params) in &prepared {
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(any).collect();
                client.query(text, &params).await.expect("done");
            }
        }
    });
}

fn with_postgres(url: &str, pairs: u32) {
    let mut client = postgres::Client::connect(&plain(url), postgres::NoTls).expect("connected");
    let prepared = statements(&mut client, url)
        .map(|statement| (client.prepare(&statement.text).expect("prepared"), statement.params));
    for _ in 0..pairs {
        for (text, params) in &prepared {
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(any).collect();
            client.query(text, &params).expect("done");
        }
    }
}

/// Our own two statements, for the locks that the URL is about.
fn statements(client: &mut dyn lock_tests::raw::Raw, url: &str) -> [lock_core::sql::Statement; 2] {
    if url.contains("protocol=advisory") {
        let codec = advisory::postgres::codec(advisory::Key::default());
        return advisory_locks(client, &codec, None);
    }
    rows(client, &table::codec(TableName::new("bench_counts").expect("a good name")))
}

/// The URL without what is ours, but with the settings of our sessions.
fn plain(url: &str) -> String {
    with_settings(url.split('?').next().unwrap_or(url))
}
