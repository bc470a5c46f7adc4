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

/// A transaction that has pinned a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    pub(super) name: LockName,
    pub(super) fence: Fence,
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
                let granted = granted.filter(|(_, attempt)| attempt.fence.is_some());
                actions.extend(granted.map(|(attempt, _)| Action::Pin(at, attempt)));
            }
        }
        for at in 0..self.users.open.len() {
            actions.extend([Action::End(at, true), Action::End(at, false)]);
        }
    }

    pub(super) fn pin(&mut self, client: usize, attempt: usize) {
        self.users.left -= 1;
        let attempt = &self.clients[client].attempts[attempt];
        let (name, Some(fence)) = (attempt.name.clone(), attempt.fence) else { return };
        if self.server.pin(&name, fence) {
            self.users.open.push(Transaction { name, fence });
        } else {
            self.note(|_| format!("fence {fence} is not the last of {name}: rolled back"));
        }
    }

    /// A transaction ends, and its writes count if it commits.
    pub(super) fn end(&mut self, at: usize, commits: bool) {
        let Transaction { name, fence } = self.users.open.remove(at);
        self.server.unpin(&name);
        if commits {
            let last = self.users.written.entry(name).or_insert(fence);
            let result = writes::check(*last, fence);
            *last = fence.max(*last);
            self.judge(Check::Writes, result);
        }
    }
}
