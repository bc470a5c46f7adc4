//! A server with advisory locks in memory.

use super::server::{Connection, Lease, Server};
use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::outcome::{Outcome, Reply};
use crate::request::{Claim, Mode, Request, SessionName};
use crate::time::Instant;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::hash::Hash;
use core::time::Duration;

/// A connection at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// How long it may be idle.
    pub ttl: Duration,
    /// When it is ended if nothing comes before.
    pub expires: Instant,
}

/// A connection's hold on a lock. If it shares a lock with itself, it has one for each owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Whose.
    pub connection: Connection,
    /// Of its claims, the last one's owner: a real server knows connections only.
    pub owner: Owner,
    /// How.
    pub mode: Mode,
    /// How often it must be freed: a connection may take a lock more than once.
    pub count: u32,
    /// The last grant's fence.
    pub fence: Fence,
}

/// A connection in a lock's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// Whose.
    pub connection: Connection,
    /// Its claim's owner.
    pub owner: Owner,
    /// How it wants the lock.
    pub mode: Mode,
    /// When its wait ends.
    pub until: Instant,
}

/// Who has a lock and who waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lock {
    /// Several only if all share it.
    pub holds: Vec<Hold>,
    /// First come, first served.
    pub queue: VecDeque<Waiter>,
}

/// A server with advisory locks as [`advisory`](crate::advisory) describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FakeAdvisory {
    lines: BTreeMap<Connection, Line>,
    locks: BTreeMap<LockName, Lock>,
    /// Granted while they waited, and not yet told.
    granted: BTreeMap<Connection, Fence>,
    /// What was held when the server died, and nobody is granted before its holder has noticed.
    remembered: Vec<Lease>,
    /// No two requests read the clock in the same microsecond.
    last_fence: Fence,
    started: Instant,
    /// How long it grants nothing then.
    grace: Duration,
    graceful: bool,
    /// A release ends all that its connection has.
    one_lock: bool,
}

impl Default for FakeAdvisory {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            locks: BTreeMap::new(),
            granted: BTreeMap::new(),
            remembered: Vec::new(),
            last_fence: Fence::new(0),
            started: Instant::from_nanos(0),
            grace: Duration::ZERO,
            graceful: true,
            one_lock: false,
        }
    }
}

impl FakeAdvisory {
    /// A server that has run for long.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server that grants locks right after a start: **not** what the protocol may run on.
    #[must_use]
    pub fn graceless(self) -> Self {
        Self { graceful: false, ..self }
    }

    /// A server on which a lock is an open transaction, which a release commits with all that it has: see
    /// [`sql_lock`](crate::sql::advisory::sql_lock).
    #[must_use]
    pub fn one_lock(self) -> Self {
        Self { one_lock: true, ..self }
    }

    /// The locks that somebody has or waits for, to be tampered with.
    pub fn locks_mut(&mut self) -> &mut BTreeMap<LockName, Lock> {
        &mut self.locks
    }

    /// The open connections, to be tampered with.
    pub fn lines_mut(&mut self) -> &mut BTreeMap<Connection, Line> {
        &mut self.lines
    }

    fn fence(&mut self, now: Instant) -> Fence {
        let fence = Fence::new(now.as_micros().max(self.last_fence.get() + 1));
        self.last_fence = fence;
        fence
    }

    /// A connection has done something.
    fn touch(&mut self, now: Instant, connection: Connection) {
        if let Some(line) = self.lines.get_mut(&connection) {
            line.expires = now.after(line.ttl);
        }
    }

    fn starting(&self, now: Instant, min_uptime: Duration) -> bool {
        // Once the client knows that it has run for long, its clock is not asked.
        let asked = self.grace > Duration::ZERO && min_uptime > Duration::ZERO;
        self.graceful && asked && now < self.started.after(min_uptime)
    }

