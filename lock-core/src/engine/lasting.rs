//! Waits and holds that last longer than they should: each is told of once, as an
//! [`Event`].
//!
//! A wait begins with the wish and ends with the grant. A hold begins with the grant and ends with the caller's release or the
//! loss. Both are those of the caller's attempt, and not of the parts that it may be made of. Without [`WarnAfter`], nothing
//! is kept of them.

use super::index::TimerKey;
use super::{Engine, Place};
use crate::event::{Event, LockId};
use crate::outcome::Holder;
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// The times after which waits and holds are told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct WarnAfter {
    /// A wait that has lasted so long leads to [`Event::WaitsLong`].
    pub wait: Option<Duration>,
    /// A hold that has lasted so long leads to [`Event::HeldLong`].
    pub hold: Option<Duration>,
}

/// A wait or a hold that was not told of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Span {
    stage: Stage,
    since: Instant,
    /// The time at which it has lasted long.
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Wait,
    Hold,
}

impl Engine {
    /// An attempt has begun, and may have ended by now.
    pub(super) fn wait_begins(&mut self, now: Instant, id: LockId) {
        let lives = self.attempts.contains_key(&id)
            || self.semaphores.contains_key(&id)
            || self.several.contains_key(&id);
        if lives {
            self.span_begins(now, id, Stage::Wait);
        }
    }

    /// Notes what the events since `from` tell of waits and holds.
    pub(super) fn note_spans(&mut self, now: Instant, from: usize) {
        if self.config.warn_after == WarnAfter::default() {
            return;
        }
        let changes = self.events.range(from..).filter_map(|event| match event {
            Event::Granted { id, .. } => Some((*id, true)),
            Event::NotAcquired { id, .. } | Event::Lost { id, .. } => Some((*id, false)),
            _ => None,
        });
        let changes: Vec<_> = changes.collect();
        for (id, granted) in changes {
            self.span_ends(id);
            if granted {
                self.span_begins(now, id, Stage::Hold);
            }
        }
    }

    fn span_begins(&mut self, since: Instant, id: LockId, stage: Stage) {
        let limit = match stage {
            Stage::Wait => self.config.warn_after.wait,
            Stage::Hold => self.config.warn_after.hold,
        };
        let Some(at) = limit.map(|limit| since.after(limit)) else { return };
        self.spans.insert(id, Span { stage, since, at });
        self.timers.insert((at, TimerKey::Span(id)));
    }

    /// The wait or the hold is over, or was told of.
    pub(super) fn span_ends(&mut self, id: LockId) -> Option<Span> {
        let span = self.spans.remove(&id)?;
        self.timers.remove(&(span.at, TimerKey::Span(id)));
        Some(span)
    }

    /// The wait or the hold has lasted long.
    pub(super) fn span_is_long(&mut self, now: Instant, id: LockId) {
        let Some(Span { stage, since, .. }) = self.span_ends(id) else { return };
        let lasted = now.since(since);
        let event = match stage {
            Stage::Wait => {
                let first = self.several.get(&id).and_then(|several| several.first_without());
                let denied = first.filter(|(_, part)| self.attempts[part].is_denied());
                let of = denied.map(|(name, _)| name.clone());
                let parts = denied.map_or_else(|| self.parts(id), |(_, part)| [part].into());
                let holder = parts.into_iter().find_map(|part| self.in_the_way(now, part));
                Event::WaitsLong { id, waited: lasted, of, holder }
            }
            Stage::Hold => {
                let part = self.parts(id).first().and_then(|part| self.attempts.get(part));
                let own = part.and_then(|part| part.own_label());
                let label = own.or(self.capabilities.label.as_ref()).cloned();
                Event::HeldLong { id, held: lasted, label }
            }
        };
        self.events.push_back(event);
    }

    /// The attempts that an attempt consists of.
    fn parts(&self, id: LockId) -> Vec<LockId> {
        match (self.semaphores.get(&id), self.several.get(&id)) {
            (Some(semaphore), _) => semaphore.parts().collect(),
            (_, Some(several)) => several.parts().collect(),
            (None, None) => [id].into(),
        }
    }

    /// The holder that an attempt for one lock waits for, if it is known.
    pub(super) fn in_the_way(&self, now: Instant, id: LockId) -> Option<Holder> {
        let attempt = self.attempts.get(&id)?;
        if attempt.place != Place::Behind {
            return attempt.slot.denied_by(now);
        }
        let first = &self.attempts[&self.in_front(&attempt.name).next()?];
        let label = first.own_label().or(self.capabilities.label.as_ref());
        match first.slot.held_until() {
            Some(_) => first.slot.sight(now, label.map(|label| &**label)).holder,
            None => first.slot.denied_by(now),
        }
    }
}
