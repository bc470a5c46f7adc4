//! Local rivals for one name: only those in front talk to the server.

use super::Engine;
use crate::event::LockId;
use crate::name::LockName;
use crate::protocol::{Mode, Protocol};
use crate::slot::Input;
use alloc::vec::Vec;

impl<P: Protocol> Engine<P> {
    /// Puts an attempt at the end of its name's queue, and says what that means to it.
    pub(super) fn join_queue(&mut self, name: &LockName, id: LockId) -> Input {
        let queue = self.queues.entry(name.clone()).or_default();
        let attempts = &self.attempts;
        let rival = queue.iter().any(|ahead| attempts[ahead].slot.wanted());
        queue.push_back(id);
        match (self.in_front(name).any(|front| front == id), rival) {
            (true, _) => Input::Front,
            (false, true) => Input::Rival,
            (false, false) => Input::Tick,
        }
    }

    /// Takes an attempt out of its name's queue; those that are in front now.
    pub(super) fn leave_queue(&mut self, id: LockId) -> Vec<LockId> {
        let name = self.attempts[&id].name.clone();
        let Some(queue) = self.queues.get_mut(&name) else { return Vec::new() };
        let Some(at) = queue.iter().position(|waiting| *waiting == id) else { return Vec::new() };
        queue.remove(at);
        if queue.is_empty() {
            self.queues.remove(&name);
        }
        self.in_front(&name).collect()
    }

    /// The first in a name's queue. If that wants to share, also those behind it that do.
    pub(super) fn in_front(&self, name: &LockName) -> impl Iterator<Item = LockId> + use<'_, P> {
        let queue = self.queues.get(name).into_iter().flatten().copied();
        let mut shared = true;
        queue
            .enumerate()
            .take_while(move |(at, id)| {
                shared &= self.attempts[id].mode == Mode::Shared;
                *at == 0 || shared
            })
            .map(|(_, id)| id)
    }
}
