//! How a schedule ends: the faults stop, holders release, and everything must come to rest.

use super::client::{Attempt, Stage};
use super::invariants::liveness::Awaited;
use super::invariants::{Check, leaks, liveness};
use super::scope::Faults;
use super::server::{Connection, Server};
use super::world::World;
use crate::engine::ConnectionId;
use crate::error::Failure;
use crate::name::{LockName, Owner};
use crate::request::{Claim, Request};
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// More rounds than anything needs that comes to rest.
const TOO_MANY: usize = 2_000;

impl<S: Server> World<S> {
    /// Lets the faults stop and time go on, beyond the horizon, until every attempt is settled:
    /// each request is answered at once, each client is run in time, and each caller releases what
    /// it holds or has lost. Finds out whether waiters are granted in time, and whether anything is
    /// left behind.
    pub fn settle(&mut self) {
        self.stop_faults();
        if self.scope.0.faults.set_backs > 0 {
            let mut busy = self.clone();
            busy.hold_on();
            if busy.violation.is_some() {
                return *self = busy;
            }
        }
        if self.scope.0.rounds > 0 {
            let mut busy = self.clone();
            busy.take_turns();
            if busy.violation.is_some() {
                return *self = busy;
            }
        }
        self.come_to_rest();
    }

    fn stop_faults(&mut self) {
        self.faults = Faults::NONE;
        self.users.left = 0;
        while !self.users.open.is_empty() {
            self.end(0, true);
        }
        if !self.up {
            self.up = true;
            self.server.restart(self.server_now());
        }
        for at in 0..self.clients.len() {
            self.resume(at);
            self.client(at).opens = u8::MAX;
        }
        for exchange in &mut self.exchanges {
            if !exchange.awaited {
                alloc::sync::Arc::make_mut(exchange).copies = 0;
            }
        }
        self.forget_exchanges();
    }

    /// Lets a TTL pass in which holders keep what they hold: a clock that was set back is no reason to look all the time.
    fn hold_on(&mut self) {
        let until = self.now.after(self.scope.0.longest().ttl());
        for _ in 0..TOO_MANY {
            for at in 0..self.clients.len() {
                self.run(at);
            }
            self.calm();
            self.check();
            if self.violation.is_some() {
                return;
            }
            let called = self.clients.iter().any(|client| client.called);
            if called || (0..self.exchanges.len()).any(|at| self.may_execute(at)) {
                continue;
            }
            let times = self.interesting_times();
            let Some(next) = times.range(self.now..=until).find(|at| **at > self.now) else {
                return;
            };
            self.advance(*next);
        }
    }

    fn come_to_rest(&mut self) {
        // A kept lock is granted later by as much, by the slowest clock.
        let since = self.now.after(self.scope.0.keep.unwrap_or_default() * 6 / 5);
        let mut nobody = BTreeSet::new();
        for at in 0..self.clients.len() {
            self.run(at);
            self.release_all(at, &mut nobody);
        }
        let mut waiting = self.waiting();
        let mut free = BTreeMap::new();
        for _ in 0..TOO_MANY {
            for at in 0..self.clients.len() {
                self.run(at);
                self.release_all(at, &mut waiting);
            }
            self.calm();
            self.check();
            let timing = self.scope.0.longest();
            self.judge(Check::Liveness, liveness::check(&waiting, since, self.now, &timing));
            if self.capabilities.sessions.is_none() {
                self.note_free(&waiting, &mut free);
                self.judge(Check::Liveness, liveness::taken(&free, self.now, &timing));
            }
            if self.violation.is_some() {
                return;
            }
            if self.attempts() == 0 {
                for at in 0..self.clients.len() {
                    let now = self.local(at);
                    self.client(at).engine.close(now);
                    self.run(at);
                }
                if self.unsettled() == 0 && self.exchanges.is_empty() {
                    break;
                }
            }
            let called = self.clients.iter().any(|client| client.called);
            if called || (0..self.exchanges.len()).any(|at| self.may_execute(at)) {
                continue;
            }
            // If no client would ever act again, an attempt that still waits waits for too long.
            let too_long = since.after(timing.ttl() * 4);
            match self.interesting_times().first() {
                Some(next) => self.advance(*next),
                None if self.now < too_long => self.advance(too_long),
                None => break,
            }
        }
        // However slow its clock: by then a lease must have ended at the server.
        // So must a session that nobody keeps, and then what protects its locks.
        for _ in 0..2 {
            self.advance(self.now.after(self.scope.0.longest().ttl() * 2));
            self.make_all_moves();
        }
        self.somebody_looks();
        let leases = self.server.leases();
        let settled = leaks::settled(&leases, self.server_now(), self.unsettled());
        self.judge(Check::Leaks, settled);
        let untold = |one: &&Attempt| one.stage != Stage::Abandoned;
        let mut attempts = self.clients.iter().flat_map(|client| &client.attempts);
        let untold = attempts.find(untold).map(|one| format!("{:?} ended, untold", one.id));
        self.judge(Check::Leaks, untold.map_or(Ok(()), Err));
    }

