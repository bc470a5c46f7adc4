//! What the engine knows of one attempt, and of one request.

use super::Engine;
use super::due::Due;
use super::index::Entry;
use super::wanted::{Own, Wanted};
use crate::contention::Contention;
use crate::event::LockId;
use crate::name::{LockName, Owner};
use crate::request::Mode;
use crate::session::SessionId;
use crate::slot::{Input, Phase, Slot};
use crate::time::Instant;
use alloc::boxed::Box;

/// A request that is in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) due: Due,
    pub(super) sent: Instant,
    /// Its session has ended: the answer is of no interest.
    pub(super) void: bool,
}

/// A part of a step that remains to be done. A list instead of calls within calls: a hundred thousand attempts
/// that end together, each because of the one before, need no stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Todo {
    Attempt(LockId, Input),
    /// Nobody needs the session any more.
    Release(SessionId),
    /// It may be needed no longer.
    Tidy(SessionId),
    /// The first of several locks is somebody else's: want the others, too.
    Widen(LockId),
}

/// An attempt's position in its name's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// It may talk to the server, as far as its local rivals are concerned.
    Front,
    Behind,
    /// It wants the name no more.
    Left,
}

/// One attempt to hold a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) name: LockName,
    pub(super) mode: Mode,
    /// The session that its claims go to, if there are sessions.
    pub(super) session: Option<SessionId>,
    /// The attempt for any one of several locks that it is a part of.
    pub(super) part_of: Option<LockId>,
    pub(super) own: Option<Box<Own>>,
    pub(super) slot: Slot,
    pub(super) place: Place,
    pub(super) indexed: Entry,
}

impl Attempt {
    /// Whether somebody else has the lock, or a local rival has or wants it.
    pub(super) fn is_denied(&self) -> bool {
        self.slot.is_denied() || (self.slot.phase == Phase::Queued && self.place == Place::Behind)
    }
}

impl Engine {
    pub(super) fn want_one(&mut self, now: Instant, name: LockName, wanted: &Wanted) -> LockId {
        let mode = if self.capabilities.shared { wanted.mode } else { Mode::Exclusive };
        let contention = Contention::new(self.capabilities.on_busy);
        let (id, input) = self.begin((name, mode), None, wanted, contention);
        self.step(now, id, input);
        id
    }

    /// A new attempt, and its first input.
    pub(super) fn begin(
        &mut self,
        (name, mode): (LockName, Mode),
        part_of: Option<LockId>,
        wanted: &Wanted,
        contention: Contention,
    ) -> (LockId, Input) {
        let once = wanted.once;
        self.closing = false;
        self.last_id += 1;
        let id = LockId(self.last_id);
        let owner = Owner::new(self.config.seed.wrapping_add(u128::from(self.last_id)));
        let give_up = wanted.give_up.unwrap_or(Instant::END);
        let answer_deadline = give_up.after(self.config.timing.answer_grace());
        let slot = Slot::new(owner, contention, once, give_up, answer_deadline);
        let indexed = Entry::default();
        let (place, input) = self.join_queue(name.clone(), id, mode);
        let own = wanted.own();
        let attempt = Attempt { name, mode, session: None, part_of, own, slot, place, indexed };
        self.insert(id, Box::new(attempt));
        (id, input)
    }
}
