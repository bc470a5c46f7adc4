//! The checker of histories.

mod summary;
#[cfg(test)]
mod tests;
mod violation;

pub use summary::Summary;
pub use violation::Violation;

use super::records::{Ended, Record, records};
use super::{Event, What};
use std::collections::{BTreeMap, BTreeSet};
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

/// Checks a history, whose events may be in any order.
pub fn check(events: &[Event], bounds: &Bounds) -> (Summary, Vec<Violation>) {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.at);
    leave_out_the_dying(&mut events);
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

/// What a process still wrote when it was being killed. The server may free its locks in that moment, so it has none. A command of
/// a `withlock` that was killed is another process, which must end in time.
fn leave_out_the_dying(events: &mut Vec<Event>) {
    let mut dying = BTreeSet::new();
    events.retain(|Event { who, what, .. }| match what {
        What::Killed if !who.starts_with("withlock") => {
            dying.insert(who.clone());
            true
        }
        What::Up => {
            dying.remove(who);
            true
        }
        _ => !dying.contains(who),
    });
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
