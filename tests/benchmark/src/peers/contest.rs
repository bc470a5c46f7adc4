//! Many who want one lock, each over connections of its own.

use super::Setting;
use super::locker::Locker;
use super::peer::{PEERS, Peer};
use super::processors::Processors;
use super::requests::Requests;
use crate::times::{Times, us};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

const NAME: &str = "contest";
const HOLD: Duration = Duration::from_millis(2);
/// So many contenders, and rounds of so long.
const CROWDS: [(usize, usize, Duration); 4] = [
    (2, 2, Duration::from_millis(700)),
    (8, 3, Duration::from_millis(800)),
    (64, 1, Duration::from_millis(4000)),
    (256, 1, Duration::from_millis(8000)),
];
/// On one processor, more would measure how long it takes them to connect.
const CROWD_OF_ONE: usize = 64;

/// What became of it.
pub(crate) struct Contest {
    pub(crate) peer: Peer,
    pub(crate) contenders: usize,
    /// From the beginning of a release to the next grant.
    pub(crate) handoffs: Times,
    /// How often each contender held the lock.
    held: Vec<usize>,
    worst: Duration,
    span: Duration,
    /// At the server.
    requests: Option<f64>,
}

/// Lets all contend, by turns. Connections live for a turn, because the server has not enough for all.
pub(crate) fn measure(setting: &Setting, processors: &Processors) -> Vec<Contest> {
    let mut all: Vec<Contest> = Vec::new();
    for (contenders, rounds, span) in CROWDS {
        if processors.is_one() && contenders > CROWD_OF_ONE {
            continue;
        }
        let first = all.len();
        let peers = PEERS.into_iter().filter(|peer| peer.contends());
        all.extend(peers.map(|peer| Contest::new(peer, contenders)));
        for _ in 0..rounds {
            for contest in &mut all[first..] {
                contest.go_on(setting, span);
            }
        }
    }
    all
}

impl Contest {
    fn new(peer: Peer, contenders: usize) -> Self {
        Self {
            peer,
            contenders,
            handoffs: Times::default(),
            held: vec![0; contenders],
            worst: Duration::ZERO,
            span: Duration::ZERO,
            requests: Some(0.),
        }
    }

    fn go_on(&mut self, setting: &Setting, span: Duration) {
        let mut server = Requests::at(self.peer, setting);
        let name = [NAME.to_owned()];
        let connect = |_| Locker::connect(self.peer, setting, &name);
        let lockers: Vec<Locker> = (0..self.contenders).map(connect).collect();
        // Once each: it opens further connections.
        let mut beginning = Self::new(self.peer, self.contenders);
        setting.runtime.block_on(beginning.contend(&lockers, Duration::ZERO));
        let before = server.count();
        setting.runtime.block_on(self.contend(&lockers, span));
        let counted = before.zip(server.count()).map(|(before, after)| after - before);
        self.requests = self.requests.zip(counted).map(|(sum, more)| sum + more);
        setting.runtime.block_on(async {
            for locker in lockers {
                if let Locker::Sqlx(pool, _) = &locker {
                    pool.close().await;
                }
            }
            // The server is to notice that they are gone.
            sleep(Duration::from_millis(100 + self.contenders as u64)).await;
        });
    }

    async fn contend(&mut self, lockers: &[Locker], span: Duration) {
        let freed: Arc<Mutex<Option<Instant>>> = Arc::default();
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for (at, locker) in lockers.iter().enumerate() {
            let (locker, freed) = (locker.clone(), freed.clone());
            tasks.spawn(async move {
                let (mut handoffs, mut held, mut worst) = (Times::default(), 0, Duration::ZERO);
                loop {
                    let wanted = Instant::now();
                    let hold = async {
                        worst = worst.max(wanted.elapsed());
                        let last = freed.lock().expect("no panic").take();
                        handoffs.extend(last.filter(|at| wanted < *at).map(|at| at.elapsed()));
                        held += 1;
                        sleep(HOLD).await;
                        *freed.lock().expect("no panic") = Some(Instant::now());
                    };
                    locker.during(NAME, hold).await;
                    if began.elapsed() >= span {
                        return (at, handoffs, held, worst);
                    }
                }
            });
        }
        for (at, handoffs, held, worst) in tasks.join_all().await {
            self.handoffs.extend(handoffs);
            self.held[at] += held;
            self.worst = self.worst.max(worst);
        }
        self.span += began.elapsed();
    }

    fn total(&self) -> usize {
        self.held.iter().sum()
    }

    /// How often the one that held the lock least often held it, as a part of the one that held it most often.
    pub(crate) fn evenness(&self) -> f64 {
        let [fewest, most] = self.extremes();
        fewest as f64 / most.max(1) as f64
    }

    fn extremes(&self) -> [usize; 2] {
        let extremes = self.held.iter().min().zip(self.held.iter().max());
        extremes.map_or([0, 0], |(fewest, most)| [*fewest, *most])
    }

    /// The longest wait, in the average time in which each holds the lock once.
    pub(crate) fn worst_in_turns(&self) -> f64 {
        let turn = self.span.as_secs_f64() / self.total() as f64 * self.contenders as f64;
        self.worst.as_secs_f64() / turn
    }
}

/// Prints a row for each.
pub(crate) fn print(processors: &Processors, contests: &[Contest]) {
    println!("\n### Hand-off: from a release to the next grant, {HOLD:?} held, on {processors}\n");
    println!(
        "| | contenders | p50 µs | p99 | requests a hand-off | fewest / most | worst wait ms | in turns of all |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for one in contests {
        let each = one.requests.map(|requests| requests / one.total() as f64);
        let [fewest, most] = one.extremes();
        println!(
            "| {} | {} | {} | {} | {} | {fewest} / {most} = {:.2} | {:.0} | {:.1} |",
            one.peer,
            one.contenders,
            us(one.handoffs.percentile(50)),
            us(one.handoffs.percentile(99)),
            each.map_or("–".into(), |each| format!("{each:.1}")),
            one.evenness(),
            one.worst.as_secs_f64() * 1e3,
            one.worst_in_turns(),
        );
    }
}
