//! A lock table in memory.

mod row;

use super::project::project_notification;
use super::server::{Connection, Lease, Line, Server};
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::{News, Notification, Outcome, Reply};
use crate::request::{Claim, Mode, Request, Turn};
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::Hash;
use core::time::Duration;
use row::{MICROSECOND, ticket};

pub use row::Row;

/// A lock table as [`table`](crate::table) describes it and the statements of
/// [`sql`](crate::sql) implement it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FakeTable {
    rows: BTreeMap<LockName, Row>,
    durable: bool,
    tells_holder: bool,
    tells: bool,
    /// Its clock says nothing of a lease's end.
    watched: bool,
    /// Connections that listen may hear nothing any more.
    cuts_subscribers: bool,
    subscribers: BTreeMap<Connection, Subscriber>,
    /// How many transactions have a row pinned.
    pins: BTreeMap<LockName, u8>,
    /// What its clock shows; unknown in a table that knows no other time than its statements'.
    clock: Option<Instant>,
}

/// A connection that is told what was freed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Subscriber {
    unsent: BTreeSet<Notification>,
    /// Nothing arrives any more.
    cut: bool,
    /// When it is to answer, though nothing was.
    until: Option<Instant>,
}

impl Default for FakeTable {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            durable: true,
            tells_holder: true,
            tells: false,
            watched: false,
            cuts_subscribers: false,
            subscribers: BTreeMap::new(),
            pins: BTreeMap::new(),
            clock: None,
        }
    }
}

impl FakeTable {
    /// An empty table that keeps what it committed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A table that a crash empties: **not** what the protocol may run on.
    #[must_use]
    pub fn not_durable(self) -> Self {
        Self { durable: false, ..self }
    }

    /// A table that says "busy" without saying who. Times in replies tell states apart, so this
    /// makes state spaces smaller.
    #[must_use]
    pub fn silent(self) -> Self {
        Self { tells_holder: false, ..self }
    }

    /// A table that tells those that wait what was freed.
    #[must_use]
    pub fn telling(self) -> Self {
        Self { tells: true, ..self }
    }

    /// The same where a network or a pooler silently loses the notifications of a connection, from its
    /// beginning or from some moment on.
    #[must_use]
    pub fn losing_notifications(self) -> Self {
        Self { cuts_subscribers: true, ..self.telling() }
    }

    /// A table whose leases end when they have not changed for a TTL by a waiter's clock, whatever its own shows.
    #[must_use]
    pub fn watched(self) -> Self {
        Self { watched: true, ..self }
    }

    /// The rows, by lock name.
    pub fn rows(&self) -> &BTreeMap<LockName, Row> {
        &self.rows
    }

    /// The rows, to be tampered with.
    pub fn rows_mut(&mut self) -> &mut BTreeMap<LockName, Row> {
        &mut self.rows
    }

    fn acquire(&mut self, now: Instant, claim: &Claim, ttl: Duration, by: &Arc<str>) -> Outcome {
        let expires = now.after(ttl);
        let new = Row {
            owner: Some(claim.owner),
            fence: now.as_micros(),
            expires,
            ttl,
            acquired: now,
            holder: by.clone(),
            queue: 0,
            served: ticket(claim.turn),
        };
        let turn = if self.tells_holder { claim.turn } else { Turn::Any };
        self.end(now, claim);
        let is_pinned = self.pins.contains_key(&claim.name);
        let row = self.rows.entry(claim.name.clone());
        let mut fresh = false;
        let row = row.or_insert_with(|| {
            fresh = true;
            new.clone()
        });
        if fresh {
            return Outcome::Granted(Fence::new(row.fence));
        }
        if row.owner == Some(claim.owner) {
            // A late duplicate may go by an earlier time, and must not shorten the lease.
            row.expires = row.expires.after(MICROSECOND).max(expires);
            row.ttl = row.ttl.max(ttl);
            row.holder = new.holder;
            row.serve(turn);
        } else if row.owner.is_none() || (row.expires <= now && (!self.watched || row.is_kept())) {
            if is_pinned {
                // It waited for as long as a statement does.
                return Outcome::Delayed;
            }
            if !row.is_turn_of(turn, now) {
                return row.draw(turn).map_or(Outcome::Busy(None), Outcome::Reserved);
            }
            let fence = new.fence.max(row.fence + 1);
            *row = Row { fence, queue: row.queue, served: row.served, ..new };
            row.serve(turn);
        } else {
            row.correct(self.clock.filter(|_| !self.watched));
            let place = row.draw(turn);
            return Outcome::Busy(row.told(now, place, (self.tells_holder, self.watched)));
        }
        Outcome::Granted(Fence::new(row.fence))
    }

