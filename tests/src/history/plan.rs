//! The faults of a trial, drawn from its seed: the same seed makes the same faults, in the same order, of the same length.

use std::fmt;
use std::time::Duration;

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of `seed` for `what`, which have nothing to do with those for anything else.
    pub fn new(seed: u64, what: &str) -> Self {
        let mix = |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(what.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix))
    }

    /// The next number, from 0 to `end` - 1. `splitmix64`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// A time between the two, in milliseconds.
    pub fn time(&mut self, from: Duration, to: Duration) -> Duration {
        let span = (to - from).as_millis() as u64;
        from + Duration::from_millis(self.below(span + 1))
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// `kill -9` of a client.
    Kill,
    /// `kill -STOP` of a client, and later `kill -CONT`.
    Stop,
    /// Packets between clients and the server vanish in both directions.
    CutBoth,
    /// What clients send vanishes.
    CutRequests,
    /// What the server sends vanishes.
    CutAnswers,
    /// Connections are reset.
    Reset,
    /// The server is stopped, and later goes on.
    Freeze,
    /// The server is shut down and started.
    Restart,
    /// `kill -9` of the server, which is started later.
    Crash,
    /// The server's clock is set, and runs at another rate from there on.
    Clock,
}

/// To whom a fault of clients or the network is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one that holds a lock at that time.
    Holder,
    /// The client of this number.
    Client(usize),
    /// All clients; a kill or a stop is of one.
    All(usize),
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is done.
    pub act: Act,
    /// To whom.
    pub target: Target,
    /// The time before it.
    pub after: Duration,
    /// The time that it lasts.
    pub time: Duration,
    /// The delay of each client's bytes in each direction, from the time before the fault until its end.
    pub delay: Duration,
    /// The server's clock from then on: seconds ahead, and its rate in percent.
    pub clock: (i64, u64),
}

impl Fault {
    /// The next fault out of `acts`, for a TTL.
    pub fn draw(dice: &mut Dice, acts: &[Act], clients: usize, ttl: Duration) -> Self {
        // Each fault takes as many numbers, whatever it is.
        let act = acts[dice.below(acts.len() as u64) as usize];
        let client = dice.below(clients as u64) as usize;
        let target = match dice.below(8) {
            0..4 => Target::Holder,
            4..7 => Target::Client(client),
            _ => Target::All(client),
        };
        let after = dice.time(Duration::ZERO, Duration::from_millis(500));
        let time = dice.time(ttl / 4, ttl * 2);
        let delay = dice.time(Duration::from_millis(20), Duration::from_millis(240));
        let delay = if dice.below(4) == 0 { delay } else { Duration::ZERO };
        let clock = (dice.below(7200) as i64 - 3600, 85 + dice.below(31));
        Self { act, target, after, time, delay, clock }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { act, target, after, time, delay, clock: (ahead, rate) } = self;
        write!(f, "{act:?} after {} ms", after.as_millis())?;
        match act {
            Act::Kill | Act::Restart => {}
            Act::Clock => write!(f, ", set to {ahead:+} s at {rate} %")?,
            _ => write!(f, " for {} ms", time.as_millis())?,
        }
        match act {
            Act::Freeze | Act::Restart | Act::Crash | Act::Clock => {}
            _ => write!(f, ", {target:?}")?,
        }
        if delay.is_zero() { Ok(()) } else { write!(f, ", delay {} ms", delay.as_millis()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTS: [Act; 3] = [Act::Kill, Act::CutAnswers, Act::Clock];

    fn drawn(seed: u64, place: &str) -> Vec<String> {
        let mut dice = Dice::new(seed, place);
        let next = |_| Fault::draw(&mut dice, &ACTS, 6, Duration::from_secs(1)).to_string();
        (0..100).map(next).collect()
    }

    #[test]
    fn faults_follow_from_the_seed() {
        let first = "Kill after 257 ms, Holder";
        assert_eq!(drawn(1, "postgres"), drawn(1, "postgres"));
        assert_eq!(drawn(1, "postgres")[0], first, "also in another version");
        assert_ne!(drawn(1, "postgres"), drawn(2, "postgres"));
        assert_ne!(drawn(1, "postgres"), drawn(1, "mysql"));
        for act in ACTS {
            assert!(drawn(1, "a").iter().any(|fault| fault.starts_with(&format!("{act:?}"))));
        }
    }
}
