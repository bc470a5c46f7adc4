//! The model's servers with sessions after some of the operations on one lock. Advisory locks belong to connections, and Consul's
//! to records.
//!
//! The server's queue is not compared: who waits claims the lock at some moment while he waits, and who tries meanwhile may be
//! denied.

use super::operation::{Done, Offset, Operation};
use super::search::{self, Found, Known, Model};
use super::{Answer, Difference, Exchange, Place};
use crate::consul::lease;
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::{Outcome, Reply};
use crate::request::{Request, SessionName};
use crate::sim::advisory::{FakeAdvisory, Line};
use crate::sim::consul::{FakeConsul, Known as Record};
use crate::sim::invariants::fences::{self, Latest};
use crate::sim::server::{Connection, Server};
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// A connection of an engine, or a record.
type Session = (Connection, SessionName);

/// What is known of a session.
#[derive(Default)]
pub(super) struct Life {
    /// The time of its last sign of life: it has not ended before.
    alive: Instant,
    /// When the client was told that it has ended.
    closed: Option<Instant>,
    ttl: Duration,
}

/// All sessions.
pub(super) fn lives(exchanges: &[Exchange]) -> BTreeMap<Session, Life> {
    let mut lives: BTreeMap<Session, Life> = BTreeMap::new();
    for Exchange { by, request, sent, answer, .. } in exchanges {
        let Some((answered, answer)) = answer else { continue };
        match (request, answer) {
            (Request::Open { ttl, .. }, Answer::Opened(name)) => {
                let life = lives.entry((*by, name.clone())).or_default();
                (life.alive, life.ttl) = (life.alive.max(*sent), *ttl);
            }
            (Request::Close { session }, Answer::Outcomes(_)) => {
                lives.entry((*by, session.clone())).or_default().closed = Some(*answered);
            }
            (request, Answer::Outcomes(outcomes)) => {
                let dead = |one: &Outcome| {
                    matches!(one, Outcome::NoSession | Outcome::NotOwner | Outcome::Delayed)
                };
                if let Some(session) = name(request)
                    && !outcomes.iter().any(dead)
                {
                    let life = lives.entry((*by, session.clone())).or_default();
                    life.alive = life.alive.max(*sent);
                }
            }
            _ => {}
        }
    }
    lives
}

/// The session that a request is in. Word of a change is no sign of its life.
fn name(request: &Request) -> Option<&SessionName> {
    match request {
        Request::KeepAlive { session }
        | Request::Close { session }
        | Request::Acquire { session, .. }
        | Request::Release { session, .. }
        | Request::Join { session, .. } => Some(session),
        Request::Wait { session, .. } if session.0.is_none() => Some(session),
        _ => None,
    }
}

fn session(operation: &Operation) -> Option<Session> {
    Some((operation.by, name(&operation.request)?.clone()))
}

/// Finds an order of the operations on one lock and the ends of their sessions.
pub(super) fn check<S: OfSessions>(
    place: &Place<'_>,
    server: S,
    mut operations: Vec<Operation>,
    lives: &BTreeMap<Session, Life>,
    clock: Offset,
) -> Result<Found, Difference> {
    add_ends(&mut operations, lives, clock);
    search::check(place, State::new(server, &operations, lives), operations)
}

/// Adds the ends of all sessions that an operation is in.
fn add_ends(operations: &mut Vec<Operation>, lives: &BTreeMap<Session, Life>, clock: Offset) {
    let mut known = BTreeSet::new();
    let mut ends = Vec::new();
    for operation in &*operations {
        let Some(session) = session(operation).filter(|one| known.insert(one.clone())) else {
            continue;
        };
        let none = Life::default();
        let Life { alive, closed, .. } = lives.get(&session).unwrap_or(&none);
        let (request, told) =
            (Request::Close { session: session.1 }, closed.map(|_| Outcome::Done));
        let times = ((*alive).max(operation.sent), closed.unwrap_or(Instant::END));
        ends.push(Operation::new(operation.at, operation.by, request, told, times, clock));
    }
    operations.extend(ends);
}

/// A server of the model.
pub(super) trait OfSessions: Server {
    /// A session that will be opened.
    fn begin(&mut self, session: &Session, ttl: Duration);

    /// Ends one, at once.
    fn end(&mut self, now: Instant, session: &Session);
}

impl OfSessions for FakeAdvisory {
    fn begin(&mut self, (connection, _): &Session, _: Duration) {
        let line = Line { ttl: Duration::MAX, expires: Instant::END };
        self.lines_mut().insert(*connection, line);
    }

    fn end(&mut self, now: Instant, (connection, _): &Session) {
        self.close(now, *connection);
    }
}

