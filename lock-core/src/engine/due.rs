//! Which request leaves next: what is due first, in which order, with which claims, and until when it is worth
//! waiting for the answer. Requests are made here and nowhere else.

use super::index::Rank;
use super::{Attempt, ConnectionId, Engine};
use crate::event::LockId;
use crate::request::{Action, Claim, Request, SessionName};
use crate::session::SessionId;
use crate::slot::Input;
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// The purpose of a request and whom it is about, from the moment it is due until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Due {
    Open(SessionId),
    KeepAlive(SessionId),
    Close(SessionId),
    /// To renew, release, acquire or probe, to join or leave, sorted by name.
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
    Subscribe,
    Unsubscribe,
    Ping,
}

/// A request that is due for so much longer than one that would go first goes before it.
const OVERDUE: Duration = Duration::from_millis(100);

/// Before everything of this kind that is due.
fn first_rank(connection: ConnectionId, action: Action) -> (Rank, LockId) {
    ((connection, action, None, Instant::default()), LockId(0))
}

impl Engine {
    /// The purpose of the next request, and the connection that it goes over.
    pub(super) fn next_due(&self, now: Instant) -> Option<(ConnectionId, Due)> {
        let first = self.first_due()?;
        let ((connection, action, session, _), id) =
            self.overdue_request(now, first).unwrap_or(first);
        let due = match (action, session) {
            (Action::Open, Some(session)) => Due::Open(session),
            (Action::KeepAlive, Some(session)) => Due::KeepAlive(session),
            (Action::Close, Some(session)) => Due::Close(session),
            (Action::Wait, session) => Due::Wait { session, id },
            (Action::Subscribe, _) => Due::Subscribe,
            (Action::Unsubscribe, _) => Due::Unsubscribe,
            (Action::Ping, _) => Due::Ping,
            // Only a renewal takes along what is not due yet.
            (action, session) if self.due.len() == 1 && action != Action::Renew => {
                Due::Claims { action, session, ids: vec![id] }
            }
            (action, session) => {
                Due::Claims { action, session, ids: self.batch(now, connection, action, session) }
            }
        };
        Some((connection, due))
    }

    /// The next request, and the first attempt that it is about.
    pub(super) fn first_due(&self) -> Option<(Rank, LockId)> {
        if !self.first_connect.is_made() {
            return None;
        }
        let home = self.first_on(ConnectionId::MAIN);
        // A ping takes a moment, once in a quarter of a TTL: it comes before all but renewals.
        let renewal = home.filter(|((_, action, ..), _)| *action <= Action::Renew);
        let ping = || self.is_ping_due().then_some(first_rank(ConnectionId::MAIN, Action::Ping));
        let other = || self.first_on(*self.ready.first()?);
        let news = || Some(first_rank(ConnectionId::NOTIFICATIONS, self.subscription.due()?));
        renewal.or_else(ping).or(home).or_else(other).or_else(news)
    }

    /// The first due request of a connection, if it may leave. To end a session, nothing has to be waited for.
    pub(super) fn first_on(&self, connection: ConnectionId) -> Option<(Rank, LockId)> {
        // The first of all is mostly the one, and is found without a search.
        let first = match *self.due.first()? {
            first if connection <= first.0.0 => first,
            _ => *self.due.range(first_rank(connection, Action::Close)..).next()?,
        };
        let (at, action, ..) = first.0;
        (at == connection && (action == Action::Close || self.is_free(connection))).then_some(first)
    }

