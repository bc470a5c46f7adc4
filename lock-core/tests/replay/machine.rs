//! Drivers of real engines on the model's servers, and the traces that they would leave.

use lock_core::record::{Call, Head, Line};
use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::consul::FakeConsul;
use lock_core::sim::replay::Trace;
use lock_core::sim::table::{FakeTable, Row};
use lock_core::sim::{Connection, Server};
use lock_core::{
    Capabilities, Config, Dispatch, Engine, Event, Fence, Instant, LockId, LockName, Outcome,
    Reply, Request, Timing, Turn, Wanted, Which, advisory, consul, table,
};
use std::time::Duration;

/// A mistake of the first driver, or of the server towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The engine learns of a request when its answer is there.
    CountsFromReply,
    /// The second grant of the first driver has the fence of the first.
    LowFence,
    HighFence,
    /// A lock is granted that the other driver has.
    SecondGrant,
    NoRenewal,
    NoRelease,
    WrongTicket,
    WrongHolder,
    NotOwner,
}

/// By how much the server's clock is ahead.
const AHEAD: Duration = Duration::from_secs(1_700_000_000);
const STEP: Duration = Duration::from_millis(10);
/// From a request to its execution, and from there to the answer.
const WAY: Duration = Duration::from_millis(1);
/// The same for a driver that the way is long to.
const LONG_WAY: Duration = Duration::from_millis(150);

/// A server of the model, and what its drivers know of it.
pub(crate) trait Place: Server {
    const KIND: &'static str;

    fn capabilities(label: &str) -> Capabilities;
}

impl Place for FakeTable {
    const KIND: &'static str = "Postgres table";

    fn capabilities(label: &str) -> Capabilities {
        table::capabilities(label, false)
    }
}

impl Place for FakeAdvisory {
    const KIND: &'static str = "Postgres advisory";

    fn capabilities(label: &str) -> Capabilities {
        advisory::capabilities(advisory::WAITING, Some(label))
    }
}

impl Place for FakeConsul {
    const KIND: &'static str = "Consul consul";

    fn capabilities(label: &str) -> Capabilities {
        consul::capabilities(label)
    }
}

pub(crate) struct Machine<S> {
    now: Instant,
    pub(crate) server: S,
    drivers: Vec<Driver>,
    /// Requests that wait at the server, by whom, and until when.
    waiting: Vec<(usize, Dispatch, Instant)>,
    fault: Option<Fault>,
}

struct Driver {
    engine: Engine,
    trace: Trace,
    events: Vec<Event>,
    grants: Vec<Fence>,
    killed: bool,
}

impl<S: Place> Machine<S> {
    pub(crate) fn new(server: S, fault: Option<Fault>) -> Self {
        let (drivers, waiting) = (Vec::new(), Vec::new());
        Self { now: Instant::from_nanos(1_000_000_000), server, drivers, waiting, fault }
    }

    pub(crate) fn driver(&mut self) -> usize {
        let number = self.drivers.len();
        let capabilities = S::capabilities(&format!("driver {number}"));
        let timing = Timing::new(Duration::from_secs(3)).expect("good");
        // No two of them number their owners alike.
        let config = Config::new(timing, 77 + ((number as u128) << 64));
        let engine = Engine::new(capabilities.clone(), config.clone());
        let (kind, place) = (S::KIND.to_string(), "here".to_string());
        let head = Head { kind, place, connected: true, capabilities, config };
        let trace = Trace { name: format!("driver {number}"), head, lines: Vec::new() };
        let (events, grants) = (Vec::new(), Vec::new());
        self.drivers.push(Driver { engine, trace, events, grants, killed: false });
        number
    }

    /// From now on, it does nothing.
    pub(crate) fn kill(&mut self, driver: usize) {
        self.drivers[driver].killed = true;
    }

    /// The time by the server's clock.
    pub(crate) fn at_server(&self) -> Instant {
        Instant::from_nanos(self.now.after(AHEAD).as_micros() * 1_000)
    }

    pub(crate) fn want(&mut self, driver: usize) -> LockId {
        let name = Which::One(LockName::new("a").expect("good"));
        let wanted = Wanted::default();
        let id = self.drivers[driver].engine.want(self.now, name.clone(), wanted.clone());
        self.line(driver, true, Call::Want(name, wanted, id));
        id
    }

    pub(crate) fn release(&mut self, driver: usize, id: LockId) {
        self.drivers[driver].engine.release_after(self.now, id, None);
        self.line(driver, true, Call::Release(id, None));
    }

