//! An attempt for any one of several locks: a semaphore's permits.
//!
//! It is made of an attempt for each lock, the *parts*, which are told of under its own id. So each permit is as safe
//! as any lock, and what is left to do here is to take no more of them than one:
//!
//! * The first part claims a lock that nobody in this process has or wants. Where few are taken, that is the whole
//!   attempt.
//! * If that lock is somebody else's, there is a part for each of the others. They look first, all in one request
//!   where the server can be asked so, and then wait as other attempts do.
//! * One part claims at a time. Once one is granted its lock, the others are given up.

use super::{Engine, Todo, Wanted, Which};
use crate::contention::Contention;
use crate::error::Failure;
use crate::event::{Event, LockId, NotAcquired};
use crate::name::LockName;
use crate::outcome::Holder;
use crate::request::Mode;
use crate::slot::{Input, Phase};
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Bound::Included;
use core::time::Duration;

/// What its parts have come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Semaphore {
    /// The locks that no part wants yet.
    rest: Vec<LockName>,
    /// The parts that have not ended for the caller.
    parts: BTreeSet<LockId>,
    /// The part whose claim is under way, or that has its lock: no other may claim.
    claiming: Option<LockId>,
    /// The part that was granted its lock.
    winner: Option<LockId>,
    /// The last denial of a part that the caller may be told of.
    denial: Option<Denial>,
    /// The part of which the caller was told that it is in the way, as are all others.
    told: Option<LockId>,
    wanted: Wanted,
}

/// Somebody has the lock that a part wants, or nobody is known to have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Denial {
    part: LockId,
    holder: Option<Holder>,
    withheld: bool,
}

impl Engine {
    /// Wants any one of `names` until `give_up`, [`None`] for as long as it takes, and exclusively. With `once`, it ends
    /// when all were "busy". Once it is granted, [`name`](Self::name) tells which.
    ///
    /// Leads to [`Event::Granted`] or [`Event::NotAcquired`], unless released before, as [`acquire`](Self::acquire) does.
    pub fn acquire_any(
        &mut self,
        now: Instant,
        names: Vec<LockName>,
        once: bool,
        give_up: Option<Instant>,
    ) -> LockId {
        self.want(now, Which::Any(names), Wanted { once, give_up, ..Wanted::default() })
    }

    pub(super) fn want_any(
        &mut self,
        now: Instant,
        names: Vec<LockName>,
        wanted: Wanted,
    ) -> LockId {
        self.last_id += 1;
        let id = LockId(self.last_id);
        let mut rest = names;
        if rest.is_empty() {
            return self.nothing_named(id);
        }
        let first = rest.swap_remove(self.choose(now, &rest));
        let contention = Contention::new(self.capabilities.on_busy).for_one_of_many();
        let exclusively = (first, Mode::Exclusive);
        let (part, input) = self.begin(exclusively, Some(id), &wanted, contention);
        let semaphore = Semaphore {
            rest,
            parts: [part].into(),
            claiming: None,
            winner: None,
            denial: None,
            told: None,
            wanted,
        };
        self.semaphores.insert(id, semaphore);
        self.step(now, part, input);
        id
    }

    /// There is nothing to acquire.
    pub(super) fn nothing_named(&mut self, id: LockId) -> LockId {
        let why = NotAcquired::Failed(Failure::refused("no lock was named".into()));
        self.events.push_back(Event::NotAcquired { id, of: None, why });
        id
    }

    /// The lock that an attempt wants or has: of several, the one that it was granted.
    pub fn name(&self, id: LockId) -> Option<&LockName> {
        self.attempts.get(&self.winner(id)).map(|attempt| &attempt.name)
    }

    /// The place in `names` of a lock that nobody in this process has or wants, and that is not left to others for a
    /// while; if there is none, of any.
    fn choose(&mut self, now: Instant, names: &[LockName]) -> usize {
        let from = self.rng.below(names.len());
        let open = |at: &usize| {
            let name = &names[*at];
            let cools = now < self.last_attempts.of(now, name).cooldown_until;
            !cools && !self.is_wanted(name)
        };
        (from..names.len()).chain(0..from).find(open).unwrap_or(from)
    }

    fn is_wanted(&self, name: &LockName) -> bool {
        let all = (Included((name.clone(), LockId(0))), Included((name.clone(), LockId(u64::MAX))));
        self.queues.range(all).next().is_some()
    }

    /// The part that has its lock, or `id` itself.
    pub(super) fn winner(&self, id: LockId) -> LockId {
        self.semaphores.get(&id).and_then(|semaphore| semaphore.winner).unwrap_or(id)
    }

    /// Whether a part must not claim now, for another does.
    pub(super) fn is_held_back(&self, id: LockId, part_of: Option<LockId>) -> bool {
        let claiming = part_of.and_then(|of| self.semaphores.get(&of)?.claiming);
        claiming.is_some_and(|claiming| claiming != id)
    }

    /// Releases all parts; what follows remains to be done. False if it has none.
    pub(super) fn release_any(&mut self, id: LockId, keep: Option<Duration>) -> bool {
        let Some(semaphore) = self.semaphores.get_mut(&id) else { return false };
        semaphore.rest.clear();
        semaphore.denial = None;
        let input = Input::Release(keep);
        let parts = semaphore.parts.iter().map(|part| Todo::Attempt(*part, input.clone()));
        self.todo.extend(parts);
        true
    }

