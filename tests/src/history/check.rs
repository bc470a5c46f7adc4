//! The checker of histories.

#[cfg(test)]
mod tests;

use super::records::{Ended, Record, records};
use super::{Event, What};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a history must keep to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For how long after its deadline, or after its process goes on, a holder may be without the word that it lost its
    /// lock: timers are late.
    pub told: Duration,
    /// The time after the end of a fault in which each client must have got a lock, and after which a call hangs.
    pub grant: Duration,
}

impl Bounds {
    /// Those for a TTL.
    pub fn of(ttl: Duration) -> Self {
        Self { told: Duration::from_secs(2), grant: Duration::from_secs(30) + ttl * 9 }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Violation {
    /// Two valid holds of one name at once.
    Overlap { name: String, first: String, second: String, for_ns: u64 },
    /// A fence that is not greater than an earlier one.
    Fence { name: String, who: String, fence: u64, before: u64 },
    /// A permit beyond the number of them.
    Permit { name: String, who: String },
    /// A holder that was told of its loss too late, or never.
    ToldLate { name: String, who: String, fence: u64, late_ns: Option<u64> },
    /// A lock that was held after its holder was told of its loss.
    Revived { name: String, who: String, fence: u64 },
    /// A client without a lock for too long after a fault.
    Starved { who: String, healed_at: u64 },
    /// A call that does not return.
    Hung { who: String, since: u64 },
    /// A client that ended by itself.
    Exited { who: String },
    /// A history that shows nothing.
    Empty(&'static str),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::from_nanos;
        match self {
            Self::Overlap { name, first, second, for_ns } => {
                write!(f, "{first} and {second} held {name} at once for {:?}", time(*for_ns))
            }
            Self::Fence { name, who, fence, before } => {
                write!(f, "{who} got {name} with the fence {fence} after one with {before}")
            }
            Self::Permit { name, who } => write!(f, "{who} got {name}"),
            Self::ToldLate { name, who, fence, late_ns: Some(late) } => {
                write!(f, "{who} was told that {name} ({fence}) is lost {:?} late", time(*late))
            }
            Self::ToldLate { name, who, fence, late_ns: None } => {
                write!(f, "{who} was never told that {name} ({fence}) is lost")
            }
            Self::Revived { name, who, fence } => {
                write!(f, "{who} held {name} ({fence}) after it was told that it is lost")
            }
            Self::Starved { who, healed_at } => {
                write!(
                    f,
                    "{who} got no lock for too long after the fault that ended at {healed_at}"
                )
            }
            Self::Hung { who, since } => {
                write!(f, "{who}: a call of {since} did not return in time")
            }
            Self::Exited { who } => write!(f, "{who} ended by itself"),
            Self::Empty(what) => write!(f, "no {what}"),
        }
    }
}

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

/// Checks a history, whose events may be in any order.
pub fn check(events: &[Event], bounds: &Bounds) -> (Summary, Vec<Violation>) {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.at);
    let mut records = records(&events);
    records.sort_by_key(|record| record.from);
    let mut check = Check { events, bounds: *bounds, summary: Summary::default(), found: vec![] };
    check.exclusion(&records);
    check.losses(&records);
    check.liveness();
    check.calls();
    check.counts(&records);
    (check.summary, check.found)
}

struct Check {
    events: Vec<Event>,
    bounds: Bounds,
    summary: Summary,
    found: Vec<Violation>,
}

impl Check {
    /// No two valid holds at once, and rising fences.
    fn exclusion(&mut self, records: &[Record]) {
        // Of each name: the hold that lasts longest so far, and the greatest fence.
        let mut last: BTreeMap<&str, (&Record, u64)> = BTreeMap::new();
        for record in records {
            let (name, who) = (record.name.clone(), record.who.clone());
            let (longest, greatest) = last.entry(&record.name).or_insert((record, 0));
            if *greatest > 0 {
                if record.from <= longest.until() {
                    let for_ns = record.until().min(longest.until()).saturating_sub(record.from);
                    let first = format!("{} ({})", longest.who, longest.fence);
                    let second = format!("{who} ({})", record.fence);
                    let name = name.clone();
                    self.found.push(Violation::Overlap { name, first, second, for_ns });
                    self.summary.overlaps += 1;
                }
                if record.fence <= *greatest {
                    let (name, who, before) = (name.clone(), who.clone(), *greatest);
                    self.found.push(Violation::Fence { name, who, fence: record.fence, before });
                }
            }
            if record.until() >= longest.until() {
                *longest = record;
            }
            *greatest = record.fence.max(*greatest);
            let permit = name.split_once('#').and_then(|(_, permit)| permit.split_once('/'));
            let number = |text: &str| text.parse::<u32>().unwrap_or(0);
            if permit.is_some_and(|(it, of)| !(1..=number(of)).contains(&number(it))) {
                self.found.push(Violation::Permit { name, who });
            }
        }
    }

