//! What each action does.

use super::action::{Action, Way};
use super::client::{Attempt, Stage};
use super::coverage::Sometimes;
use super::flaw::Flaw;
use super::hash::Aside;
use super::invariants::{Check, backed, exclusion, leaks, rows};
use super::scope::Wish;
use super::server::{Connection, Lease, Server};
use super::target::Kind;
use super::world::World;
use crate::engine::{Wanted, Which};
use crate::error::Failure;
use crate::name::Owner;
use crate::request::{self, Mode};
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

impl<S: Server> World<S> {
    /// Does one of [`actions`](Self::actions), and checks what has come of it.
    ///
    /// # Panics
    /// If the action is not one of them.
    pub fn apply(&mut self, action: &Action) {
        self.note(|_| format!("{action}"));
        match *action {
            Action::Acquire(client, target, wish) => self.acquire(client, target, wish),
            Action::Release(client, attempt) => self.release(client, attempt),
            Action::Run(client) => self.run(client),
            Action::Execute(at) => self.execute(at),
            Action::Read(at) => {
                self.faults.stale_reads -= 1;
                self.exchange(at).read = Some(self.server_now());
            }
            Action::Deliver(at) => self.deliver(at),
            Action::Fail(at, way) => self.fail(at, way),
            Action::Lose(at) => {
                self.faults.losses -= 1;
                self.exchange(at).copies = 0;
                self.forget_exchanges();
            }
            Action::Duplicate(at) => {
                self.faults.duplicates -= 1;
                self.exchange(at).copies += 1;
            }
            Action::Suspend(client) => {
                self.faults.suspends -= 1;
                self.client(client).asleep = Some(self.now);
            }
            Action::Resume(client) => self.resume(client),
            Action::CrashClient(client) => self.crash_client(client),
            Action::CrashServer => self.crash_server(),
            Action::RestartServer => {
                self.up = true;
                self.server.restart(self.server_now());
            }
            Action::Move(which) => self.server.make_move(self.server_now(), which),
            Action::Kill(which) => {
                self.faults.kills -= 1;
                self.server.kill(self.server_now(), which);
                self.forget_exchanges();
            }
            Action::StepServer => {
                self.faults.clock_steps -= 1;
                self.server_clock.step(self.scope.0.timing.ttl());
            }
            Action::SetServerBack => {
                self.faults.set_backs -= 1;
                let by = self.scope.0.timing.ttl() * 10;
                self.server_clock.set_back(by);
                self.server.set_back(by);
                // No statement goes on for so long that it reads the clock before and acts after.
                for exchange in &mut self.exchanges {
                    alloc::sync::Arc::make_mut(exchange).read = None;
                }
            }
            Action::Hint(client, name) => {
                self.faults.hints -= 1;
                let (now, name) = (self.local(client), self.names.0[name].clone());
                let client = self.client(client);
                client.engine.handle_hint(now, &name);
                client.called = true;
                client.refused.clear();
            }
            Action::Pin(client, attempt) => self.pin(client, attempt),
            Action::End(at, commits) => self.end(at, commits),
            Action::Advance(to) => self.advance(to),
        }
        self.check();
    }

    pub(super) fn acquire(&mut self, at: usize, target: usize, wish: usize) {
        let now = self.local(at);
        let target = &self.targets.0[target];
        let (kind, names) = (target.kind(), self.names_of(target));
        let wish = self.scope.0.wishes[wish];
        let own = wish.ttl.map(|_| self.scope.0.timing_of(at, &wish));
        let counts = own.filter(|_| self.capabilities.sessions.is_none());
        let timing = counts.unwrap_or(self.scope.0.timing_at(at));
        let client = self.client(at);
        client.acquires -= 1;
        let give_up = wish.give_up.map(|duration| now.after(duration));
        let rival = client.attempts.iter().any(|attempt| attempt.meets(&names));
        let which = match kind {
            Kind::One => Which::One(names[0].clone()),
            Kind::AnyOf => Which::Any(names.clone()),
            Kind::AllOf => Which::All(names.clone()),
        };
        let Wish { mode, once, .. } = wish;
        let wanted = Wanted { mode, once, give_up, timing: own, label: None };
        let id = client.engine.want(now, which, wanted);
        client.attempts.push(Attempt {
            id,
            kind,
            names,
            owner: None,
            mode: if kind == Kind::One { wish.mode } else { Mode::Exclusive },
            timing,
            stage: Stage::Wanting,
            patient: !wish.once && give_up.is_none(),
            holds: Vec::new(),
            deadline: None,
            granted: Aside(None),
            trouble: Aside(false),
            told: Aside(false),
        });
        if rival {
            self.saw(Sometimes::LocalRival);
        }
        self.called(at);
    }