    /// Ends the lease that a claim says has ended, if it has not changed since.
    fn end(&mut self, now: Instant, claim: &Claim) {
        if let (Some(row), Some(version)) = (self.rows.get_mut(&claim.name), claim.ended)
            && self.watched
            && row.is(version)
        {
            (row.owner, row.expires) = (None, row.expires.min(now));
        }
    }

    fn probe(&mut self, now: Instant, claim: &Claim) -> Outcome {
        self.end(now, claim);
        let turn = if self.tells_holder { claim.turn } else { Turn::Any };
        let table = (self.tells_holder, self.watched);
        let free = Outcome::Free;
        let Some(row) = self.rows.get_mut(&claim.name) else { return free };
        let lives = (self.watched && !row.is_kept()) || now < row.expires;
        match row.owner {
            Some(owner) if owner == claim.owner => free,
            Some(_) if lives => {
                row.correct(self.clock.filter(|_| !self.watched));
                let place = row.draw(turn);
                Outcome::Busy(row.told(now, place, table))
            }
            _ if row.is_turn_of(turn, now) => free,
            _ => row.draw(turn).map_or(free, Outcome::Reserved),
        }
    }

    fn renew(&mut self, now: Instant, claim: &Claim, ttl: Duration) -> Outcome {
        match self.rows.get_mut(&claim.name) {
            Some(row) if row.owner == Some(claim.owner) && (self.watched || now < row.expires) => {
                row.expires = row.expires.after(MICROSECOND).max(now.after(ttl));
                row.ttl = row.ttl.max(ttl);
                Outcome::Done
            }
            _ => Outcome::NotOwner,
        }
    }

    /// Frees what is not to be kept.
    fn release(&mut self, now: Instant, claim: &Claim, keep: Duration) -> Outcome {
        let Some(row) = self.rows.get_mut(&claim.name) else { return Outcome::NotOwner };
        if row.owner != Some(claim.owner) {
            return Outcome::NotOwner;
        }
        let kept = row.keep(now, keep);
        if row.queue <= row.served {
            return Outcome::Done;
        }
        let (name, ticket, left) = (claim.name.clone(), row.served + 1, row.ttl);
        self.tell(match kept {
            true => Notification::Kept { name, ticket, left },
            false => Notification::Freed { name, ticket },
        });
        Outcome::DoneContended
    }

    fn listen(&mut self, connection: Connection) -> News {
        match self.subscribers.get_mut(&connection) {
            Some(subscriber) => {
                subscriber.until = None;
                News::Notified(core::mem::take(&mut subscriber.unsent).into_iter().collect())
            }
            None => {
                self.subscribers.insert(connection, Subscriber::default());
                News::Begun
            }
        }
    }

    fn tell(&mut self, notification: Notification) {
        for subscriber in self.subscribers.values_mut().filter(|subscriber| !subscriber.cut) {
            subscriber.unsent.insert(notification.clone());
        }
    }

    fn all_cut(&self) -> bool {
        self.subscribers.values().all(|subscriber| subscriber.cut)
    }
}

impl Server for FakeTable {
    fn apply(&mut self, now: Instant, connection: Connection, request: &Request) -> Reply {
        Reply::Outcomes(match request {
            Request::Acquire { claims, ttl, label, .. } => claims
                .iter()
                .map(|claim| {
                    let label = claim.label.as_ref().unwrap_or(label);
                    self.acquire(now, claim, claim.ttl.unwrap_or(*ttl), label)
                })
                .collect(),
            Request::Probe { claims } => {
                claims.iter().map(|claim| self.probe(now, claim)).collect()
            }
            Request::Renew { claims, ttl } => {
                claims.iter().map(|one| self.renew(now, one, one.ttl.unwrap_or(*ttl))).collect()
            }
            Request::Release { claims, .. } => {
                claims.iter().map(|claim| self.release(now, claim, Duration::ZERO)).collect()
            }
            Request::Keep { claims, keep } => {
                claims.iter().map(|claim| self.release(now, claim, *keep)).collect()
            }
            Request::Subscribe { .. } => return Reply::News(self.listen(connection)),
            Request::Unsubscribe => {
                self.subscribers.remove(&connection);
                Vec::from([Outcome::Done])
            }
            Request::Ping { number } => {
                self.tell(Notification::Ping(*number));
                Vec::from([Outcome::Done])
            }
            // A table has no sessions. No client may rely on anything else.
            _ => Vec::new(),
        })
    }

