//! Which session an attempt's claims go to, and what becomes of attempts when it changes.

use super::{ConnectionId, Due, Engine, Entry, Todo};
use crate::capabilities::Sessions;
use crate::error::{Failure, LostReason};
use crate::event::LockId;
use crate::lease::{self, Change, Lease};
use crate::name::Owner;
use crate::outcome::{Outcome, Reply};
use crate::request::{Action, SessionName};
use crate::session::{Session, SessionId};
use crate::slot::Input;
use crate::time::Instant;
use alloc::collections::BTreeSet;
use alloc::string::ToString;

/// Sessions are owners, too: theirs are far from those of attempts.
const SESSIONS: u128 = 1 << 96;

impl Engine {
    /// Wants a session for claims that may come: it is opened now and kept, where it would be opened
    /// with the first claim. For who has only one connection, which the server would end meanwhile.
    /// Where a session is no connection, this does nothing.
    pub fn open(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.closing = false;
        if let (Some(Sessions::Connections { .. }), None) = (self.capabilities.sessions, self.home)
        {
            self.home = Some(self.new_session(now, false));
        }
    }

    // -- which session ----------------------------------------------------------------------------

    /// The connection, the action and the session of what is due; [`None`] as long as its session is not open.
    pub(super) fn assign(
        &mut self,
        now: Instant,
        id: LockId,
        action: Action,
    ) -> Option<(ConnectionId, Action, Option<SessionId>)> {
        let (session, action) = self.session_for(now, id, action);
        if let Some(session) = session
            && !self.sessions.get(&session).is_some_and(|session| session.lease.is_open())
        {
            return None;
        }
        Some((self.claims_connection(id, action, session), action, session))
    }

    /// In which session what is due goes, and as what: a claim to the home session unless it is bound to
    /// another, a wait to a connection of its own if there may be one more.
    fn session_for(
        &mut self,
        now: Instant,
        id: LockId,
        action: Action,
    ) -> (Option<SessionId>, Action) {
        let Some(kind) = self.capabilities.sessions else { return (None, action) };
        let attempt = &self.attempts[&id];
        let current = attempt.session.and_then(|id| Some((id, self.sessions.get(&id)?)));
        if !matches!(action, Action::Acquire | Action::Wait | Action::Join) {
            // A lock is released in the session that acquired it.
            return (current.map(|(session, _)| session), action);
        }
        if let Some((session, known)) = current
            && (attempt.slot.bound(now) || (known.waits && known.lease.is_wanted()))
        {
            return (Some(session), action);
        }
        let Sessions::Connections { waiting, one_lock } = kind else {
            return (Some(self.join_home(now, id)), action);
        };
        let may_wait = || self.idle_waiter.is_some() || self.waiting < waiting;
        if one_lock || (action == Action::Wait && may_wait()) {
            let session = self.idle_waiter.take().unwrap_or_else(|| self.new_session(now, true));
            self.join_session(id, session);
            return (Some(session), action);
        }
        (Some(self.join_home(now, id)), Action::Acquire)
    }

    fn join_home(&mut self, now: Instant, id: LockId) -> SessionId {
        let home = match self.home {
            Some(home) => home,
            None => self.new_session(now, false),
        };
        self.home = Some(home);
        self.join_session(id, home);
        home
    }

    fn new_session(&mut self, now: Instant, waits: bool) -> SessionId {
        let id = SessionId::after(self.last_session);
        self.last_session += 1;
        let owner = self.config.seed.wrapping_add(SESSIONS + u128::from(self.last_session));
        let connection = self.capabilities.sessions != Some(Sessions::Records);
        let lease = Lease::new(Owner::new(owner), now, connection);
        let name = SessionName::default();
        let (attempts, indexed) = (BTreeSet::new(), Entry::default());
        let (retired, opened_at, needed) = (false, None, 0);
        let session = Session { lease, name, opened_at, attempts, needed, waits, retired, indexed };
        self.sessions.insert(id, session);
        self.waiting += usize::from(waits);
        self.index_session(now, id);
        id
    }