    pub(super) fn release(&mut self, at: usize, attempt: usize) {
        let now = self.local(at);
        if self.scope.0.flaw == Some(Flaw::DropWithoutRelease) {
            self.client(at).attempts.remove(attempt);
            return;
        }
        let known = &self.clients[at].attempts[attempt];
        let granted = matches!(known.stage, Stage::Held | Stage::Lost);
        let keep = self.scope.0.keep.filter(|_| granted);
        if keep.is_some() {
            self.kept.wanted.extend(known.owner);
        }
        let client = self.client(at);
        client.attempts[attempt].stage = Stage::Releasing;
        let id = client.attempts[attempt].id;
        client.engine.release_after(now, id, keep);
        self.called(at);
    }

    /// A caller has called the engine: the driver polls, now or when it is run.
    fn called(&mut self, at: usize) {
        self.hear(at);
        self.client(at).called = true;
        if self.scope.0.eager {
            self.run(at);
        }
    }

    pub(super) fn advance(&mut self, to: Instant) {
        self.now = to;
        if self.up {
            self.server.tick(self.server_now());
        }
        self.forget_exchanges();
    }

    pub(super) fn execute(&mut self, at: usize) {
        let exchange = self.exchanges[at].clone();
        if let Some(request) = &exchange.request
            && !exchange.waiting
            && self.server.waits(self.server_now(), exchange.from, request)
        {
            self.server.queue(self.server_now(), exchange.from, request);
            self.exchange(at).waiting = true;
            self.saw(Sometimes::WaitedAtServer);
            return;
        }

        let mut now = exchange.read.unwrap_or(self.server_now());
        let (action, claims) = exchange.describe();
        let (before, served) = (self.server.leases(), self.served(claims));
        // A statement that waited may go by the time at which it began.
        let judged = now;
        if self.scope.0.flaw == Some(Flaw::ClientsClock) {
            now = self.local(exchange.from.client);
        }
        self.server.tick(self.server_now());
        let reply = match &exchange.request {
            Some(request) => Some(self.server.apply(now, exchange.from, request)),
            None => {
                self.server.close(now, exchange.from);
                None
            }
        };
        let after = self.server.leases();
        let result = if self.capabilities.sessions.is_some() {
            rows::changed_in_session(&before, &after, judged, action, claims)
        } else {
            let floor = judged.after(self.scope.0.shortest_ttl());
            rows::changed(&before, &after, judged, action, claims, floor)
        };
        self.judge(Check::Rows, result);
        if action == request::Action::Acquire {
            self.check_turns(&before, &served, claims, judged);
        }
        if let Some(keep) = self.scope.0.keep {
            let result = self.kept.changed(&before, &after, judged, (action, claims), keep);
            self.judge(Check::Kept, result);
        }
        if action == request::Action::Open {
            self.client(exchange.from.client).opens -= 1;
        }
        self.note(|_| match &reply {
            Some(reply) => format!("the server answers {reply:?}, and has {after:?}"),
            None => format!("the server hears that a connection was closed, and has {after:?}"),
        });

        let ghost = !exchange.awaited || exchange.executed;
        for lease in &after {
            let same = |old: &&Lease| old.name == lease.name && old.mode == Mode::Exclusive;
            let old = before.iter().find(same);
            let changed = old != Some(lease);
            // Late requests in a session that lives on are what its engine has to wait for.
            if changed && ghost && (S::REPEATABLE || S::CONNECTIONS) {
                self.excused.extend(lease.owner);
            }
            if changed && ghost && action == request::Action::Acquire {
                self.saw(Sometimes::GhostTook);
            }
            if old.is_some_and(|old| old.owner.is_some() && old.owner != lease.owner)
                && (lease.owner.is_some() || action == request::Action::Probe)
            {
                self.saw(Sometimes::TakenOver);
            }
        }
        if !exchange.awaited {
            self.saw(Sometimes::GhostExecuted);
        } else if exchange.executed {
            self.saw(Sometimes::DuplicateExecuted);
        }
        if exchange.read.is_some_and(|read| read < self.server_now()) {
            self.saw(Sometimes::StaleExecuted);
        }
        if !exchange.awaited && self.scope.0.flaw == Some(Flaw::RepliesCrossed) {
            let next = self.exchanges.iter().position(|other| {
                other.from == exchange.from && other.awaited && other.describe().0 == action
            });
            if let Some(next) = next {
                self.exchange(next).reply = reply.clone();
            }
        }
        let exchange = self.exchange(at);
        exchange.copies -= 1;
        exchange.executed = true;
        exchange.read = None;
        if exchange.awaited && exchange.reply.is_none() {
            exchange.reply = reply;
        }
        self.forget_exchanges();
    }

