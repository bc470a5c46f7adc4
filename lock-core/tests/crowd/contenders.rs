//! Engines, a server, and the messages between them.

use lock_core::sim::{Connection, Server};
use lock_core::{
    Action, Capabilities, Config, Dispatch, DispatchId, Engine, Event, Instant, LockId, LockName,
    News, Reply, Request, Timing,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// The holder's work, unless it takes longer.
const HOLD: Duration = Duration::from_millis(2);
/// The time of a message on its way, up to half as much more or less.
const WAY: Duration = Duration::from_micros(200);
/// One message in so many takes longer than the others.
const SLOW: u64 = 20;

/// The next thing that happens to one of them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// The request of this number reaches the server.
    Arrives(u64),
    /// The server has done it.
    IsDone(u64),
    Answered(DispatchId),
    /// The request of this number has waited at the server for as long as it may.
    HasWaited(u64),
    Wakes,
    Releases,
}

struct Contender {
    engine: Engine,
    id: Option<LockId>,
    grants: u32,
    /// How often the lock had been granted when it began to wait.
    since: u32,
    wakes: Option<Instant>,
    /// The request that waits at the server.
    waits: Option<u64>,
    answers: BTreeMap<DispatchId, Reply>,
}

pub(crate) struct Crowd<S> {
    now: Instant,
    server: S,
    all: Vec<Contender>,
    next: BinaryHeap<Reverse<(Instant, u64, usize, Next)>>,
    requests: BTreeMap<u64, Dispatch>,
    /// By how much a slow message takes longer.
    slowness: u32,
    hold: Duration,
    /// The server's work for what writes, one request after the other, and the time at which it has done all. A read is a
    /// fifth of that.
    work: Duration,
    busy_until: Instant,
    /// The server looks again some time after what a request waits for has changed, and not at that moment.
    notices_late: bool,
    /// Each wants another lock as well, which a third of them want.
    two: bool,
    /// One of four wants it for so long, again and again.
    moment: Option<Duration>,
    /// Whoever has released it does not want it again.
    rests: bool,
    number: u64,
    random: u64,
    /// Notifications left out.
    requests_carried_out: u32,
    granted: u32,
    /// The longest wait, in grants.
    longest: u32,
}

/// How a lock goes round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// What the server is asked for each grant.
    pub(crate) requests: f64,
    /// For what part of the time somebody has it.
    pub(crate) held: f64,
    /// The fewest grants of a contender, in terms of the most.
    pub(crate) evenly: f64,
    /// The longest wait, in turns of all.
    pub(crate) longest: f64,
}

impl<S: Server> Crowd<S> {
    pub(crate) fn at(
        server: S,
        capabilities: &Capabilities,
        contenders: usize,
        slowness: u32,
    ) -> Self {
        let seed = contenders as u64;
        let contender = |n: usize| {
            let config = Config::new(Timing::default(), (n as u128) << 64);
            Contender {
                engine: Engine::new(capabilities.clone(), config),
                id: None,
                grants: 0,
                since: 0,
                wakes: None,
                waits: None,
                answers: BTreeMap::new(),
            }
        };
        Self {
            now: Instant::from_nanos(1_000_000_000_000),
            server,
            all: (0..contenders).map(contender).collect(),
            next: BinaryHeap::new(),
            requests: BTreeMap::new(),
            slowness,
            hold: HOLD,
            work: Duration::ZERO,
            busy_until: Instant::default(),
            notices_late: false,
            two: false,
            moment: None,
            rests: false,
            number: 0,
            random: seed | 1,
            requests_carried_out: 0,
            granted: 0,
            longest: 0,
        }
    }

    pub(crate) fn all_at_once(self) -> Self {
        self.one_after_another(Duration::ZERO)
    }

    /// Each begins so long after the one before.
    pub(crate) fn one_after_another(mut self, pause: Duration) -> Self {
        for n in 0..self.all.len() {
            self.wants(n);
            self.runs_for(pause);
        }
        self
    }

