//! The session protocol in Consul's HTTP API.
//!
//! | command | request | answers |
//! |---|---|---|
//! | create | `PUT /v1/session/create` | 200: its id |
//! | renew | `PUT /v1/session/renew/ID` | 200: the session · 404: there is none |
//! | destroy | `PUT /v1/session/destroy/ID` | 200, whether there was one or not |
//! | lock, unlock | `PUT /v1/txn`, one operation | 200: the key's entry · 409: why not |
//! | watch | `GET /v1/kv/KEY`, blocking | 200: the key's entry · 404: there is none |
//!
//! * Locks are taken in transactions, because only these say *why* a lock was not given, and which
//!   ModifyIndex it was given with. `PUT /v1/kv/KEY?acquire` says `false` to both of the former.
//! * Everything is sent with units: a lock-delay below 1000 without one is taken for seconds.
//! * A session is made without health checks: its TTL alone says when it ends, not what agents gossip
//!   about each other.
//! * 4xx: Consul did not do it. 5xx: nobody knows; it is also said when a leader was lost while it
//!   wrote. Only a question that failed has certainly changed nothing.

mod admin;
mod answer;

use super::key::KeyTemplate;
use super::text;
use super::{MAX_BODY, Method, Request, Response};
use crate::consul::{Command, Locked, Reply, Session};
use crate::error::{ClaimError, Code, Failure};
use crate::name::LockName;
use crate::protocol::Mode;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use answer::{Created, Entry, changed, fence, index, is_id, read, surprise, unknown, why};
use core::time::Duration;

/// The request header that carries the ACL token. A token belongs nowhere else: not into the query,
/// which is logged.
pub const TOKEN_HEADER: &str = "X-Consul-Token";

/// The answer's header that says up to where in its history Consul has looked.
pub const INDEX_HEADER: &str = "X-Consul-Index";

/// Written to every key: what Consul's own tools take for the mark of a lock.
pub const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// Consul waits no longer than ten minutes, in milliseconds.
const LONGEST_WAIT: u128 = 600_000;

/// Makes requests from commands, and replies from answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codec {
    keys: KeyTemplate,
}

impl Codec {
    /// For locks at these keys.
    pub fn new(keys: KeyTemplate) -> Self {
        Self { keys }
    }

    /// Whether there is such a lock. To be asked before an attempt is made.
    ///
    /// # Errors
    /// [`ClaimError::NoShared`]: a key has one session.
    pub fn check(&self, _: &LockName, mode: Mode) -> Result<(), ClaimError> {
        if mode == Mode::Shared { Err(ClaimError::NoShared) } else { Ok(()) }
    }