    /// Lets time pass until a driver has heard of such an event.
    pub(crate) fn pass_until(&mut self, driver: usize, is: impl Fn(&Event) -> bool) {
        self.drivers[driver].events.clear();
        for _ in 0..1_000 {
            self.pass(STEP);
            if self.drivers[driver].events.iter().any(&is) {
                return;
            }
        }
        // With a fault, it may never come.
        assert!(self.fault.is_some(), "it never comes");
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.server.tick(self.at_server());
        for driver in 0..self.drivers.len() {
            if !self.drivers[driver].killed {
                self.run(driver);
            }
        }
    }

    /// Lets so much time pass in small steps.
    pub(crate) fn pass_for(&mut self, time: Duration) {
        let until = self.now.after(time);
        while self.now < until {
            self.pass(STEP);
        }
    }

    pub(crate) fn traces(self) -> Vec<Trace> {
        self.drivers.into_iter().map(|driver| driver.trace).collect()
    }

    fn line(&mut self, driver: usize, timed: bool, call: Call) {
        let now = timed.then_some(self.now);
        // The recorder reads the clock a little later.
        self.now = self.now.after(Duration::from_micros(1));
        self.drivers[driver].trace.lines.push(Line { read: self.now, now, call });
    }

    fn has(&self, driver: usize, fault: Fault) -> bool {
        driver == 0 && self.fault == Some(fault)
    }

    fn run(&mut self, driver: usize) {
        self.answer_waits(driver);
        self.drivers[driver].engine.handle_timeout(self.now);
        self.line(driver, true, Call::Timeout);
        loop {
            self.hear(driver);
            let closes = self.drivers[driver].engine.poll_close(self.now);
            self.line(driver, true, Call::PollClose(closes));
            if let Some(closed) = closes {
                let connection = Connection { client: driver, number: 0, id: closed };
                self.server.close(self.at_server(), connection);
                self.waiting.retain(|(by, one, _)| (*by, one.connection) != (driver, closed));
            }
            if !self.ask(driver) {
                return;
            }
        }
    }

    fn ask(&mut self, driver: usize) -> bool {
        let late = self.has(driver, Fault::CountsFromReply);
        let way = if driver == 0 && late { LONG_WAY } else { WAY };
        let mut early = None;
        if late {
            // It was sent, carried out and answered before the engine knows of it.
            let sent = self.drivers[driver].engine.clone().poll_request(self.now);
            let Some(sent) = sent else { return false };
            early = Some(self.carry_out(driver, &sent, way));
        }
        let dispatch = self.drivers[driver].engine.poll_request(self.now);
        self.line(driver, true, Call::PollRequest(dispatch.as_ref().map(|one| format!("{one:?}"))));
        let Some(dispatch) = dispatch else { return false };
        let connection = Connection { client: driver, number: 0, id: dispatch.connection };
        let arrives = self.at_server();
        if self.server.waits(arrives, connection, &dispatch.request) {
            self.server.queue(arrives, connection, &dispatch.request);
            let Request::Wait { up_to, .. } = dispatch.request else { panic!("it waits") };
            self.waiting.push((driver, dispatch, arrives.after(up_to)));
            return true;
        }
        let reply = early.unwrap_or_else(|| self.carry_out(driver, &dispatch, way));
        self.answer(driver, &dispatch, reply);
        true
    }

    pub(crate) fn answer(&mut self, driver: usize, dispatch: &Dispatch, reply: Reply) {
        self.drivers[driver].engine.handle_reply(self.now, dispatch.id, Ok(reply.clone()));
        self.line(driver, true, Call::Reply(dispatch.id, Ok(reply)));
    }

    /// Those that wait no more.
    fn answer_waits(&mut self, driver: usize) {
        for (by, dispatch, until) in std::mem::take(&mut self.waiting) {
            let (now, id) = (self.at_server(), dispatch.connection);
            let connection = Connection { client: by, number: 0, id };
            let waits = now < until && self.server.waits(now, connection, &dispatch.request);
            if by != driver || waits {
                self.waiting.push((by, dispatch, until));
                continue;
            }
            let reply = self.carry_out(driver, &dispatch, WAY);
            self.answer(driver, &dispatch, reply);
        }
    }