    pub(super) fn deliver(&mut self, at: usize) {
        let exchange = self.exchange(at);
        exchange.awaited = false;
        let Some(reply) = exchange.reply.take() else { return };
        let exchange = exchange.clone();
        self.forget_exchanges();
        self.answer(&exchange, Ok(reply));
        self.run(exchange.from.client);
    }

    fn fail(&mut self, at: usize, way: Way) {
        if way != Way::Closed {
            self.faults.failures -= 1;
        }
        let client = self.exchanges[at].from.client;
        if way == Way::Broken || way == Way::Closed {
            self.give_up(at, Failure::Unknown("the connection broke".into()));
        } else {
            let exchange = self.exchanges.remove(at);
            let message = "refused".into();
            let failure = match way {
                Way::NotSent => Failure::NotSent("not connected".into()),
                Way::Rejected => Failure::not_now(message),
                Way::Broken | Way::Closed | Way::Refused => Failure::refused(message),
            };
            if way == Way::Refused {
                let (_, claims) = exchange.describe();
                self.excused.extend(claims.iter().map(|claim| claim.owner));
            }
            self.answer(&exchange, Err(failure));
        }
        self.run(client);
    }

    pub(super) fn resume(&mut self, at: usize) {
        let now = self.now;
        let stands_still = self.scope.0.flaw == Some(Flaw::SuspendNotCounted);
        let client = self.client(at);
        let Some(since) = client.asleep.take() else { return };
        if stands_still {
            client.clock.stood_still(since, now);
        }
        let local = client.clock.read(now);
        let lost = |attempt: &Attempt| attempt.deadline.is_some_and(|until| until <= local);
        if client.attempts.iter().any(lost) {
            self.saw(Sometimes::LostAsleep);
        }
    }

    fn crash_client(&mut self, at: usize) {
        self.faults.client_crashes -= 1;
        let owners: Vec<_> =
            self.clients[at].attempts.iter().filter_map(|attempt| attempt.owner).collect();
        let parts = self.clients[at].owners.0.iter().copied().filter(|_| self.is_grouped());
        let owners = owners.into_iter().chain(parts).collect::<Vec<_>>();
        self.excused.extend(owners);
        if self.clients[at].attempts.iter().any(|attempt| attempt.stage == Stage::Held) {
            self.saw(Sometimes::CrashedHolding);
        }
        for exchange in &mut self.exchanges {
            if exchange.from.client == at && exchange.awaited {
                let exchange = alloc::sync::Arc::make_mut(exchange);
                exchange.awaited = false;
                exchange.given_up = Some(self.clients[at].clock.read(self.now));
                exchange.reply = None;
                if self.faults.ghosts == 0 {
                    exchange.copies = 0;
                }
                self.faults.ghosts = self.faults.ghosts.saturating_sub(exchange.copies);
            }
        }
        self.forget_exchanges();
        if S::CONNECTIONS {
            let connections: Vec<_> =
                self.clients[at].engine.kept_sessions().map(|(connection, _)| connection).collect();
            for connection in connections {
                self.send_close(at, connection);
            }
        }
        let (scope, capabilities) = (self.scope.0.clone(), self.capabilities.clone());
        self.client(at).crash(capabilities, &scope);
    }

