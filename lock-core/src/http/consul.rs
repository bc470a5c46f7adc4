//! The session protocol in Consul's HTTP API.
//!
//! | request | in HTTP | answers |
//! |---|---|---|
//! | open | `PUT /v1/session/create` | 200: its id |
//! | keep alive | `PUT /v1/session/renew/ID` | 200: the session; 404: there is none |
//! | close | `PUT /v1/session/destroy/ID` | 200, whether there was one or not |
//! | acquire | `PUT /v1/txn`: lock the key | 200: the key's entry; 409: why not |
//! | join | `PUT /v1/txn`: lock `KEY=line/SESSION`, read all of `KEY=line/` | 200: their entries; 409: why not |
//! | leave | `PUT /v1/txn`: delete `KEY=line/SESSION` | 200 |
//! | release | `PUT /v1/txn`: unlock the key, leave, read all of `KEY=line/` | 200: their entries; 409: why not |
//! | wait | `GET /v1/kv/KEY`, blocking; or of `KEY=line/SESSION` | 200: the entry; 404: there is none |
//!
//! * `=` in a key begins an escape of two digits, so no lock's key begins with `KEY=line/`.
//! * Locks are taken in transactions, because only these say *why* a lock was not given, and which
//!   ModifyIndex it was given with. `PUT /v1/kv/KEY?acquire` says `false` to both of the former.
//! * Everything is sent with units: a lock-delay below 1000 without one is taken for seconds.
//! * What a session has locked is deleted with it: the entries of a dead waiter, and a dead holder's key. The lock-delay
//!   counts for deleted keys, too.
//! * A session is made without health checks: its TTL alone says when it ends, not what agents gossip
//!   about each other.
//! * 4xx: Consul did not do it. 5xx: nobody knows; it is also said when a leader was lost while it
//!   wrote. Only a question that failed has certainly changed nothing.

mod admin;
mod answer;
mod line;
mod scope;
mod setup;
mod watch;

use super::key::KeyTemplate;
use super::text;
use super::{MAX_BODY, Method, Request as HttpRequest, Response};
use crate::error::{ClaimError, Code, Failure};
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::{Outcome, Reply};
use crate::request::{Mode, Request, SessionName, Turn};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use answer::{Created, Entry, changed, fence, index, is_id, read, surprise, unknown, why};
use core::time::Duration;
use line::{Line, contended, crowded, in_line};

pub use scope::Scope;
pub use setup::{Setup, Step};
pub use watch::Watch;

/// The request header that carries the ACL token. A token belongs nowhere else: not into the query,
/// which is logged.
pub const TOKEN_HEADER: &str = "X-Consul-Token";

/// The answer's header that says up to where in its history Consul has looked.
pub const INDEX_HEADER: &str = "X-Consul-Index";

/// Written to every key: what Consul's own tools take for the mark of a lock.
pub const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// The value of a key that says nothing.
const NOTHING: &str = r#""""#;

/// Consul waits no longer than ten minutes, and a sixteenth of that.
const LONGEST_WAIT: Duration = Duration::from_millis(600_000 * 17 / 16);

/// Turns requests into HTTP, and answers into replies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codec {
    keys: KeyTemplate,
    /// The TTL of sessions, if it is longer than the lease.
    ttl: Duration,
    scope: Scope,
}

impl Codec {
    /// For locks at these keys, in sessions with a TTL of `ttl`. It may be longer than the lease that the engine
    /// counts with: see [`lease`](crate::consul::lease).
    pub fn new(keys: KeyTemplate, ttl: Duration) -> Self {
        Self { keys, ttl, scope: Scope::default() }
    }

    /// The same for locks in this part of Consul.
    #[must_use]
    pub fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Whether there is such a lock. To be asked before an attempt is made.
    ///
    /// # Errors
    /// [`ClaimError::NoShared`]: a key has one session.
    pub fn check(&self, _: &LockName, mode: Mode) -> Result<(), ClaimError> {
        if mode == Mode::Shared { Err(ClaimError::NoShared) } else { Ok(()) }
    }

