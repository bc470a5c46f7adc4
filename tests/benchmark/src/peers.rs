//! What people would pick instead, beside ours, by turns in one run: the raw drivers with our own two statements, sqlx's
//! `PgAdvisoryLock`, rslock on Valkey, etcd's lock service. Nothing is encrypted.

mod contest;
mod counts;
mod etcd;
mod locker;
mod pairs;
mod peer;
mod processors;
mod requests;
mod sets;

use crate::times::us;
use contest::Contest;
pub(crate) use counts::{PAIRS, make, run as counts};
use pairs::{Caller, Pairs};
use peer::{PEERS, Peer};
use processors::Processors;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// The servers' URLs, and what callers run on.
pub(crate) struct Setting {
    postgres: String,
    valkey: String,
    etcd: String,
    /// A table that no other run has.
    table: String,
    runtime: Runtime,
}

/// Prints all tables, first the one that has a row for each peer.
pub(crate) fn run() {
    let began = Instant::now();
    let setting = Setting::new();
    let (mut pairs, mut contests, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut names = Vec::new();
    for processors in Processors::choices() {
        processors.take();
        pairs.push(pairs::measure(&setting));
        eprintln!("{:.0?}: pairs on {processors}", began.elapsed());
        rates.push(sets::measure(&setting));
        eprintln!("{:.0?}: 64 names on {processors}", began.elapsed());
        contests.push(contest::measure(&setting, &processors));
        eprintln!("{:.0?}: hand-offs on {processors}", began.elapsed());
        names.push(processors);
    }
    let last = names.len() - 1;
    println!("\n## Peers, by turns, on one processor and on {}\n", names[last]);
    summary(&pairs, &contests[last], &rates[last]);
    for (at, processors) in names.iter().enumerate() {
        pairs::print(processors, &pairs[at]);
        contest::print(processors, &contests[at]);
        sets::print(processors, &rates[at]);
    }
    counts();
    println!("\nThis took {:.0} s.", began.elapsed().as_secs_f64());
}

/// The table that BENCHMARKS begins with.
fn summary(pairs: &[Pairs], contests: &[Contest], rates: &[(Peer, f64)]) {
    println!(
        "| | lock and unlock on one processor p50 µs | × raw | on all p50 µs | × raw | hand-off of 8 p50 µs | of 64 | fewest / most of 64 | worst wait of 64, in turns of all | 64 names a second | durable | fence | holder told of a loss |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for peer in PEERS {
        let of = |contenders: usize| {
            contests.iter().find(|one| one.peer == peer && one.contenders == contenders)
        };
        let handoff = |contenders| {
            of(contenders).map_or("–".into(), |one: &Contest| us(one.handoffs.percentile(50)))
        };
        let rate = rates.iter().find(|(of, _)| *of == peer);
        let [durable, fenced, told] = peer.promises();
        let pairs = pairs.iter().map(|pairs| {
            let (time, ratio) = (pairs.p50(peer, Caller::Task), pairs.to_raw(peer, Caller::Task));
            format!("{time} | {ratio}")
        });
        println!(
            "| {peer} | {} | {} | {} | {} | {} | {} | {durable} | {fenced} | {told} |",
            pairs.collect::<Vec<_>>().join(" | "),
            handoff(8),
            handoff(64),
            of(64).map_or("–".into(), |one| format!("{:.2}", one.evenness())),
            of(64).map_or("–".into(), |one| format!("{:.1}", one.worst_in_turns())),
            rate.map_or("–".into(), |(_, rate)| format!("{rate:.0}")),
        );
    }
}

impl Setting {
    fn new() -> Self {
        let url = |variable: &str| {
            std::env::var(variable)
                .unwrap_or_else(|_| panic!("{variable} is not set: `tests/bench peers` sets it"))
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_millis();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self {
            postgres: url("POSTGRES_URL"),
            valkey: url("VALKEY_URL"),
            etcd: url("ETCD_URL"),
            table: format!("bench_{now}"),
            runtime: runtime.expect("a runtime"),
        }
    }

    /// The URL of our locks in a table.
    fn rows(&self) -> String {
        format!("{}?sslmode=disable&table={}", self.postgres, self.table)
    }

    /// The URL of our locks in the server's queue.
    fn queue(&self) -> String {
        format!("{}?sslmode=disable&protocol=advisory", self.postgres)
    }
}