    /// What is to be sent for `command`.
    pub fn encode(&self, command: &Command) -> Request {
        match command {
            Command::Create { name, ttl, lock_delay } => {
                let (ttl, delay) = (millis_up(*ttl), millis_up(*lock_delay));
                // Which lists of checks are heeded depends on Consul's version.
                let body = format!(
                    r#"{{"Name":"{name}","TTL":"{ttl}ms","LockDelay":"{delay}ms","Behavior":"release","Checks":[],"NodeChecks":[],"ServiceChecks":[]}}"#
                );
                put("/v1/session/create".to_string(), body)
            }
            Command::Renew { session } => {
                put(format!("/v1/session/renew/{}", segment(session)), String::new())
            }
            Command::Destroy { session } => {
                put(format!("/v1/session/destroy/{}", segment(session)), String::new())
            }
            Command::Lock { session, claim, holder } => {
                let value = format!(r#""{}""#, text::base64(holder.as_bytes()));
                transaction("lock", &self.keys.key(&claim.name), &value, session)
            }
            Command::Unlock { session, lease, passed } => {
                let value = format!(r#""{}""#, text::base64(passed_over(*passed).as_bytes()));
                transaction("unlock", &self.keys.key(&lease.name), &value, session)
            }
            Command::Watch { claim, since, up_to } => {
                let key = text::path(&self.keys.key(&claim.name));
                let mut path_and_query = format!("/v1/kv/{key}?consistent");
                if *since > 0 {
                    // Consul adds up to a sixteenth, and takes zero for its default of minutes.
                    let wait = (up_to.as_millis() * 16 / 17).clamp(1, LONGEST_WAIT);
                    path_and_query += &format!("&index={since}&wait={wait}ms");
                }
                let waits = if *since > 0 { *up_to } else { Duration::ZERO };
                Request { method: Method::Get, path_and_query, body: String::new(), waits }
            }
        }
    }

    /// What the answer to `command` says.
    ///
    /// # Errors
    /// What is known of the command's fate when the answer is no reply to it: a surprise is never a
    /// grant.
    ///
    /// A rejection that is not about the lock may pass: a token, a leader or a proxy that refuses has not
    /// refused before, when a [`Setup`](crate::consul::Setup) asked for the same.
    pub fn decode(&self, command: &Command, response: &Response<'_>) -> Result<Reply, Failure> {
        self.judge(command, response).map_err(|failure| {
            let about_the_lock = failure.code() == Some(Code::Http(409));
            if about_the_lock { failure } else { failure.may_pass(true) }
        })
    }

    fn judge(&self, command: &Command, response: &Response<'_>) -> Result<Reply, Failure> {
        if response.body.len() > MAX_BODY {
            return Err(unknown("Consul's answer is longer than any that was asked for"));
        }
        let body = response.body;
        match (command, response.status) {
            (Command::Create { .. }, 200) => {
                let Created { id } = read(body)?;
                if is_id(&id) { Ok(Reply::Created(Session(id.into()))) } else { Err(surprise()) }
            }
            (Command::Renew { session }, 200) => match &read::<Vec<Created>>(body)?[..] {
                [Created { id }] if **id == *session.0 => Ok(Reply::Renewed(true)),
                _ => Err(surprise()),
            },
            (Command::Renew { .. }, 404) => Ok(Reply::Renewed(false)),
            (Command::Destroy { .. }, 200) => match read(body)? {
                true => Ok(Reply::Destroyed),
                false => Err(surprise()),
            },
            (Command::Lock { session, claim, .. }, 200) => {
                let entry = changed(body, &self.keys.key(&claim.name))?;
                match entry.session {
                    Some(now) if *now == *session.0 => {
                        Ok(Reply::Locked(Locked::Granted(fence(entry.modify_index)?)))
                    }
                    _ => Err(surprise()),
                }
            }
            (Command::Lock { .. }, 409) => self.denied(&why(body)?).map(Reply::Locked),
            (Command::Unlock { lease, .. }, 200) => {
                let entry = changed(body, &self.keys.key(&lease.name))?;
                let free = entry.session.is_none_or(|session| session.is_empty());
                if free { Ok(Reply::Unlocked(true)) } else { Err(surprise()) }
            }
            (Command::Unlock { .. }, 409) => {
                let why = why(body)?;
                if why.starts_with("failed to unlock key ")
                    && why.ends_with("lock isn't held, or is held by another session")
                {
                    return Ok(Reply::Unlocked(false));
                }
                Err(self.refused_as(&why))
            }
            (Command::Watch { claim, .. }, 200) => {
                let [entry] =
                    <[Entry; 1]>::try_from(read::<Vec<Entry>>(body)?).map_err(|_| surprise())?;
                if entry.key != self.keys.key(&claim.name) {
                    return Err(surprise());
                }
                let index = index(response).unwrap_or(entry.modify_index.max(1));
                let locked = entry.session.is_some_and(|session| !session.is_empty());
                let passed = entry.value.filter(|_| !locked).and_then(|value| passed(&value));
                Ok(Reply::Watched { index, locked, passed })
            }
            (Command::Watch { .. }, 404) => {
                let index = index(response).unwrap_or(1);
                Ok(Reply::Watched { index, locked: false, passed: None })
            }
            _ => Err(self.failed(matches!(command, Command::Watch { .. }), response)),
        }
    }

    /// Why a lock was not given. The texts contain the key, in which anything may stand, but neither
    /// at their beginning nor at their end.
    fn denied(&self, why: &str) -> Result<Locked, Failure> {
        if why.starts_with("invalid session ") {
            return Ok(Locked::NoSession);
        }
        if why.starts_with("failed to lock key ") {
            if why.ends_with(", lock is already held") {
                return Ok(Locked::Busy(None));
            }
            if why.ends_with(" due to lock delay") {
                return Ok(Locked::Delayed);
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

    /// What a status code says that is no reply to the command, or to the question if it only `asks`.
    fn failed(&self, asks: bool, response: &Response<'_>) -> Failure {
        let (status, said) = (response.status, text::said(response.body));
        let told = format!("Consul answered with HTTP status {status}: {said}");
        match status {
            300..=399 => {
                // Where to is not repeated: it may have a secret in it.
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

/// What is written to a key that is unlocked, for people too.
fn passed_over(times: u32) -> String {
    format!("free; passed over: {times}")
}

/// What was, unless somebody else wrote to it.
fn passed(value: &str) -> Option<u32> {
    text::from_base64(value).strip_prefix("free; passed over: ")?.parse().ok()
}

fn segment(session: &Session) -> String {
    text::path(&session.0).replace('/', "%2F")
}

/// Rounded up: too long is safe.
fn millis_up(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000)
}

fn put(path_and_query: String, body: String) -> Request {
    Request { method: Method::Put, path_and_query, body, waits: Duration::ZERO }
}

/// A transaction of one operation, on which Consul decides as a whole.
fn transaction(verb: &str, key: &str, value: &str, session: &Session) -> Request {
    let (key, session) = (text::json(key), text::json(&session.0));
    let body = format!(
        r#"[{{"KV":{{"Verb":"{verb}","Key":{key},"Value":{value},"Flags":{LOCK_FLAGS},"Session":{session}}}}}]"#
    );
    put("/v1/txn".to_string(), body)
}

fn refused(status: u16, message: String) -> Failure {
    Failure::refused(message).with_code(Some(Code::Http(status)))
}

fn not_now(status: u16, message: String) -> Failure {
    Failure::not_now(message).with_code(Some(Code::Http(status)))
}
