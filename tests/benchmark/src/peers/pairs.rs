//! One lock acquired and freed again and again, with nobody in the way.

use super::Setting;
use super::locker::Locker;
use super::peer::{PEERS, Peer};
use super::processors::Processors;
use super::requests::Requests;
use crate::ours::NAME;
use crate::times::{Times, ratio, us};
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const PAIRS: usize = 50;
/// So many prepare statements and, after a server's start, wait for a TTL.
const WARM: usize = 10;

/// Where the pairs are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// In a task of the runtime, or on a thread of its own if it blocks.
    Task,
    /// On a thread outside, in `block_on`.
    BlockOn,
}

/// The times of all.
pub(crate) struct Pairs(Vec<Seen>);

struct Seen {
    peer: Peer,
    caller: Caller,
    times: Times,
    /// At the server.
    requests: Option<f64>,
}

/// Measures all by turns.
pub(crate) fn measure(setting: &Setting) -> Pairs {
    let mut all = Vec::new();
    for peer in PEERS.into_iter().filter(|peer| peer.makes_pairs()) {
        let seen = [Caller::Task, Caller::BlockOn].map(|caller| Seen {
            peer,
            caller,
            times: Times::default(),
            requests: None,
        });
        let seen = seen.into_iter().filter(Seen::applies).collect::<Vec<_>>();
        all.push((Requests::at(peer, setting), seen));
    }
    for _ in 0..ROUNDS {
        for (server, seen) in &mut all {
            for seen in seen {
                // New each time: what the system gives a connection's two ends to run on is half of a time.
                let locker = Locker::connect(seen.peer, setting, &[NAME.to_owned()]);
                pairs(setting, &locker, seen.caller, WARM);
                let before = server.count();
                seen.times.extend(pairs(setting, &locker, seen.caller, PAIRS));
                let counted = server.count().zip(before).map(|(after, before)| after - before);
                seen.requests = counted.map(|counted| counted / PAIRS as f64);
            }
        }
    }
    Pairs(all.into_iter().flat_map(|(_, seen)| seen).collect())
}

/// Makes so many.
pub(crate) fn pairs(
    setting: &Setting,
    locker: &Locker,
    caller: Caller,
    number: usize,
) -> Vec<Duration> {
    if locker.blocks() {
        let once = |_| {
            let began = Instant::now();
            locker.pair(NAME);
            began.elapsed()
        };
        return (0..number).map(once).collect();
    }
    let locker = locker.clone();
    let pairs = async move {
        let mut times = Vec::with_capacity(number);
        for _ in 0..number {
            let began = Instant::now();
            locker.during(NAME, async {}).await;
            times.push(began.elapsed());
        }
        times
    };
    match caller {
        Caller::Task => {
            let task = setting.runtime.spawn(pairs);
            setting.runtime.block_on(task).expect("no panic")
        }
        Caller::BlockOn => setting.runtime.block_on(pairs),
    }
}

impl Seen {
    fn applies(&self) -> bool {
        self.caller == Caller::Task || !self.peer.blocks()
    }
}

impl Pairs {
    fn find(&self, peer: Peer, caller: Caller) -> Option<&Seen> {
        self.0.iter().find(|seen| seen.peer == peer && seen.caller == caller)
    }

    /// The median, in µs.
    pub(crate) fn p50(&self, peer: Peer, caller: Caller) -> String {
        self.find(peer, caller).map_or("–".into(), |seen| us(seen.times.percentile(50)))
    }

    /// The median as a multiple of the raw driver's, with the same caller.
    pub(crate) fn to_raw(&self, peer: Peer, caller: Caller) -> String {
        let raw = peer.raw().and_then(|raw| self.find(raw, caller));
        let both = self.find(peer, caller).zip(raw);
        both.map_or("–".into(), |(seen, raw)| {
            ratio(seen.times.percentile(50), raw.times.percentile(50))
        })
    }
}

/// Prints a row for each.
pub(crate) fn print(processors: &Processors, pairs: &Pairs) {
    println!("\n### Lock and unlock, nobody in the way, on {processors}\n");
    println!(
        "| | in a task p50 µs | p99 | × raw | in `block_on` p50 µs | p99 | × raw | requests |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for peer in PEERS.into_iter().filter(|peer| peer.makes_pairs()) {
        let [task, block_on] = [Caller::Task, Caller::BlockOn].map(|caller| {
            let p99 = pairs.find(peer, caller).map(|seen| us(seen.times.percentile(99)));
            let p99 = p99.unwrap_or("–".into());
            format!("{} | {p99} | {}", pairs.p50(peer, caller), pairs.to_raw(peer, caller))
        });
        let requests = pairs.find(peer, Caller::Task).and_then(|seen| seen.requests);
        let requests = requests.map_or("–".into(), |each| format!("{each:.1}"));
        println!("| {peer} | {task} | {block_on} | {requests} |");
    }
}
