//! What tells states apart on a grid of times.
//!
//! On a grid, every time is only ever compared with times on the grid. So a time says no more than
//! how many steps from now it is reached, and a time long past no more than that. What is left out
//! beyond that is jitter, which cannot be seen on a grid coarser than the longest back-off, and
//! how often a thing failed. Thus the states of worlds whose time goes on for ever are finitely many. Of fences only the order
//! counts, and of a ticket how far it is from the last that had its turn.

use super::client::Client;
use super::clock::Clock;
use super::hash::Fingerprint;
use super::network::Exchange;
use super::server::Server;
use super::world::World;
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::{News, Notification, Outcome, Reply};
use crate::request::{Claim, Turn};
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::time::Duration;

/// Times on one clock, as steps.
struct Steps {
    clock: Clock,
    now: Instant,
    step: u64,
    /// Requests that were sent longer ago are all the same: too late.
    back: u64,
}

impl Steps {
    /// The number of steps from now until `local` is reached, as an instant: zero if it was.
    fn until(&self, local: Instant) -> Instant {
        if local == Instant::from_nanos(u64::MAX) {
            return local;
        }
        let wait = self.clock.when(local).since(self.now).as_nanos() as u64;
        Instant::from_nanos(wait.div_ceil(self.step))
    }

    /// The number of steps since `local` was reached, as an instant.
    fn since(&self, local: Instant) -> Instant {
        let passed = self.now.since(self.clock.when(local)).as_nanos() as u64;
        Instant::from_nanos((passed / self.step).min(self.back))
    }
}

impl<S: Server> World<S> {
    pub(super) fn projected(&self, step: Duration) -> u128 {
        let step = step.as_nanos() as u64;
        // However slow the client's clock.
        let back = (self.scope.0.timing.ttl().as_nanos() as u64).div_ceil(step);
        let steps = |clock| Steps { clock, now: self.now, step, back };
        let server = steps(self.server_clock);
        let fences = self.all_fences();
        let rank = |fence| Fence::new(fences.range(..fence).count() as u64);
        let since = |index| fences.range(..=Fence::new(index)).count() as u64;

        let served = |name: &LockName| self.server.line(name).map(|line| line.served);
        let ticket =
            |name: &LockName, ticket: u64| ticket.wrapping_sub(served(name).unwrap_or_default());

        let mut hasher = Fingerprint::new();
        self.scope.0.horizon.map(|_| self.now).hash(&mut hasher);
        self.server.project(&|time| server.until(time), &rank).hash(&mut hasher);
        for (name, fence) in &self.fences {
            (name, rank(fence.any), rank(fence.exclusive)).hash(&mut hasher);
        }
        (self.up, self.faults, &self.excused, &self.violation).hash(&mut hasher);
        self.users.left.hash(&mut hasher);
        for one in &self.users.open {
            project_holds(&one.holds, &rank, &mut hasher);
        }
        for (name, fence) in &self.users.written {
            (name, rank(*fence)).hash(&mut hasher);
        }
        if let Some(keep) = self.scope.0.keep {
            for (name, (owner, granted)) in &self.kept.granted {
                (name, owner, server.until(granted.after(keep))).hash(&mut hasher);
            }
            for (name, until) in &self.kept.until {
                (name, server.until(*until)).hash(&mut hasher);
            }
            self.kept.wanted.hash(&mut hasher);
        }
        for client in &self.clients {
            project_client(client, &steps(client.clock), &rank, &since, &ticket, &mut hasher);
        }
        // Ids are only names: requests with the same claims and times are the same.
        for exchange in &self.exchanges {
            let request = exchange.request.as_ref();
            let request = request.map(|request| {
                let mut request = S::project_request(request, &since);
                request.claims_mut().iter_mut().for_each(|claim| project_turn(claim, &ticket));
                request
            });
            (exchange.from, request, exchange.awaited).hash(&mut hasher);
            (exchange.copies, exchange.executed, exchange.waiting).hash(&mut hasher);
            if !S::REPEATABLE && !S::CONNECTIONS {
                let client = steps(self.clients[exchange.from.client].clock);
                exchange.given_up.map(|time| client.since(time)).hash(&mut hasher);
            }
            exchange.read.map(|time| server.since(time)).hash(&mut hasher);
            if exchange.awaited {
                let client = steps(self.clients[exchange.from.client].clock);
                (client.since(exchange.sent), client.until(exchange.deadline)).hash(&mut hasher);
            }
            let (_, claims) = exchange.describe();
            for (at, mut outcome) in self.outcomes(exchange).into_iter().enumerate() {
                match (&mut outcome, claims.get(at)) {
                    (Outcome::Granted(fence), _) => *fence = rank(*fence),
                    (Outcome::Unchanged { index }, _) => *index = since(*index),
                    (Outcome::Busy(Some(holder)), Some(claim)) => {
                        if let Some(place) = &mut holder.place {
                            holder.held_for = Duration::ZERO;
                            place.ticket = ticket(&claim.name, place.ticket);
                        }
                    }
                    (Outcome::Reserved(place), Some(claim)) => {
                        place.ticket = ticket(&claim.name, place.ticket);
                    }
                    (Outcome::InLine { place, ahead }, _) => {
                        place.ticket = since(place.ticket);
                        ahead.iter_mut().for_each(|(_, index)| *index = since(*index));
                    }
                    _ => {}
                }
                outcome.hash(&mut hasher);
            }
            if let Some(Reply::News(News::Notified(all))) = &exchange.reply {
                all.iter().for_each(|one| project_notification(one, &ticket).hash(&mut hasher));
            }
        }
        hasher.finish128()
    }