    /// The HTTP request for `request`.
    ///
    /// # Errors
    /// [`Failure::NotSent`] for a request that Consul knows no counterpart of.
    pub fn encode(&self, request: &Request) -> Result<HttpRequest, Failure> {
        let request = match request {
            Request::Open { owner, ttl } => {
                let (session, delay) = (millis_up(self.ttl.max(*ttl)), millis_up(*ttl));
                // Which lists of checks are heeded depends on Consul's version.
                let body = format!(
                    r#"{{"Name":"{owner}","TTL":"{session}ms","LockDelay":"{delay}ms","Behavior":"delete","Checks":[],"NodeChecks":[],"ServiceChecks":[]}}"#
                );
                put("/v1/session/create".to_string(), body)
            }
            Request::KeepAlive { session } => {
                put(format!("/v1/session/renew/{}", segment(session)), String::new())
            }
            Request::Close { session } => {
                put(format!("/v1/session/destroy/{}", segment(session)), String::new())
            }
            Request::Acquire { session, label, .. } => {
                let own = request.claims().first().and_then(|claim| claim.label.as_ref());
                let value = format!(r#""{}""#, text::base64(own.unwrap_or(label).as_bytes()));
                transaction(&[self.locking("lock", &self.key_of(request)?, &value, session)])
            }
            Request::Release { session, claims, passed_over } => {
                let (key, line) = (self.key_of(request)?, self.line_of(request)?);
                let mut all = Vec::from([self.locking("unlock", &key, NOTHING, session)]);
                if claims.iter().any(|claim| matches!(claim.turn, Turn::Of(Some(_)))) {
                    all.push(self.operation("delete", &line.entry(session)));
                }
                let passed_over = passed_over.iter().map(|session| line.entry(session));
                all.extend(passed_over.map(|entry| self.operation("delete", &entry)));
                all.push(self.operation("get-tree", line.prefix()));
                transaction(&all)
            }
            Request::Join { session, .. } => {
                let line = self.line_of(request)?;
                let entry = self.locking("lock", &line.entry(session), NOTHING, session);
                transaction(&[entry, self.operation("get-tree", line.prefix())])
            }
            Request::Leave { session, .. } => {
                let line = self.line_of(request)?;
                transaction(&[self.operation("delete", &line.entry(session))])
            }
            Request::Wait { since, up_to, .. } => {
                let key = text::path(&self.watched_by(request)?);
                blocking(format!("/v1/kv/{key}?consistent"), *since, *up_to)
            }
            _ => return Err(Failure::NotSent("Consul knows no such request".to_string())),
        };
        Ok(self.scope.apply(request))
    }

    /// An operation of a transaction, by a session.
    fn locking(&self, verb: &str, key: &str, value: &str, session: &SessionName) -> String {
        let (key, session) = (text::json(key), text::json(session.as_str()));
        let scope = self.scope.fields();
        format!(
            r#"{{"KV":{{"Verb":"{verb}","Key":{key},"Value":{value},"Flags":{LOCK_FLAGS},"Session":{session}{scope}}}}}"#
        )
    }

    /// An operation of a transaction.
    fn operation(&self, verb: &str, key: &str) -> String {
        let (key, scope) = (text::json(key), self.scope.fields());
        format!(r#"{{"KV":{{"Verb":"{verb}","Key":{key}{scope}}}}}"#)
    }

    /// The operation that pins the lock `name` for the holder that was granted `fence`: the first of a transaction
    /// (`PUT /v1/txn`), before the user's own. If the lock is lost, Consul carries none of them out, and answers 409.
    ///
    /// The key's index is the fence. A release, the end of the holder's session, a deletion and another grant each
    /// change it, so the session need not be checked besides.
    pub fn pin(&self, name: &LockName, fence: Fence) -> String {
        let (key, scope) = (text::json(&self.keys.key(name)), self.scope.fields());
        format!(r#"{{"KV":{{"Verb":"check-index","Key":{key},"Index":{fence}{scope}}}}}"#)
    }

    /// The line of the one lock that a request is about.
    fn line_of(&self, request: &Request) -> Result<Line, Failure> {
        self.key_of(request).map(|key| Line::of(&key))
    }

    /// The key that a wait is for.
    fn watched_by(&self, request: &Request) -> Result<String, Failure> {
        match request {
            Request::Wait { behind: Some(session), .. } => {
                Ok(self.line_of(request)?.entry(session))
            }
            _ => self.key_of(request),
        }
    }

    /// The key of the one lock that a request is about.
    fn key_of(&self, request: &Request) -> Result<String, Failure> {
        match request.claims() {
            [claim] => Ok(self.keys.key(&claim.name)),
            _ => Err(Failure::NotSent("each lock takes a request of its own".to_string())),
        }
    }

    /// The reply to `request` that an answer is.
    ///
    /// # Errors
    /// The request's fate, if the answer is no reply to it: a surprise is never a grant.
    ///
    /// A rejection that is not about the lock may pass: a token, a leader or a proxy that refuses has not
    /// refused before, when a [`Setup`] asked for the same.
    pub fn decode(&self, request: &Request, response: &Response<'_>) -> Result<Reply, Failure> {
        self.judge(request, response).map_err(|failure| {
            let about_the_lock = failure.code() == Some(Code::Http(409));
            if about_the_lock { failure } else { failure.may_pass(true) }
        })
    }

    fn judge(&self, request: &Request, response: &Response<'_>) -> Result<Reply, Failure> {
        if response.body.len() > MAX_BODY {
            if let (Request::Join { .. }, 200) = (request, response.status) {
                return Ok(Reply::one(crowded()));
            }
            return Err(unknown("Consul's answer is longer than any that was asked for"));
        }
        if let (Request::Open { .. }, 200) = (request, response.status) {
            let Created { id } = read(response.body)?;
            return if is_id(&id) { Ok(Reply::Opened((&*id).into())) } else { Err(surprise()) };
        }
        self.outcome(request, response).map(Reply::one)
    }

    fn outcome(&self, request: &Request, response: &Response<'_>) -> Result<Outcome, Failure> {
        let body = response.body;
        match (request, response.status) {
            (Request::KeepAlive { session }, 200) => match &read::<Vec<Created>>(body)?[..] {
                [Created { id }] if **id == *session.as_str() => Ok(Outcome::Done),
                _ => Err(surprise()),
            },
            (Request::KeepAlive { .. }, 404) => Ok(Outcome::NoSession),
            (Request::Close { .. }, 200) => match read(body)? {
                true => Ok(Outcome::Done),
                false => Err(surprise()),
            },
            (Request::Acquire { session, .. }, 200) => {
                let entry = changed(body, &self.key_of(request)?)?;
                match entry.session {
                    Some(now) if *now == *session.as_str() => {
                        Ok(Outcome::Granted(fence(entry.modify_index)?))
                    }
                    _ => Err(surprise()),
                }
            }
            (Request::Acquire { .. }, 409) => self.denied(&why(body)?),
            (Request::Join { .. }, 409) => match self.denied(&why(body)?)? {
                // Its own entry is delayed only if its session has ended.
                Outcome::Delayed => Ok(Outcome::NoSession),
                outcome => Ok(outcome),
            },
            (Request::Join { session, .. }, 200) => in_line(body, &self.line_of(request)?, session),
            (Request::Leave { .. }, 200) => Ok(Outcome::Done),
            (Request::Release { session, .. }, 200) => {
                let (key, line) = (self.key_of(request)?, self.line_of(request)?);
                let waited_for = contended(body, &key, &line, session)?;
                Ok(if waited_for { Outcome::DoneContended } else { Outcome::Done })
            }
            (Request::Release { .. }, 409) => {
                let why = why(body)?;
                if why.starts_with("failed to unlock key ")
                    && why.ends_with("lock isn't held, or is held by another session")
                {
                    return Ok(Outcome::NotOwner);
                }
                Err(self.refused_as(&why))
            }
            (Request::Wait { behind, since, .. }, 200) => {
                let [entry] =
                    <[Entry; 1]>::try_from(read::<Vec<Entry>>(body)?).map_err(|_| surprise())?;
                if entry.key != self.watched_by(request)? {
                    return Err(surprise());
                }
                if behind.is_some() && (1..entry.create_index).contains(since) {
                    // Its session has joined the line again: the entry that was waited for has ended.
                    return Ok(Outcome::Free);
                }
                if entry.session.is_some_and(|session| !session.is_empty()) {
                    let index = index(response).unwrap_or(entry.modify_index.max(1));
                    return Ok(Outcome::Unchanged { index });
                }
                Ok(Outcome::Free)
            }
            (Request::Wait { .. }, 404) => Ok(Outcome::Free),
            _ => Err(self.failed(matches!(request, Request::Wait { .. }), response)),
        }
    }

    /// Why a lock was not given. The texts contain the key, in which anything may stand, but neither
    /// at their beginning nor at their end.
    fn denied(&self, why: &str) -> Result<Outcome, Failure> {
        if why.starts_with("invalid session ") {
            return Ok(Outcome::NoSession);
        }
        if why.starts_with("failed to lock key ") {
            if why.ends_with(", lock is already held") {
                return Ok(Outcome::Busy(None));
            }
            if why.ends_with(" due to lock delay") {
                return Ok(Outcome::Delayed);
            }
        }
        Err(self.refused_as(why))
    }

    fn refused_as(&self, why: &str) -> Failure {
        if why.starts_with("Permission denied") || why.starts_with("ACL not found") {
            return self.forbidden(why);
        }
        refused(409, format!("Consul refused: {}", text::said(why.as_bytes())))
    }

    fn forbidden(&self, why: &str) -> Failure {
        let (why, prefix) = (text::said(why.as_bytes()), self.keys.prefix());
        let rights = format!(
            r#"key_prefix "{prefix}" {{ policy = "write" }} session_prefix "" {{ policy = "write" }}"#
        );
        refused(403, format!("Consul says: {why}; the ACL token needs {rights}"))
    }

    /// The failure that a status code stands for, if it is no reply; `asks` for a request that changes nothing.
    fn failed(&self, asks: bool, response: &Response<'_>) -> Failure {
        let (status, said) = (response.status, text::said(response.body));
        let told = format!("Consul answered with HTTP status {status}: {said}");
        match status {
            300..=399 => {
                // The target is not repeated: it may have a secret in it.
                let message = "Consul's address answers with a redirect, which is not followed: name the address of Consul itself, with https if it wants that";
                refused(status, message.to_string())
            }
            403 => self.forbidden(&said),
            429 => not_now(status, told),
            408 | 500..=599 if asks => not_now(status, told),
            408 => Failure::Unknown(told),
            400..=499 => refused(status, told),
            // Some versions say this with a 500, and it will never pass.
            500..=599 if said.starts_with("Invalid Session TTL") => {
                refused(status, format!("Consul refused: {said}"))
            }
            _ => Failure::Unknown(told),
        }
    }
}

/// A transaction, on which Consul decides as a whole.
fn transaction(operations: &[String]) -> HttpRequest {
    put("/v1/txn".to_string(), format!("[{}]", operations.join(",")))
}

fn segment(session: &SessionName) -> String {
    text::path(session.as_str()).replace('/', "%2F")
}

/// Rounded up: too long is safe.
fn millis_up(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000)
}

/// A question that is answered after `up_to`, or when what it is about has changed since `since`.
fn blocking(mut path_and_query: String, since: u64, up_to: Duration) -> HttpRequest {
    let up_to = up_to.min(LONGEST_WAIT);
    if since > 0 {
        // Consul adds up to a sixteenth, and takes zero for its default of minutes.
        let wait = (up_to.as_millis() * 16 / 17).max(1);
        path_and_query += &format!("&index={since}&wait={wait}ms");
    }
    let waits = if since > 0 { up_to } else { Duration::ZERO };
    HttpRequest { method: Method::Get, path_and_query, body: String::new(), waits }
}

fn put(path_and_query: String, body: String) -> HttpRequest {
    HttpRequest { method: Method::Put, path_and_query, body, waits: Duration::ZERO }
}

fn refused(status: u16, message: String) -> Failure {
    Failure::refused(message).with_code(Some(Code::Http(status)))
}

fn not_now(status: u16, message: String) -> Failure {
    Failure::not_now(message).with_code(Some(Code::Http(status)))
}
