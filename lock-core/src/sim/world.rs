//! A world as a value: clients, a network, a server, and time.

use super::action::{Action, Way};
use super::client::{Client, Stage};
use super::clock::Clock;
use super::coverage::{Coverage, Sometimes};
use super::hash::{Aside, fingerprint};
use super::invariants::fences::Latest;
use super::invariants::kept::Kept;
use super::invariants::{Check, Violation};
use super::network::Exchange;
use super::scope::{Faults, Scope};
use super::server::Server;
use super::target::Target;
use super::users::Users;
use crate::capabilities::Capabilities;
use crate::name::{LockName, Owner};
use crate::request;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// Clients with real engines, a network and a server, at one moment.
///
/// All that is not determined is in [`actions`](Self::actions), and [`apply`](Self::apply) does
/// one of them. The same actions from the same beginning always lead to the same world.
///
/// Each client is the engine itself, called as a driver calls it. It is run when the schedule says
/// so, however late, while its clock goes on; that is what a stopped process and a machine that
/// slept look like from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World<S: Server> {
    pub(super) scope: Aside<Arc<Scope>>,
    pub(super) capabilities: Capabilities,
    pub(super) names: Aside<Arc<[LockName]>>,
    /// What callers may want.
    pub(super) targets: Aside<Arc<[Target]>>,
    /// Real time.
    pub(super) now: Instant,
    pub(super) server: S,
    pub(super) server_clock: Clock,
    pub(super) up: bool,
    pub(super) clients: Vec<Arc<Client>>,
    /// In the order of their keys, so that the order of sending does not tell states apart.
    pub(super) exchanges: Vec<Arc<Exchange>>,
    /// What may still go wrong.
    pub(super) faults: Faults,
    /// Of each name's last grants that were told.
    pub(super) fences: BTreeMap<LockName, Latest>,
    /// Owners whose lease may outlive their attempt; see `invariants::leaks`.
    pub(super) excused: BTreeSet<Owner>,
    pub(super) users: Users,
    pub(super) kept: Kept,
    pub(super) violation: Option<Violation>,
    pub(super) history: Aside<History>,
}

/// What was seen on the way here.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) coverage: Coverage,
    /// One bit for each client that was granted a lock.
    pub(super) granted: u32,
    /// What happened, for people, if it is wanted.
    pub(super) notes: Option<Vec<String>>,
}

impl<S: Server> World<S> {
    /// A world at time zero, in which nobody wants anything yet.
    pub fn new(server: S, capabilities: Capabilities, scope: Scope) -> Self {
        let names = (0..scope.names).filter_map(|n| LockName::new(&format!("lock-{n}")).ok());
        let targets = match &scope.targets[..] {
            [] => (0..scope.names).map(Target::One).collect(),
            targets => targets.into(),
        };
        let clients = 0..scope.clients.len();
        Self {
            names: Aside(names.collect()),
            targets: Aside(targets),
            now: Instant::from_nanos(0),
            server,
            server_clock: scope.server,
            up: true,
            clients: clients
                .map(|client| Arc::new(Client::new(capabilities.clone(), &scope, client)))
                .collect(),
            exchanges: Vec::new(),
            faults: scope.faults,
            fences: BTreeMap::new(),
            excused: BTreeSet::new(),
            users: Users { left: scope.transactions, ..Users::default() },
            kept: Kept::default(),
            violation: None,
            history: Aside(History::default()),
            scope: Aside(Arc::new(scope)),
            capabilities,
        }
    }

