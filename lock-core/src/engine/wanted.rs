//! How a lock is wanted, and what it has of its own: see [`Wanted`].

use super::{Attempt, Engine};
use crate::error::TimingError;
use crate::event::LockId;
use crate::name::LockName;
use crate::request::Mode;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// The lock, or the locks, that an attempt is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Which {
    /// This one.
    One(LockName),
    /// Any one of these: see [`Engine::acquire_any`].
    Any(Vec<LockName>),
    /// All of these, or none: see [`Engine::acquire_all`].
    All(Vec<LockName>),
}

/// How a lock is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Wanted {
    /// Where there are no shared locks, every lock is exclusive, and any or all of several always are.
    pub mode: Mode,
    /// The first "busy" ends it.
    pub once: bool,
    /// Until then; [`None`]: for as long as it takes.
    pub give_up: Option<Instant>,
    /// The lease times of this lock alone, made by [`Timing::lasting`] of the [engine's](Engine::timing). Ignored where
    /// locks belong to sessions, whose TTL is that of all their locks.
    pub timing: Option<Timing>,
    /// Stored with this lock instead of the [engine's](crate::Capabilities::label), for people.
    pub label: Option<Arc<str>>,
}

/// The things that an attempt has of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Own {
    pub(super) timing: Option<Timing>,
    pub(super) label: Option<Arc<str>>,
}

impl Wanted {
    /// Boxed, for few attempts have any.
    pub(super) fn own(&self) -> Option<Box<Own>> {
        let Self { timing, label, .. } = self;
        let some = timing.is_some() || label.is_some();
        some.then(|| Box::new(Own { timing: *timing, label: label.clone() }))
    }
}

impl Attempt {
    /// The lease times of its own, if it has any.
    pub(super) fn own_timing(&self) -> Option<Timing> {
        self.own.as_ref()?.timing
    }

    /// The label of its own, if it has one.
    pub(super) fn own_label(&self) -> Option<&Arc<str>> {
        self.own.as_ref()?.label.as_ref()
    }
}

/// How many attempts allow a request how much time, of those that do not allow it the engine's.
///
/// A request that hangs holds up all others of its connection, so none gets more time than the shortest lease allows:
/// a quarter of what it counts, unless the caller chose. See [`Timing`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Budgets(BTreeMap<Duration, usize>);

impl Budgets {
    fn add(&mut self, timing: &Timing) {
        *self.0.entry(timing.request()).or_default() += 1;
    }

    fn remove(&mut self, timing: &Timing) {
        match self.0.get_mut(&timing.request()) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.0.remove(&timing.request())),
        }
    }
}

impl Engine {
    /// Wants a lock, or several, as `wanted` says: what [`acquire`](Self::acquire), [`acquire_any`](Self::acquire_any) and
    /// [`acquire_all`](Self::acquire_all) do for locks without anything of their own, and with the same end.
    pub fn want(&mut self, now: Instant, which: Which, wanted: Wanted) -> LockId {
        self.handle_timeout(now);
        let timing = wanted.timing.filter(|_| self.capabilities.sessions.is_none());
        let wanted = Wanted { timing, ..wanted };
        let id = match which {
            Which::One(name) => self.want_one(now, name, &wanted),
            Which::Any(names) => self.want_any(now, names, wanted),
            Which::All(names) => self.want_all(now, names, wanted),
        };
        self.wait_begins(now, id);
        id
    }

    /// The lease times that an attempt has of its own.
    pub fn own_timing(&self, id: LockId) -> Option<Timing> {
        // The locks of several are wanted alike.
        let part = self.several.get(&id).and_then(|several| several.first());
        self.attempts.get(&part.unwrap_or_else(|| self.winner(id)))?.own_timing()
    }

    /// The time that a request may take now.
    pub(super) fn budget(&self) -> Duration {
        let own = self.budgets.0.first_key_value().map(|(least, _)| *least);
        let engine = self.config.timing.request();
        own.map_or(engine, |own| own.min(engine))
    }

    /// Judges the TTLs that attempts have of their own by the way to the server, which is known now. Returns those for which
    /// it is too slow.
    pub(super) fn judge_own_ttls(&mut self) -> Vec<(LockId, TimingError)> {
        let mut too_short = Vec::new();
        for (id, attempt) in &mut self.attempts {
            let Some(timing) = attempt.own.as_mut().and_then(|own| own.timing.as_mut()) else {
                continue;
            };
            match self.config.timing.lasting(timing.ttl()) {
                Ok(judged) => {
                    self.budgets.remove(timing);
                    self.budgets.add(&judged);
                    *timing = judged;
                }
                Err(error) => too_short.push((*id, error)),
            }
        }
        too_short
    }

    pub(super) fn insert(&mut self, id: LockId, attempt: Box<Attempt>) {
        if let Some(timing) = attempt.own_timing() {
            self.budgets.add(&timing);
        }
        self.attempts.insert(id, attempt);
    }

    pub(super) fn remove(&mut self, id: LockId) {
        let removed = self.attempts.remove(&id);
        if let Some(timing) = removed.and_then(|attempt| attempt.own_timing()) {
            self.budgets.remove(&timing);
        }
    }
}