    fn take(&mut self, now: Instant, connection: Connection, claim: &Claim) -> Option<Fence> {
        let lock = self.locks.entry(claim.name.clone()).or_default();
        if !lock.grants(connection, claim.mode, lock.queue.len()) {
            return None;
        }
        let fence = self.fence(now);
        let lock = self.locks.entry(claim.name.clone()).or_default();
        lock.hold(connection, claim.owner, claim.mode, fence);
        Some(fence)
    }

    /// Whether somebody waits whom a try would pass. Only what a connection has in the same mode
    /// already, it gets again.
    fn behind(&self, connection: Connection, claim: &Claim) -> bool {
        let Some(lock) = self.locks.get(&claim.name) else { return false };
        let has = |hold: &Hold| hold.connection == connection && hold.mode == claim.mode;
        let shares = |waiter: &Waiter| (waiter.mode, claim.mode) == (Mode::Shared, Mode::Shared);
        !lock.holds.iter().any(has) && !lock.queue.iter().all(shares)
    }

    fn unlock(&mut self, now: Instant, connection: Connection, lease: &Claim) -> Outcome {
        if self.one_lock {
            self.end_transaction(now, connection);
            return Outcome::Done;
        }
        let Some(lock) = self.locks.get_mut(&lease.name) else { return Outcome::NotOwner };
        let ours = |hold: &Hold| hold.connection == connection && hold.mode == lease.mode;
        let same = |hold: &Hold| ours(hold) && hold.owner == lease.owner;
        let found = lock.holds.iter().position(same).or(lock.holds.iter().position(ours));
        let Some(found) = found else { return Outcome::NotOwner };
        lock.holds[found].count -= 1;
        lock.holds.retain(|hold| hold.count > 0);
        self.serve(now);
        Outcome::Done
    }

    fn end_transaction(&mut self, now: Instant, connection: Connection) {
        for lock in self.locks.values_mut() {
            lock.holds.retain(|hold| hold.connection != connection);
        }
        self.serve(now);
    }

    fn drop_line(&mut self, now: Instant, connection: Connection) {
        self.lines.remove(&connection);
        self.granted.remove(&connection);
        for lock in self.locks.values_mut() {
            lock.holds.retain(|hold| hold.connection != connection);
            lock.queue.retain(|waiter| waiter.connection != connection);
        }
        self.serve(now);
    }

    /// Grants what can be granted to those who wait.
    fn serve(&mut self, now: Instant) {
        let mut served = Vec::new();
        let mut fence = self.last_fence.get().max(now.as_micros().saturating_sub(1));
        for lock in self.locks.values_mut() {
            while let Some(next) = lock.queue.front().copied()
                && lock.grants(next.connection, next.mode, 0)
            {
                fence += 1;
                lock.queue.pop_front();
                lock.hold(next.connection, next.owner, next.mode, Fence::new(fence));
                served.push((next.connection, Fence::new(fence)));
            }
        }
        for (connection, fence) in served {
            self.last_fence = fence;
            self.granted.insert(connection, fence);
            self.touch(now, connection);
        }
        self.locks.retain(|_, lock| !lock.holds.is_empty() || !lock.queue.is_empty());
    }

    fn answer(&mut self, now: Instant, connection: Connection, request: &Request) -> Reply {
        self.touch(now, connection);
        let tried = |fence: Option<Fence>| fence.map_or(Outcome::Busy(None), Outcome::Granted);
        Reply::Outcomes(match request {
            Request::Open { ttl, .. } => {
                self.drop_line(now, connection);
                self.lines.insert(connection, Line { ttl: *ttl, expires: now.after(*ttl) });
                return Reply::Opened(SessionName::default());
            }
            Request::KeepAlive { .. } => Vec::from([Outcome::Done]),
            Request::Acquire { claims, min_uptime, .. } if self.starting(now, *min_uptime) => {
                claims.iter().map(|_| Outcome::Delayed).collect()
            }
            Request::Acquire { claims, .. } => {
                let try_one = |claim| {
                    let behind = self.behind(connection, claim);
                    tried(if behind { None } else { self.take(now, connection, claim) })
                };
                claims.iter().map(try_one).collect()
            }
            Request::Wait { min_uptime, .. } if self.starting(now, *min_uptime) => {
                Vec::from([Outcome::Delayed])
            }
            Request::Wait { claim, .. } => {
                let granted = self.granted.remove(&connection);
                let fence = granted.or_else(|| self.take(now, connection, claim));
                Vec::from([tried(fence)])
            }
            Request::Release { claims, .. } => {
                claims.iter().map(|claim| self.unlock(now, connection, claim)).collect()
            }
            // No client may rely on anything else.
            _ => Vec::new(),
        })
    }

