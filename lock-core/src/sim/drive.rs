//! The clients' driver: calls the engine as its contract says, and watches what comes of it.

use super::client::{Refusal, Stage};
use super::coverage::Sometimes;
use super::flaw::Flaw;
use super::hash::fingerprint;
use super::invariants::{Check, back_off, loss, requests};
use super::network::Exchange;
use super::server::{Connection, Server};
use super::target::Kind;
use super::world::World;
use crate::engine::{ConnectionId, Dispatch, DispatchId};
use crate::error::Failure;
use crate::event::LockId;
use crate::name::Owner;
use crate::outcome::{News, Notification, Outcome, Reply};
use crate::request::{Action, Claim, Request};
use crate::time::Instant;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// More requests than a client can need at one moment.
const TOO_MANY: usize = 50;

impl<S: Server> World<S> {
    /// Lets a client notice the time, give up what is overdue, and send what is due.
    pub(super) fn run(&mut self, at: usize) {
        let now = self.local(at);
        self.client(at).called = false;
        let before = self.holds(at);
        self.client(at).engine.handle_timeout(now);
        self.moved(at, &before, None);
        self.hear(at);
        while let Some(overdue) = self.exchanges.iter().position(|exchange| {
            exchange.from.client == at && exchange.awaited && exchange.deadline <= now
        }) {
            self.give_up(overdue, Failure::Unknown("no answer in time".into()));
        }
        let mut sent = 0;
        loop {
            if !self.close(at, now) {
                let Some(dispatch) = self.poll_request(at, now) else { break };
                self.send(at, now, dispatch);
            }
            sent += 1;
            if sent > TOO_MANY {
                let what = format!("client {at} sent {sent} requests at once");
                return self.judge(Check::BackOff, Err(what));
            }
        }
        self.hear(at);
        let client = &self.clients[at];
        let held = client.attempts.iter().filter(|attempt| attempt.stage == Stage::Held);
        let told: Result<Vec<()>, _> = held
            .map(|attempt| {
                let until = client.engine.held_until(attempt.id);
                loss::told(attempt.id, attempt.deadline, until, now)
            })
            .collect();
        self.judge(Check::Loss, told.map(|_| ()));
    }

    fn poll_request(&mut self, at: usize, now: Instant) -> Option<Dispatch> {
        if self.scope.0.flaw == Some(Flaw::DeadlineFromReply) {
            let busy = |exchange: &Arc<Exchange>| exchange.from.client == at && exchange.awaited;
            // The engine learns of the request only when its reply is there: see `answer`.
            let mut probe = self.clients[at].engine.clone();
            return if self.exchanges.iter().any(busy) { None } else { probe.poll_request(now) };
        }
        self.client(at).engine.poll_request(now)
    }

    fn send(&mut self, at: usize, now: Instant, dispatch: Dispatch) {
        let Dispatch { id, connection, mut request, deadline } = dispatch;
        let (action, claims) = (request.action(), request.claims().to_vec());
        self.learn_owners(at, action, &claims);
        self.claims_for_groups(at, action, &claims);
        if action == Action::Acquire {
            let ahead = self.clients[at].overtaken_by(&claims);
            let what =
                ahead.map(|name| format!("client {at} claims {name:?}, and another is first"));
            self.judge(Check::Requests, what.map_or(Ok(()), Err));
        }
        let from = Connection { id: connection, ..self.clients[at].connection };
        let owners = owners(Some(&request), &claims, from);
        let result = back_off::sent(&self.clients[at].refused, now, action, &owners);
        self.judge(Check::BackOff, result);
        if matches!(action, Action::Acquire | Action::Probe) {
            self.count_looks(at, now, &claims);
        }
        let others = self.exchanges.iter().filter(|other| other.awaited && other.from == from);
        // A request whose session has ended is about nobody any more.
        let engine = &self.clients[at].engine;
        let about = |other: &Arc<Exchange>| engine.listens_for(other.id);
        let others = others.map(|other| if about(other) { other.describe().1 } else { &[] });
        let timing = self.scope.0.timing_at(at);
        let result =
            requests::sent(action, &claims, others, self.scope.0.in_flight, now, deadline, &timing);
        self.judge(Check::Requests, result);
        self.note(|_| format!("client {at} sends {request:?}"));
        if self.scope.0.flaw == Some(Flaw::NewOwnerOnRetry) {
            self.rename_owners(at, &mut request);
        }
        let exchange = Exchange {
            from,
            id,
            request: Some(request),
            sent: now,
            deadline,
            waiting: false,
            given_up: None,
            awaited: true,
            copies: 1,
            executed: false,
            read: None,
            reply: None,
        };
        let place = self.exchanges.partition_point(|other| other.key() < exchange.key());
        self.exchanges.insert(place, Arc::new(exchange));
    }

