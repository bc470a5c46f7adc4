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
        let mut ahead = self.queue(name).peekable();
        let alone = ahead.peek().is_none();
        let rival = ahead.any(|ahead| self.attempts[&ahead].slot.wanted());
        drop(ahead);
        self.queues.insert((name.clone(), id));
        if alone || self.in_front(name).any(|front| front == id) {
            Input::Front
        } else if rival {
            Input::Rival
        } else {
            Input::Tick
        }
    }

    /// Takes an attempt out of its name's queue; those that are in front now.
    pub(super) fn leave_queue(&mut self, id: LockId) -> Vec<LockId> {
        let place = (self.attempts[&id].name.clone(), id);
        if self.queues.remove(&place) { self.in_front(&place.0).collect() } else { Vec::new() }
    }

    /// The first in a name's queue. If that wants to share, also those behind it that do.
    pub(super) fn in_front(&self, name: &LockName) -> impl Iterator<Item = LockId> + use<'_, P> {
        let mut shared = true;
        self.queue(name)
            .enumerate()
            .take_while(move |(at, id)| {
                shared &= self.attempts[id].mode == Mode::Shared;
                *at == 0 || shared
            })
            .map(|(_, id)| id)
    }

    /// All attempts for one name, in the order in which they came.
    fn queue(&self, name: &LockName) -> impl Iterator<Item = LockId> + use<'_, P> {
        let all = (name.clone(), LockId(0))..=(name.clone(), LockId(u64::MAX));
        self.queues.range(all).map(|(_, id)| *id)
    }
}
