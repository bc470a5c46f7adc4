//! Users' transactions: each pins a lock, writes, and ends at any later time, whatever has become of the lock.

use super::action::Action;
use super::invariants::{Check, writes};
use super::server::Server;
use super::world::World;
use crate::fence::Fence;
use crate::name::LockName;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// The users of the locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Users {
    /// How many transactions may yet begin.
    pub(super) left: u8,
    pub(super) open: Vec<Transaction>,
    /// The greatest fence that was written for each name.
    pub(super) written: BTreeMap<LockName, Fence>,
}

/// A transaction that has pinned what a guard holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    /// The locks, with the fences that it pinned them with.
    pub(super) holds: Vec<(LockName, Fence)>,
}

impl<S: Server> World<S> {
    /// Whoever was told of a grant may pin it, in time or late: it may be stopped right before. A commit may be under way
    /// while its client is stopped or dead.
    pub(super) fn user_actions(&self, actions: &mut Vec<Action>) {
        if !self.up {
            return;
        }
        if self.users.left > 0 {
            for (at, client) in self.clients.iter().enumerate() {
                let granted = client.attempts.iter().enumerate();
                let granted = granted.filter(|(_, attempt)| !attempt.holds.is_empty());
                actions.extend(granted.map(|(attempt, _)| Action::Pin(at, attempt)));
            }
        }
        for at in 0..self.users.open.len() {
            actions.extend([Action::End(at, true), Action::End(at, false)]);
        }
    }

    /// Each lock of a guard is pinned, or the transaction is rolled back.
    pub(super) fn pin(&mut self, client: usize, attempt: usize) {
        self.users.left -= 1;
        let holds = self.clients[client].attempts[attempt].holds.clone();
        for (at, (name, fence)) in holds.iter().enumerate() {
            if !self.server.pin(name, *fence) {
                self.note(|_| format!("fence {fence} is not the last of {name}: rolled back"));
                holds[..at].iter().for_each(|(name, _)| self.server.unpin(name));
                return;
            }
        }
        self.users.open.push(Transaction { holds });
    }

    /// A transaction ends, and its writes count if it commits.
    pub(super) fn end(&mut self, at: usize, commits: bool) {
        for (name, fence) in self.users.open.remove(at).holds {
            self.server.unpin(&name);
            if commits {
                let last = self.users.written.entry(name).or_insert(fence);
                let result = writes::check(*last, fence);
                *last = fence.max(*last);
                self.judge(Check::Writes, result);
            }
        }
    }
}
