//! The owners of the claims that a client sends.

use super::client::{Attempt, Client, Stage};
use super::invariants::Check;
use super::server::Server;
use super::target::Kind;
use super::world::World;
use crate::name::Owner;
use crate::request::{Action, Claim, Mode, Request};
use crate::timing::Timing;
use alloc::format;

impl<S: Server> World<S> {
    /// An attempt's owner is new in its first claim, and never changes.
    pub(super) fn learn_owners(&mut self, at: usize, action: Action, claims: &[Claim]) {
        let is_grouped = self.is_grouped();
        for claim in claims {
            let known = !self.client(at).owners.0.insert(claim.owner);
            if known && matches!(action, Action::Release | Action::Leave) {
                // It may be freed once more when its caller has long been told.
                continue;
            }
            let Client { attempts, engine, .. } = self.client(at);
            if attempts.iter().any(|attempt| attempt.owner == Some(claim.owner)) {
                continue;
            }
            let first = if is_grouped {
                let of = engine.attempt_of(claim.owner);
                attempts
                    .iter_mut()
                    .find(|one| Some(one.id) == of && one.names.contains(&claim.name))
            } else {
                // Local rivals are served first come, first served, but those that share together.
                let shares = claim.mode == Mode::Shared;
                let of = shares.then(|| engine.attempt_of(claim.owner)).flatten();
                attempts.iter_mut().find(|attempt| {
                    attempt.owner.is_none()
                        && of.is_none_or(|of| attempt.id == of)
                        && attempt.names[0] == claim.name
                        && matches!(attempt.stage, Stage::Wanting | Stage::Releasing)
                })
            };
            match first {
                Some(attempt) if attempt.kind == Kind::One => attempt.owner = Some(claim.owner),
                Some(_) => {}
                None => {
                    let what = format!("client {at} claims as {:?}, nobody's owner", claim.owner);
                    self.judge(Check::Requests, Err(what));
                }
            }
        }
    }

    /// The lease times of an owner's attempt.
    pub(super) fn timing_of(&self, at: usize, owner: Owner) -> Timing {
        let Client { attempts, engine, .. } = &*self.clients[at];
        let whole = engine.attempt_of(owner).filter(|_| self.is_grouped());
        let is_its = |one: &&Attempt| one.owner == Some(owner) || whole == Some(one.id);
        attempts.iter().find(is_its).map_or(self.scope.0.timing_at(at), |attempt| attempt.timing)
    }

    // -- a seeded bug: a new owner on each retry ----------------------------------------------------

    pub(super) fn rename(&mut self, at: usize, request: &Request) {
        let Request::Acquire { claims, .. } = request else { return };
        let client = self.client(at);
        let used = claims.iter().map(|claim| claim.owner);
        for owner in used {
            let real = client.aliases.iter().find(|(_, alias)| **alias == owner);
            let real = real.map_or(owner, |(real, _)| *real);
            let number = 1 << 127 | (at as u128) << 64 | client.aliases.len() as u128;
            let next = client.aliases.get(&real).map_or(number, |_| number | 1 << 32);
            client.aliases.insert(real, Owner::new(next));
        }
    }

    pub(super) fn rename_owners(&self, at: usize, request: &mut Request) {
        let aliases = &self.clients[at].aliases;
        if let Request::Acquire { claims, .. }
        | Request::Release { claims, .. }
        | Request::Keep { claims, .. }
        | Request::Probe { claims }
        | Request::Renew { claims, .. } = request
        {
            for claim in claims {
                claim.owner = aliases.get(&claim.owner).copied().unwrap_or(claim.owner);
            }
        }
    }
}
