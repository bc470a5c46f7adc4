//! The choices of a caller: a lock, any one of several, or all of several.

use super::client::{Attempt, Stage};
use super::coverage::Sometimes;
use super::invariants::{Check, permits, together};
use super::server::{Lease, Server};
use super::world::World;
use crate::engine::Engine;
use crate::event::LockId;
use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::request::{self, Claim};
use crate::time::Instant;
use alloc::vec::Vec;

/// A choice of a caller, by the numbers of a world's locks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A lock.
    One(usize),
    /// A permit of a semaphore: any one of these.
    AnyOf(Vec<usize>),
    /// All of these, or none.
    AllOf(Vec<usize>),
}

/// Which of these it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    One,
    AnyOf,
    AllOf,
}

impl Target {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Target::One(_) => Kind::One,
            Target::AnyOf(_) => Kind::AnyOf,
            Target::AllOf(_) => Kind::AllOf,
        }
    }

    pub(super) fn numbers(&self) -> &[usize] {
        match self {
            Target::One(number) => core::slice::from_ref(number),
            Target::AnyOf(numbers) | Target::AllOf(numbers) => numbers,
        }
    }
}

impl Attempt {
    /// The lock, of an attempt for one.
    pub(super) fn name(&self) -> Option<&LockName> {
        self.names.first().filter(|_| self.kind == Kind::One)
    }

    /// Whether it and an attempt for these locks can be in each other's way.
    pub(super) fn meets(&self, names: &[LockName]) -> bool {
        self.names.iter().any(|name| names.contains(name))
    }

    /// The locks that it was granted, with `fence` as it was told.
    pub(super) fn granted(&self, engine: &Engine, fence: Fence) -> Vec<(LockName, Fence)> {
        match self.kind {
            Kind::One => self.names.iter().map(|name| (name.clone(), fence)).collect(),
            Kind::AnyOf => {
                engine.name(self.id).map(|name| (name.clone(), fence)).into_iter().collect()
            }
            Kind::AllOf => engine.fences(self.id),
        }
    }
}

impl<S: Server> World<S> {
    /// Whether some attempts are about several locks.
    pub(super) fn is_grouped(&self) -> bool {
        self.targets.0.iter().any(|target| target.kind() != Kind::One)
    }

    /// The locks of a target, in its order.
    pub(super) fn names_of(&self, target: &Target) -> Vec<LockName> {
        target.numbers().iter().map(|number| self.names.0[*number].clone()).collect()
    }

    /// The invariants of attempts for several locks, in every state. `beliefs` are those that are held.
    pub(super) fn check_groups(&mut self, leases: &[Lease], beliefs: &[(usize, LockId)]) {
        let now = self.server_now();
        let held = beliefs.iter().filter_map(|(at, id)| {
            let client = &self.clients[*at];
            let attempt = client.attempts.iter().find(|attempt| attempt.id == *id)?;
            Some((client, attempt))
        });
        let (mut result, mut holders) = (Ok(()), 0);
        for (client, attempt) in held {
            let owned = |owner: Owner| client.owners.0.contains(&owner);
            let one = match attempt.kind {
                Kind::One => Ok(()),
                Kind::AnyOf => {
                    holders += 1;
                    permits::held(&attempt.names, &attempt.holds)
                }
                Kind::AllOf => together::held(&attempt.names, &attempt.holds),
            };
            let kept = |(name, fence): &(LockName, Fence)| {
                together::kept(leases, now, name, *fence, owned)
            };
            let backed = match attempt.kind {
                Kind::One => Ok(()),
                _ => attempt.holds.iter().try_for_each(kept),
            };
            let check = if attempt.kind == Kind::AnyOf { Check::Permits } else { Check::Together };
            result = result.and(one.and(backed).map_err(|what| (check, what)));
        }
        if let Err((check, what)) = result {
            self.judge(check, Err(what));
        }
        let any = self.targets.0.iter().filter(|target| target.kind() == Kind::AnyOf);
        let permits = any.map(|target| target.numbers().len()).max().unwrap_or_default();
        self.judge(Check::Permits, permits::holders(holders, permits));
        if holders > 1 && holders == permits {
            self.saw(Sometimes::AllPermitsHeld);
        }
    }

    /// A client is about to send claims: of a semaphore's locks, it claims one at a time.
    pub(super) fn claims_for_groups(
        &mut self,
        at: usize,
        action: request::Action,
        claims: &[Claim],
    ) {
        if action != request::Action::Acquire || !self.is_grouped() {
            return;
        }
        let client = &self.clients[at];
        let whole = |claim: &Claim| client.engine.attempt_of(claim.owner);
        let under_way = self.exchanges.iter().filter(|exchange| {
            let (action, _) = exchange.describe();
            let here =
                exchange.from.client == at && exchange.from.number == client.connection.number;
            here && exchange.awaited && action == request::Action::Acquire
        });
        let under_way = under_way.flat_map(|exchange| exchange.describe().1);
        let mut result = Ok(());
        for claim in claims {
            let of = client.attempts.iter().find(|one| Some(one.id) == whole(claim));
            let Some(attempt) = of.filter(|one| one.kind == Kind::AnyOf) else { continue };
            let same = |other: &&Claim| whole(other) == Some(attempt.id);
            let claims = under_way.clone().chain(claims).filter(same).count();
            result = result.and(permits::claimed(attempt.id, claims, attempt.stage == Stage::Held));
        }
        self.judge(Check::Permits, result);
    }

    /// Notes what an attempt was granted, and has.
    pub(super) fn take_hold(
        &mut self,
        at: usize,
        id: LockId,
        fence: Fence,
    ) -> Vec<(LockName, Fence)> {
        let client = self.client(at);
        let Some(attempt) = client.attempts.iter_mut().find(|one| one.id == id) else {
            return Vec::new();
        };
        attempt.holds = attempt.granted(&client.engine, fence);
        attempt.holds.clone()
    }

    /// One attempt was lost, of which it was told just now.
    pub(super) fn lost_group(&mut self, at: usize, id: LockId) {
        let now = self.server_now();
        let leases = self.server.leases();
        let Some(attempt) = self.clients[at].attempts.iter().find(|one| one.id == id) else {
            return;
        };
        let lives = |(name, fence): &(LockName, Fence)| {
            let same = |lease: &&Lease| lease.name == *name && lease.fence == *fence;
            leases.iter().find(same).is_some_and(|lease| lease.holder(now).is_some())
        };
        let left = attempt.holds.iter().filter(|hold| lives(hold)).count();
        if attempt.kind == Kind::AllOf && left > 0 && left < attempt.holds.len() {
            self.saw(Sometimes::LostOneOfSeveral);
        }
    }

    /// Whether nobody has what is waited for: any one of the locks, or all.
    pub(super) fn is_free(&self, kind: Kind, names: &[LockName], now: Instant) -> bool {
        let leases = self.server.leases();
        let free = |name: &LockName| {
            leases.iter().all(|lease| lease.name != *name || lease.holder(now).is_none())
        };
        match kind {
            Kind::AnyOf => names.iter().any(free),
            Kind::One | Kind::AllOf => names.iter().all(free),
        }
    }
}
