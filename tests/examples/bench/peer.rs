//! PostgreSQL's advisory locks beside sqlx's `PgAdvisoryLock`, by turns: what a program that has a pool would pick instead.

use crate::Backend;
use crate::floor::Kind;
use crate::times::{Times, ratio, us};
use lock_tests::place::client;
use sqlx::postgres::{PgAdvisoryLock, PgConnectOptions, PgPool, PgPoolOptions};
use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

const ROUNDS: usize = 8;
const SPAN: Duration = Duration::from_secs(1);
const HOLD: Duration = Duration::from_millis(2);

/// Someone who acquires and frees one lock, over a connection of its own.
#[derive(Clone)]
enum Contender {
    Ours(lock_async::Locks),
    Sqlx(PgPool),
}

/// Prints hand-offs of both.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## Hand-offs of PostgreSQL's advisory locks, by turns, {HOLD:?} held\n");
    println!(
        "| contenders | lock-async p50 µs | p99 | statements a hand-off | sqlx p50 µs | p99 | statements | p50 of lock-async × sqlx |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for backend in backends.iter().filter(|one| !one.writes) {
        let Kind::Postgres(url) = &backend.floor else { continue };
        let mut server = client(url);
        let mut calls = || {
            let count = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query LIKE '%_advisory_%lock%' AND query NOT LIKE '%pg_stat%'";
            server.query_one(count, &[]).map_or(0, |row| row.get::<_, i64>(0))
        };
        for contenders in [2, 8] {
            let both = runtime.block_on(async {
                let mut both = [Vec::new(), Vec::new()];
                for _ in 0..contenders {
                    let locks = lock_async::Locks::connect(&backend.url).await.expect("connected");
                    both[0].push(Contender::Ours(locks));
                    both[1].push(Contender::Sqlx(pool(url).await));
                }
                both
            });
            let mut results = [(); 2].map(|()| (Times::default(), 0, 0));
            for round in 0..=ROUNDS {
                for (all, (times, holds, statements)) in both.iter().zip(&mut results) {
                    let before = calls();
                    let (handoffs, held) = runtime.block_on(contest(all));
                    // The first round opens connections.
                    if round > 0 {
                        *statements += calls() - before;
                        *holds += held;
                        times.extend(handoffs);
                    }
                }
            }
            let [ours, sqlx] = &mut results;
            let cells = |(times, holds, statements): &mut (Times, i64, i64)| {
                let each = *statements as f64 / *holds as f64;
                format!("{} | {} | {each:.3}", us(times.percentile(50)), us(times.percentile(99)))
            };
            println!(
                "| {contenders} | {} | {} | {} |",
                cells(ours),
                cells(sqlx),
                ratio(ours.0.percentile(50), sqlx.0.percentile(50)),
            );
        }
    }
}

/// A pool of one connection that is not pinged.
async fn pool(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().expect("a URL");
    let options = options.ssl_mode(sqlx::postgres::PgSslMode::Disable);
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    pool.connect_with(options).await.expect("connected")
}

/// From the beginning of each release to the next one's grant, and how often the lock was held.
async fn contest(all: &[Contender]) -> (Times, i64) {
    let freed: &Mutex<Option<Instant>> = Box::leak(Box::default());
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for contender in all {
        let contender = contender.clone();
        tasks.spawn(async move {
            let (mut handoffs, mut held) = (Times::default(), 0);
            while began.elapsed() < SPAN {
                let wanted = Instant::now();
                let hold = async {
                    let last = freed.lock().expect("no panic").take();
                    handoffs.extend(last.filter(|at| wanted < *at).map(|at| at.elapsed()));
                    sleep(HOLD).await;
                    *freed.lock().expect("no panic") = Some(Instant::now());
                };
                contender.during(hold).await;
                held += 1;
            }
            (handoffs, held)
        });
    }
    let (mut times, mut holds) = (Times::default(), 0);
    for (handoffs, held) in tasks.join_all().await {
        times.extend(handoffs);
        holds += held;
    }
    (times, holds)
}

impl Contender {
    /// Acquires the lock, and frees it after `hold`.
    async fn during(&self, hold: impl Future<Output = ()>) {
        match self {
            Self::Ours(locks) => {
                let guard = locks.lock("peer").await.expect("granted");
                hold.await;
                guard.release().await.expect("freed");
            }
            Self::Sqlx(pool) => {
                let lock = PgAdvisoryLock::new("peer of ours");
                let connection = pool.acquire().await.expect("a connection");
                let guard = lock.acquire(connection).await.expect("granted");
                hold.await;
                guard.release_now().await.expect("freed");
            }
        }
    }
}