    fn queued(&self, connection: Connection) -> bool {
        let mut queues = self.locks.values().flat_map(|lock| &lock.queue);
        queues.any(|waiter| waiter.connection == connection)
    }
}

impl Lock {
    /// Whether a connection would get it, with `ahead` others waiting before it.
    fn grants(&self, connection: Connection, mode: Mode, ahead: usize) -> bool {
        if self.holds.iter().any(|hold| hold.connection == connection) {
            // The server does not make a connection wait for itself.
            return self.holds.iter().all(|hold| {
                hold.connection == connection || (hold.mode, mode) == (Mode::Shared, Mode::Shared)
            });
        }
        let shared = mode == Mode::Shared;
        ahead == 0 && self.holds.iter().all(|hold| shared && hold.mode == Mode::Shared)
    }

    fn hold(&mut self, connection: Connection, owner: Owner, mode: Mode, fence: Fence) {
        let same = |hold: &&mut Hold| {
            let shares = mode == Mode::Shared && hold.owner != owner;
            hold.connection == connection && hold.mode == mode && !shares
        };
        match self.holds.iter_mut().find(same) {
            Some(hold) => {
                (hold.owner, hold.fence) = (owner, fence);
                hold.count += 1;
            }
            None => self.holds.push(Hold { connection, owner, mode, count: 1, fence }),
        }
    }
}

impl Server for FakeAdvisory {
    const CONNECTIONS: bool = true;
    const REPEATABLE: bool = false;

    fn apply(&mut self, now: Instant, connection: Connection, request: &Request) -> Reply {
        let reply = self.answer(now, connection, request);
        let denied = |outcome: &Outcome| matches!(outcome, Outcome::Busy(_) | Outcome::Delayed);
        if self.one_lock
            && let Reply::Outcomes(outcomes) = &reply
            && outcomes.iter().any(denied)
        {
            self.end_transaction(now, connection);
        }
        reply
    }

    fn waits(&self, now: Instant, connection: Connection, request: &Request) -> bool {
        let Request::Wait { claim, min_uptime, .. } = request else { return false };
        if self.granted.contains_key(&connection) {
            return false;
        }
        let in_the_way = |lock: &Lock| !lock.grants(connection, claim.mode, lock.queue.len());
        self.queued(connection)
            || (!self.starting(now, *min_uptime)
                && self.locks.get(&claim.name).is_some_and(in_the_way))
    }

    fn queue(&mut self, now: Instant, connection: Connection, request: &Request) {
        let Request::Wait { claim, up_to, .. } = request else { return };
        let until = now.after(*up_to);
        let waiter = Waiter { connection, owner: claim.owner, mode: claim.mode, until };
        self.locks.entry(claim.name.clone()).or_default().queue.push_back(waiter);
    }

    fn reaches(&self, connection: Connection, request: Option<&Request>) -> bool {
        matches!(request, Some(Request::Open { .. })) || self.lines.contains_key(&connection)
    }

    fn close(&mut self, now: Instant, connection: Connection) {
        self.drop_line(now, connection);
    }

