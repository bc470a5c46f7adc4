//! Whether waiters are let go in turn, as their tickets say.

use super::client::Stage;
use super::invariants::{Check, turns};
use super::scope::Wish;
use super::server::{Lease, Server};
use super::target::Kind;
use super::world::World;
use crate::event::LockId;
use crate::fence::Fence;
use crate::name::LockName;
use crate::request::{Claim, Turn};
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

/// How long a caller holds what it wants again and again.
const HOLD: Duration = Duration::from_secs(1);
/// A lock that was freed so much later than it is claimed is a sign that the clock was set back.
const LATE: Duration = Duration::from_secs(1);
/// More moments than all hand-offs need.
const TOO_MANY: usize = 5_000;

/// A waiter that has a ticket, and what it has seen since.
struct Waiter {
    name: LockName,
    /// Hand-offs to others.
    seen: u64,
    most: u64,
}

type Waiters = BTreeMap<(usize, LockId), Waiter>;

impl<S: Server> World<S> {
    // -- at each grant ----------------------------------------------------------------------------

    /// How far the line for each claim's lock has come.
    pub(super) fn served(&self, claims: &[Claim]) -> Vec<Option<u64>> {
        claims.iter().map(|claim| self.server.line(&claim.name).map(|line| line.served)).collect()
    }

    /// Claims were carried out at `now` by the server's clock: whether anybody was passed over at once. `before` and `served`
    /// are as it was before.
    pub(super) fn check_turns(
        &mut self,
        before: &[Lease],
        served: &[Option<u64>],
        claims: &[Claim],
        now: Instant,
    ) {
        let after = self.server.leases();
        let of = |leases: &[Lease], claim: &Claim| {
            leases.iter().find(|lease| lease.name == claim.name).cloned()
        };
        for (claim, served) in claims.iter().zip(served) {
            let (Some(old), Some(new), Some(served)) =
                (of(before, claim), of(&after, claim), served)
            else {
                continue;
            };
            let granted = new.owner == Some(claim.owner) && old.owner != new.owner;
            // Where the clock was set back, or leases are watched, nobody knows when it was freed.
            if !granted || now.after(LATE) < old.expires || !self.stands_in_line(claim) {
                continue;
            }
            let own = match claim.turn {
                Turn::Of(ticket) | Turn::Loose(ticket) => ticket,
                Turn::Any => None,
            };
            let mut passed_over = self.tickets(&claim.name);
            passed_over.retain(|ticket| ticket > served && own.is_none_or(|own| *ticket < own));
            self.judge(Check::Turns, turns::granted(now.since(old.expires), &passed_over));
        }
    }

    /// Whether a claim has to go in turn: its attempt waits for one lock.
    fn stands_in_line(&self, claim: &Claim) -> bool {
        let mut attempts = self.clients.iter().flat_map(|client| &client.attempts);
        match attempts.find(|attempt| attempt.owner == Some(claim.owner)) {
            Some(attempt) => attempt.patient && attempt.kind == Kind::One,
            None => matches!(claim.turn, Turn::Of(_)),
        }
    }

    /// The tickets of those that wait for a lock.
    fn tickets(&self, name: &LockName) -> Vec<u64> {
        let waiting = self.waiting_in_line();
        waiting.into_iter().filter(|(_, of, _)| of == name).map(|(_, _, ticket)| ticket).collect()
    }

    /// Those that wait for one lock and have a ticket: which attempt, for which lock, and the ticket.
    fn waiting_in_line(&self) -> Vec<((usize, LockId), LockName, u64)> {
        let clients = self.clients.iter().enumerate();
        let waiting = clients.flat_map(|(at, client)| {
            let waits = client.attempts.iter();
            waits.filter(|one| one.patient && one.stage == Stage::Wanting).filter_map(move |one| {
                let ticket = client.engine.ticket_of(one.owner?)?;
                Some(((at, one.id), one.name()?.clone(), ticket))
            })
        });
        waiting.collect()
    }

    // -- when the faults have stopped -------------------------------------------------------------

