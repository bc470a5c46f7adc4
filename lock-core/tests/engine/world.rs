//! Two engines, one table, and a network that loses, delays and repeats what it likes.

mod judge;

use crate::fake::Fake;
use crate::scenario::{name, not_sent, unknown};
use lock_core::table::{Command, Reply, Table};
use lock_core::{
    Config, DispatchId, Engine, Event, Failure, Fence, Instant, LockId, LockName, Release, Timing,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(6);
const NAMES: [&str; 2] = ["a", "b"];

/// How far an attempt has come, as its caller knows it.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Wanted,
    Held { until: Instant },
    Lost,
    Leaving,
    Ended,
}

struct Client {
    engine: Engine<Table>,
    /// Its clock: where it began, and nanoseconds a microsecond.
    origin: u64,
    rate: u64,
    under_way: BTreeMap<DispatchId, Instant>,
    in_flight: usize,
    attempts: BTreeMap<LockId, (LockName, Stage)>,
}

struct Request {
    from: usize,
    id: DispatchId,
    command: Command,
    arrived: bool,
}

struct World {
    micros: u64,
    server: Fake,
    server_rate: u64,
    clients: [Client; 2],
    requests: Vec<Request>,
    replies: Vec<(usize, DispatchId, Reply)>,
    fences: BTreeMap<LockName, Fence>,
    grants: usize,
    /// How often time has passed; bounded, so that no test goes on for ever.
    turns: u32,
}

impl World {
    fn new(in_flight: usize, server_rate: u64, rates: [u64; 2]) -> Self {
        let timing = Timing::new(TTL).expect("a good TTL");
        let client = |n: usize| Client {
            engine: Engine::new(
                Table::new(TTL, "somebody"),
                Config { in_flight, batch: 2, ..Config::new(timing, (n as u128 + 1) << 64) },
            ),
            origin: [5, 7_000_000_000_000][n],
            rate: rates[n],
            under_way: BTreeMap::new(),
            in_flight,
            attempts: BTreeMap::new(),
        };
        Self {
            micros: 0,
            server: Fake::default(),
            server_rate,
            clients: [client(0), client(1)],
            requests: Vec::new(),
            replies: Vec::new(),
            fences: BTreeMap::new(),
            grants: 0,
            turns: 0,
        }
    }

    fn now(&self, n: usize) -> Instant {
        Instant::from_nanos(self.clients[n].origin + self.micros * self.clients[n].rate)
    }

    fn acquire(&mut self, n: usize, text: &str, once: bool, wait: Option<Duration>) {
        let now = self.now(n);
        let give_up = wait.map(|wait| now.after(wait));
        let id = self.clients[n].engine.acquire(now, name(text), once, give_up);
        self.clients[n].attempts.insert(id, (name(text), Stage::Wanted));
    }

    fn release(&mut self, n: usize, pick: usize) {
        let now = self.now(n);
        let client = &mut self.clients[n];
        let open = |stage: &Stage| !matches!(stage, Stage::Leaving | Stage::Ended);
        let mut live = client.attempts.iter_mut().filter(|(_, (_, stage))| open(stage));
        let count = live.by_ref().count();
        let mut live = client.attempts.iter_mut().filter(|(_, (_, stage))| open(stage));
        if count > 0
            && let Some((id, (_, stage))) = live.nth(pick % count)
        {
            *stage = Stage::Leaving;
            client.engine.release(now, *id);
        }
    }

    fn send(&mut self, from: usize) -> bool {
        let now = self.now(from);
        let client = &mut self.clients[from];
        let Some(dispatch) = client.engine.poll_command(now) else { return false };
        let claims = dispatch.command.claims();
        assert!((1..=2).contains(&claims.len()), "the limit of a batch");
        assert!(claims.windows(2).all(|w| w[0].name < w[1].name), "unsorted, or a name twice");
        assert!(now < dispatch.deadline);
        client.under_way.insert(dispatch.id, dispatch.deadline);
        assert!(client.under_way.len() <= client.in_flight);
        let (id, command) = (dispatch.id, dispatch.command);
        self.requests.push(Request { from, id, command, arrived: false });
        true
    }

    fn arrive(&mut self, at: usize, again: bool) {
        let request = &mut self.requests[at];
        request.arrived = true;
        let micros = self.micros * self.server_rate / 1000;
        let reply = self.server.apply(&request.command, micros);
        self.replies.push((request.from, request.id, reply));
        if !again {
            self.requests.remove(at);
        }
    }

    fn hear(&mut self, at: usize, again: bool) {
        let (to, id, reply) = self.replies[at].clone();
        if !again {
            self.replies.remove(at);
        }
        // An answer to a command that was given up, or answered, is delivered all the same.
        self.clients[to].under_way.remove(&id);
        self.clients[to].engine.handle_reply(self.now(to), id, Ok(reply));
    }