    /// What is under way is carried out and answered.
    pub(super) fn calm(&mut self) {
        self.make_all_moves();
        self.forget_exchanges();
        while let Some(at) = self
            .exchanges
            .iter()
            .position(|one| one.awaited && !self.server.reaches(one.from, one.request.as_ref()))
        {
            let client = self.exchanges[at].from.client;
            self.give_up(at, Failure::Unknown("the connection is closed".into()));
            self.run(client);
        }
        while let Some(at) = (0..self.exchanges.len()).find(|at| self.may_execute(*at)) {
            self.execute(at);
        }
        while let Some(at) = self.exchanges.iter().position(|one| one.reply.is_some()) {
            self.deliver(at);
        }
    }

    /// Where the clock was set back, what is left behind stays until somebody wants it, and a TTL from then.
    fn somebody_looks(&mut self) {
        let stranger = Connection { client: usize::MAX, number: 0, id: ConnectionId::MAIN };
        let claim = |name: &LockName| Claim::new(name.clone(), Owner::new(u128::MAX));
        let claims: Vec<Claim> = self.names.0.iter().map(claim).collect();
        if self.capabilities.sessions.is_none() && self.scope.0.faults.set_backs > 0 {
            self.server.tick(self.server_now());
            self.server.apply(self.server_now(), stranger, &Request::Probe { claims });
            self.advance(self.now.after(self.scope.0.longest().ttl() * 2));
        }
    }

    fn make_all_moves(&mut self) {
        while self.server.moves(self.server_now()) > 0 {
            self.server.make_move(self.server_now(), 0);
        }
    }

    fn attempts(&self) -> usize {
        self.clients.iter().map(|client| client.engine.attempts()).sum()
    }

    fn unsettled(&self) -> usize {
        let sessions = self.clients.iter().map(|client| client.engine.sessions());
        self.attempts() + sessions.sum::<usize>()
    }

    /// The targets that somebody waits for, for as long as it takes.
    fn waiting(&self) -> BTreeSet<Awaited> {
        let attempts = self.clients.iter().flat_map(|client| &client.attempts);
        attempts
            .filter(|attempt| attempt.patient && attempt.stage == Stage::Wanting)
            .map(|attempt| (attempt.kind, attempt.names.clone()))
            .collect()
    }

    /// Since when nobody has these locks.
    fn note_free(&self, waiting: &BTreeSet<Awaited>, free: &mut BTreeMap<Awaited, Instant>) {
        let now = self.server_now();
        let is_free = |(kind, names): &Awaited| self.is_free(*kind, names, now);
        free.retain(|awaited, _| waiting.contains(awaited) && is_free(awaited));
        for awaited in waiting.iter().filter(|awaited| is_free(awaited)) {
            free.entry(awaited.clone()).or_insert(self.now);
        }
    }

    /// What a client's callers do now: release what they hold, and what they have lost.
    fn release_all(&mut self, at: usize, waiting: &mut BTreeSet<Awaited>) {
        while let Some(attempt) = self.clients[at]
            .attempts
            .iter()
            .position(|attempt| matches!(attempt.stage, Stage::Held | Stage::Lost))
        {
            let known = &self.clients[at].attempts[attempt];
            if known.stage == Stage::Held {
                waiting.retain(|(_, names)| !known.meets(names));
            }
            self.release(at, attempt);
        }
    }
}