    /// A request over the same connection that is due for so much longer than the one that would go first: of these, more may
    /// come without end. Requests that are refused again and again, each after a while, take turns with all others.
    fn overdue_request(&self, now: Instant, (rank, id): (Rank, LockId)) -> Option<(Rank, LockId)> {
        use Action::{Acquire, Join, Leave, Probe, Release, Renew};
        if self.due.len() < 2 {
            return None;
        }
        let (connection, action, _, at) = rank;
        let refused = || self.attempts.get(&id).and_then(|attempt| attempt.slot.refused_at());
        // Right after a refusal, the others have their turn.
        let turn = |at: Instant| if self.refusals > 0 { now } else { at };
        let (since, others): (Instant, &[Action]) = match (action, refused()) {
            (Renew, Some(at)) => (turn(at), &[Release, Leave, Acquire, Probe, Join]),
            (Release, Some(at)) => (turn(at), &[Leave, Acquire, Probe, Join]),
            (Release | Leave, _) => (at, &[Acquire, Probe, Join]),
            (Acquire, _) => (at, &[Probe, Join]),
            _ => return None,
        };
        others.iter().find_map(|other| {
            let next = *self.due.range(first_rank(connection, *other)..).next()?;
            let (over, action, _, due) = next.0;
            (over == connection && action == *other && due.after(OVERDUE) < since).then_some(next)
        })
    }