    fn carry_out(&mut self, driver: usize, dispatch: &Dispatch, way: Duration) -> Reply {
        self.now = self.now.after(way);
        let Dispatch { connection: id, request, .. } = dispatch;
        let connection = Connection { client: driver, number: 0, id: *id };
        let lost = matches!(
            (self.fault.filter(|_| driver == 0), request),
            (Some(Fault::NoRenewal), Request::Renew { .. })
                | (Some(Fault::NoRelease), Request::Release { .. })
        );
        let reply = if lost {
            Reply::one(Outcome::Done)
        } else {
            self.server.apply(self.at_server(), connection, request)
        };
        self.now = self.now.after(way);
        self.lie(driver, request, reply)
    }

    /// The answer of a server with a fault.
    fn lie(&mut self, driver: usize, request: &Request, reply: Reply) -> Reply {
        let Reply::Outcomes(mut outcomes) = reply else { return reply };
        let fault = self.fault;
        // It denies the second driver only.
        let fault = fault.filter(|fault| {
            let second = [Fault::SecondGrant, Fault::WrongTicket, Fault::WrongHolder];
            (driver == 1) == second.contains(fault)
        });
        let now = self.at_server();
        let grants = &mut self.drivers[driver].grants;
        for outcome in &mut outcomes {
            match (outcome, fault) {
                (Outcome::Granted(fence), Some(Fault::LowFence)) => {
                    *fence = *grants.first().unwrap_or(fence);
                    grants.push(*fence);
                }
                (Outcome::Granted(fence), Some(Fault::HighFence)) if grants.is_empty() => {
                    grants.push(*fence);
                }
                (Outcome::Granted(fence), Some(Fault::HighFence)) => {
                    *fence = Fence::new(fence.get() + 60_000_000);
                }
                (outcome @ Outcome::Busy(_), Some(Fault::SecondGrant)) => {
                    *outcome = Outcome::Granted(Fence::new(now.as_micros()));
                }
                (Outcome::Busy(Some(holder)), Some(Fault::WrongTicket)) => {
                    holder.place = holder.place.map(|mut place| {
                        place.ticket += 1;
                        place
                    });
                }
                (Outcome::Busy(Some(holder)), Some(Fault::WrongHolder)) => {
                    holder.label = "nobody".to_string();
                }
                (outcome, Some(Fault::NotOwner)) if matches!(request, Request::Release { .. }) => {
                    *outcome = Outcome::NotOwner;
                }
                _ => {}
            }
        }
        Reply::Outcomes(outcomes)
    }

    fn hear(&mut self, driver: usize) {
        while let Some(event) = self.drivers[driver].engine.poll_event() {
            self.line(driver, false, Call::Event(format!("{event:?}")));
            if let Event::Granted { id, deadline, .. } | Event::Renewed { id, deadline } = event {
                self.line(driver, false, Call::Guard(id, deadline));
            }
            self.drivers[driver].events.push(event);
        }
    }
}

/// Where others may come between the parts of a claim.
impl Machine<FakeTable> {
    pub(crate) fn row(&mut self) -> &mut Row {
        self.server.rows_mut().values_mut().next().expect("there is one")
    }

    /// A driver's claim leaves.
    pub(crate) fn send(&mut self, driver: usize) -> Dispatch {
        let dispatch = self.drivers[driver].engine.poll_request(self.now);
        self.line(driver, true, Call::PollRequest(dispatch.as_ref().map(|one| format!("{one:?}"))));
        dispatch.expect("a claim")
    }

    /// It locks the row, and keeps to no turn.
    pub(crate) fn lock_the_row(&mut self, driver: usize, dispatch: &Dispatch) -> Reply {
        let mut claim = dispatch.clone();
        let Request::Acquire { claims, .. } = &mut claim.request else { panic!("a claim") };
        claims[0].turn = Turn::Any;
        self.carry_out(driver, &claim, WAY)
    }

    /// It draws its ticket.
    pub(crate) fn draw(&mut self, driver: usize, dispatch: &Dispatch, mut reply: Reply) {
        let row = self.row();
        row.queue = row.queue.max(row.served) + 1;
        let place = lock_core::Place { ticket: row.queue, ahead: row.queue - row.served - 1 };
        let Reply::Outcomes(outcomes) = &mut reply else { panic!("outcomes") };
        let Outcome::Busy(Some(holder)) = &mut outcomes[0] else { panic!("it is denied") };
        holder.place = Some(place);
        self.answer(driver, dispatch, reply);
    }
}

/// The text of a trace.
pub(crate) fn text(trace: &Trace) -> String {
    let lines = trace.lines.iter().map(|line| line.to_text() + "\n");
    std::iter::once(trace.head.to_text() + "\n").chain(lines).collect()
}
