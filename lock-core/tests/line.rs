//! Waiters of one lock of a table that come, wait for a while, and give up, in simulated time: whether one that is patient is
//! passed over again and again, how long a free lock lies idle, and how often it is asked for.

use lock_core::sim::{Connection, Server, table::FakeTable};
use lock_core::{
    Action, Config, ConnectionId, Dispatch, Engine, Event, Instant, LockId, LockName, Timing, table,
};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Contender {
    engine: Engine,
    id: LockId,
    hold: Duration,
    held_until: Option<Instant>,
    granted: Option<Instant>,
    released: Option<Instant>,
    /// Requests on their way, and when they arrive.
    sent: Vec<(Instant, Dispatch)>,
    /// Its request that waits at the server to be notified.
    listens: Option<Dispatch>,
    looks: u32,
}

struct World {
    now: Instant,
    server: FakeTable,
    notifies: bool,
    /// By how much the server's clock was set back.
    behind: Duration,
    seed: u128,
    all: Vec<Contender>,
}

impl World {
    fn new(server: FakeTable, notifies: bool, seed: u128) -> Self {
        let server = if notifies { server.telling() } else { server };
        let now = Instant::from_nanos(10_000_000_000_000);
        Self { now, server, notifies, behind: Duration::ZERO, seed, all: Vec::new() }
    }

    /// Somebody wants the lock, waits for so long at most, and holds it for so long.
    fn comes(&mut self, wait: Option<Duration>, hold: Duration) -> usize {
        let seed = (self.seed << 32) + self.all.len() as u128;
        let config = Config::new(Timing::default(), seed << 64);
        let mut engine = Engine::new(table::capabilities("somebody", self.notifies), config);
        let name = LockName::new("a").expect("a good name");
        let id = engine.acquire(self.now, name, false, wait.map(|wait| self.now.after(wait)));
        let (held_until, granted, released) = (None, None, None);
        let (sent, listens, looks) = (Vec::new(), None, 0);
        self.all.push(Contender {
            engine,
            id,
            hold,
            held_until,
            granted,
            released,
            sent,
            listens,
            looks,
        });
        self.all.len() - 1
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        loop {
            while (0..self.all.len()).any(|one| self.steps(one)) {}
            let next = self.all.iter().filter_map(Contender::next).min();
            let Some(next) = next.filter(|next| *next < until) else { break };
            self.now = next.max(self.now.after(MS / 10));
        }
        self.now = until;
    }

    /// What one of them does now. Whether that was anything.
    fn steps(&mut self, at: usize) -> bool {
        let (now, clock) = (self.now, self.now.before(self.behind));
        let one = &mut self.all[at];
        let of = |id: ConnectionId| Connection { client: at, number: 0, id };
        let mut moved = false;
        one.engine.handle_timeout(now);
        if one.held_until.is_some_and(|until| until <= now) {
            one.held_until = None;
            one.engine.release(now, one.id);
        }
        while let Some(closed) = one.engine.poll_close(now) {
            one.listens.take_if(|listens| listens.connection == closed);
            self.server.close(now, of(closed));
        }
        while let Some(dispatch) = one.engine.poll_request(now) {
            let looks = matches!(dispatch.request.action(), Action::Acquire | Action::Probe);
            one.looks += u32::from(looks);
            one.sent.push((now.after(MS), dispatch));
        }
        let mut arrived: Vec<_> = one.sent.extract_if(.., |(at, _)| *at <= now).collect();
        arrived.extend(one.listens.take().map(|listens| (now, listens)));
        for (_, dispatch) in arrived {
            let connection = of(dispatch.connection);
            self.server.tick(clock);
            if self.server.waits(clock, connection, &dispatch.request) {
                self.server.queue(clock, connection, &dispatch.request);
                one.listens = Some(dispatch);
                continue;
            }
            let reply = self.server.apply(clock, connection, &dispatch.request);
            one.engine.handle_reply(now, dispatch.id, Ok(reply));
            moved = true;
        }
        while let Some(event) = one.engine.poll_event() {
            match event {
                Event::Granted { .. } => {
                    (one.granted, one.held_until) = (Some(now), Some(now.after(one.hold)));
                }
                Event::Released { .. } => one.released = Some(now),
                _ => {}
            }
        }
        if one.engine.attempts() == 0 && one.sent.is_empty() {
            one.engine.close(now);
        }
        moved
    }

