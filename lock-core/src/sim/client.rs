//! A client: the real engine, a clock, and what its callers were told.

use super::clock::Clock;
use super::flaw::Flaw;
use super::hash::Aside;
use super::scope::Scope;
use super::server::Connection;
use super::target::Kind;
use crate::capabilities::Capabilities;
use crate::engine::{Config, ConnectionId, Engine};
use crate::event::LockId;
use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::request::{Action, Claim, Mode};
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) engine: Engine,
    pub(super) clock: Clock,
    pub(super) connection: Connection,
    /// Its callers have wanted something since it last polled.
    pub(super) called: bool,
    /// Since when it has been stopped, in real time.
    pub(super) asleep: Option<Instant>,
    /// How many attempts it may still begin.
    pub(super) acquires: u8,
    /// How many sessions it may still open.
    pub(super) opens: u8,
    pub(super) attempts: Vec<Attempt>,
    /// What was denied or failed last.
    pub(super) refused: BTreeMap<(Action, Owner), Refusal>,
    /// Since when it was counted, and how often it has asked whether an owner can have its lock: to see more, not to tell more.
    pub(super) looks: Aside<BTreeMap<Owner, (Instant, u32)>>,
    /// Every owner that it has claimed as: to see more, not to tell more.
    pub(super) owners: Aside<BTreeSet<Owner>>,
    /// For each of its connections, when the last question about the session was sent that was
    /// answered with yes: to see more, not to tell more.
    pub(super) confirmed: Aside<BTreeMap<ConnectionId, Instant>>,
    /// Whom the server knows by another owner: a seeded bug.
    pub(super) aliases: BTreeMap<Owner, Owner>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Refusal {
    /// When, on the client's clock.
    pub(super) at: Instant,
    /// Whether the reply said when the lease in the way ends.
    pub(super) informed: bool,
}

/// What a caller knows of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) id: LockId,
    pub(super) kind: Kind,
    /// The locks that it is about.
    pub(super) names: Vec<LockName>,
    /// Known when its first claim leaves; of an attempt for several locks, never.
    pub(super) owner: Option<Owner>,
    pub(super) mode: Mode,
    /// Its lease times.
    pub(super) timing: Timing,
    pub(super) stage: Stage,
    /// Will wait for as long as it takes.
    pub(super) patient: bool,
    /// What it was granted.
    pub(super) holds: Vec<(LockName, Fence)>,
    /// The last deadline that was told.
    pub(super) deadline: Option<Instant>,
    /// When it was granted and whether it had trouble before: to see more, not to tell more.
    pub(super) granted: Aside<Option<Instant>>,
    pub(super) trouble: Aside<bool>,
    /// Whether it was told that somebody has the lock.
    pub(super) told: Aside<bool>,
}

/// How far an attempt has got, as far as its caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Wanting,
    Held,
    Lost,
    /// The caller wants no more of it, and waits to be told that it is over.
    Releasing,
    /// It has ended for the caller, and the engine may still be clearing up.
    Abandoned,
}

impl Client {
    pub(super) fn new(capabilities: Capabilities, scope: &Scope, client: usize) -> Self {
        let connection = Connection { client, number: 0, id: ConnectionId::MAIN };
        Self {
            engine: engine(capabilities, scope, connection),
            clock: scope.clients[client],
            connection,
            called: false,
            asleep: None,
            acquires: scope.acquires,
            opens: scope.opens,
            attempts: Vec::new(),
            refused: BTreeMap::new(),
            looks: Aside(BTreeMap::new()),
            owners: Aside(BTreeSet::new()),
            confirmed: Aside(BTreeMap::new()),
            aliases: BTreeMap::new(),
        }
    }

    /// Dies and is started again with another seed. Its clock goes on.
    pub(super) fn crash(&mut self, capabilities: Capabilities, scope: &Scope) {
        self.connection.number += 1;
        self.engine = engine(capabilities, scope, self.connection);
        self.called = false;
        self.asleep = None;
        self.attempts.clear();
        self.refused.clear();
        self.looks.0.clear();
        self.owners.0.clear();
        self.confirmed.0.clear();
        self.aliases.clear();
    }

    pub(super) fn attempt(&mut self, id: LockId) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.id == id)
    }

    /// A name in `claims` that an earlier attempt of this client has or wants. Only the first talks
    /// to the server: on a session that takes a lock twice when asked twice, both would hold it.
    pub(super) fn overtaken_by<'a>(&self, claims: &'a [Claim]) -> Option<&'a LockName> {
        let overtaken = |claim: &&Claim| {
            let same = self.attempts.iter().filter(|one| one.name() == Some(&claim.name));
            let is_of_one = self.attempts.iter().any(|one| one.owner == Some(claim.owner));
            same.take_while(|attempt| attempt.owner != Some(claim.owner))
                .filter(|attempt| attempt.mode == Mode::Exclusive || claim.mode == Mode::Exclusive)
                .any(|attempt| is_of_one && matches!(attempt.stage, Stage::Wanting | Stage::Held))
        };
        claims.iter().find(overtaken).map(|claim| &claim.name)
    }

    /// Forgets attempts that have ended for their callers, once the engine has cleared up behind all
    /// of them.
    pub(super) fn forget_settled(&mut self) {
        let engine = &self.engine;
        let settled = |one: &Attempt| one.stage == Stage::Abandoned && engine.is_settled(one.id);
        self.attempts.retain(|one| one.kind == Kind::One || !settled(one));
        let abandoned = |attempt: &Attempt| attempt.stage == Stage::Abandoned;
        let count = self.attempts.iter().filter(|attempt| abandoned(attempt)).count();
        if self.engine.attempts() + count <= self.attempts.len() {
            self.attempts.retain(|attempt| !abandoned(attempt));
        }
        let attempts = &self.attempts;
        let sessions = self.engine.sessions();
        self.refused.retain(|(action, owner), _| match action {
            Action::Open | Action::KeepAlive | Action::Close => sessions > 0,
            _ => {
                attempts.iter().any(|attempt| attempt.owner == Some(*owner)) || engine.knows(*owner)
            }
        });
    }

    /// Whether an attempt's caller would be told "held" at `real`. The caller may ask at any
    /// time, also when the driver was not run for long.
    pub(super) fn believes(&self, attempt: &Attempt, real: Instant, flaw: Option<Flaw>) -> bool {
        let now = self.clock.read(real);
        let until = match flaw {
            Some(Flaw::HeldCached) if attempt.stage == Stage::Held => return true,
            Some(Flaw::HeldWhileReleasing) => attempt.deadline,
            _ => self.engine.held_until(attempt.id),
        };
        until.is_some_and(|until| now < until)
    }
}

fn engine(capabilities: Capabilities, scope: &Scope, connection: Connection) -> Engine {
    let number = if scope.flaw == Some(Flaw::OwnerReused) { 0 } else { connection.number };
    let seed = (connection.client as u128 + 1) << 64 | u128::from(number) << 32;
    let config = Config {
        in_flight: scope.in_flight,
        ..Config::new(scope.timing_at(connection.client), seed)
    };
    Engine::new(capabilities, config)
}
