//! Many that want one lock, each over connections of its own.

use crate::Backend;
use crate::floor::Kind;
use crate::times::{Times, us};
use lock_tests::place::{client, mysql_client};
use mysql::prelude::Queryable;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

const HOLD: Duration = Duration::from_millis(2);
const CROWDS: [usize; 3] = [8, 64, 256];
/// So many times all have their turn, about: enough that one turn more for some is less than a twentieth.
const TURNS: u32 = 30;
/// A hand-over takes so long, for the span to be chosen.
const TURN: Duration = Duration::from_millis(6);

/// Prints hand-offs, statements, shares and waits.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## A crowd at one lock, lock-async, {HOLD:?} held\n");
    println!(
        "| | contenders | hand-off p50 µs | p99 | statements a hand-off | fewest / most | worst wait, in turns of all |"
    );
    println!("|---|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for backend in backends {
        for contenders in CROWDS {
            if contenders > 64 && !matches!(backend.floor, Kind::Postgres(_)) {
                continue;
            }
            let all = runtime.block_on(async {
                let mut all = Vec::new();
                for _ in 0..contenders {
                    all.push(lock_async::Locks::connect(&backend.url).await.expect("connected"));
                }
                all
            });
            // The first contest opens connections.
            runtime.block_on(contest(&all, Duration::from_secs(2)));
            let before = statements(&backend.floor);
            let span = TURN * contenders as u32 * TURNS;
            let seen = runtime.block_on(contest(&all, span.max(Duration::from_secs(2))));
            let after = statements(&backend.floor);
            let held: usize = seen.counts.iter().sum();
            let each = before.zip(after).map_or("–".into(), |(before, after)| {
                format!("{:.1}", (after - before) as f64 / held as f64)
            });
            let fewest = seen.counts.iter().min().copied().unwrap_or_default();
            let most = seen.counts.iter().max().copied().unwrap_or_default().max(1);
            let of_all = seen.span.as_secs_f64() / held as f64 * contenders as f64;
            println!(
                "| {} | {contenders} | {} | {} | {each} | {fewest} / {most} = {:.2} | {:.1} |",
                backend.name,
                us(seen.handoffs.percentile(50)),
                us(seen.handoffs.percentile(99)),
                fewest as f64 / most as f64,
                seen.worst.as_secs_f64() / of_all,
            );
        }
    }
}

struct Seen {
    handoffs: Times,
    counts: Vec<usize>,
    worst: Duration,
    span: Duration,
}

async fn contest(all: &[lock_async::Locks], span: Duration) -> Seen {
    let freed: Arc<Mutex<Option<Instant>>> = Arc::default();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for locks in all {
        let (locks, freed) = (locks.clone(), freed.clone());
        tasks.spawn(async move {
            let (mut handoffs, mut count, mut worst) = (Times::default(), 0, Duration::ZERO);
            while began.elapsed() < span {
                let wanted = Instant::now();
                let guard = locks.lock("crowd").await.expect("granted");
                let last = freed.lock().expect("no panic").take();
                handoffs.extend(last.filter(|at| wanted < *at).map(|at| at.elapsed()));
                worst = worst.max(wanted.elapsed());
                count += 1;
                sleep(HOLD).await;
                *freed.lock().expect("no panic") = Some(Instant::now());
                guard.release().await.expect("freed");
            }
            (handoffs, count, worst)
        });
    }
    let mut seen =
        Seen { handoffs: Times::default(), counts: Vec::new(), worst: Duration::ZERO, span };
    for (handoffs, count, worst) in tasks.join_all().await {
        seen.handoffs.extend(handoffs);
        seen.counts.push(count);
        seen.worst = seen.worst.max(worst);
    }
    seen.span = began.elapsed();
    seen
}

/// How many statements the server has carried out, if it tells.
fn statements(floor: &Kind) -> Option<i64> {
    match floor {
        Kind::Postgres(url) => {
            let mut server = client(url);
            server.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").ok()?;
            let count = "SELECT sum(calls)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat%'";
            server.query_one(count, &[]).ok()?.get(0)
        }
        Kind::Mysql(url) => {
            let questions: Option<(String, i64)> =
                mysql_client(url).query_first("SHOW GLOBAL STATUS LIKE 'Questions'").ok()?;
            Some(questions?.1)
        }
        _ => None,
    }
}
