//! Many tasks that lock names of their own.

use super::Setting;
use super::locker::Locker;
use super::peer::{PEERS, Peer};
use super::processors::Processors;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const NAMES: usize = 64;
const ROUNDS: usize = 3;
const SPAN: Duration = Duration::from_millis(700);

/// The pairs of lock and unlock a second: the median of some rounds, by turns.
pub(crate) fn measure(setting: &Setting) -> Vec<(Peer, f64)> {
    let names: Vec<String> = (0..NAMES).map(|at| format!("name-{at}")).collect();
    let mut all = Vec::new();
    for peer in PEERS.into_iter().filter(|peer| peer.shares()) {
        all.push((peer, Locker::connect(peer, setting, &names), Vec::new()));
    }
    for round in 0..=ROUNDS {
        for (_, locker, rates) in &mut all {
            let rate = setting.runtime.block_on(rate(locker, &names));
            // The first opens connections.
            rates.extend((round > 0).then_some(rate));
        }
    }
    let median = |mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    all.into_iter().map(|(peer, _, rates)| (peer, median(rates))).collect()
}

async fn rate(locker: &Locker, names: &[String]) -> f64 {
    let began = Instant::now();
    let mut set = JoinSet::new();
    for name in names {
        let (locker, name) = (locker.clone(), name.clone());
        set.spawn(async move {
            let mut pairs = 0;
            while began.elapsed() < SPAN {
                locker.during(&name, async {}).await;
                pairs += 1;
            }
            pairs
        });
    }
    let pairs: usize = set.join_all().await.into_iter().sum();
    pairs as f64 / began.elapsed().as_secs_f64()
}

/// Prints a row for each.
pub(crate) fn print(processors: &Processors, rates: &[(Peer, f64)]) {
    println!("\n### {NAMES} tasks with a name each, on {processors}\n");
    println!("| | lock and unlock, a second |");
    println!("|---|---|");
    for (peer, rate) in rates {
        println!("| {peer} | {rate:.0} |");
    }
}
