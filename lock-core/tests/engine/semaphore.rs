//! Attempts for any one of several locks.

use super::scenario::{
    FENCE, START, Scenario, VALID, config, freed, holder, not_acquired, refused, unknown,
};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Connection, Server};
use lock_core::{
    Action, Config, ConnectionId, DispatchId, Engine, Event, Failure, Instant, LockId, LockName,
    NotAcquired, Reply, Request, table,
};
use std::collections::BTreeMap;
use std::time::Duration;

fn permits(count: u32) -> Vec<LockName> {
    LockName::new("a").and_then(|name| name.permits(count)).expect("good")
}

/// The only claim's permit.
fn permit(request: &Request) -> u32 {
    let [claim] = request.claims() else { panic!("{request:?}") };
    claim.name.as_permit().expect("a permit").1
}

impl Scenario {
    fn acquire_any(&mut self, count: u32, once: bool) -> LockId {
        self.engine.acquire_any(self.now, permits(count), once, None)
    }
}

#[test]
fn one_statement_takes_a_free_permit_and_one_frees_it() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(3, false);
    let claim = scene.sends_any();
    let taken = permit(&claim.request);
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    assert_eq!(scene.engine.name(id).and_then(|name| name.as_permit()), Some(("a", taken)));
    assert_eq!(scene.engine.held_until(id), Some(START.after(VALID)));
    scene.release(id);
    let release = scene.sends_any();
    assert_eq!((release.request.action(), permit(&release.request)), (Action::Release, taken));
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn after_a_denial_all_others_are_looked_at_in_one_request_and_one_is_claimed() {
    let mut scene = Scenario::with(Config { in_flight: 2, ..config() });
    let id = scene.acquire_any(5, true);
    let claim = scene.sends_any();
    scene.denies(&claim);
    scene.tells_nothing();
    let look = scene.sends_any();
    assert_eq!((look.request.action(), look.len()), (Action::Probe, 4));
    scene.is_free(&look);
    let claim = scene.sends_any();
    let taken = permit(&claim.request);
    scene.sends_nothing();
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    assert_eq!(scene.engine.name(id).and_then(|name| name.as_permit()), Some(("a", taken)));
    assert_eq!(scene.engine.attempts(), 1, "the others were given up");
    scene.release(id);
    let release = scene.sends_any();
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn who_does_not_wait_is_told_busy_once_with_a_holder() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(3, true);
    let they = holder("they", Duration::from_secs(9));
    let claim = scene.sends_any();
    scene.denies_for(&claim, they.clone());
    let look = scene.sends_any();
    scene.denies_for(&look, they.clone());
    scene.tells([not_acquired(id, NotAcquired::Busy(Some(they)))]);
    scene.is_over();
}

#[test]
fn who_waits_is_told_once_that_all_are_taken() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(3, false);
    let they = holder("they", Duration::from_secs(9));
    let claim = scene.sends_any();
    scene.denies_for(&claim, they.clone());
    scene.tells_nothing();
    let look = scene.sends_any();
    scene.denies_for(&look, they.clone());
    scene.tells([Event::Waiting { id, holder: Some(they) }]);
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn rivals_in_one_process_claim_different_permits_at_once() {
    let mut scene = Scenario::new();
    let ids = [0; 3].map(|_| scene.acquire_any(3, true));
    let claim = scene.sends_any();
    assert_eq!((claim.request.action(), claim.len()), (Action::Acquire, 3));
    scene.grants(&claim);
    let deadline = START.after(VALID);
    let mut told = scene.told();
    told.sort_by_key(|event| {
        ids.iter().position(|of| matches!(event, Event::Granted { id, .. } if id == of))
    });
    assert_eq!(told, ids.map(|id| Event::Granted { id, fence: FENCE, deadline }));
    // The fourth is told by the engine itself.
    let fourth = scene.acquire_any(3, true);
    let [Event::NotAcquired { id, why: NotAcquired::Busy(_) }] = scene.told()[..] else { panic!() };
    assert_eq!(id, fourth);
    // And the fifth waits until one of them is back.
    let fifth = scene.acquire_any(3, false);
    assert!(matches!(scene.told()[..], [Event::Waiting { id, .. }] if id == fifth));
    scene.release(ids[1]);
    let release = scene.sends_any();
    scene.confirms(&release);
    scene.tells([freed(ids[1])]);
    let look = scene.sends_any();
    assert_eq!((look.request.action(), look.len()), (Action::Probe, 1));
    scene.is_free(&look);
    let claim = scene.sends_any();
    assert_eq!(permit(&claim.request), permit(&release.request));
    scene.grants(&claim);
    scene.tells([Event::Granted { id: fifth, fence: FENCE, deadline }]);
    for id in [ids[0], ids[2], fifth] {
        scene.release(id);
    }
    let release = scene.sends_any();
    scene.confirms(&release);
    let told = scene.told();
    assert!([ids[0], ids[2], fifth].iter().all(|id| told.contains(&freed(*id))) && told.len() == 3);
    scene.is_over();
}

