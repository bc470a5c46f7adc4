//! The figures of a history.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The figures of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Grants, by the client's kind.
    pub grants: BTreeMap<String, usize>,
    /// Faults, by their kind.
    pub faults: BTreeMap<String, usize>,
    /// Holders that were told of a loss.
    pub losses: usize,
    /// Holds that overlapped.
    pub overlaps: usize,
    /// The latest word of a loss, after its deadline.
    pub latest_word: Duration,
    /// From the end of each fault to the next grant.
    pub next: Vec<Duration>,
    /// From the end of each fault until each client had got a lock.
    pub every: Vec<Duration>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = |of: &BTreeMap<String, usize>| {
            of.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let spread = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort();
            let at = |index: usize| times.get(index).map_or(0, Duration::as_millis);
            format!("p50 {} ms, max {} ms", at(times.len() / 2), at(times.len().saturating_sub(1)))
        };
        let faults: usize = self.faults.values().sum();
        let grants: usize = self.grants.values().sum();
        write!(
            f,
            "{faults} faults ({}); {grants} grants ({}); {} losses told, the latest {} ms after its deadline; {} overlaps; after a fault: next grant {}, every client {}",
            counts(&self.faults),
            counts(&self.grants),
            self.losses,
            self.latest_word.as_millis(),
            self.overlaps,
            spread(&self.next),
            spread(&self.every),
        )
    }
}