    fn count_looks(&mut self, at: usize, now: Instant, claims: &[Claim]) {
        for claim in claims {
            let ttl = self.timing_of(at, claim.owner).ttl();
            let (since, looks) = self.client(at).looks.0.entry(claim.owner).or_insert((now, 0));
            if since.after(ttl) < now {
                (*since, *looks) = (now, 0);
            }
            *looks += 1;
            let result = back_off::looked(*looks, claim);
            self.judge(Check::BackOff, result);
        }
    }

    /// Closes a connection, if one is to be closed: the driver hears nothing more on it.
    fn close(&mut self, at: usize, now: Instant) -> bool {
        if !self.clients[at].engine.has_work() {
            return false;
        }
        let before = self.holds(at);
        let Some(connection) = self.client(at).engine.poll_close(now) else { return false };
        self.note(|_| format!("client {at} closes {connection:?}"));
        self.drop_connection(now, Connection { id: connection, ..self.clients[at].connection });
        self.send_close(at, connection);
        if connection == ConnectionId::NOTIFICATIONS {
            self.may_try_again(at);
        }
        self.moved(at, &before, None);
        self.hear(at);
        true
    }

    fn drop_connection(&mut self, now: Instant, from: Connection) {
        for exchange in &mut self.exchanges {
            if exchange.from == from && exchange.awaited {
                let stays = exchange.copies > 0 && !exchange.waiting && self.faults.ghosts > 0;
                let exchange = Arc::make_mut(exchange);
                exchange.awaited = false;
                exchange.given_up = Some(now);
                exchange.reply = None;
                if stays {
                    self.faults.ghosts -= 1;
                } else {
                    exchange.copies = 0;
                }
            }
        }
        self.forget_exchanges();
    }

    /// A client's machine closes a connection, and the server hears of it, or not.
    pub(super) fn send_close(&mut self, at: usize, connection: ConnectionId) {
        let now = self.local(at);
        let from = Connection { id: connection, ..self.clients[at].connection };
        self.exchanges.push(Arc::new(Exchange {
            from,
            id: DispatchId::LAST,
            request: None,
            sent: now,
            deadline: now,
            waiting: false,
            given_up: Some(now),
            awaited: false,
            copies: 1,
            executed: false,
            read: None,
            reply: None,
        }));
        self.exchanges.sort_by_key(|exchange| exchange.key());
    }

    /// The driver will wait no longer, or knows that there is nothing to wait for. The request may
    /// be carried out all the same.
    pub(super) fn give_up(&mut self, at: usize, failure: Failure) {
        // What waits at the server goes on waiting there, whatever becomes of the request.
        let stays =
            self.exchanges[at].copies > 0 && !self.exchanges[at].waiting && self.faults.ghosts > 0;
        let now = self.local(self.exchanges[at].from.client);
        let exchange = self.exchange(at);
        exchange.awaited = false;
        exchange.given_up = Some(now);
        exchange.reply = None;
        let exchange = exchange.clone();
        if stays {
            self.faults.ghosts -= 1;
        } else {
            self.exchanges.remove(at);
        }
        let flaw = self.scope.0.flaw;
        if flaw == Some(Flaw::AnswerForgotten) {
            return;
        }
        if let (Some(Flaw::NewOwnerOnRetry), Some(request)) = (flaw, &exchange.request) {
            self.rename(exchange.from.client, request);
        }
        let failure = match failure {
            Failure::Unknown(text) if flaw == Some(Flaw::UnknownAsNotSent) => {
                Failure::NotSent(text)
            }
            failure => failure,
        };
        self.answer(&exchange, Err(failure));
    }

