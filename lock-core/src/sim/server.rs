//! What a simulated server must do.

use crate::engine::ConnectionId;
use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::outcome::Reply;
use crate::request::{Mode, Request, SessionName};
use crate::time::Instant;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;
use core::time::Duration;

/// A server as a value: it understands requests, no SQL and no HTTP.
///
/// Each request takes effect at once and as a whole. Everything that can go wrong on the way to it
/// and back is the [`World`](super::World)'s business.
pub trait Server: Clone + Debug + Eq + Hash {
    /// Sessions are connections: the requests of one are carried out in order, and only while it is
    /// open.
    const CONNECTIONS: bool = false;
    /// The promises hold even if a request is carried out twice, or goes by a time read earlier.
    const REPEATABLE: bool = true;

    /// Carries out a request that reaches the server on `connection` when its clock shows `now`.
    ///
    /// `now` may be earlier than at the request before: a statement may read the clock, wait for a
    /// row, and go on when others have overtaken it.
    fn apply(&mut self, now: Instant, connection: Connection, request: &Request) -> Reply;

    /// Whether a request cannot be answered yet: it waits at the server.
    fn waits(&self, _now: Instant, _connection: Connection, _request: &Request) -> bool {
        false
    }

    /// Such a request arrives.
    fn queue(&mut self, _now: Instant, _connection: Connection, _request: &Request) {}

    /// Whether a request on this connection reaches the server, or finds the connection closed; [`None`]:
    /// whether the server would hear that the client closes it.
    fn reaches(&self, _connection: Connection, _request: Option<&Request>) -> bool {
        true
    }

    /// Hears that the client has closed a connection: later than that, or never.
    fn close(&mut self, _now: Instant, _connection: Connection) {}

    /// Notices that its clock shows `now`.
    fn tick(&mut self, _now: Instant) {}

    /// Its clock has been set back. Nothing changes for what it counts by a clock that nobody sets.
    fn set_back(&mut self, _by: Duration) {}

    /// Pins a lock for a transaction of a user's, if `fence` is that of its last grant: until the transaction has ended,
    /// nobody else is granted the lock.
    fn pin(&mut self, _name: &LockName, _fence: Fence) -> bool {
        false
    }

    /// Such a transaction has ended.
    fn unpin(&mut self, _name: &LockName) {}

    /// How many things it may do by itself, and need not.
    fn moves(&self, _now: Instant) -> usize {
        0
    }

    /// Does one of them.
    fn make_move(&mut self, _now: Instant, _which: usize) {}

    /// How many sessions it knows that may be ended before their time.
    fn killable(&self) -> usize {
        0
    }

    /// Ends one of them.
    fn kill(&mut self, _now: Instant, _which: usize) {}

    /// The times on its clock at which something changes.
    fn times(&self) -> Vec<Instant> {
        let leases = self.leases().into_iter().filter(|lease| lease.owner.is_some());
        leases.map(|lease| lease.expires).filter(|at| *at < Instant::END).collect()
    }

    /// Every fence and index that it knows.
    fn fences(&self) -> Vec<Fence> {
        self.leases().into_iter().map(|lease| lease.fence).collect()
    }

    /// What [`Lease::session`] says of the leases of a client's session.
    fn session(_connection: Connection, _name: &SessionName) -> u128 {
        0
    }

    /// The request as a search tells it apart from others: without what the server does not go by.
    fn project_request(request: &Request, _since: &dyn Fn(u64) -> u64) -> Request {
        request.clone()
    }

    /// The line of those that wait for a lock, where they draw tickets.
    fn line(&self, _name: &LockName) -> Option<Line> {
        None
    }

    /// Every lock that the server knows, each name once, in the names' order.
    fn leases(&self) -> Vec<Lease>;

    /// What tells states of the server apart for a search, with each time as `time` and each fence
    /// as `fence` sees it.
    ///
    /// Servers that know more than their leases, and go by it, must say so.
    fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(Fence) -> Fence,
    ) -> impl Hash {
        self.leases().into_iter().map(|lease| lease.project(time, fence)).collect::<Vec<_>>()
    }

    /// Dies: keeps what it committed, unless it is configured not to.
    fn crash(&mut self);

    /// Starts again when its clock shows `now`.
    fn restart(&mut self, _now: Instant) {}
}

/// How far the line for a lock has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The last ticket that was drawn.
    pub queue: u64,
    /// The last ticket that had its turn.
    pub served: u64,
}

/// Names a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Which client.
    pub client: usize,
    /// How often the client has died before.
    pub number: u32,
    /// Which of its connections.
    pub id: ConnectionId,
}

/// What a server knows about one lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The lock's name.
    pub name: LockName,
    /// Whose it is or, once expired, was; [`None`] after a release.
    pub owner: Option<Owner>,
    /// The last grant's fence.
    pub fence: Fence,
    /// When it ends, on the server's clock.
    pub expires: Instant,
    /// It excludes only those that want to exclude others.
    pub mode: Mode,
    /// The session that it belongs to, if there are any.
    pub session: u128,
}

impl Lease {
    /// Who has the lock at `now`.
    pub fn holder(&self, now: Instant) -> Option<Owner> {
        self.owner.filter(|_| now < self.expires)
    }

    /// The same with its time as `time` and its fence as `fence` sees it.
    pub(super) fn project(
        self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(Fence) -> Fence,
    ) -> Self {
        Self { expires: time(self.expires), fence: fence(self.fence), ..self }
    }
}