impl OfSessions for FakeConsul {
    fn begin(&mut self, (_, name): &Session, ttl: Duration) {
        let (lock_delay, number) = (lease(ttl), self.sessions_mut().len() as u128);
        let record = Record { ttl, expires: Instant::END, lock_delay, number };
        self.sessions_mut().insert(name.clone(), record);
    }

    fn end(&mut self, now: Instant, (connection, name): &Session) {
        self.apply(now, *connection, &Request::Close { session: name.clone() });
    }
}

/// The server, and what was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State<S> {
    server: S,
    latest: BTreeMap<LockName, Latest>,
    /// The model's fence of the last grant and, if it was told, the real one.
    granted: (Fence, Option<Fence>),
    done: Done,
}

impl<S: OfSessions> State<S> {
    /// A server whose sessions are all there.
    fn new(mut server: S, operations: &[Operation], lives: &BTreeMap<Session, Life>) -> Self {
        let sessions: BTreeSet<_> = operations.iter().filter_map(session).collect();
        for session in &sessions {
            server.begin(session, lives.get(session).map(|life| life.ttl).unwrap_or_default());
        }
        let granted = (Fence::default(), None);
        Self { server, latest: BTreeMap::new(), granted, done: Done::of(operations) }
    }

    fn with(mut self, which: usize) -> Self {
        self.done.insert(which);
        self
    }

    fn ended(&self, which: usize, operation: &Operation) -> Self {
        let mut next = self.clone();
        if let Some(session) = session(operation) {
            next.server.end(operation.earliest, &session);
        }
        next.with(which)
    }

    fn carried_out(&self, operation: &Operation, now: Instant) -> (Self, Outcome) {
        let mut next = self.clone();
        if !self.server.reaches(operation.by, Some(&operation.request)) {
            return (next, Outcome::NoSession);
        }
        let reply = next.server.apply(now, operation.by, &operation.request);
        let Reply::Outcomes(answers) = reply else { return (next, Outcome::Delayed) };
        (next, answers.into_iter().next().unwrap_or(Outcome::Delayed))
    }

    /// Takes the fence that was told for the one of the model. Repeated, a grant has the same.
    fn told(&mut self, operation: &Operation, says: Fence, told: Fence) -> bool {
        let (last, known) = core::mem::replace(&mut self.granted, (says, Some(told)));
        if last == says && known.is_some() {
            return known == Some(told);
        }
        let claim = operation.claim();
        fences::granted(&mut self.latest, &claim.name, told, claim.mode).is_ok()
    }
}

impl<S: OfSessions> Model for State<S> {
    fn is_done(&self, which: usize) -> bool {
        self.done.has(which)
    }

    fn is_like(&self, other: &Self) -> bool {
        self.server == other.server
    }

    fn answer(
        &self,
        which: usize,
        operation: &Operation,
        told: &Outcome,
        _: &Known,
    ) -> Result<Vec<Self>, Outcome> {
        match (&operation.request, told) {
            (Request::Close { .. }, _) | (_, Outcome::NoSession) => {
                return Ok(Vec::from([self.ended(which, operation)]));
            }
            // A session was lost with it, or the server has just started.
            (_, Outcome::Delayed) => return Ok(Vec::from([self.clone().with(which)])),
            _ => {}
        }
        let granted = matches!(told, Outcome::Granted(_));
        let now = if granted { operation.latest } else { operation.earliest };
        let (mut next, says) = self.carried_out(operation, now);
        let done = |one: &Outcome| matches!(one, Outcome::Done | Outcome::DoneContended);
        let fits = match (told, &says) {
            (Outcome::Granted(told), Outcome::Granted(says)) => next.told(operation, *says, *told),
            (Outcome::Busy(_), Outcome::Busy(_)) => true,
            (told, says) => told == says || (done(told) && done(says)),
        };
        if fits { Ok(Vec::from([next.with(which)])) } else { Err(says) }
    }

    fn unanswered(&self, which: usize, operation: &Operation, _: &Known) -> Option<Self> {
        if let Request::Close { .. } = operation.request {
            let next = self.ended(which, operation);
            return (next.server.leases() != self.server.leases()).then_some(next);
        }
        let (mut next, says) = self.carried_out(operation, operation.earliest);
        if let Outcome::Granted(says) = says
            && says != self.granted.0
        {
            next.granted = (says, None);
        }
        (next.server.leases() != self.server.leases()).then(|| next.with(which))
    }

    /// A session ends after all that was answered in it.
    fn follows(operation: &Operation, other: &Operation) -> bool {
        let ends = matches!(operation.request, Request::Close { .. });
        let lives = !matches!(other.request, Request::Close { .. })
            && other.told.as_ref().is_some_and(|told| *told != Outcome::NoSession);
        let in_time = other.sent <= operation.answered;
        ends && lives && in_time && session(operation) == session(other)
    }

    fn shows(&self, _: &Operation) -> String {
        format!("{:?}", self.server.leases())
    }
}