    /// On a server that needs so long for a write, at most.
    pub(crate) fn on_a_busy_server(self, work: Duration) -> Self {
        Self { work, ..self }
    }

    pub(crate) fn on_a_server_that_notices_late(self) -> Self {
        Self { notices_late: true, ..self }
    }

    pub(crate) fn that_want_two(self) -> Self {
        Self { two: true, ..self }
    }

    pub(crate) fn of_whom_some_give_up_after(self, moment: Duration) -> Self {
        Self { moment: Some(moment), ..self }
    }

    /// Each has the lock for so long.
    pub(crate) fn that_holds_for(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// All have some turns.
    pub(crate) fn warmed_up(mut self) -> Self {
        let contenders = self.all.len() as u32;
        self.runs_for(Duration::from_millis(50) * contenders);
        self.counts_from_now_on()
    }

    /// All had some turns, and begin again after a while.
    pub(crate) fn after_a_rest(mut self) -> Self {
        self.runs_for(Duration::from_secs(2));
        self.rests = true;
        self.runs_for(Duration::from_secs(10));
        self.rests = false;
        for n in 0..self.all.len() {
            self.wants(n);
        }
        self.counts_from_now_on()
    }

    fn counts_from_now_on(mut self) -> Self {
        (self.requests_carried_out, self.granted, self.longest) = (0, 0, 0);
        self.all.iter_mut().for_each(|one| (one.grants, one.since) = (0, 0));
        self
    }

    /// How it goes round.
    pub(crate) fn goes_round(mut self) -> Round {
        let contenders = self.all.len() as u32;
        let time = Duration::from_millis(118) * contenders + self.hold * contenders;
        self.runs_for(time);
        let grants = || self.all.iter().map(|one| f64::from(one.grants));
        let (fewest, most) = (grants().fold(f64::MAX, f64::min), grants().fold(0.0, f64::max));
        Round {
            requests: f64::from(self.requests_carried_out) / f64::from(self.granted),
            held: (self.hold * self.granted).as_secs_f64() / time.as_secs_f64(),
            // One more or less is chance.
            evenly: (fewest + 1.0) / most,
            longest: f64::from(self.longest) / f64::from(contenders),
        }
    }

    fn runs_for(&mut self, time: Duration) {
        let until = self.now.after(time);
        while self.next.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            let Some(Reverse((at, _, n, next))) = self.next.pop() else { break };
            self.now = at;
            self.server.tick(at);
            let one = &mut self.all[n];
            match next {
                Next::Arrives(number) => self.arrives(n, number),
                Next::HasWaited(number) if one.waits == Some(number) => {
                    one.waits = None;
                    self.carry_out_and_notify(n, number);
                }
                Next::HasWaited(_) => {}
                Next::IsDone(number) => self.carry_out_and_notify(n, number),
                Next::Answered(id) => {
                    let reply = one.answers.remove(&id).expect("an answer");
                    one.engine.handle_reply(at, id, Ok(reply));
                }
                Next::Wakes if one.wakes == Some(at) => {
                    one.wakes = None;
                    one.engine.handle_timeout(at);
                }
                Next::Wakes => {}
                Next::Releases => one.engine.release(at, one.id.expect("an attempt")),
            }
            self.goes_on(n);
        }
        self.now = until;
    }

    fn wants(&mut self, n: usize) {
        let name = |name: &str| LockName::new(name).expect("a good name");
        let some = self.moment.filter(|_| n.is_multiple_of(4));
        let (one, give_up) = (&mut self.all[n], some.map(|moment| self.now.after(moment)));
        let id = if self.two {
            let names = Vec::from([name("crowd"), name(&format!("crowd {}", n % 3))]);
            one.engine.acquire_all(self.now, names, false, give_up)
        } else {
            one.engine.acquire(self.now, name("crowd"), false, give_up)
        };
        one.id = Some(id);
        one.since = self.granted;
        self.goes_on(n);
    }