    fn tick(&mut self, now: Instant) {
        for lock in self.locks.values_mut() {
            for waiter in lock.queue.iter().filter(|waiter| waiter.until <= now) {
                if let Some(line) = self.lines.get_mut(&waiter.connection) {
                    line.expires = waiter.until.after(line.ttl);
                }
            }
            lock.queue.retain(|waiter| now < waiter.until);
        }
        let idle = |(connection, line): (&Connection, &Line)| {
            (line.expires <= now && !self.queued(*connection)).then_some(*connection)
        };
        let expired: Vec<Connection> = self.lines.iter().filter_map(idle).collect();
        for connection in expired {
            self.drop_line(now, connection);
        }
        self.remembered.retain(|lease| now < lease.expires);
        self.serve(now);
    }

    fn set_back(&mut self, by: Duration) {
        for line in self.lines.values_mut() {
            line.expires = line.expires.before(by);
        }
        for waiter in self.locks.values_mut().flat_map(|lock| &mut lock.queue) {
            waiter.until = waiter.until.before(by);
        }
        for lease in &mut self.remembered {
            lease.expires = lease.expires.before(by);
        }
    }

    fn times(&self) -> Vec<Instant> {
        let waits = self.locks.values().flat_map(|lock| &lock.queue).map(|waiter| waiter.until);
        let ends = self.lines.iter().filter(|(connection, _)| !self.queued(**connection));
        let starting = (self.grace > Duration::ZERO).then(|| self.started.after(self.grace));
        waits.chain(ends.map(|(_, line)| line.expires)).chain(starting).collect()
    }

    fn killable(&self) -> usize {
        self.lines.len()
    }

    fn kill(&mut self, now: Instant, which: usize) {
        if let Some(connection) = self.lines.keys().nth(which).copied() {
            self.drop_line(now, connection);
        }
    }

    fn session(connection: Connection, _: &SessionName) -> u128 {
        (connection.client as u128 + 1) << 96
            | u128::from(connection.number) << 64
            | u128::from(connection.id.0)
    }

    fn leases(&self) -> Vec<Lease> {
        let holds =
            self.locks.iter().flat_map(|(name, lock)| lock.holds.iter().map(move |h| (name, h)));
        holds
            .map(|(name, hold)| Lease {
                name: name.clone(),
                owner: Some(hold.owner),
                fence: hold.fence,
                expires: self.lines.get(&hold.connection).map_or(Instant::END, |line| line.expires),
                mode: hold.mode,
                session: Self::session(hold.connection, &SessionName::default()),
            })
            .chain(self.remembered.iter().cloned())
            .collect()
    }

    fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(Fence) -> Fence,
    ) -> impl Hash {
        let mut seen = self.clone();
        for line in seen.lines.values_mut() {
            line.expires = time(line.expires);
        }
        for lock in seen.locks.values_mut() {
            lock.holds.iter_mut().for_each(|hold| hold.fence = fence(hold.fence));
            lock.queue.iter_mut().for_each(|waiter| waiter.until = time(waiter.until));
        }
        seen.granted.values_mut().for_each(|granted| *granted = fence(*granted));
        seen.last_fence = Fence::new(0);
        for lease in &mut seen.remembered {
            (lease.expires, lease.fence) = (time(lease.expires), fence(lease.fence));
        }
        // Long enough ago is long enough ago.
        seen.started = time(self.started.after(self.grace));
        seen
    }

    fn crash(&mut self) {
        if self.graceful {
            let held = self.leases();
            let held = held.into_iter().map(|lease| Lease { session: u128::MAX, ..lease });
            self.remembered = held.collect();
        }
        self.grace =
            self.lines.values().map(|line| line.ttl).chain([self.grace]).max().unwrap_or_default();
        self.lines.clear();
        self.locks.clear();
        self.granted.clear();
    }

    fn restart(&mut self, now: Instant) {
        self.started = now;
        for lease in &mut self.remembered {
            lease.expires = now.after(self.grace);
        }
    }
}