    /// A word of each loss by its deadline, and none of a lock after that.
    fn losses(&mut self, records: &[Record]) {
        let end = self.events.last().map_or(0, |event| event.at);
        let runs = self.events.iter().filter(|event| event.what == What::Continued);
        let runs: Vec<(u64, &str)> = runs.map(|event| (event.at, event.who.as_str())).collect();
        for record in records {
            let Record { who, name, fence, .. } = record;
            let (who, name, fence) = (who.clone(), name.clone(), *fence);
            if record.revived.is_some() {
                let (name, who) = (name.clone(), who.clone());
                self.found.push(Violation::Revived { name, who, fence });
            }
            let Some(deadline) = record.deadline else { continue };
            let told = match record.ended {
                Some((at, Ended::Told)) => Some(at),
                Some(_) => continue,
                None => None,
            };
            // A process that was stopped hears of it when it goes on.
            let before = |(at, of): &&(u64, &str)| *of == who && *at <= told.unwrap_or(end);
            let due = deadline.max(runs.iter().rev().find(before).map_or(0, |(at, _)| *at));
            let late = Duration::from_nanos(told.unwrap_or(end).saturating_sub(due));
            if told.is_some() {
                self.summary.losses += 1;
                self.summary.latest_word = self.summary.latest_word.max(late);
            }
            if late > self.bounds.told {
                let late_ns = told.map(|told| told.saturating_sub(due));
                self.found.push(Violation::ToldLate { name, who, fence, late_ns });
            }
        }
    }

    /// A lock for each client after each fault.
    fn liveness(&mut self) {
        let is_up = |event: &&Event| event.what == What::Up;
        let mut clients: Vec<String> =
            self.events.iter().filter(is_up).map(|event| event.who.clone()).collect();
        clients.sort();
        clients.dedup();
        let times = |is: fn(&What) -> bool| -> Vec<(u64, &str)> {
            let those = self.events.iter().filter(|event| is(&event.what));
            those.map(|event| (event.at, event.who.as_str())).collect()
        };
        let grants = times(|what| matches!(what, What::Grant(_)));
        let healed = times(|what| *what == What::Healed);
        for (healed_at, _) in healed {
            let later = &grants[grants.partition_point(|(at, _)| *at <= healed_at)..];
            let after = |at: u64| Duration::from_nanos(at - healed_at);
            let first = |client: &str| later.iter().find(|(_, who)| *who == client);
            self.summary.next.extend(later.first().map(|(at, _)| after(*at)));
            let mut slowest = Duration::ZERO;
            for who in &clients {
                let got = first(who).map(|(at, _)| after(*at));
                slowest = slowest.max(got.unwrap_or(self.bounds.grant));
                if got.is_none_or(|got| got > self.bounds.grant) {
                    self.found.push(Violation::Starved { who: who.clone(), healed_at });
                }
            }
            self.summary.every.push(slowest);
        }
    }

    /// Calls return, and clients go on.
    fn calls(&mut self) {
        let end = self.events.last().map_or(0, |event| event.at);
        let mut open: BTreeMap<&str, u64> = BTreeMap::new();
        let mut hung = Vec::new();
        let mut judge = |who: &str, since: u64, until: u64| {
            if Duration::from_nanos(until - since) > self.bounds.grant {
                hung.push(Violation::Hung { who: who.to_string(), since });
            }
        };
        for Event { at, who, what } in &self.events {
            let ended = match what {
                What::Invoke(_) | What::Release(_) => open.insert(who, *at),
                What::Grant(_) | What::Denied(_) | What::Released => open.remove(who.as_str()),
                What::Killed | What::Exited | What::Up => {
                    open.remove(who.as_str());
                    None
                }
                _ => None,
            };
            if let Some(since) = ended {
                judge(who, since, *at);
            }
        }
        for (who, since) in open {
            judge(who, since, end);
        }
        self.found.extend(hung);
        let exited = self.events.iter().filter(|event| event.what == What::Exited);
        self.found.extend(exited.map(|event| Violation::Exited { who: event.who.clone() }));
    }

    /// The history shows something.
    fn counts(&mut self, records: &[Record]) {
        let kind = |who: &str| who.trim_end_matches(|it: char| it.is_ascii_digit()).to_string();
        for record in records {
            *self.summary.grants.entry(kind(&record.who)).or_default() += 1;
        }
        for event in &self.events {
            let What::Fault(text) = &event.what else { continue };
            let act = text.split(' ').next().unwrap_or_default().to_string();
            *self.summary.faults.entry(act).or_default() += 1;
        }
        let mut demand = |there: bool, what| {
            if !there {
                self.found.push(Violation::Empty(what));
            }
        };
        demand(!self.summary.faults.is_empty(), "faults");
        demand(self.events.iter().any(|event| event.what == What::Up), "clients");
        demand(!records.is_empty(), "grants");
        demand(matches!(self.events.last(), Some(Event { what: What::End, .. })), "end");
    }
}