    /// Sends what is due, and takes what is told.
    fn goes_on(&mut self, n: usize) {
        while self.all[n].engine.poll_close(self.now).is_some() {
            self.all[n].waits = None;
        }
        while let Some(dispatch) = self.all[n].engine.poll_request(self.now) {
            self.requests.insert(self.number, dispatch);
            self.happens_after_a_way(n, Next::Arrives(self.number));
        }
        while let Some(event) = self.all[n].engine.poll_event() {
            match event {
                Event::Granted { .. } => {
                    self.granted += 1;
                    self.all[n].grants += 1;
                    self.longest = self.longest.max(self.granted - self.all[n].since);
                    self.happens(self.now.after(self.hold), n, Next::Releases);
                }
                Event::Released { .. } if !self.rests => self.wants(n),
                Event::NotAcquired { .. } => self.wants(n),
                _ => {}
            }
        }
        let wakes = self.all[n].engine.poll_timeout().map(|at| at.max(self.now));
        if wakes != self.all[n].wakes {
            self.all[n].wakes = wakes;
            wakes.into_iter().for_each(|at| self.happens(at, n, Next::Wakes));
        }
    }

    fn happens(&mut self, at: Instant, n: usize, next: Next) {
        self.next.push(Reverse((at, self.number, n, next)));
        self.number += 1;
    }

    fn happens_after_a_way(&mut self, n: usize, next: Next) {
        let random = self.draw();
        let slow = if random.is_multiple_of(SLOW) { self.slowness } else { 1 };
        let part = u32::try_from(random / SLOW % 1_000).expect("small");
        self.happens(self.now.after(WAY * (500 + part) / 1_000 * slow), n, next);
    }

    fn part(&mut self) -> u32 {
        u32::try_from(self.draw() % 500).expect("small")
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random >> 33
    }

    fn arrives(&mut self, n: usize, number: u64) {
        let Dispatch { request, connection, .. } = &self.requests[&number];
        let connection = Connection { client: n, number: 0, id: *connection };
        if self.server.waits(self.now, connection, request) {
            self.server.queue(self.now, connection, request);
            self.all[n].waits = Some(number);
            if let Request::Wait { up_to, .. } = request {
                self.happens(self.now.after(*up_to), n, Next::HasWaited(number));
            }
            return;
        }
        if self.work.is_zero() {
            self.carry_out_and_notify(n, number);
            return;
        }
        let writes = matches!(request.action(), Action::Acquire | Action::Release);
        let work = if writes { self.work } else { self.work / 5 } * (500 + self.part()) / 1_000;
        self.busy_until = self.busy_until.max(self.now).after(work);
        self.happens(self.busy_until, n, Next::IsDone(number));
    }

    fn carry_out_and_notify(&mut self, n: usize, number: u64) {
        let Dispatch { connection, .. } = &self.requests[&number];
        self.carry_out(Connection { client: n, number: 0, id: *connection }, number);
        // Some may have been notified.
        for n in 0..self.all.len() {
            let Some(number) = self.all[n].waits else { continue };
            let Dispatch { request, connection, .. } = &self.requests[&number];
            let connection = Connection { client: n, number: 0, id: *connection };
            if !self.server.waits(self.now, connection, request) {
                self.all[n].waits = None;
                if self.notices_late {
                    self.happens_after_a_way(n, Next::IsDone(number));
                } else {
                    self.carry_out(connection, number);
                }
            }
        }
    }

    fn carry_out(&mut self, connection: Connection, number: u64) {
        let Dispatch { id, request, .. } = self.requests.remove(&number).expect("a request");
        let reply = self.server.apply(self.now, connection, &request);
        let notified = matches!(reply, Reply::News(News::Notified(_)));
        self.requests_carried_out += u32::from(!notified);
        self.all[connection.client].answers.insert(id, reply);
        self.happens_after_a_way(connection.client, Next::Answered(id));
    }
}