    /// What can happen next, always in the same order; nothing after a violation.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.violation.is_some() {
            return actions;
        }
        for at in 0..self.exchanges.len() {
            self.exchange_actions(at, &mut actions);
        }
        for client in 0..self.clients.len() {
            self.client_actions(client, &mut actions);
        }
        if !self.up {
            actions.push(Action::RestartServer);
        } else if self.faults.server_crashes > 0 {
            actions.push(Action::CrashServer);
        }
        if self.up {
            let now = self.server_now();
            actions.extend((0..self.server.moves(now)).map(Action::Move));
            if self.faults.kills > 0 {
                actions.extend((0..self.server.killable()).map(Action::Kill));
            }
        }
        self.user_actions(&mut actions);
        if self.faults.clock_steps > 0 {
            actions.push(Action::StepServer);
        }
        if self.faults.set_backs > 0 {
            actions.push(Action::SetServerBack);
        }
        actions.extend(self.times().into_iter().map(Action::Advance));
        actions
    }

    /// What was found wrong.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// What was seen on the way here.
    pub fn coverage(&self) -> Coverage {
        self.history.0.coverage
    }

    /// Real time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now.since(Instant::from_nanos(0))
    }

    /// The server.
    pub fn server(&self) -> &S {
        &self.server
    }

    /// A 128-bit hash of what tells states apart.
    ///
    /// On a grid, times count as the steps from now until they are reached, and jitter is left out:
    /// see `project`. Otherwise everything counts.
    pub fn fingerprint(&self) -> u128 {
        match self.scope.0.grid {
            Some(step) => self.projected(step),
            None => fingerprint(self),
        }
    }

    /// Writes down from now on what happens.
    pub fn take_notes(&mut self) {
        self.history.0.notes = Some(Vec::new());
    }

    /// What was written down since the last call.
    pub fn notes(&mut self) -> Vec<String> {
        self.history.0.notes.as_mut().map(core::mem::take).unwrap_or_default()
    }

    // -- what can happen --------------------------------------------------------------------------

    fn exchange_actions(&self, at: usize, actions: &mut Vec<Action>) {
        let exchange = &self.exchanges[at];
        let client = &self.clients[exchange.from.client];
        let awake = client.asleep.is_none();
        if exchange.awaited && exchange.reply.is_some() && awake {
            actions.push(Action::Deliver(at));
        }
        if exchange.copies == 0 {
            return;
        }
        if !self.server.reaches(exchange.from, exchange.request.as_ref())
            && awake
            && exchange.awaited
        {
            actions.push(Action::Fail(at, Way::Closed));
            return;
        }
        if self.may_execute(at) {
            actions.push(Action::Execute(at));
            if S::REPEATABLE && self.faults.stale_reads > 0 && exchange.read.is_none() {
                actions.push(Action::Read(at));
            }
        }
        if self.faults.losses > 0 && !exchange.waiting {
            actions.push(Action::Lose(at));
        }
        if S::REPEATABLE && self.faults.duplicates > 0 {
            actions.push(Action::Duplicate(at));
        }
        if self.faults.failures > 0 && exchange.awaited && awake {
            let untouched = !exchange.executed
                && !exchange.waiting
                && exchange.read.is_none()
                && exchange.copies == 1;
            let possible = |way: &Way| untouched || *way == Way::Broken;
            actions.extend(Way::ALL.into_iter().filter(possible).map(|way| Action::Fail(at, way)));
        }
    }

    /// Whether a request can be carried out now.
    pub(super) fn may_execute(&self, at: usize) -> bool {
        let exchange = &self.exchanges[at];
        let reaches = || self.server.reaches(exchange.from, exchange.request.as_ref());
        if !self.up || exchange.copies == 0 || !reaches() {
            return false;
        }
        let action = exchange.describe().0;
        if action == request::Action::Open && self.clients[exchange.from.client].opens == 0 {
            return false;
        }
        if exchange.waiting {
            let waits = |request| self.server.waits(self.server_now(), exchange.from, request);
            return !exchange.request.as_ref().is_some_and(waits);
        }
        // Connections keep the order.
        let earlier = self.exchanges[..at].iter();
        !S::CONNECTIONS
            || earlier
                .filter(|earlier| earlier.from == exchange.from)
                .all(|earlier| earlier.copies == 0 || earlier.waiting)
    }

    fn client_actions(&self, at: usize, actions: &mut Vec<Action>) {
        let client = &self.clients[at];
        if self.faults.client_crashes > 0 {
            actions.push(Action::CrashClient(at));
        }
        if client.asleep.is_some() {
            actions.push(Action::Resume(at));
            return;
        }
        if self.has_work(at) {
            actions.push(Action::Run(at));
        }
        if client.acquires > 0 {
            for target in 0..self.targets.0.len() {
                let wishes = 0..self.scope.0.wishes.len();
                actions.extend(wishes.map(|wish| Action::Acquire(at, target, wish)));
            }
        }
        for (attempt, known) in client.attempts.iter().enumerate() {
            let may = match known.stage {
                Stage::Wanting => self.scope.0.cancels,
                Stage::Held | Stage::Lost => true,
                Stage::Releasing | Stage::Abandoned => false,
            };
            if may {
                actions.push(Action::Release(at, attempt));
            }
        }
        if self.faults.suspends > 0 {
            actions.push(Action::Suspend(at));
        }
        if self.faults.hints > 0 {
            actions.extend((0..self.names.0.len()).map(|name| Action::Hint(at, name)));
        }
    }

    /// Whether running a client's driver would change anything.
    pub(super) fn has_work(&self, at: usize) -> bool {
        let client = &self.clients[at];
        let now = client.clock.read(self.now);
        client.called
            || client.engine.poll_timeout().is_some_and(|at| at <= now)
            || self.exchanges.iter().any(|exchange| {
                exchange.from.client == at && exchange.awaited && exchange.deadline <= now
            })
    }

    /// The times that time may go on to.
    fn times(&self) -> Vec<Instant> {
        let horizon = self.scope.0.horizon.unwrap_or(Instant::from_nanos(u64::MAX));
        if let Some(step) = self.scope.0.grid {
            let next = self.now.after(step);
            return if next <= horizon { Vec::from([next]) } else { Vec::new() };
        }
        let times = self.interesting_times();
        let ttl = self.scope.0.timing.ttl();
        let mut next = BTreeSet::from([self.now.after(ttl / 7)]);
        for at_least in [Duration::ZERO, ttl / 60, ttl / 6, ttl / 2] {
            next.extend(times.range(self.now.after(at_least)..).next());
        }
        next.into_iter().filter(|at| self.now < *at && *at <= horizon).collect()
    }

    /// When something will be due, run out or end, and the last moments before it, in real time.
    pub(super) fn interesting_times(&self) -> BTreeSet<Instant> {
        let mut times = BTreeSet::new();
        for client in &self.clients {
            let clock = &client.clock;
            times.extend(client.engine.poll_timeout().map(|at| clock.when(at)));
            for attempt in &client.attempts {
                let until = client.engine.held_until(attempt.id).map(|at| clock.when(at));
                times.extend(until.into_iter().flat_map(and_just_before));
            }
        }
        for exchange in self.exchanges.iter().filter(|exchange| exchange.awaited) {
            times.insert(self.clients[exchange.from.client].clock.when(exchange.deadline));
        }
        for at in self.server.times() {
            times.extend(and_just_before(self.server_clock.when(at)));
        }
        times.retain(|at| self.now < *at);
        times
    }

    // -- parts of a step --------------------------------------------------------------------------

    pub(super) fn judge(&mut self, check: Check, result: Result<(), String>) {
        if let Err(what) = result
            && self.violation.is_none()
            && self.scope.0.checks(check)
        {
            self.violation = Some(Violation { check, what });
        }
    }

    pub(super) fn saw(&mut self, sometimes: Sometimes) {
        self.history.0.coverage.insert(sometimes);
    }

    /// Writes down what happens, if it is wanted; only then it is put into words.
    pub(super) fn note(&mut self, words: impl FnOnce(&Self) -> String) {
        if self.history.0.notes.is_some() {
            let text = words(self);
            self.history.0.notes.get_or_insert_default().push(text);
        }
    }

    pub(super) fn client(&mut self, at: usize) -> &mut Client {
        Arc::make_mut(&mut self.clients[at])
    }

    pub(super) fn exchange(&mut self, at: usize) -> &mut Exchange {
        Arc::make_mut(&mut self.exchanges[at])
    }

    /// What a client's clock shows.
    pub(super) fn local(&self, client: usize) -> Instant {
        self.clients[client].clock.read(self.now)
    }

    pub(super) fn server_now(&self) -> Instant {
        self.server_clock.read(self.now)
    }
}

fn and_just_before(at: Instant) -> [Instant; 2] {
    [at.before(Duration::from_nanos(1)), at]
}
