//! Which command leaves next: what is due first, in which order, with which claims, and until when it is worth
//! waiting for the answer.

use super::{Attempt, Engine, Lane};
use crate::event::LockId;
use crate::protocol::{Action, Claim, Protocol, Wait};
use crate::session::SessionId;
use crate::slot::Input;
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// What a command is for and whom it is about, from the moment it is due until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Due {
    Open(SessionId),
    Keep(SessionId),
    Close(SessionId),
    /// To renew, release, acquire or look, sorted by name.
    Claims {
        action: Action,
        session: Option<SessionId>,
        ids: Vec<LockId>,
    },
    /// To wait at the server.
    Wait {
        session: Option<SessionId>,
        id: LockId,
    },
    Listen,
    Probe,
}

impl<P: Protocol> Engine<P> {
    /// The purpose of the next command, and the lane that it goes over.
    pub(super) fn next_due(&self, now: Instant) -> Option<(Lane, Due)> {
        let (lane, action, session, id) = self.first_due()?;
        let due = match (action, session) {
            (Action::Open, Some(session)) => Due::Open(session),
            (Action::Keep, Some(session)) => Due::Keep(session),
            (Action::Close, Some(session)) => Due::Close(session),
            (Action::Wait, session) => Due::Wait { session, id },
            (Action::Listen, _) => Due::Listen,
            (Action::Probe, _) => Due::Probe,
            (action, session) => {
                Due::Claims { action, session, ids: self.batch(now, lane, action, session) }
            }
        };
        Some((lane, due))
    }

    /// The lane, the action and the session of the next command, and the first attempt that it is about.
    pub(super) fn first_due(&self) -> Option<(Lane, Action, Option<SessionId>, LockId)> {
        let home = self.first_on(Lane::HOME);
        // A probe takes a moment, once in a quarter of a TTL: it comes before all but renewals.
        let renewal = home.filter(|(_, action, ..)| *action <= Action::Renew);
        let probe = || self.is_probe_due().then_some((Lane::HOME, Action::Probe, None, LockId(0)));
        let other = || self.first_on(*self.ready.first()?);
        let news = || Some((Lane::NEWS, self.ear.due()?, None, LockId(0)));
        renewal.or_else(probe).or(home).or_else(other).or_else(news)
    }

    /// The first due command of a lane, if it may leave. To end a session, nothing has to be waited for.
    pub(super) fn first_on(&self, lane: Lane) -> Option<(Lane, Action, Option<SessionId>, LockId)> {
        if self.due.is_empty() {
            return None;
        }
        let least = (lane, Action::Close, None, LockId(0));
        let first = *self.due.range(least..).next()?;
        let (at, action, ..) = first;
        (at == lane && (action == Action::Close || self.is_free(lane))).then_some(first)
    }

    /// The attempts that the next command is about, sorted by name.
    fn batch(
        &self,
        now: Instant,
        lane: Lane,
        action: Action,
        session: Option<SessionId>,
    ) -> Vec<LockId> {
        let mut most = self.config.batch.min(self.protocol.batch()).max(1);
        let (first, last) = (LockId(0), LockId(u64::MAX));
        let due = (lane, action, session, first)..=(lane, action, session, last);
        let due = self.due.range(due).map(|(_, _, _, id)| *id);
        let early = || self.renewals.range(..=(now.after(self.config.timing.renew_early()), last));
        let early = (action == Action::Renew).then(early);
        let mut ids = Vec::with_capacity(1);
        for id in due.chain(early.into_iter().flatten().map(|(_, id)| *id)) {
            // Nobody is carried along in a command about more than it may be in.
            most = most.min(self.attempts[&id].slot.among);
            if ids.len() >= most {
                break;
            }
            ids.push(id);
        }
        if ids.len() < 2 {
            return ids;
        }
        let name = |id: &LockId| &self.attempts[id].name;
        ids.sort_by(|a, b| (name(a), a).cmp(&(name(b), b)));
        // A lost attempt and its successor may both be releasing one name: one after the other.
        ids.dedup_by(|a, b| name(a) == name(b));
        ids
    }

    /// The command for what is due, and when to give it up: after a request's time, but no later than the
    /// leases are lost that it is to renew.
    pub(super) fn command(&self, now: Instant, due: &Due) -> Option<(P::Command, Instant)> {
        let (protocol, timing) = (&self.protocol, &self.config.timing);
        let budget = now.after(timing.request());
        let none = P::Session::default();
        let session = match due {
            Due::Claims { session, .. } | Due::Wait { session, .. } => *session,
            _ => None,
        };
        let session = session.and_then(|id| self.sessions.get(&id));
        let name = session.map_or(&none, |session| &session.name);
        let proven = session.is_some_and(|session| session.is_proven(timing, now));
        Some(match due {
            Due::Open(id) => (protocol.open(self.sessions.get(id)?.lease.owner)?, budget),
            Due::Keep(id) => {
                let session = self.sessions.get(id)?;
                let lost = session.lease.deadline().unwrap_or(budget);
                (protocol.keep(&session.name)?, budget.min(lost))
            }
            Due::Close(id) => (protocol.close(&self.sessions.get(id)?.name)?, budget),
            Due::Claims { action, ids, .. } => {
                let claims = ids.iter().map(|id| self.claim(*id)).collect();
                match action {
                    Action::Renew => {
                        let lost = ids.iter().filter_map(|id| self.attempts[id].slot.deadline());
                        (protocol.renew(claims)?, budget.min(lost.max().unwrap_or(budget)))
                    }
                    Action::Release => {
                        let passed = ids
                            .first()
                            .map_or(0, |id| self.attempts[id].slot.contention.times_overtaken());
                        (protocol.release(name, claims, passed), budget)
                    }
                    Action::Look => (protocol.look(claims)?, budget),
                    _ => (protocol.acquire(name, claims, proven), budget),
                }
            }
            Due::Wait { id, .. } => {
                let slot = &self.attempts.get(id)?.slot;
                let left = slot.give_up().since(now).max(Duration::from_millis(1));
                let up_to = timing.wait().min(left);
                let (claim, since) = (self.claim(*id), slot.contention.index());
                let wait = Wait { claim, since, up_to, proven };
                (protocol.wait(name, wait)?, budget.after(up_to))
            }
            Due::Listen => (protocol.listen(timing.wait())?, budget.after(timing.wait())),
            Due::Probe => (protocol.probe(self.next_probe())?, budget),
        })
    }

    fn claim(&self, id: LockId) -> Claim {
        let Attempt { name, mode, slot, .. } = &*self.attempts[&id];
        Claim { name: name.clone(), owner: slot.owner, mode: *mode }
    }

    /// The command has been made, and leaves.
    pub(super) fn sent(&mut self, now: Instant, due: &Due) {
        match due {
            Due::Open(id) | Due::Keep(id) | Due::Close(id) => {
                self.tell_session(now, *id, |lease, _| {
                    lease.sent(now);
                    None
                });
            }
            Due::Claims { action, ids, .. } => {
                let waiting = *action == Action::Look;
                for id in ids {
                    self.step(now, *id, Input::Sent { waiting });
                }
            }
            Due::Wait { id, .. } => self.step(now, *id, Input::Sent { waiting: true }),
            Due::Listen => self.listen_sent(now),
            Due::Probe => self.probe_sent(now),
        }
    }
}
