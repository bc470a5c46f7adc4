//! The holds of a history, put together from its lines.

use super::{Event, Hold, What};
use std::collections::BTreeMap;

/// The time in which a client counted on a lock.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) who: String,
    pub(super) name: String,
    pub(super) fence: u64,
    pub(super) from: u64,
    /// The last time at which it said that it has it.
    pub(super) last: u64,
    /// The last deadline that its guard told. None for a command of `withlock`.
    pub(super) deadline: Option<u64>,
    pub(super) ended: Option<(u64, Ended)>,
    /// A time at which it said that it has it after it had been told that it is lost.
    pub(super) revived: Option<u64>,
}

/// Why a client no longer counts on a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Released,
    Told,
    Killed,
}

impl Record {
    /// The end of the time in which the hold was valid.
    pub(super) fn until(&self) -> u64 {
        match (self.deadline, self.ended) {
            (None, Some((at, Ended::Released))) => at,
            (None, _) => self.last,
            (Some(deadline), Some((at, _))) => deadline.min(at).max(self.last),
            (Some(deadline), None) => deadline.max(self.last),
        }
    }
}

/// The holds, in the order of their beginnings. The events are in the order of their times.
pub(super) fn records(events: &[Event]) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut known: BTreeMap<(&str, &str, u64), usize> = BTreeMap::new();
    for Event { at, who, what } in events {
        let at = *at;
        let of =
            |hold: &'_ Hold| known.get(&(who.as_str(), hold.name.as_str(), hold.fence)).copied();
        match what {
            What::Grant(hold) => {
                known.insert((who, &hold.name, hold.fence), records.len());
                records.push(Record {
                    who: who.clone(),
                    name: hold.name.clone(),
                    fence: hold.fence,
                    from: at,
                    last: at,
                    deadline: hold.until,
                    ended: None,
                    revived: None,
                });
            }
            What::Held(hold) => {
                let Some(index) = of(hold) else { continue };
                let record = &mut records[index];
                record.last = at;
                record.deadline = record.deadline.max(hold.until);
                if matches!(record.ended, Some((told, Ended::Told)) if told < at) {
                    record.revived = Some(at);
                }
            }
            What::Lost(hold) | What::Release(hold) => {
                let Some(index) = of(hold) else { continue };
                let is_loss = matches!(what, What::Lost(_));
                let how = if is_loss { Ended::Told } else { Ended::Released };
                records[index].ended.get_or_insert((at, how));
            }
            What::Killed | What::Exited => {
                // A command of withlock goes on until its guardian ends it.
                let own = known.iter().filter(|((of, ..), _)| of == who).map(|(_, index)| *index);
                for index in
                    own.filter(|index| records[*index].deadline.is_some()).collect::<Vec<_>>()
                {
                    records[index].ended.get_or_insert((at, Ended::Killed));
                }
            }
            _ => {}
        }
    }
    records
}
