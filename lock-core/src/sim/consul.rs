//! Consul's sessions and keys in memory.

use super::server::{Connection, Lease, Server};
use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::outcome::{Outcome, Place, Reply};
use crate::request::{Claim, Mode, Request, SessionName, Turn};
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::hash::Hash;
use core::time::Duration;

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// Its TTL.
    pub ttl: Duration,
    /// When it may be ended. It may also live on: up to twice the TTL.
    pub expires: Instant,
    /// How long its keys stay locked after it.
    pub lock_delay: Duration,
    /// Its number.
    pub number: u128,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Whose it is.
    pub session: Option<SessionName>,
    /// The last claim's owner: the real one knows sessions only.
    pub owner: Owner,
    /// Of its last grant.
    pub fence: Fence,
    /// When it last changed.
    pub modify_index: u64,
    /// Until when nobody gets it after its session was lost.
    pub delayed: Option<Instant>,
    /// The lock-delay of the last session that was lost with it: it begins anew when the server
    /// starts, whoever has the key by then.
    pub delay: Option<Duration>,
}

/// Consul as [`consul`](crate::consul) describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FakeConsul {
    sessions: BTreeMap<SessionName, Known>,
    keys: BTreeMap<LockName, Entry>,
    /// Those that wait for each lock, by where in the history they joined.
    lines: BTreeMap<LockName, BTreeMap<u64, SessionName>>,
    index: u64,
    created: u128,
    watches: BTreeMap<Connection, Instant>,
    lock_delay: bool,
}

impl Default for FakeConsul {
    fn default() -> Self {
        Self {
            sessions: BTreeMap::new(),
            keys: BTreeMap::new(),
            lines: BTreeMap::new(),
            index: 1,
            created: 0,
            watches: BTreeMap::new(),
            lock_delay: true,
        }
    }
}

impl FakeConsul {
    /// Without sessions or keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server that gives a lost session's keys away at once: **not** what the protocol may run
    /// on if sessions can end early.
    #[must_use]
    pub fn without_lock_delay(self) -> Self {
        Self { lock_delay: false, ..self }
    }

    /// The sessions, to be tampered with.
    pub fn sessions_mut(&mut self) -> &mut BTreeMap<SessionName, Known> {
        &mut self.sessions
    }

    /// The keys, to be tampered with.
    pub fn keys_mut(&mut self) -> &mut BTreeMap<LockName, Entry> {
        &mut self.keys
    }

    fn lock(&mut self, now: Instant, session: &SessionName, claim: &Claim) -> Outcome {
        let delayed = self.keys.get(&claim.name).and_then(|entry| entry.delayed);
        if delayed.is_some_and(|until| now < until) {
            // Before it looks whether the session exists.
            return Outcome::Delayed;
        }
        if !self.sessions.contains_key(session) {
            return Outcome::NoSession;
        }
        if let Some(entry) = self.keys.get_mut(&claim.name) {
            if entry.session.as_ref() == Some(session) {
                entry.owner = claim.owner;
                return Outcome::Granted(entry.fence);
            }
            if entry.session.is_some() {
                return Outcome::Busy(None);
            }
        }
        self.index += 1;
        let delay = self.keys.get(&claim.name).and_then(|entry| entry.delay);
        let entry = Entry {
            session: Some(session.clone()),
            owner: claim.owner,
            fence: Fence::new(self.index),
            modify_index: self.index,
            delayed: None,
            delay,
        };
        self.keys.insert(claim.name.clone(), entry);
        Outcome::Granted(Fence::new(self.index))
    }

    fn unlock(
        &mut self,
        session: &SessionName,
        lease: &Claim,
        passed_over: Option<&SessionName>,
    ) -> Outcome {
        let outcome = match self.keys.get_mut(&lease.name) {
            Some(entry) if entry.session.as_ref() == Some(session) => {
                self.index += 1;
                entry.session = None;
                entry.modify_index = self.index;
                Outcome::Done
            }
            _ => return Outcome::NotOwner,
        };
        if let Turn::Of(Some(_)) = lease.turn {
            self.leave(session, lease);
        }
        if let Some(session) = passed_over {
            self.leave(session, lease);
        }
        let others = |line: &BTreeMap<_, _>| line.values().any(|other| other != session);
        if self.lines.get(&lease.name).is_some_and(others) {
            return Outcome::DoneContended;
        }
        outcome
    }