    /// Makes parts for the locks that no part wants yet.
    pub(super) fn widen(&mut self, id: LockId) {
        let Some(semaphore) = self.semaphores.get_mut(&id) else { return };
        let wanted = semaphore.wanted.clone();
        for name in core::mem::take(&mut semaphore.rest) {
            let exclusively = (name, Mode::Exclusive);
            let mut contention = Contention::new(self.capabilities.on_busy).for_one_of_many();
            contention.looks_first();
            let (part, input) = self.begin(exclusively, Some(id), &wanted, contention);
            if let Some(semaphore) = self.semaphores.get_mut(&id) {
                semaphore.parts.insert(part);
            }
            self.todo.push(Todo::Attempt(part, input));
        }
    }

    /// A part of `id` was stepped, and told what is in the events since `from`: what of it is told of the whole.
    pub(super) fn part_stepped(&mut self, now: Instant, id: LockId, part: LockId, from: usize) {
        let events = self.events.split_off(from);
        if self.several.contains_key(&id) {
            return self.one_of_all_stepped(now, id, part, events);
        }
        for event in events {
            self.part_told(id, part, event);
        }
        self.let_claim(id, part);
        let Some(semaphore) = self.semaphores.get_mut(&id) else { return };
        let denied = |part: &LockId| self.attempts.get(part).is_none_or(|one| one.is_denied());
        if semaphore.told.is_some() || !semaphore.rest.is_empty() || semaphore.parts.is_empty() {
            return;
        }
        if semaphore.parts.iter().all(denied)
            && let Some(Denial { part, holder, withheld }) = semaphore.denial.take()
        {
            semaphore.told = Some(part);
            self.events.push_back(Event::Waiting { id, of: None, holder, withheld });
        }
    }

    /// Notes which part claims. When none does any more, the others may.
    fn let_claim(&mut self, id: LockId, part: LockId) {
        let Some(semaphore) = self.semaphores.get_mut(&id) else { return };
        let phase = self.attempts.get(&part).map(|attempt| attempt.slot.phase);
        let claims =
            matches!(phase, Some(Phase::Claiming { waiting: false, .. } | Phase::Held { .. }));
        let claiming = match semaphore.claiming {
            None if claims => Some(part),
            Some(old) if old == part && !claims => None,
            other => other,
        };
        if claiming != semaphore.claiming {
            semaphore.claiming = claiming;
            let others = semaphore.parts.iter().filter(|other| **other != part);
            self.todo.extend(others.map(|other| Todo::Attempt(*other, Input::Tick)));
        }
    }

    fn part_told(&mut self, id: LockId, part: LockId, event: Event) {
        let Some(semaphore) = self.semaphores.get_mut(&id) else { return };
        let ended = matches!(event, Event::NotAcquired { .. } | Event::Released { .. });
        if ended {
            semaphore.parts.remove(&part);
        }
        if ended && semaphore.told == Some(part) || matches!(event, Event::Trouble { .. }) {
            // What was told is not known any more.
            semaphore.told = None;
        }
        let denied = matches!(
            event,
            Event::Waiting { .. }
                | Event::NotAcquired { why: NotAcquired::Busy(_) | NotAcquired::Withheld, .. }
        );
        match event {
            Event::Waiting { holder, withheld, .. } => {
                semaphore.note_denial(Denial { part, holder, withheld });
            }
            Event::Granted { .. } if semaphore.winner.is_none() => {
                semaphore.winner = Some(part);
                semaphore.rest.clear();
                let others = core::mem::replace(&mut semaphore.parts, [part].into());
                for other in others.into_iter().filter(|other| *other != part) {
                    self.give_up_part(other);
                }
                self.events.push_back(event);
            }
            // Two servers' queues came to an end at once.
            Event::Granted { .. } => self.give_up_part(part),
            _ if ended && (!semaphore.parts.is_empty() || denied && !semaphore.rest.is_empty()) => {
            }
            event => {
                if ended {
                    self.semaphores.remove(&id);
                }
                self.tell_once(event);
            }
        }
        let widens = |semaphore: &Semaphore| denied && !semaphore.rest.is_empty();
        if self.semaphores.get(&id).is_some_and(widens) {
            self.todo.push(Todo::Widen(id));
        }
    }

    /// Tells what each part of a request tells as well: the same trouble is one.
    pub(super) fn tell_once(&mut self, event: Event) {
        if self.events.back() != Some(&event) {
            self.events.push_back(event);
        }
    }

    /// Nobody is told of that part any more.
    pub(super) fn give_up_part(&mut self, part: LockId) {
        if let Some(attempt) = self.attempts.get_mut(&part) {
            attempt.slot.forget_caller();
            self.todo.push(Todo::Attempt(part, Input::Release(None)));
        }
    }
}

impl Semaphore {
    /// At first, whoever is known is told of. Then only news of the part that was told of counts.
    fn note_denial(&mut self, denial: Denial) {
        let is_known = |denial: &Denial| denial.holder.is_some();
        match self.told {
            Some(part) if part != denial.part => {}
            Some(_) => (self.told, self.denial) = (None, Some(denial)),
            None if !is_known(&denial) && self.denial.as_ref().is_some_and(is_known) => {}
            None => self.denial = Some(denial),
        }
    }

    /// The parts that have not ended for the caller.
    pub(super) fn parts(&self) -> impl Iterator<Item = LockId> {
        self.parts.iter().copied()
    }
}

#[cfg(feature = "sim")]
impl Semaphore {
    /// The state that tells it apart for a search, with times as `time` sees them.
    pub(super) fn project(&self, time: &dyn Fn(Instant) -> Instant) -> Self {
        let mut seen = self.clone();
        seen.wanted.give_up = self.wanted.give_up.map(time);
        seen
    }
}