    fn fail(&mut self, n: usize, pick: usize) {
        let ids: Vec<_> = self.clients[n].under_way.keys().copied().collect();
        let Some(id) = ids.get(pick % ids.len().max(1)).copied() else { return };
        let still = self.requests.iter().position(|r| (r.from, r.id, r.arrived) == (n, id, false));
        let failure = match (still, pick % 4) {
            (Some(at), 1) => {
                self.requests.remove(at);
                not_sent()
            }
            (Some(at), choice @ (2 | 3)) => {
                self.requests.remove(at);
                Failure::Rejected { retry: choice == 2, message: "no".into() }
            }
            _ => unknown(),
        };
        self.clients[n].under_way.remove(&id);
        self.clients[n].engine.handle_reply(self.now(n), id, Err(failure));
    }

    /// Time goes on up to just before somebody ceases to believe in a lock, and another grabs for
    /// it.
    fn pass_to_a_deadline(&mut self, n: usize, asleep: Option<usize>) {
        let Client { attempts, origin, rate, .. } = &self.clients[n];
        let until = attempts.values().find_map(|(name, stage)| match stage {
            Stage::Held { until } => Some((name.clone(), *until)),
            _ => None,
        });
        let Some((name, until)) = until else { return };
        let end = (until.as_nanos() - origin) / rate;
        self.pass(end.saturating_sub(self.micros + 1), asleep);
        let other = 1 - n;
        self.acquire(other, name.as_str(), false, None);
        let now = self.now(other);
        self.clients[other].engine.handle_hint(now, &name);
        self.listen();
        self.serve(other);
    }

    /// Time goes on; requests that took too long are given up, and everybody who is not asleep
    /// looks at the clock.
    fn pass(&mut self, micros: u64, asleep: Option<usize>) {
        self.turns += 1;
        assert!(self.turns < 100_000, "it goes on and on");
        self.micros += micros;
        self.check();
        for n in (0..2).filter(|n| asleep != Some(*n)) {
            let now = self.now(n);
            let client = &mut self.clients[n];
            client.under_way.retain(|id, deadline| {
                if *deadline <= now {
                    client.engine.handle_reply(now, *id, Err(unknown()));
                }
                *deadline > now
            });
            client.engine.handle_timeout(now);
        }
    }

    /// One command of `n` leaves, arrives and is answered.
    fn serve(&mut self, n: usize) -> bool {
        let sent = self.send(n);
        if sent {
            self.arrive(self.requests.len() - 1, false);
            self.hear(self.replies.len() - 1, false);
        }
        sent
    }

    /// The same, but the client was asleep when the reply came.
    fn serve_slowly(&mut self, n: usize, micros: u64) {
        if self.send(n) {
            self.arrive(self.requests.len() - 1, false);
            let reply = self.replies.len() - 1;
            self.pass(micros, Some(n));
            self.hear(reply, false);
        }
    }

    fn act(&mut self, what: u8, how: u8) {
        let n = usize::from(how & 1);
        let pick = usize::from(how >> 1);
        let again = how >= 0xc0;
        let asleep = [None, Some(n)][pick % 2];
        match what % 17 {
            0 | 1 => {
                let wait = [None, Some(1), Some(4_000)][pick / 4 % 3].map(Duration::from_millis);
                self.acquire(n, NAMES[pick % 2], pick / 2 % 4 == 0, wait);
            }
            2 => self.release(n, pick),
            3 | 4 => _ = self.send(n),
            5 => _ = self.serve(n),
            6 => self.serve_slowly(n, u64::from(how) * 25_000),
            7 | 8 if !self.requests.is_empty() => self.arrive(pick % self.requests.len(), again),
            9 if !self.requests.is_empty() => {
                drop(self.requests.remove(pick % self.requests.len()))
            }
            10 | 11 if !self.replies.is_empty() => self.hear(pick % self.replies.len(), again),
            12 if !self.replies.is_empty() => drop(self.replies.remove(pick % self.replies.len())),
            13 => self.fail(n, pick),
            14 => self.pass(u64::from(how) * 10_000, asleep),
            15 => self.pass_to_a_deadline(n, asleep),
            16 => {
                let now = self.now(n);
                self.clients[n].engine.handle_hint(now, &name(NAMES[pick % 2]));
            }
            _ => {}
        }
        self.listen();
        self.check();
    }
}

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(1000_u64), 1 => Just(917), 1 => Just(1083)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Clocks of equal rates, and of rates as different as `chrony` may make them.
    #[test]
    fn at_most_one_holds_a_name_and_nothing_stays_behind(
        in_flight in 1_usize..4,
        server in rate(),
        rates in [rate(), rate()],
        script in prop::collection::vec(any::<(u8, u8)>(), 0..400),
    ) {
        let mut world = World::new(in_flight, server, rates);
        for (what, how) in script {
            world.act(what, how);
        }
        world.wind_down();
    }
}

#[test]
fn a_release_that_nobody_heard_of_is_told_as_unconfirmed() {
    let mut world = World::new(1, 1000, [1000; 2]);
    world.acquire(0, "a", false, None);
    world.serve(0);
    world.listen();
    world.release(0, 0);
    let id = *world.clients[0].attempts.keys().next().expect("one");
    let mut told = None;
    while told.is_none() {
        world.send(0);
        world.requests.clear();
        world.pass(10_000, None);
        told = world.clients[0].engine.poll_event();
    }
    let release = Release::Unconfirmed(unknown());
    assert_eq!(told, Some(Event::Released { id, release }));
}