    /// Hands an answer to the engine.
    pub(super) fn answer(&mut self, exchange: &Exchange, reply: Result<Reply, Failure>) {
        let at = exchange.from.client;
        let now = self.local(at);
        self.note(|_| format!("client {at} gets {reply:?}"));
        let flawed = self.scope.0.flaw == Some(Flaw::DeadlineFromReply);
        if flawed || self.clients[at].engine.listens_for(exchange.id) {
            self.remember_refusals(exchange, now, &reply);
        }
        self.take_news(exchange, &reply);
        let before = self.holds(at);
        let mut id = exchange.id;
        if self.scope.0.flaw == Some(Flaw::DeadlineFromReply) {
            let Some(late) = self.client(at).engine.poll_request(now) else { return };
            if Some(&late.request) != exchange.request.as_ref() {
                let failure = Failure::NotSent("another request by now".into());
                return self.client(at).engine.handle_reply(now, late.id, Err(failure));
            }
            id = late.id;
        }
        let sent = self.vouched_since(exchange, &reply);
        self.client(at).engine.handle_reply(now, id, reply);
        self.moved(at, &before, Some(sent));
        self.hear(at);
    }

    /// Who is told, or not any more, may try again.
    fn take_news(&mut self, exchange: &Exchange, reply: &Result<Reply, Failure>) {
        if exchange.describe().0 != Action::Subscribe {
            return;
        }
        self.may_try_again(exchange.from.client);
        let freed = |one: &Notification| !matches!(one, Notification::Ping(_));
        if matches!(reply, Ok(Reply::News(News::Notified(all))) if all.iter().any(freed)) {
            self.saw(Sometimes::Told);
        }
    }

    fn may_try_again(&mut self, at: usize) {
        self.client(at).refused.retain(|(action, _), _| *action == Action::Subscribe);
    }

    /// When the request was sent that a hold rests on: the one that is answered or, in a session, the
    /// last one that found it alive.
    fn vouched_since(&mut self, exchange: &Exchange, reply: &Result<Reply, Failure>) -> Instant {
        if self.capabilities.sessions.is_none() {
            return exchange.sent;
        }
        let action = exchange.describe().0;
        let kept = match reply {
            Ok(Reply::Opened(_)) => true,
            Ok(Reply::Outcomes(all)) => action == Action::KeepAlive && all[..] == [Outcome::Done],
            _ => false,
        };
        let confirmed = &mut self.client(exchange.from.client).confirmed.0;
        let last = confirmed.entry(exchange.from.id).or_default();
        if kept {
            *last = exchange.sent.max(*last);
        }
        *last
    }

