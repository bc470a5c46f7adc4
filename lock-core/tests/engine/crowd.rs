//! Three processes and a table, by chance.

use super::scenario::{START, config};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Connection, Server};
use lock_core::{
    Config, ConnectionId, DispatchId, Engine, Event, Failure, Fence, Instant, LockId, LockName,
    Reply, Request, table,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Numbers that look random: the same for the same seed.
pub(crate) struct Dice {
    state: u64,
    /// The same number all through a schedule.
    pub(crate) of_the_schedule: u64,
}

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % sides
    }
}

/// A process: its engine, its requests under way, and what its callers think.
struct Process {
    engine: Engine,
    requests: Vec<(DispatchId, Request, Option<Reply>)>,
    wanting: Vec<LockId>,
    held: BTreeMap<LockId, u64>,
}

impl Process {
    fn hears(&mut self, now: Instant) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Granted { id, fence, .. } => {
                    assert!(self.wanting.contains(&id), "nobody wants {id:?}");
                    self.wanting.retain(|wanted| *wanted != id);
                    self.held.insert(id, fence.get());
                }
                Event::NotAcquired { id, .. } => {
                    assert!(self.wanting.contains(&id), "{id:?} ends twice");
                    self.wanting.retain(|wanted| *wanted != id);
                }
                // It may be noticed by the very call that releases it.
                Event::Lost { id, .. } if self.held.remove(&id).is_some() => {
                    self.engine.release(now, id);
                }
                _ => {}
            }
        }
    }
}

const CONNECTION: Connection = Connection { client: 0, number: 0, id: ConnectionId::MAIN };

/// Begins an attempt.
type Want<'a> = dyn Fn(&mut Engine, Instant, &mut Dice) -> LockId + 'a;
/// The locks of a granted attempt.
type Holds<'a> = dyn Fn(&Engine, LockId) -> Vec<(LockName, Option<Fence>)> + 'a;

/// Three processes and a table: requests are carried out late or never, answers are late or lost, time goes on.
///
/// Callers `want` locks and hold what `holds` says, with a fence for each; [`None`]: that of the grant. Panics if a lock
/// is held twice, a fence falls, somebody waits for ever or something is left. How often something was granted.
pub(crate) fn crowd(seed: u64, want: &Want<'_>, holds: &Holds<'_>) -> usize {
    let mut dice = Dice { state: seed, of_the_schedule: seed };
    let (mut now, mut table, mut grants) = (START, FakeTable::new(), 0);
    let mut processes: Vec<Process> = (0..3u64)
        .map(|at| Process {
            engine: Engine::new(
                table::capabilities("me", false),
                Config { seed: u128::from(at) << 64, ..config() },
            ),
            requests: Vec::new(),
            wanting: Vec::new(),
            held: BTreeMap::new(),
        })
        .collect();
    let mut last: BTreeMap<LockName, u64> = BTreeMap::new();
    for turn in 0..400 {
        let quiet = turn > 250;
        let process = &mut processes[dice.roll(3)];
        match dice.roll(if quiet { 6 } else { 9 }) {
            0 => now = now.after(Duration::from_millis(1 + dice.roll(900) as u64)),
            1 => {
                let next = process.engine.poll_timeout().unwrap_or(now);
                now = now.max(next.min(now.after(Duration::from_secs(3))));
            }
            2 | 3 => {
                for (_, request, reply) in &mut process.requests {
                    reply.get_or_insert_with(|| {
                        let connection =
                            Connection { client: 0, number: 0, id: ConnectionId::MAIN };
                        table.apply(now, connection, request)
                    });
                }
            }
            4 | 5 => {
                for (id, _, reply) in std::mem::take(&mut process.requests) {
                    let lost = !quiet && dice.roll(8) == 0;
                    let reply =
                        reply.filter(|_| !lost).ok_or_else(|| Failure::Unknown("lost".into()));
                    process.engine.handle_reply(now, id, reply);
                }
            }
            6 | 7 => {
                let id = want(&mut process.engine, now, &mut dice);
                process.wanting.push(id);
            }
            _ => {
                if let Some(id) = process.wanting.pop() {
                    process.engine.release(now, id);
                }
            }
        }
        let release = if quiet || dice.roll(4) == 0 { process.held.pop_first() } else { None };
        if let Some((id, _)) = release {
            process.engine.release(now, id);
        }
        for process in &mut processes {
            process.engine.handle_timeout(now);
            let before: Vec<LockId> = process.held.keys().copied().collect();
            process.hears(now);
            for (id, fence) in process.held.iter().filter(|(id, _)| !before.contains(id)) {
                for (name, own) in holds(&process.engine, *id) {
                    let fence = own.map_or(*fence, Fence::get);
                    let earlier = last.insert(name.clone(), fence).unwrap_or_default();
                    assert!(fence > earlier, "seed {seed}: the fence of {name:?} fell");
                }
                grants += 1;
            }
            while let Some(sent) = process.engine.poll_request(now) {
                process.requests.push((sent.id, sent.request, None));
            }
        }
        let held = processes.iter().flat_map(|process| {
            let until = |id: &LockId| process.engine.held_until(*id);
            let valid = move |id: &&LockId| until(id).is_some_and(|until| now < until);
            process.held.keys().filter(valid).flat_map(|id| holds(&process.engine, *id))
        });
        let mut held: Vec<_> = held.map(|(name, _)| name).collect();
        held.sort();
        let twice = held.windows(2).find(|two| two[0] == two[1]);
        assert_eq!(twice, None, "seed {seed}: held twice");
    }
    for _ in 0..500 {
        for process in &mut processes {
            for (id, request, reply) in std::mem::take(&mut process.requests) {
                let reply = reply.unwrap_or_else(|| table.apply(now, CONNECTION, &request));
                process.engine.handle_reply(now, id, Ok(reply));
            }
            process.engine.handle_timeout(now);
            process.hears(now);
            while let Some((id, _)) = process.held.pop_first() {
                process.engine.release(now, id);
            }
            while let Some(sent) = process.engine.poll_request(now) {
                process.requests.push((sent.id, sent.request, None));
            }
        }
        let next = processes.iter().filter_map(|process| process.engine.poll_timeout()).min();
        let under_way = processes.iter().any(|process| !process.requests.is_empty());
        now = now.max(next.filter(|_| !under_way).unwrap_or(now));
    }
    for process in &mut processes {
        assert!(process.wanting.is_empty(), "seed {seed}: somebody waits for ever");
        assert_eq!(process.engine.attempts(), 0, "seed {seed}: something is left");
    }
    assert!(
        table.rows().values().all(|row| row.owner.is_none() || row.expires <= now),
        "seed {seed}: a permit leaks"
    );
    grants
}