    fn pin(&mut self, name: &LockName, fence: Fence) -> bool {
        let is_last = self.rows.get(name).is_some_and(|row| row.fence == fence.get());
        if is_last {
            *self.pins.entry(name.clone()).or_default() += 1;
        }
        is_last
    }

    fn unpin(&mut self, name: &LockName) {
        match self.pins.get_mut(name) {
            Some(pins) if *pins > 1 => *pins -= 1,
            _ => drop(self.pins.remove(name)),
        }
    }

    fn moves(&self, _: Instant) -> usize {
        usize::from(self.cuts_subscribers && !self.all_cut())
    }

    fn make_move(&mut self, _: Instant, _: usize) {
        for subscriber in self.subscribers.values_mut() {
            (subscriber.cut, subscriber.unsent) = (true, BTreeSet::new());
        }
    }

    fn tick(&mut self, now: Instant) {
        self.clock = Some(now);
    }

    fn waits(&self, now: Instant, connection: Connection, request: &Request) -> bool {
        let subscribes = matches!(request, Request::Subscribe { .. });
        let subscriber = self.subscribers.get(&connection).filter(|_| subscribes);
        subscriber.is_some_and(|subscriber| {
            subscriber.unsent.is_empty() && subscriber.until.is_none_or(|until| now < until)
        })
    }

    fn queue(&mut self, now: Instant, connection: Connection, request: &Request) {
        if let (Request::Subscribe { up_to }, Some(subscriber)) =
            (request, self.subscribers.get_mut(&connection))
        {
            subscriber.until = Some(now.after(*up_to));
        }
    }

    fn close(&mut self, _: Instant, connection: Connection) {
        self.subscribers.remove(&connection);
    }

    fn times(&self) -> Vec<Instant> {
        let leases = self.rows.values().filter(|row| row.owner.is_some());
        let subscribers = self.subscribers.values().filter_map(|subscriber| subscriber.until);
        leases.map(|row| row.expires).chain(subscribers).collect()
    }

    fn leases(&self) -> Vec<Lease> {
        self.rows
            .iter()
            .map(|(name, row)| Lease {
                name: name.clone(),
                owner: row.owner,
                fence: Fence::new(row.fence),
                // Where leases are watched, none that somebody has ends by the server's clock.
                expires: if self.watched && !row.is_kept() { Instant::END } else { row.expires },
                mode: Mode::Exclusive,
                session: 0,
            })
            .collect()
    }

    fn line(&self, name: &LockName) -> Option<Line> {
        let row = self.rows.get(name).filter(|_| self.tells_holder);
        row.map(|row| Line { queue: row.queue, served: row.served })
    }

    fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(Fence) -> Fence,
    ) -> impl Hash {
        let leases: Vec<_> =
            self.leases().into_iter().map(|lease| lease.project(time, fence)).collect();
        let ticket = |name: &LockName, ticket: u64| {
            ticket.wrapping_sub(self.rows.get(name).map_or(0, |row| row.served))
        };
        let subscribers = self.subscribers.iter().map(|(connection, subscriber)| {
            let unsent = subscriber.unsent.iter().map(|one| project_notification(one, &ticket));
            (*connection, unsent.collect::<Vec<_>>(), subscriber.cut, subscriber.until.map(time))
        });
        let subscribers: Vec<_> = subscribers.collect();
        // Whether those ahead have had the time to claim it is all that counts of the past, on a grid.
        let line = |row: &Row| (row.queue.wrapping_sub(row.served), time(row.given_up_at()));
        let tells = self.tells_holder.then_some(());
        let lines: Vec<_> = self.rows.values().map(|row| tells.map(|()| line(row))).collect();
        (leases, subscribers, lines)
    }

    fn crash(&mut self) {
        self.subscribers.clear();
        self.pins.clear();
        if !self.durable {
            self.rows.clear();
        }
    }
}