    fn join(&mut self, session: &SessionName, claim: &Claim) -> Outcome {
        if !self.sessions.contains_key(session) {
            return Outcome::NoSession;
        }
        let line = self.lines.entry(claim.name.clone()).or_default();
        let known = line.iter().find(|(_, other)| *other == session).map(|(ticket, _)| *ticket);
        let ticket = known.unwrap_or_else(|| {
            self.index += 1;
            line.insert(self.index, session.clone());
            self.index
        });
        let ahead = line.range(..ticket);
        let place = Place { ticket, ahead: ahead.clone().count() as u64 };
        let ahead = ahead.last().map(|(made, session)| (session.clone(), *made));
        Outcome::InLine { place, ahead }
    }

    fn leave(&mut self, session: &SessionName, claim: &Claim) -> Outcome {
        if let Some(line) = self.lines.get_mut(&claim.name) {
            line.retain(|_, other| other != session);
            if line.is_empty() {
                self.lines.remove(&claim.name);
            }
        }
        Outcome::Done
    }

    /// When the session joined the line, if it stands in it.
    fn stands(&self, name: &LockName, session: &SessionName) -> Option<u64> {
        let line = self.lines.get(name)?;
        line.iter().find(|(_, other)| *other == session).map(|(made, _)| *made)
    }

    /// Each time another, however often the request is carried out. The lock-delay is as long as the lease.
    fn create(&mut self, now: Instant, ttl: Duration) -> SessionName {
        self.created += 1;
        let session = SessionName::from(&*format!("{:x}", self.created));
        let (expires, lock_delay) = (now.after(ttl), ttl);
        let known = Known { ttl, expires, lock_delay, number: self.created };
        self.sessions.insert(session.clone(), known);
        session
    }

    fn watched(&self, claim: &Claim, behind: Option<&SessionName>, since: u64) -> Outcome {
        if let Some(session) = behind {
            let made = self.stands(&claim.name, session);
            // One that was made since is another.
            let made = made.filter(|made| !(1..*made).contains(&since));
            return made.map_or(Outcome::Free, |index| Outcome::Unchanged { index });
        }
        match self.keys.get(&claim.name) {
            Some(entry) if entry.session.is_some() => {
                Outcome::Unchanged { index: entry.modify_index }
            }
            _ => Outcome::Free,
        }
    }

    /// Ends a session: its entries in lines are deleted, and its keys stay locked for its lock-delay.
    fn end(&mut self, now: Instant, session: &SessionName) {
        let Some(known) = self.sessions.remove(session) else { return };
        for line in self.lines.values_mut() {
            line.retain(|_, other| other != session);
        }
        self.lines.retain(|_, line| !line.is_empty());
        for entry in self.keys.values_mut() {
            if entry.session.as_ref() == Some(session) {
                self.index += 1;
                entry.session = None;
                entry.modify_index = self.index;
                let until = now.after(known.lock_delay);
                if self.lock_delay {
                    (entry.delayed, entry.delay) = (Some(until), Some(known.lock_delay));
                }
            }
        }
    }
}

impl Server for FakeConsul {
    const REPEATABLE: bool = false;

    fn apply(&mut self, now: Instant, connection: Connection, request: &Request) -> Reply {
        Reply::Outcomes(match request {
            Request::Open { ttl, .. } => return Reply::Opened(self.create(now, *ttl)),
            Request::KeepAlive { session } => {
                let known = self.sessions.get_mut(session);
                let known = known.map(|known| known.expires = now.after(known.ttl));
                Vec::from([known.map_or(Outcome::NoSession, |()| Outcome::Done)])
            }
            Request::Close { session } => {
                self.end(now, session);
                Vec::from([Outcome::Done])
            }
            Request::Acquire { session, claims, .. } => {
                claims.iter().map(|claim| self.lock(now, session, claim)).collect()
            }
            Request::Release { session, claims, passed_over } => {
                let unlock = |claim| self.unlock(session, claim, passed_over.as_ref());
                claims.iter().map(unlock).collect()
            }
            Request::Join { session, claims } => {
                claims.iter().map(|claim| self.join(session, claim)).collect()
            }
            Request::Leave { session, claims } => {
                claims.iter().map(|claim| self.leave(session, claim)).collect()
            }
            Request::Wait { claim, behind, since, .. } => {
                self.watches.remove(&connection);
                Vec::from([self.watched(claim, behind.as_ref(), *since)])
            }
            // No client may rely on anything else.
            _ => Vec::new(),
        })
    }

