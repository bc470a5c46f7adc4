//! News from the server, for those that were denied and wait: who is told when a lock is freed
//! need not ask again and again.
//!
//! ```text
//!             somebody waits            answered        nobody has for long
//!    Silent ----------------> Due -------------> Listening ------------> Leaving -> Silent
//!                              ^                     |
//!                              +--- Failed <---------+   after a back-off
//! ```
//!
//! A lock that was freed before the server began to tell is not told of, so everybody tries again
//! when it begins; and again when it stops.

use super::{Engine, index::Who};
use crate::error::Failure;
use crate::event::LockId;
use crate::protocol::{Action, News, Protocol, Sessions, Verdict};
use crate::slot::Input;
use crate::time::Instant;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ear {
    stage: Stage,
    /// Since when the server tells.
    since: Option<Instant>,
    /// Since when it was not needed, as far as was noticed.
    unneeded: Option<Instant>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Stage {
    #[default]
    Silent,
    /// A command is due: to listen, or to listen no more.
    Due(Action),
    UnderWay,
    Failed(Instant),
}

impl Ear {
    /// The command that is due.
    pub(super) fn due(&self) -> Option<Action> {
        match self.stage {
            Stage::Due(action) => Some(action),
            _ => None,
        }
    }

    /// Since when the server tells what was freed, if it does.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(super) fn sent(&mut self, action: Action) {
        self.stage = Stage::UnderWay;
        if action == Action::Unlisten {
            (self.since, self.unneeded) = (None, None);
        }
    }

    /// The same with times that are waited for as `time` sees them, times past as `past` does, and no
    /// more of the counter than whether it counts.
    #[cfg(feature = "sim")]
    pub(super) fn project(
        self,
        time: &dyn Fn(Instant) -> Instant,
        past: &dyn Fn(Instant) -> Instant,
    ) -> Self {
        let stage = match self.stage {
            Stage::Failed(until) => Stage::Failed(time(until)),
            stage => stage,
        };
        let unneeded = self.unneeded.map(past);
        Self { stage, since: self.since.map(time), unneeded, failures: self.failures.min(1) }
    }
}

impl<P: Protocol> Engine<P> {
    /// Somebody waits.
    pub(super) fn listen(&mut self) {
        if self.ear.stage == Stage::Silent && self.is_told() {
            self.ear.stage = Stage::Due(Action::Listen);
        }
    }

    /// Whether the server tells what was freed, to who listens.
    fn is_told(&self) -> bool {
        self.protocol.listen(self.config.timing.wait()).is_some()
    }

    /// The time has come to try it again.
    pub(super) fn listen_again(&mut self, now: Instant) {
        if let Stage::Failed(until) = self.ear.stage
            && until <= now
        {
            self.timers.remove(&(until, Who::Ear));
            self.ear.stage = Stage::Silent;
            if !self.denied.is_empty() {
                self.listen();
            }
        }
    }

    /// Takes the answer to a command about news that was sent at `sent`.
    pub(super) fn heard(
        &mut self,
        now: Instant,
        sent: Instant,
        action: Action,
        reply: Result<P::Reply, Failure>,
    ) {
        self.ear.stage = Stage::Silent;
        if action == Action::Listen {
            match reply.and_then(|reply| self.protocol.news(reply)) {
                // Who has nothing to tell does not say so again and again.
                Ok(News::Freed(names))
                    if names.is_empty() && now.since(sent) < self.config.timing.wait() / 2 =>
                {
                    return self.deaf(now);
                }
                Ok(news) => self.take_news(now, news),
                Err(_) => return self.deaf(now),
            }
            // Who waited once may soon wait again, and a connection is dear.
            let unneeded = self.ear.unneeded.filter(|_| self.denied.is_empty());
            let enough = unneeded.is_some_and(|at| now.since(at) >= self.config.timing.wait());
            self.ear.unneeded = self.denied.is_empty().then(|| unneeded.unwrap_or(now));
            self.ear.stage = Stage::Due(if enough { Action::Unlisten } else { Action::Listen });
        } else if !self.denied.is_empty() {
            self.listen();
        }
    }

    fn take_news(&mut self, now: Instant, news: News) {
        self.ear.failures = 0;
        match news {
            News::Begun => {
                self.ear.since = Some(now);
                self.hint_all(now);
            }
            News::Freed(names) => {
                for name in names {
                    self.handle_hint(now, &name);
                }
            }
        }
    }

    /// Nothing is told any more, and nobody may rely on it.
    fn deaf(&mut self, now: Instant) {
        let back_off = self.config.timing.back_off(self.ear.failures, self.round_trip);
        let until = now.after(self.rng.jitter(back_off));
        self.ear.failures = self.ear.failures.saturating_add(1);
        self.ear.stage = Stage::Failed(until);
        self.timers.insert((until, Who::Ear));
        if self.ear.since.take().is_some() {
            self.hint_all(now);
        }
    }

    /// Whether others are likely to wait for what is freed by this verdict. Where nobody says that it
    /// waits, and nobody queues, whoever had to wait itself is not alone.
    pub(super) fn others_wait(&self, id: LockId, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Wanted => true,
            Verdict::Done if self.protocol.sessions() == Some(Sessions::Records) => {
                self.attempts.get(&id).is_some_and(|attempt| attempt.slot.has_waited())
            }
            _ => false,
        }
    }

    fn hint_all(&mut self, now: Instant) {
        let waiting: Vec<LockId> = self.denied.iter().copied().collect();
        for id in waiting {
            self.step(now, id, Input::Hint);
        }
    }
}
