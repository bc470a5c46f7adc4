//! What an attempt consists of, and what can be told from it. Nothing here changes a phase.

use crate::error::Failure;
use crate::event::{Event, LockId};
use crate::name::{LockName, Owner};
use crate::protocol::{Action, Holder, Verdict};
use crate::rng::Rng;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::VecDeque;
use core::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Queued,
    Waiting {
        retry_at: Instant,
    },
    Claiming {
        sent: Instant,
    },
    Held {
        deadline: Instant,
        renew_at: Instant,
        renewal_sent: Option<Instant>,
    },
    /// Its last renewal may not have been answered yet.
    Lost {
        renewing: bool,
    },
    Releasing {
        retry_at: Instant,
        in_flight: Option<Action>,
    },
    Gone,
}

/// Who is to be told what becomes of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Audience {
    /// A caller that wants the lock or has it.
    Holder,
    /// A caller that asked for its release.
    Releaser,
    /// Nobody: only the server's state is still to be settled.
    Nobody,
}

pub(crate) enum Input {
    /// A local rival has or wants the name.
    Rival,
    /// No local rival is in front any more.
    Front,
    /// The command that was due has been taken by the driver.
    Sent,
    /// It was answered, or not.
    Answer(Result<Verdict, Failure>),
    /// The caller wants no more of it.
    Release,
    /// Something may have changed at the server.
    Hint,
    /// Time has passed.
    Tick,
}

/// What a step may use and write to.
pub(crate) struct Context<'a> {
    pub(crate) id: LockId,
    pub(crate) now: Instant,
    pub(crate) timing: &'a Timing,
    pub(crate) round_trip: Duration,
    pub(crate) rng: &'a mut Rng,
    pub(crate) events: &'a mut VecDeque<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) name: LockName,
    pub(crate) owner: Owner,
    pub(crate) phase: Phase,
    pub(super) audience: Audience,
    /// A busy answer ends the attempt.
    pub(super) once: bool,
    /// When the caller's wait runs out: nothing more is tried.
    pub(super) give_up: Instant,
    /// Until when an answer to what was tried is worth waiting for. Whoever wants to wait for less
    /// time than an answer takes gets the answer all the same.
    pub(super) last_call: Instant,
    /// Until when the server may hold a lease for this owner.
    pub(super) exposed_until: Option<Instant>,
    /// Denials and failures in a row, for the back-off.
    pub(super) failures: u32,
    /// A release was sent whose answer never came: "not ours" may then be our own doing.
    pub(super) release_unsure: bool,
    /// The server has said that somebody else has the lock.
    pub(super) denied: bool,
    /// Who was in the way at the last denial.
    pub(super) holder: Option<Holder>,
    /// What went wrong since the last denial.
    pub(super) failure: Option<Failure>,
}

impl Slot {
    pub(crate) fn new(
        name: LockName,
        owner: Owner,
        once: bool,
        give_up: Instant,
        last_call: Instant,
    ) -> Self {
        Self {
            name,
            owner,
            phase: Phase::Queued,
            audience: Audience::Holder,
            once,
            give_up,
            last_call,
            exposed_until: None,
            failures: 0,
            release_unsure: false,
            denied: false,
            holder: None,
            failure: None,
        }
    }

    /// The same with times that are waited for as `time` sees them, times at which something was
    /// sent as `sent_at` does, and no more of the counters than whether they count anything.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        time: impl Fn(Instant) -> Instant,
        sent_at: impl Fn(Instant) -> Instant,
    ) -> Self {
        let phase = match self.phase {
            Phase::Waiting { retry_at } => Phase::Waiting { retry_at: time(retry_at) },
            Phase::Claiming { sent } => Phase::Claiming { sent: sent_at(sent) },
            Phase::Held { deadline, renew_at, renewal_sent } => Phase::Held {
                deadline: time(deadline),
                renew_at: time(renew_at),
                renewal_sent: renewal_sent.map(&sent_at),
            },
            Phase::Releasing { retry_at, in_flight } => {
                Phase::Releasing { retry_at: time(retry_at), in_flight }
            }
            phase @ (Phase::Queued | Phase::Lost { .. } | Phase::Gone) => phase,
        };
        Self {
            phase,
            give_up: time(self.give_up),
            last_call: time(self.last_call),
            exposed_until: self.exposed_until.map(&time),
            failures: self.failures.min(1),
            ..self.clone()
        }
    }

    /// Whether the attempt is in the way of a local rival for the same name.
    pub(crate) fn contends(&self) -> bool {
        !matches!(self.phase, Phase::Lost { .. } | Phase::Gone)
    }

    /// Whether somebody has or wants the lock through this attempt: a local rival that will not
    /// wait is denied at once.
    pub(crate) fn wanted(&self) -> bool {
        self.audience == Audience::Holder && self.contends()
    }

    /// When the attempt ends without the lock. Until its first denial it is owed an answer.
    pub(super) fn limit(&self) -> Instant {
        match self.phase {
            Phase::Queued if !self.once => self.give_up,
            Phase::Waiting { .. } if self.denied => self.give_up,
            _ => self.last_call,
        }
    }

    /// The command that is due.
    pub(crate) fn due(&self, now: Instant) -> Option<Action> {
        match self.phase {
            Phase::Waiting { retry_at } if retry_at <= now => Some(Action::Acquire),
            Phase::Held { renew_at, renewal_sent: None, .. } if renew_at <= now => {
                Some(Action::Renew)
            }
            Phase::Releasing { retry_at, in_flight: None } if retry_at <= now => {
                Some(Action::Release)
            }
            _ => None,
        }
    }

    /// When something will be due or must be noticed, if nothing else happens before.
    pub(crate) fn wake(&self, now: Instant) -> Option<Instant> {
        let (command, limit) = match self.phase {
            Phase::Queued | Phase::Claiming { .. } => (None, self.wanted().then_some(self.limit())),
            Phase::Waiting { retry_at } => (Some(retry_at), Some(self.limit())),
            Phase::Held { deadline, renew_at, renewal_sent: None } => {
                (Some(renew_at), Some(deadline))
            }
            Phase::Held { deadline, .. } => (None, Some(deadline)),
            Phase::Releasing { retry_at, in_flight: None } => (Some(retry_at), self.exposed_until),
            Phase::Releasing { .. } | Phase::Lost { .. } | Phase::Gone => (None, None),
        };
        [command, limit].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether the server may hold a lease for this owner.
    pub(super) fn exposed(&self, now: Instant) -> bool {
        self.exposed_until.is_some_and(|until| now < until)
    }
}