    /// How many others had the lock from then on, before this one.
    fn others_before(&self, waiter: usize, since: Instant) -> usize {
        let until = self.all[waiter].granted.unwrap_or(self.now);
        let grants = self.all.iter().filter_map(|one| one.granted);
        grants.filter(|at| since <= *at && *at < until).count()
    }
}

impl Contender {
    fn next(&self) -> Option<Instant> {
        let sent = self.sent.iter().map(|(at, _)| *at).min();
        [self.engine.poll_timeout(), self.held_until, sent].into_iter().flatten().min()
    }
}

/// Each leaves a ticket behind, and far more come than can be served.
#[test]
fn newcomers_that_give_up_do_not_starve_a_patient_waiter() {
    let ms = Duration::from_millis;
    for (hold, every, wait) in [
        (SECOND * 10, ms(400), SECOND * 3),
        (SECOND * 2, ms(600), SECOND * 3),
        (SECOND * 2, ms(250), ms(2_500)),
    ] {
        for (notifies, seed) in [(true, 1), (true, 2), (true, 3), (false, 1), (false, 2)] {
            let mut world = World::new(FakeTable::new(), notifies, seed);
            let (mut patient, mut since) = (None, world.now);
            for newcomer in 0..400 {
                world.comes(Some(wait), hold);
                if newcomer == 20 {
                    (patient, since) = (Some(world.comes(None, MS * 100)), world.now);
                }
                world.pass(every);
                if patient.is_some_and(|one| world.all[one].granted.is_some()) {
                    break;
                }
            }
            let waiter = patient.expect("it has come");
            let others = world.others_before(waiter, since);
            assert!(others <= 3, "{others} others: holds of {hold:?}, {notifies}, {seed}");
            assert!(world.all[waiter].granted.is_some());
        }
    }
}

/// The server gives up forty in six graces, of a quarter of a second each.
#[test]
fn a_free_lock_does_not_lie_idle_long_behind_those_that_have_given_up() {
    for (notifies, seed) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        for hold in [6, 8, 10, 12] {
            let mut world = World::new(FakeTable::new(), notifies, seed);
            world.comes(None, SECOND * 7);
            world.pass(MS * 400);
            let last = world.comes(None, SECOND * hold);
            world.pass(MS * 300);
            for _ in 0..40 {
                world.comes(Some(SECOND * 4), SECOND);
            }
            world.pass(SECOND * 5);
            let waiter = world.comes(None, MS);
            world.pass(SECOND * 30);
            let freed = world.all[last].released.expect("it had its turn");
            let granted = world.all[waiter].granted.expect("it was granted");
            let idle = granted.since(freed);
            assert!(idle < MS * 2_500, "idle for {idle:?}: {notifies}, {seed}, {hold} s");
        }
    }
}

/// It seems to have been granted just now, each time that a waiter looks.
#[test]
fn a_clock_that_was_set_back_makes_nobody_look_without_a_pause() {
    for observed in [false, true] {
        for notifies in [false, true] {
            let table = if observed { FakeTable::new().watched() } else { FakeTable::new() };
            let mut world = World::new(table, notifies, 1);
            let holder = world.comes(None, SECOND * 60);
            world.pass(SECOND);
            let waiter = world.comes(None, SECOND);
            world.pass(SECOND * 9);
            world.behind = SECOND * 3_600;
            world.pass(SECOND * 40);
            assert!(world.all[holder].held_until.is_some(), "it is held");
            let looks = world.all[waiter].looks;
            assert!(looks < 100, "{looks} looks in 50 s: {observed}, {notifies}");
        }
    }
}
