//! Requests on their way.

use crate::engine::DispatchId;
use crate::outcome::Reply;
use crate::request::{Action, Claim, Request};
use crate::sim::server::Connection;
use crate::time::Instant;

/// One request: on its way to the server, carried out, answered, given up, or several of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Exchange {
    pub(super) from: Connection,
    pub(super) id: DispatchId,
    /// [`None`]: the client has closed the connection.
    pub(super) request: Option<Request>,
    /// When it was truly sent, on the client's clock.
    pub(super) sent: Instant,
    /// When the driver gives it up, on the client's clock.
    pub(super) deadline: Instant,
    /// Whether it waits at the server.
    pub(super) waiting: bool,
    /// When the client gave it up, on the client's clock.
    pub(super) given_up: Option<Instant>,
    /// Whether the client still wants an answer.
    pub(super) awaited: bool,
    /// How many times it will yet be carried out.
    pub(super) copies: u8,
    /// Whether it has been carried out.
    pub(super) executed: bool,
    /// The time that the server read for it, when it had to wait afterwards.
    pub(super) read: Option<Instant>,
    /// What the server answered, on its way back.
    pub(super) reply: Option<Reply>,
}

impl Exchange {
    pub(super) fn key(&self) -> (Connection, DispatchId) {
        (self.from, self.id)
    }

    /// What it is for, and what it is about.
    pub(super) fn describe(&self) -> (Action, &[Claim]) {
        match &self.request {
            Some(request) => (request.action(), request.claims()),
            None => (Action::Close, &[]),
        }
    }

    /// Nothing can come of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.copies == 0 && !self.awaited
    }
}
