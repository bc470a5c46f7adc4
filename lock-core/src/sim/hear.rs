//! What clients are told, and what that means to the checks.

use super::coverage::Sometimes;
use super::flaw::Flaw;
use super::invariants::{Check, fences, revival, told};
use super::server::Server;
use super::world::World;
use crate::error::LostReason;
use crate::event::{Event, LockId, NotAcquired, Release};
use crate::time::Instant;
use alloc::format;

impl<S: Server> World<S> {
    /// Hears what the engine tells.
    pub(super) fn hear(&mut self, at: usize) {
        let now = self.local(at);
        while let Some(event) = self.client(at).engine.poll_event() {
            self.note(|_| format!("client {at} is told {event:?}"));
            let Some(attempt) = self.client(at).attempt(about(&event)) else {
                if self.scope.0.flaw == Some(Flaw::DropWithoutRelease) {
                    continue;
                }
                let what = format!("{event:?} of an attempt that has ended");
                return self.judge(Check::Revival, Err(what));
            };
            let next = revival::told(attempt, &event, now);
            let next = match next {
                Ok(next) => next,
                Err(what) => return self.judge(Check::Revival, Err(what)),
            };
            match next {
                Some(stage) => attempt.stage = stage,
                None => {
                    let id = attempt.id;
                    self.client(at).attempts.retain(|attempt| attempt.id != id);
                }
            }
            self.heard(at, &event, now);
        }
        let told = told::check(&self.client(at).attempts);
        self.judge(Check::Told, told);
        self.client(at).forget_settled();
    }

    fn heard(&mut self, at: usize, event: &Event, now: Instant) {
        match event {
            Event::Granted { id, fence, deadline } => {
                self.history.0.granted |= 1 << at;
                if self.history.0.granted == (1 << self.clients.len()) - 1 {
                    self.saw(Sometimes::AllAcquired);
                }
                let Some(attempt) = self.client(at).attempt(*id) else { return };
                attempt.deadline = Some(*deadline);
                attempt.granted.0 = Some(now);
                let (mode, trouble) = (attempt.mode, attempt.trouble.0);
                let holds = self.take_hold(at, *id, *fence);
                if trouble {
                    self.saw(Sometimes::GrantedAfterTrouble);
                }
                for (name, fence) in holds {
                    let result = fences::granted(&mut self.fences, &name, fence, mode);
                    self.judge(Check::Fences, result);
                }
            }
            Event::Renewed { id, deadline } => {
                let Some(attempt) = self.client(at).attempt(*id) else { return };
                let ttl = attempt.timing.ttl();
                attempt.deadline = Some(*deadline);
                let past = attempt.granted.0.is_some_and(|granted| now > granted.after(ttl));
                self.saw(if past { Sometimes::RenewedPastTtl } else { Sometimes::Renewed });
            }
            Event::Lost { id, reason } => {
                if let Some(attempt) = self.client(at).attempt(*id) {
                    attempt.deadline = None;
                }
                self.lost_group(at, *id);
                self.saw(match reason {
                    LostReason::Deadline { .. } => Sometimes::LostByDeadline,
                    LostReason::Taken => Sometimes::LostByReply,
                    LostReason::Disconnected { .. } | LostReason::Gone { .. } => {
                        Sometimes::LostByDisconnect
                    }
                    // The engine knows neither forks nor drivers.
                    LostReason::Forked | LostReason::Unattended => return,
                });
            }
            Event::Trouble { id, .. } => {
                if let Some(attempt) = self.client(at).attempt(*id) {
                    attempt.trouble.0 = true;
                }
            }
            Event::RenewalFailed { .. } => self.saw(Sometimes::RenewalFailed),
            // No engine of a world is set to tell of them.
            Event::WaitsLong { .. } | Event::HeldLong { .. } => {}
            Event::NotAcquired { why, .. } => match why {
                NotAcquired::Busy(_) => self.saw(Sometimes::Refused),
                NotAcquired::TimedOut(_) => self.saw(Sometimes::TimedOut),
                NotAcquired::Withheld | NotAcquired::Failed(_) | NotAcquired::Refused(_) => {}
            },
            Event::Released { release, .. } => self.saw(match release {
                Release::Freed => Sometimes::Freed,
                Release::NotOurs | Release::Gone(_) => Sometimes::NotOurs,
                Release::Unconfirmed(_) => Sometimes::Unconfirmed,
            }),
            Event::Waiting { id, .. } => {
                if let Some(attempt) = self.client(at).attempt(*id) {
                    attempt.told.0 = true;
                }
            }
        }
    }
}

fn about(event: &Event) -> LockId {
    match event {
        Event::Granted { id, .. }
        | Event::Waiting { id, .. }
        | Event::WaitsLong { id, .. }
        | Event::HeldLong { id, .. }
        | Event::Trouble { id, .. }
        | Event::NotAcquired { id, .. }
        | Event::Renewed { id, .. }
        | Event::RenewalFailed { id, .. }
        | Event::Lost { id, .. }
        | Event::Released { id, .. } => *id,
    }
}