    fn waits(&self, now: Instant, connection: Connection, request: &Request) -> bool {
        let Request::Wait { claim, behind, since, .. } = request else { return false };
        let changed = match behind {
            Some(session) => self.stands(&claim.name, session).is_none_or(|made| *since < made),
            None => self.keys.get(&claim.name).is_some_and(|entry| *since < entry.modify_index),
        };
        let over = self.watches.get(&connection).is_some_and(|until| *until <= now);
        *since > 0 && !changed && !over
    }

    fn queue(&mut self, now: Instant, connection: Connection, request: &Request) {
        if let Request::Wait { up_to, .. } = request {
            self.watches.insert(connection, now.after(*up_to));
        }
    }

    fn moves(&self, now: Instant) -> usize {
        self.sessions.values().filter(|known| known.expires <= now).count()
    }

    fn make_move(&mut self, now: Instant, which: usize) {
        let mut expired = self.sessions.iter().filter(|(_, known)| known.expires <= now);
        if let Some(session) = expired.nth(which).map(|(session, _)| session.clone()) {
            self.end(now, &session);
        }
    }

    fn killable(&self) -> usize {
        self.sessions.len()
    }

    fn kill(&mut self, now: Instant, which: usize) {
        if let Some(session) = self.sessions.keys().nth(which).cloned() {
            self.end(now, &session);
        }
    }

    fn fences(&self) -> Vec<Fence> {
        let known = |entry: &Entry| [entry.fence, Fence::new(entry.modify_index)];
        let joined = self.lines.values().flat_map(|line| line.keys().map(|made| Fence::new(*made)));
        self.keys.values().flat_map(known).chain(joined).collect()
    }

    fn times(&self) -> Vec<Instant> {
        let delays = self.keys.values().filter_map(|entry| entry.delayed);
        let sessions = self.sessions.values().map(|known| known.expires);
        delays.chain(sessions).chain(self.watches.values().copied()).collect()
    }

    fn session(_: Connection, session: &SessionName) -> u128 {
        u128::from_str_radix(session.as_str(), 16).unwrap_or_default()
    }

    fn leases(&self) -> Vec<Lease> {
        let lease = |(name, entry): (&LockName, &Entry)| {
            let known = entry.session.as_ref().and_then(|session| self.sessions.get(session));
            let (expires, owner, session) = match (known, entry.delayed) {
                (Some(known), _) => {
                    // It has the key for as long as it lives.
                    let alive = known.expires.after(known.lock_delay);
                    (alive, Some(entry.owner), known.number)
                }
                // Nobody's session, and still not another's.
                (None, Some(until)) => (until, Some(entry.owner), u128::MAX),
                (None, None) => (Instant::from_nanos(0), None, 0),
            };
            let fence = entry.fence;
            Lease { name: name.clone(), owner, fence, expires, mode: Mode::Exclusive, session }
        };
        self.keys.iter().map(lease).collect()
    }

    fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(Fence) -> Fence,
    ) -> impl Hash {
        let mut seen = self.clone();
        for known in seen.sessions.values_mut() {
            known.expires = time(known.expires);
        }
        for entry in seen.keys.values_mut() {
            entry.fence = fence(entry.fence);
            entry.modify_index = fence(Fence::new(entry.modify_index)).get();
            entry.delayed = entry.delayed.map(time);
        }
        seen.watches.values_mut().for_each(|until| *until = time(*until));
        for line in seen.lines.values_mut() {
            let joined = core::mem::take(line).into_iter();
            *line = joined.map(|(made, by)| (fence(Fence::new(made)).get(), by)).collect();
        }
        seen.index = 0;
        seen
    }

    fn project_request(request: &Request, seen: &dyn Fn(u64) -> u64) -> Request {
        let mut request = request.clone();
        if let Request::Wait { session, since, .. } = &mut request {
            (*session, *since) = (SessionName::default(), seen(*since));
        }
        request
    }

    fn crash(&mut self) {
        self.watches.clear();
    }

    /// A new leader counts each session's TTL from the beginning.
    fn restart(&mut self, now: Instant) {
        for entry in self.keys.values_mut() {
            entry.delayed = entry.delay.map(|delay| now.after(delay));
        }
        for known in self.sessions.values_mut() {
            known.expires = now.after(known.ttl);
        }
    }
}