    /// Every fence that anybody knows. Only their order tells states apart.
    fn all_fences(&self) -> BTreeSet<Fence> {
        let mut fences: BTreeSet<_> =
            self.fences.values().flat_map(|latest| [latest.any, latest.exclusive]).collect();
        fences.extend(self.server.fences());
        let pinned = self.users.open.iter().flat_map(|one| &one.holds);
        fences.extend(pinned.map(|(_, fence)| *fence));
        fences.extend(self.users.written.values());
        let attempts = self.clients.iter().flat_map(|client| &client.attempts);
        let held = attempts.flat_map(|attempt| &attempt.holds);
        fences.extend(held.map(|(_, fence)| *fence));
        for exchange in &self.exchanges {
            fences.extend(self.outcomes(exchange).into_iter().filter_map(
                |outcome| match outcome {
                    Outcome::Granted(fence) => Some(fence),
                    _ => None,
                },
            ));
        }
        fences
    }

    fn outcomes(&self, exchange: &Exchange) -> Vec<Outcome> {
        match &exchange.reply {
            Some(Reply::Outcomes(all)) => all.clone(),
            Some(_) => Vec::from([Outcome::Done]),
            None => Vec::new(),
        }
    }
}

fn project_client(
    client: &Client,
    steps: &Steps,
    rank: &impl Fn(Fence) -> Fence,
    since: &dyn Fn(u64) -> u64,
    ticket: &dyn Fn(&LockName, u64) -> u64,
    hasher: &mut impl Hasher,
) {
    let engine = &client.engine;
    engine
        .project(&|time| steps.until(time), &|time| steps.since(time), since, ticket)
        .hash(hasher);
    (client.connection, client.acquires, client.opens, client.called, &client.aliases).hash(hasher);
    client.asleep.map(|since| steps.since(client.clock.read(since))).hash(hasher);
    for attempt in &client.attempts {
        attempt.id.hash(hasher);
        (attempt.kind, &attempt.names, attempt.owner, attempt.stage, attempt.patient).hash(hasher);
        project_holds(&attempt.holds, rank, hasher);
        attempt.deadline.map(|time| steps.until(time)).hash(hasher);
    }
    let now = client.clock.read(steps.now);
    for (key, refusal) in client.refused.iter().filter(|(_, refusal)| refusal.at == now) {
        (key, refusal.informed).hash(hasher);
    }
}

fn project_turn(claim: &mut Claim, ticket: &dyn Fn(&LockName, u64) -> u64) {
    if let Turn::Of(Some(drawn)) | Turn::Loose(Some(drawn)) = &mut claim.turn {
        *drawn = ticket(&claim.name, *drawn);
    }
}

/// A notification, with its ticket as `ticket` sees it.
pub(super) fn project_notification(
    one: &Notification,
    ticket: &dyn Fn(&LockName, u64) -> u64,
) -> Notification {
    let mut one = one.clone();
    if let Notification::Freed { name, ticket: turn }
    | Notification::Kept { name, ticket: turn, .. } = &mut one
    {
        *turn = ticket(name, *turn);
    }
    one
}

fn project_holds(
    holds: &[(LockName, Fence)],
    rank: &impl Fn(Fence) -> Fence,
    hasher: &mut impl Hasher,
) {
    holds.len().hash(hasher);
    for (name, fence) in holds {
        (name, rank(*fence)).hash(hasher);
    }
}
