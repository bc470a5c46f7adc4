//! The words of a trace: the calls of one engine, a line each. Feature `record`.
//!
//! A driver's recorder writes them, and [`sim::replay`](crate::sim::replay) reads them. Everything that goes into an engine is
//! written as it is. What comes out is written as the text of its `Debug`, for the replayed engine gives the things themselves.

use crate::capabilities::Capabilities;
use crate::engine::{Config, ConnectionId, DispatchId, Reached, Wanted, Which};
use crate::error::Failure;
use crate::event::LockId;
use crate::outcome::Reply;
use crate::time::Instant;
use alloc::string::String;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// The first line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The kind of server.
    pub kind: String,
    /// The table, file or prefix of the locks. Traces of one place share their locks.
    pub place: String,
    /// False if the engine began before its server was connected to.
    pub connected: bool,
    /// The engine's capabilities.
    pub capabilities: Capabilities,
    /// The engine's settings.
    pub config: Config,
}

/// One call of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The clock as the recorder reads it after the call. All processes of a machine have the same.
    pub read: Instant,
    /// The time that the driver handed in, where the call has one.
    pub now: Option<Instant>,
    /// The call.
    pub call: Call,
}

/// A call, and what came out of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// [`Engine::want`](crate::Engine::want).
    Want(Which, Wanted, LockId),
    /// [`Engine::release_after`](crate::Engine::release_after).
    Release(LockId, Option<Duration>),
    /// [`Engine::open`](crate::Engine::open).
    Open,
    /// [`Engine::close`](crate::Engine::close).
    Close,
    /// [`Engine::handle_timeout`](crate::Engine::handle_timeout).
    Timeout,
    /// [`Engine::handle_connect`](crate::Engine::handle_connect), with the failure [of a request](crate::sql::ConnectError::before_request).
    Connect(Result<Reached, Failure>),
    /// The same with a refusal for good. The trace ends with it.
    Refused,
    /// [`Engine::handle_reply`](crate::Engine::handle_reply).
    Reply(DispatchId, Result<Reply, Failure>),
    /// [`Engine::poll_close`](crate::Engine::poll_close).
    PollClose(Option<ConnectionId>),
    /// [`Engine::poll_connect`](crate::Engine::poll_connect).
    PollConnect(bool),
    /// [`Engine::poll_request`](crate::Engine::poll_request), with the text of the request.
    PollRequest(Option<String>),
    /// [`Engine::poll_event`](crate::Engine::poll_event), with the text of an event.
    Event(String),
    /// A guard was made, or its lease was renewed: until when its driver lets it count.
    Guard(LockId, Instant),
}

impl Head {
    /// The line of text.
    pub fn to_text(&self) -> String {
        to_text(self)
    }

    /// What a line of text says; [`None`] if it is no first line.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Line {
    /// The line of text.
    pub fn to_text(&self) -> String {
        to_text(self)
    }

    /// What a line of text says; [`None`] if it says something else, or was not written to its end.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Empty if it cannot be written, which no value leads to.
fn to_text(line: &impl Serialize) -> String {
    serde_json::to_string(line).unwrap_or_default()
}