    fn remember_refusals(
        &mut self,
        exchange: &Exchange,
        now: Instant,
        reply: &Result<Reply, Failure>,
    ) {
        let at = exchange.from.client;
        let (action, claims) = exchange.describe();
        let outcomes = judged(action, claims, reply);
        let timing = self.scope.0.timing_at(at);
        let waited = now.since(exchange.sent) >= timing.wait() / 2;
        let together = claims.len() > 1 && matches!(reply, Err(failure) if failure.may_be_of_one());
        for (at_claim, owner) in
            owners(exchange.request.as_ref(), claims, exchange.from).into_iter().enumerate()
        {
            let outcome = outcomes.as_ref().ok().and_then(|outcomes| outcomes.get(at_claim));
            let refused = match outcome {
                Some(Outcome::Granted(_)) => {
                    let valid = self.timing_of(at, owner).valid();
                    self.capabilities.sessions.is_none() && exchange.sent.after(valid) <= now
                }
                Some(
                    Outcome::Done | Outcome::DoneContended | Outcome::NotOwner | Outcome::Free,
                ) => false,
                Some(Outcome::NoSession) if action == Action::KeepAlive => false,
                Some(Outcome::Busy(_) | Outcome::Unchanged { .. })
                    if action == Action::Wait && waited =>
                {
                    false
                }
                Some(
                    Outcome::Busy(_)
                    | Outcome::Reserved(_)
                    | Outcome::InLine { .. }
                    | Outcome::Unchanged { .. }
                    | Outcome::Delayed
                    | Outcome::NoSession,
                )
                | None => true,
            };
            let informed = matches!(outcome, Some(Outcome::Busy(Some(_))));
            if matches!(outcome, Some(Outcome::Busy(_))) {
                self.saw(Sometimes::Denied);
            }
            if matches!(outcome, Some(Outcome::Busy(Some(holder))) if holder.kept) {
                self.saw(Sometimes::DeniedWhileKept);
            }
            if matches!(outcome, Some(Outcome::Delayed)) {
                self.saw(Sometimes::Delayed);
            }
            if matches!(outcome, Some(Outcome::Free)) {
                self.saw(Sometimes::FoundFree);
            }
            if refused && matches!(outcome, Some(Outcome::Granted(_))) {
                self.saw(Sometimes::LateGrantRefused);
            }
            let key = (action, owner);
            let client = self.client(at);
            // A request that was refused for several claims is tried again for fewer.
            if refused && !together {
                client.refused.insert(key, Refusal { at: now, informed });
            } else {
                client.refused.remove(&key);
            }
            let releasing = |attempt: &super::client::Attempt| {
                attempt.owner == Some(owner)
                    && matches!(attempt.stage, Stage::Releasing | Stage::Abandoned)
            };
            if matches!(outcome, Some(Outcome::Granted(_))) && client.attempts.iter().any(releasing)
            {
                self.saw(Sometimes::AbandonedGranted);
            }
        }
    }

    /// Until when each of a client's attempts is held.
    pub(super) fn holds(&self, at: usize) -> Vec<(LockId, Option<Instant>)> {
        let client = &self.clients[at];
        let hold = |id| (id, client.engine.held_until(id));
        client.attempts.iter().map(|attempt| hold(attempt.id)).collect()
    }

    /// Compares with what was before an engine was called.
    pub(super) fn moved(
        &mut self,
        at: usize,
        before: &[(LockId, Option<Instant>)],
        sent: Option<Instant>,
    ) {
        let now = self.local(at);
        for (id, before) in before {
            let after = self.clients[at].engine.held_until(*id);
            let attempts = self.clients[at].attempts.iter();
            let attempt = attempts.clone().find(|attempt| attempt.id == *id);
            let timing = attempt.map_or(self.scope.0.timing_at(at), |attempt| attempt.timing);
            let several = attempt.is_some_and(|attempt| attempt.kind == Kind::AllOf);
            let result = loss::moved(*id, *before, after, sent, now, &timing, several);
            self.judge(Check::Loss, result);
        }
    }
}

/// The outcome of each claim; of a request without claims, that it was answered as it should be.
fn judged(
    action: Action,
    claims: &[Claim],
    reply: &Result<Reply, Failure>,
) -> Result<Vec<Outcome>, Failure> {
    match reply.clone()? {
        Reply::Opened(_) | Reply::News(_) => Ok(Vec::from([Outcome::Done])),
        reply => reply.outcomes(action, claims.len()),
    }
}

/// Whom a request is for: its claims' owners, or the session that it is about.
fn owners(request: Option<&Request>, claims: &[Claim], from: Connection) -> Vec<Owner> {
    if claims.is_empty() {
        return Vec::from([Owner::new(fingerprint(&(request, from.id)))]);
    }
    claims.iter().map(|claim| claim.owner).collect()
}