#[test]
fn a_permit_whose_grant_was_not_heard_of_goes_back_when_another_is_granted() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(2, false);
    let first = scene.sends_any();
    scene.fails(&first, unknown());
    scene.decides_trouble(id);
    scene.sleeps();
    let again = scene.sends_any();
    assert_eq!(
        permit(&again.request),
        permit(&first.request),
        "what is not known is settled first"
    );
    scene.grants(&again);
    assert!(matches!(scene.told()[..], [Event::Granted { .. }]));
    scene.release(id);
    let release = scene.sends_any();
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_refusal_ends_it() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(2, false);
    let claim = scene.sends_any();
    scene.fails(&claim, refused());
    scene.tells([not_acquired(id, NotAcquired::Failed(refused()))]);
    scene.is_over();
    let none = scene.engine.acquire_any(scene.now, vec![], false, None);
    assert!(matches!(scene.told()[..], [Event::NotAcquired { id, .. }] if id == none));
}

impl Scenario {
    fn decides_trouble(&mut self, id: LockId) {
        assert!(matches!(self.told()[..], [Event::Trouble { id: of, .. }] if of == id));
    }
}

/// Numbers that look random: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
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
                Event::Lost { id, .. } => {
                    assert!(self.held.remove(&id).is_some());
                    self.engine.release(now, id);
                }
                _ => {}
            }
        }
    }
}

const CONNECTION: Connection = Connection { client: 0, number: 0, id: ConnectionId::MAIN };

/// Three processes and a table: requests are carried out late or never, answers are late or lost, time goes on.
fn schedule(seed: u64) -> usize {
    let (mut dice, mut now, mut table, mut grants) = (Dice(seed), START, FakeTable::new(), 0);
    let count = 1 + dice.roll(3) as u32;
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
                let give_up = (dice.roll(3) == 0).then(|| now.after(Duration::from_secs(5)));
                let id =
                    process.engine.acquire_any(now, permits(count), dice.roll(2) == 0, give_up);
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
                let name = process.engine.name(*id).expect("a permit").clone();
                let earlier = last.insert(name.clone(), *fence).unwrap_or_default();
                assert!(*fence > earlier, "seed {seed}: the fence of {name:?} fell");
                grants += 1;
            }
            while let Some(sent) = process.engine.poll_request(now) {
                process.requests.push((sent.id, sent.request, None));
            }
        }
        let holds = processes.iter().flat_map(|process| {
            let valid =
                |id: &LockId| process.engine.held_until(*id).is_some_and(|until| now < until);
            process.held.keys().filter(move |id| valid(id)).map(|id| process.engine.name(*id))
        });
        let mut holds: Vec<_> = holds.collect();
        holds.sort();
        let all = holds.len();
        holds.dedup();
        assert_eq!(holds.len(), all, "seed {seed}: a permit is held twice");
        assert!(all <= count as usize, "seed {seed}: more holders than permits");
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

#[test]
fn there_are_never_more_holders_than_permits() {
    let grants: usize = (0..3_000).map(schedule).sum();
    assert!(grants > 10_000, "only {grants} grants");
}

#[test]
fn a_name_that_leaves_no_room_for_the_number_is_no_semaphore() {
    let name = LockName::new(&"x".repeat(250)).expect("good");
    assert_eq!(name.permits(3).expect("room").len(), 3);
    let name = LockName::new(&"x".repeat(251)).expect("good");
    assert_eq!(
        name.permits(3).unwrap_err().to_string(),
        "the lock name has 256 bytes, at most 255 are allowed"
    );
    let name = LockName::new("x").expect("good");
    assert_eq!(name.permits(0).expect("one").len(), 1);
    assert!(name.permits(1_001).is_err() && name.permits(1_000).is_ok());
    assert_eq!(name.as_permit(), None);
}
