//! Several who want one lock, each with a connection of its own, as several processes would be.

use crate::Backend;
use crate::floor::Floor;
use crate::times::{Times, ratio, us};
use lock_async::{Config, Locks};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::sleep;

const HOLD: Duration = Duration::from_millis(5);
const SPAN: Duration = Duration::from_secs(6);

/// Prints the time from a release to the next grant.
pub(crate) fn run(backends: &[Backend]) {
    println!("\n## Hand-off: from a release to the next one's grant, lock-async, {HOLD:?} held\n");
    println!(
        "| | round trip µs | write µs | waiters | p50 µs | p99 | p50 × (3 trips + write) | hand-offs a second |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let runtime = runtime();
    for backend in backends {
        let mut floor = Floor::new(&backend.floor);
        for waiters in [2, 8, 64] {
            let mut floors = Floors::default();
            floors.measure(&mut floor);
            let Some(handoffs) = contest(&runtime, backend, waiters) else { continue };
            floors.measure(&mut floor);
            let [trip, write] = [floors.trips, floors.writes].map(|all| all.percentile(50));
            let floor = if backend.writes { trip * 3 + write } else { trip * 3 };
            println!(
                "| {} | {} | {} | {waiters} | {} | {} | {} | {:.0} |",
                backend.name,
                us(trip),
                us(write),
                us(handoffs.percentile(50)),
                us(handoffs.percentile(99)),
                ratio(handoffs.percentile(50), floor),
                handoffs.len() as f64 / SPAN.as_secs_f64(),
            );
        }
    }
}

/// Prints how hand-offs grow with the tasks of one process that wait.
pub(crate) fn waiters(backends: &[Backend]) {
    println!("\n## Waiters: tasks of one process on one name, over one connection\n");
    println!("| | waiters | hand-offs a second |");
    println!("|---|---|---|");
    let runtime = runtime();
    for backend in backends {
        for waiters in [1, 10, 100, 1000] {
            let Ok(locks) = runtime.block_on(connect(backend)) else { continue };
            let began = Instant::now();
            let done = runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..waiters {
                    let locks = locks.clone();
                    tasks.spawn(async move {
                        let mut done = 0;
                        while began.elapsed() < SPAN / 2 {
                            let guard = locks.lock("one").await.expect("granted");
                            done += usize::from(began.elapsed() < SPAN / 2);
                            guard.release().await.expect("freed");
                        }
                        done
                    });
                }
                tasks.join_all().await.into_iter().sum::<usize>()
            });
            let rate = done as f64 / (SPAN / 2).as_secs_f64();
            println!("| {} | {waiters} | {rate:.0} |", backend.name);
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn connect(backend: &Backend) -> Result<Locks, lock_async::Error> {
    let config: Config = backend.url.parse()?;
    Locks::open(config).await
}

/// The round trip and the committed write, by the raw driver, each after a pause as long as the lock is
/// held: processors that have fallen asleep are woken up at each hand-off, too.
#[derive(Default)]
struct Floors {
    trips: Times,
    writes: Times,
}

impl Floors {
    fn measure(&mut self, floor: &mut Floor) {
        let timed = |call: fn(&mut Floor), floor: &mut Floor| {
            std::thread::sleep(HOLD);
            let began = Instant::now();
            call(floor);
            began.elapsed()
        };
        for _ in 0..200 {
            self.trips.push(timed(Floor::trip, floor));
            self.writes.push(timed(Floor::write, floor));
        }
    }
}

/// From the beginning of each release to the next one's grant.
fn contest(runtime: &Runtime, backend: &Backend, rivals: usize) -> Option<Times> {
    let freed: &Mutex<Option<Instant>> = Box::leak(Box::default());
    let began = Instant::now();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..rivals {
            let locks = connect(backend).await.ok()?;
            tasks.spawn(async move {
                let mut handoffs = Times::default();
                while began.elapsed() < SPAN {
                    let wanted = Instant::now();
                    let guard = locks.lock("contest").await.expect("granted");
                    let last = freed.lock().expect("no panic").take();
                    handoffs.extend(last.filter(|at| wanted < *at).map(|at| at.elapsed()));
                    sleep(HOLD).await;
                    *freed.lock().expect("no panic") = Some(Instant::now());
                    guard.release().await.expect("freed");
                }
                handoffs
            });
        }
        let mut all = Times::default();
        for handoffs in tasks.join_all().await {
            all.extend(handoffs);
        }
        Some(all)
    })
}