    fn crash_server(&mut self) {
        self.faults.server_crashes -= 1;
        self.up = false;
        let now = self.server_now();
        if self.server.leases().iter().any(|lease| lease.holder(now).is_some()) {
            self.saw(Sometimes::ServerCrashed);
        }
        self.server.crash();
        self.users.open.clear();
        for exchange in &mut self.exchanges {
            alloc::sync::Arc::make_mut(exchange).copies = 0;
        }
        self.forget_exchanges();
    }

    /// Forgets requests of which nothing can come any more, and excuses that nothing needs.
    pub(super) fn forget_exchanges(&mut self) {
        let (server, scope) = (&self.server, &self.scope.0);
        let (clients, now) = (&self.clients, self.now);
        self.exchanges.retain(|exchange| {
            let unheard =
                !exchange.awaited && !server.reaches(exchange.from, exchange.request.as_ref());
            // A session lives on, so what is carried out late is bounded by assumption.
            let local = clients[exchange.from.client].clock.read(now);
            let too_late = !S::REPEATABLE
                && !S::CONNECTIONS
                && exchange.given_up.is_some_and(|at| scope.longest().surely_over(at) <= local);
            !exchange.is_over() && !unheard && !too_late
        });
        if self.excused.is_empty() {
            return;
        }
        let leases = self.server.leases();
        let (exchanges, excused) = (&self.exchanges, &mut self.excused);
        excused.retain(|owner| {
            leases.iter().any(|lease| lease.owner == Some(*owner))
                || exchanges
                    .iter()
                    .any(|exchange| exchange.describe().1.iter().any(|claim| claim.owner == *owner))
        });
    }

    /// What must hold in every state.
    pub(super) fn check(&mut self) {
        let (leases, server_now) = (self.server.leases(), self.server_now());
        let (mut beliefs, mut held) = (Vec::new(), Vec::new());
        let mut result = Ok(());
        for (at, client) in self.clients.iter().enumerate() {
            for attempt in &client.attempts {
                if !client.believes(attempt, self.now, self.scope.0.flaw) {
                    continue;
                }
                held.push((at, attempt.id));
                let holds = attempt.holds.iter().map(|(name, _)| (name, at, attempt.mode));
                beliefs.extend(holds);
                if let Some(name) = attempt.name() {
                    let fence = attempt.holds.first().map(|(_, fence)| *fence);
                    let one = backed::check(&leases, server_now, name, attempt.owner, fence);
                    result = result.and(one);
                }
            }
        }
        if beliefs.iter().enumerate().any(|(at, one)| beliefs[..at].iter().any(|b| b.0 == one.0)) {
            self.history.0.coverage.insert(Sometimes::Shared);
        }
        let exclusive = exclusion::check(&beliefs);
        let kept: BTreeSet<u128> = self
            .clients
            .iter()
            .flat_map(|client| {
                let here = client.connection;
                client.engine.kept_sessions().map(move |(connection, name)| {
                    S::session(Connection { id: connection, ..here }, name)
                })
            })
            .collect();
        let known = |lease: &Lease, owner| {
            owner == Owner::KEPT
                || self.excused.contains(&owner)
                || (lease.session != 0 && !kept.contains(&lease.session))
                || self.clients.iter().any(|client| client.engine.knows(owner))
                || self
                    .clients
                    .iter()
                    .flat_map(|client| &client.attempts)
                    .any(|attempt| attempt.owner == Some(owner))
        };
        // What was left behind before the clock was set back ends when somebody wants it.
        let leaks = match self.scope.0.faults.set_backs {
            0 => leaks::check(&leases, server_now.after(leaks::SLACK), known),
            _ => Ok(()),
        };
        self.judge(Check::Exclusion, exclusive);
        self.judge(Check::Backed, result);
        self.judge(Check::Leaks, leaks);
        if self.is_grouped() {
            self.check_groups(&leases, &held);
        }
    }
}