    fn join_session(&mut self, id: LockId, session: SessionId) {
        let before = self.attempts.get(&id).and_then(|attempt| attempt.session);
        if before == Some(session) {
            return;
        }
        self.leave_session(id);
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.session = Some(session);
            // Its entry in a line goes with the session before.
            attempt.slot.contention.has_left();
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.attempts.insert(id);
        }
        if let Some(before) = before {
            // What a late request took in it would stay for as long as it is kept.
            self.todo.push(Todo::Tidy(before));
        }
    }

    pub(super) fn leave_session(&mut self, id: LockId) {
        let session = self.attempts.get_mut(&id).and_then(|attempt| attempt.session.take());
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
            session.attempts.remove(&id);
        }
    }

    // -- what has happened to it ------------------------------------------------------------------

    /// Changes a session's lease, and does all that follows.
    pub(super) fn tell_session(
        &mut self,
        now: Instant,
        id: SessionId,
        step: impl FnOnce(&mut Lease, &mut lease::Context<'_>) -> Option<Change>,
    ) {
        self.step_session(now, id, step);
        self.apply_effects(now);
    }

    /// Changes a session's lease. That its attempts are told what it means to them remains to be done.
    pub(super) fn step_session(
        &mut self,
        now: Instant,
        id: SessionId,
        step: impl FnOnce(&mut Lease, &mut lease::Context<'_>) -> Option<Change>,
    ) {
        let Some(Session { lease, .. }) = self.sessions.get_mut(&id) else { return };
        let was_open = lease.is_open();
        let (timing, round_trip) = (&self.config.timing, self.round_trip);
        let mut cx = lease::Context { now, timing, round_trip, rng: &mut self.rng };
        let changes = [step(lease, &mut cx), lease.tick(now)];
        let (opens, closed) = (!was_open && lease.is_open(), lease.is_closed());
        let idle = self.idle_waiter == Some(id) && lease.due(now).is_some();
        self.index_session(now, id);
        if opens {
            // Requests that were due in it may leave now.
            self.tell_attempts(id, || Input::Tick);
        }
        for change in changes.into_iter().flatten() {
            self.session_changed(id, change);
        }
        if closed {
            self.end_session(id, None);
            let waited = self.sessions.remove(&id).is_some_and(|session| session.waits);
            self.waiting -= usize::from(waited);
        }
        if idle {
            // Nobody has waited for so long that it would have to be kept alive.
            self.retire(id);
            self.todo.push(Todo::Release(id));
        }
    }

    fn session_changed(&mut self, id: SessionId, change: Change) {
        match change {
            Change::Kept(deadline) => self.tell_attempts(id, || Input::Kept(deadline)),
            Change::KeepFailed(failure) => {
                self.tell_attempts(id, || Input::KeepFailed(failure.clone()));
            }
            Change::NotOpened(failure) => {
                self.tell_attempts(id, || Input::NoSession(failure.clone()));
            }
            Change::Refused(failure) => {
                self.tell_attempts(id, || Input::NoSession(failure.clone()));
                self.retire(id);
            }
            Change::Lost(reason) => {
                // To those that hold nothing in it, it is of interest only why.
                let why = match reason.last_failure() {
                    Some(last) => last.to_string(),
                    None => "the session at the server has ended".to_string(),
                };
                let failure = Failure::Unknown(why);
                self.end_session(id, Some((reason, failure)));
            }
        }
    }

    fn tell_attempts(&mut self, id: SessionId, input: impl Fn() -> Input) {
        let Some(session) = self.sessions.get(&id) else { return };
        let attempts = session.attempts.iter();
        self.todo.extend(attempts.map(|attempt| Todo::Attempt(*attempt, input())));
    }

    /// Ends what attempts have in it. Answers to what they have asked in it are of no interest any
    /// more.
    fn end_session(&mut self, id: SessionId, lost: Option<(LostReason, Failure)>) {
        self.retire(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let attempts = core::mem::take(&mut session.attempts);
        if self.capabilities.sessions == Some(Sessions::Records) {
            let waits = attempts.iter().map(|attempt| ConnectionId(attempt.0));
            for connection in waits.chain([ConnectionId::MAIN]) {
                for (_, request) in
                    self.in_flight.range_mut((connection, 0)..=(connection, u64::MAX))
                {
                    let session = match request.due {
                        Due::Claims { session, .. } | Due::Wait { session, .. } => session,
                        _ => None,
                    };
                    request.void |= session == Some(id);
                }
            }
        } else {
            let connection = ConnectionId(id.number());
            while let Some((&sent, _)) =
                self.in_flight.range((connection, 0)..=(connection, u64::MAX)).next()
            {
                self.in_flight.remove(&sent);
            }
            self.connection_changed(connection);
        }
        for attempt in attempts {
            if let Some(attempt) = self.attempts.get_mut(&attempt) {
                attempt.session = None;
            }
            self.todo.push(Todo::Attempt(attempt, Input::SessionEnded(lost.clone())));
        }
    }

    /// No more claims go to it, save from attempts that are bound to it.
    fn retire(&mut self, id: SessionId) {
        for known in [&mut self.home, &mut self.idle_waiter] {
            if *known == Some(id) {
                *known = None;
            }
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.retired = true;
        }
    }

    /// Closes a session that nobody needs. One that waited stays a while, if it is the only one: who
    /// had to wait once may soon wait again, and a connection is dear.
    pub(super) fn tidy(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        if !session.lease.is_wanted() || session.needed > 0 {
            return;
        }
        if session.lease.is_open() && !self.closing {
            if session.waits && !session.retired && session.attempts.is_empty() {
                self.idle_waiter.get_or_insert(id);
            }
            if [self.home, self.idle_waiter].contains(&Some(id)) {
                return;
            }
        }
        self.retire(id);
        self.todo.push(Todo::Release(id));
    }

    // -- answers ----------------------------------------------------------------------------------

    pub(super) fn session_answered(
        &mut self,
        now: Instant,
        id: SessionId,
        action: Action,
        reply: Result<Reply, Failure>,
    ) {
        let answer = match action {
            Action::Open => reply.and_then(Reply::opened).map(|name| {
                let connection = self.capabilities.sessions != Some(Sessions::Records);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.name = name;
                    session.opened_at = connection.then_some(now);
                }
                true
            }),
            _ => reply
                .and_then(|reply| reply.outcomes(action, 1))
                .map(|outcomes| !outcomes.contains(&Outcome::NoSession)),
        };
        if let (Err(failure), Action::KeepAlive) = (&answer, action)
            && self.fails(now, id, action, failure)
        {
            return;
        }
        self.tell_session(now, id, |lease, cx| lease.answered(answer, cx));
    }

    /// Takes a failed request to the session that it was sent in: a connection is lost with the
    /// first answer that fails to come; a record takes no new claims after a claim or release whose
    /// fate is not known, and neither does any session that may not have freed what it was to
    /// free. Nobody else is to wait on a connection that was refused anything. True if the session is
    /// lost.
    pub(super) fn fails(
        &mut self,
        now: Instant,
        id: SessionId,
        action: Action,
        failure: &Failure,
    ) -> bool {
        let answered = matches!(failure, Failure::Rejected { .. });
        let waits = self.sessions.get(&id).is_some_and(|session| session.waits);
        match self.capabilities.sessions {
            Some(Sessions::Connections { .. }) if !answered => {
                let reason = LostReason::Disconnected { last_failure: Some(failure.clone()) };
                self.lose_session(now, id, reason);
                true
            }
            _ if waits || matches!(failure, Failure::Unknown(_)) || action == Action::Release => {
                self.retire(id);
                false
            }
            _ => false,
        }
    }

    pub(super) fn lose_session(&mut self, now: Instant, id: SessionId, reason: LostReason) {
        self.tell_session(now, id, |lease, _| lease.lose(now, reason));
    }
}
