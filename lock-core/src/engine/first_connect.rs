//! The first connect of an engine that begins before its server can be reached.
//!
//! ```text
//!            poll_connect              Ok
//!     Due ----------------> UnderWay ------> Made
//!      ^                       |
//!      +------ Paused <--------+  it failed: after a back-off
//!      ^                       |
//!      +-----------------------+  it is refused: all that wait are told, and the next attempt tries again
//! ```
//!
//! Only the first connect refuses for good. So the driver makes it as one thing, with all its checks, before any request.

use super::index::TimerKey;
use super::{Config, Engine, Todo};
use crate::back_off::BackOff;
use crate::capabilities::Capabilities;
use crate::error::Failure;
use crate::event::{Event, LockId, NotAcquired};
use crate::slot::Input;
use crate::sql::ConnectError;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::vec::Vec;

/// The findings of the first connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Reached {
    /// The timing that the way to the server allows.
    pub timing: Timing,
    /// The server notifies waiters: see [`Capabilities::notifies`].
    pub notifies: bool,
}

impl Reached {
    /// A server that keeps this timing, and notifies waiters or does not.
    pub fn new(timing: Timing, notifies: bool) -> Self {
        Self { timing, notifies }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FirstConnect {
    stage: Stage,
    back_off: BackOff,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Stage {
    Due,
    UnderWay,
    Paused {
        until: Instant,
    },
    /// Made here, or by the driver before it made the engine.
    #[default]
    Made,
}

impl FirstConnect {
    pub(super) fn is_made(&self) -> bool {
        self.stage == Stage::Made
    }
}

impl Engine {
    /// An engine whose server has not been connected to yet. Attempts are kept, each until its own limit, and no request
    /// leaves before [`handle_connect`](Self::handle_connect) has told that the server was reached.
    pub fn unconnected(capabilities: Capabilities, config: Config) -> Self {
        let mut engine = Self::new(capabilities, config);
        engine.first_connect.stage = Stage::Due;
        engine
    }

    /// Whether to begin the first connect now: to connect, and to check that locks are safe there. Says so once for each
    /// try, which is answered with [`handle_connect`](Self::handle_connect). An engine without attempts does not connect.
    ///
    /// May change after: any call but a getter.
    pub fn poll_connect(&mut self, now: Instant) -> bool {
        self.handle_timeout(now);
        let begins = self.connects();
        if begins {
            self.first_connect.stage = Stage::UnderWay;
        }
        begins
    }

    /// Takes the end of the first connect. If none is under way, it is ignored.
    ///
    /// A failure that may pass is [told](Event::Trouble) to the attempts that would ask the server, and the connect is due
    /// again after a back-off. A [refusal](ConnectError::is_final) ends all attempts with
    /// [`NotAcquired::Refused`]; the next attempt tries again.
    pub fn handle_connect(&mut self, now: Instant, result: Result<Reached, ConnectError>) {
        self.handle_timeout(now);
        if self.first_connect.stage != Stage::UnderWay {
            return;
        }
        match result {
            Ok(Reached { timing, notifies }) => {
                self.config.timing = timing;
                self.capabilities.notifies = notifies;
                self.first_connect.stage = Stage::Made;
                for (id, error) in self.judge_own_ttls() {
                    self.refuse(now, &[id], &error.into());
                }
            }
            Err(error) if error.is_final() => {
                self.first_connect = FirstConnect { stage: Stage::Due, ..FirstConnect::default() };
                self.refuse(now, &self.all(), &error);
            }
            Err(error) => {
                let (timing, rng) = (&self.config.timing, &mut self.rng);
                let back_off = &mut self.first_connect.back_off;
                let until = back_off.next(now, timing, self.round_trip, rng);
                self.first_connect.stage = Stage::Paused { until };
                self.timers.insert((until, TimerKey::FirstConnect));
                self.tell_unconnected(now, &self.all(), &error.before_request());
            }
        }
    }

    /// Whether the first connect is due, and wanted.
    pub(super) fn connects(&self) -> bool {
        self.first_connect.stage == Stage::Due && !self.attempts.is_empty()
    }

    /// The pause after a failure is over.
    pub(super) fn first_connect_timeout(&mut self, at: Instant) {
        self.timers.remove(&(at, TimerKey::FirstConnect));
        if let Stage::Paused { .. } = self.first_connect.stage {
            self.first_connect.stage = Stage::Due;
        }
    }

    fn all(&self) -> Vec<LockId> {
        self.attempts.keys().copied().collect()
    }

    fn tell_unconnected(&mut self, now: Instant, ids: &[LockId], failure: &Failure) {
        let tell = |id: &LockId| Todo::Attempt(*id, Input::NoSession(failure.clone()));
        self.todo.extend(ids.iter().map(tell));
        self.apply_effects(now);
    }

    fn refuse(&mut self, now: Instant, ids: &[LockId], error: &ConnectError) {
        let told = self.events.len();
        self.tell_unconnected(now, ids, &error.clone().before_request().staying());
        for event in self.events.range_mut(told..) {
            if let Event::NotAcquired { why: why @ NotAcquired::Failed(_), .. } = event {
                *why = NotAcquired::Refused(error.clone());
            }
        }
    }
}