    /// Lets callers hand over each lock until each has had it so many times again. Where waiters draw no tickets, or locks are
    /// kept, nothing happens.
    pub(super) fn take_turns(&mut self) {
        let wish = self.scope.0.wishes.iter().position(|wish| *wish == Wish::WAIT);
        let has_lines = self.names.0.iter().any(|name| self.server.line(name).is_some());
        let (Some(wish), None, true) = (wish, self.scope.0.keep, has_lines && !self.is_grouped())
        else {
            return;
        };
        let targets = self.targets.0.len();
        let mut left = [self.scope.0.rounds].repeat(self.clients.len() * targets);
        let (mut waiters, mut latest) = (Waiters::new(), BTreeMap::new());
        for _ in 0..TOO_MANY {
            for at in 0..self.clients.len() {
                self.run(at);
                self.release_held(at);
                for target in 0..targets {
                    let left = &mut left[at * targets + target];
                    if *left > 0 && !self.is_wanted(at, target) {
                        *left -= 1;
                        self.client(at).acquires += 1;
                        self.acquire(at, target, wish);
                    }
                }
            }
            self.calm();
            self.check();
            self.note_hand_offs(&mut waiters, &mut latest);
            let over = waiters.is_empty() && left.iter().all(|left| *left == 0);
            if over || self.violation.is_some() {
                return;
            }
            let called = self.clients.iter().any(|client| client.called);
            if called || (0..self.exchanges.len()).any(|at| self.may_execute(at)) {
                continue;
            }
            let mut times = self.interesting_times();
            times.extend(self.hold_ends());
            let Some(next) = times.range(self.now..).find(|at| **at > self.now) else { return };
            self.advance(*next);
        }
    }

    /// Counts the hand-offs since the last time.
    fn note_hand_offs(&mut self, waiters: &mut Waiters, latest: &mut BTreeMap<LockName, Fence>) {
        let waiting = self.waiting_in_line();
        waiters.retain(|id, _| waiting.iter().any(|(waits, _, _)| waits == id));
        for (name, fences) in &self.fences {
            if latest.insert(name.clone(), fences.any).is_some_and(|last| last < fences.any) {
                let waiters = waiters.values_mut().filter(|waiter| waiter.name == *name);
                waiters.for_each(|waiter| waiter.seen += 1);
            }
        }
        for (id, name, _) in waiting {
            let most = turns::most(self.clients.len(), self.tickets_of_the_dead(&name));
            waiters.entry(id).or_insert(Waiter { name, seen: 0, most });
        }
        let result = waiters.values().try_for_each(|one| turns::seen(one.seen, one.most));
        self.judge(Check::Turns, result);
    }

    /// How many tickets are still to have their turn for which nobody waits.
    fn tickets_of_the_dead(&self, name: &LockName) -> u64 {
        let Some(line) = self.server.line(name) else { return 0 };
        let alive = self.tickets(name).into_iter().filter(|ticket| *ticket > line.served).count();
        line.queue.saturating_sub(line.served).saturating_sub(alive as u64)
    }

    fn is_wanted(&self, at: usize, target: usize) -> bool {
        let names = self.names_of(&self.targets.0[target]);
        let over = |stage| matches!(stage, Stage::Abandoned | Stage::Releasing);
        self.clients[at].attempts.iter().any(|one| one.meets(&names) && !over(one.stage))
    }

    /// What a client's callers do now: release what they have held for long enough, and what they have lost.
    fn release_held(&mut self, at: usize) {
        let now = self.local(at);
        while let Some(attempt) = self.clients[at].attempts.iter().position(|one| match one.stage {
            Stage::Held => one.granted.0.is_none_or(|since| since.after(HOLD) <= now),
            stage => stage == Stage::Lost,
        }) {
            self.release(at, attempt);
        }
    }

    /// When holders release what they hold, in real time.
    fn hold_ends(&self) -> Vec<Instant> {
        let ends = self.clients.iter().flat_map(|client| {
            let held = client.attempts.iter().filter(|one| one.stage == Stage::Held);
            held.filter_map(|one| Some(client.clock.when(one.granted.0?.after(HOLD))))
        });
        ends.collect()
    }
}