    /// The attempts that the next request is about, sorted by name.
    fn batch(
        &self,
        now: Instant,
        connection: ConnectionId,
        action: Action,
        session: Option<SessionId>,
    ) -> Vec<LockId> {
        let mut most = self.config.batch.min(self.capabilities.batch).max(1);
        let last = LockId(u64::MAX);
        let first = (connection, action, session, Instant::default());
        let due = (first, LockId(0))..=((connection, action, session, Instant::END), last);
        let due = self.due.range(due).map(|(_, id)| *id);
        let early = || self.renewals.range(..=(now.after(self.config.timing.renew_early()), last));
        let early = (action == Action::Renew).then(early);
        let (mut ids, mut wholes) = (Vec::with_capacity(1), BTreeSet::new());
        for id in due.chain(early.into_iter().flatten().map(|(_, id)| *id)) {
            let attempt = &self.attempts[&id];
            if let (Some(whole), Action::Acquire) = (attempt.part_of, action)
                && self.semaphores.contains_key(&whole)
                && !wholes.insert(whole)
            {
                continue;
            }
            // A request keeps all its leases for the same time, or none.
            let keeps = |first: &LockId| self.attempts[first].slot.keep == attempt.slot.keep;
            if action == Action::Release && !ids.first().is_none_or(keeps) {
                continue;
            }
            // Nobody is carried along in a request about more than it may be in.
            most = most.min(attempt.slot.among);
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

    /// The request for what is due, and when to give it up: after a request's time, but no later than the
    /// leases are lost that it is to renew.
    pub(super) fn request(&self, now: Instant, due: &Due) -> Option<(Request, Instant)> {
        let timing = &self.config.timing;
        let budget = now.after(self.budget());
        Some(match due {
            Due::Open(id) => {
                let owner = self.sessions.get(id)?.lease.owner;
                (Request::Open { owner, ttl: timing.ttl() }, budget)
            }
            Due::KeepAlive(id) => {
                let known = self.sessions.get(id)?;
                let lost = known.lease.deadline().unwrap_or(budget);
                (Request::KeepAlive { session: known.name.clone() }, budget.min(lost))
            }
            Due::Close(id) => {
                (Request::Close { session: self.sessions.get(id)?.name.clone() }, budget)
            }
            Due::Claims { action: Action::Renew, ids, .. } => {
                let lost = ids.iter().filter_map(|id| self.attempts[id].slot.deadline());
                let until = budget.min(lost.max().unwrap_or(budget));
                (Request::Renew { claims: self.claims(now, ids), ttl: timing.ttl() }, until)
            }
            Due::Claims { action: Action::Probe, ids, .. } => {
                (Request::Probe { claims: self.claims(now, ids) }, budget)
            }
            Due::Claims { action: Action::Release, session, ids } => {
                let keep = ids.first().and_then(|id| self.attempts[id].slot.keep);
                if let Some(keep) = keep {
                    return Some((Request::Keep { claims: self.claims(now, ids), keep }, budget));
                }
                let (session, claims) = (self.session_name(*session), self.claims(now, ids));
                let first =
                    ids.first().and_then(|id| self.attempts[id].slot.contention.passed_over());
                (Request::Release { session, claims, passed_over: first.cloned() }, budget)
            }
            Due::Claims { action: Action::Join, session, ids } => {
                let (session, claims) = (self.session_name(*session), self.claims(now, ids));
                (Request::Join { session, claims }, budget)
            }
            Due::Claims { action: Action::Leave, session, ids } => {
                let (session, claims) = (self.session_name(*session), self.claims(now, ids));
                (Request::Leave { session, claims }, budget)
            }
            Due::Claims { session, ids, .. } => {
                let request = Request::Acquire {
                    session: self.session_name(*session),
                    claims: self.claims(now, ids),
                    ttl: timing.ttl(),
                    min_uptime: self.min_uptime(now, *session),
                    label: self.capabilities.label.clone().unwrap_or_default(),
                };
                (request, budget)
            }
            Due::Wait { session, id } => {
                let slot = &self.attempts.get(id)?.slot;
                let left = slot.give_up().since(now).max(Duration::from_millis(1));
                let up_to = timing.wait().min(left);
                let (claim, since) = (self.claim(now, *id), slot.contention.index());
                let min_uptime = self.min_uptime(now, *session);
                let (session, behind) =
                    (self.session_name(*session), slot.contention.waits_for().cloned());
                let request = Request::Wait { session, claim, behind, since, up_to, min_uptime };
                (request, budget.after(up_to))
            }
            Due::Subscribe => {
                let up_to = timing.wait();
                (Request::Subscribe { up_to }, budget.after(up_to))
            }
            Due::Unsubscribe => (Request::Unsubscribe, budget),
            Due::Ping => (Request::Ping { number: self.next_ping() }, budget),
        })
    }

    fn session_name(&self, id: Option<SessionId>) -> SessionName {
        let session = id.and_then(|id| self.sessions.get(&id));
        session.map(|session| session.name.clone()).unwrap_or_default()
    }

    /// How long the server must have run before it grants anything, by its own clock. If that clock was set back,
    /// the start lies in its future, for however long. A connection that has been open for longer by the client's
    /// clock proves the same, and then the server's clock is not asked.
    fn min_uptime(&self, now: Instant, id: Option<SessionId>) -> Duration {
        let (timing, session) = (&self.config.timing, id.and_then(|id| self.sessions.get(&id)));
        let proven = session.is_some_and(|session| session.is_proven(timing, now));
        if proven { Duration::ZERO } else { timing.longest_ttl() }
    }

    fn claims(&self, now: Instant, ids: &[LockId]) -> Vec<Claim> {
        ids.iter().map(|id| self.claim(now, *id)).collect()
    }

    fn claim(&self, now: Instant, id: LockId) -> Claim {
        let attempt = &*self.attempts[&id];
        let Attempt { name, mode, slot, .. } = attempt;
        let ttl = attempt.own_timing().map(|timing| timing.ttl());
        let (ended, label) = (slot.ended(now), attempt.own_label().cloned());
        let (owner, turn) = (slot.owner, slot.turn());
        Claim { name: name.clone(), owner, mode: *mode, ended, ttl, label, turn }
    }

    /// The request has been made, and leaves.
    pub(super) fn sent(&mut self, now: Instant, due: &Due) {
        match due {
            Due::Open(id) | Due::KeepAlive(id) | Due::Close(id) => {
                self.tell_session(now, *id, |lease, _| {
                    lease.sent(now);
                    None
                });
            }
            Due::Claims { action, ids, .. } => {
                let waiting = *action == Action::Probe;
                for id in ids {
                    self.step(now, *id, Input::Sent { waiting });
                }
            }
            Due::Wait { id, .. } => self.step(now, *id, Input::Sent { waiting: true }),
            Due::Subscribe | Due::Unsubscribe => self.listen_sent(now),
            Due::Ping => self.ping_sent(now),
        }
    }
}
