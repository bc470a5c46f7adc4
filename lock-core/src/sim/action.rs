//! What can happen next in a world.

use crate::time::Instant;
use core::fmt;

/// One step of a world: everything that is not determined is in here.
///
/// Clients, requests and attempts are named by their place in the world's lists, so an action has a
/// meaning only in the state that offered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A caller wants something: client, which of the scope's targets, which of its wishes.
    Acquire(usize, usize, usize),
    /// A caller wants an attempt no more, whatever has become of it: client, attempt.
    Release(usize, usize),
    /// A client's driver is run: it gives up what is overdue, and polls.
    Run(usize),
    /// The server carries out a request.
    Execute(usize),
    /// The server reads its clock for a request, which then has to wait.
    Read(usize),
    /// A reply arrives, and the driver polls.
    Deliver(usize),
    /// A driver learns that its request failed.
    Fail(usize, Way),
    /// A request, or what is left of it, vanishes.
    Lose(usize),
    /// A request will be carried out once more.
    Duplicate(usize),
    /// A client is stopped; its clock goes on.
    Suspend(usize),
    /// It goes on.
    Resume(usize),
    /// A client dies and is started again, knowing nothing.
    CrashClient(usize),
    /// The server dies. What was on its way to it is lost.
    CrashServer,
    /// It starts again.
    RestartServer,
    /// The server's clock steps forward by a TTL.
    StepServer,
    /// The server's clock is set back, by much more than a TTL.
    SetServerBack,
    /// The server does by itself what it may do: which of these things.
    Move(usize),
    /// The server ends a session before its time: which.
    Kill(usize),
    /// A client is told that something may have changed about a lock.
    Hint(usize, usize),
    /// A user begins a transaction, and pins a lock that it was told it was granted: client, attempt.
    Pin(usize, usize),
    /// A user's transaction ends: which, and whether it commits.
    End(usize, bool),
    /// Time goes on until then.
    Advance(Instant),
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// It did not reach the server.
    NotSent,
    /// The connection broke.
    Broken,
    /// The server has closed the connection.
    Closed,
    /// The server refused, for now.
    Rejected,
    /// The server refused for good.
    Refused,
}

impl Way {
    pub(super) const ALL: [Way; 4] = [Way::NotSent, Way::Broken, Way::Rejected, Way::Refused];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Acquire(client, name, _) => write!(f, "client {client} wants lock {name}"),
            Action::Release(client, attempt) => {
                write!(f, "client {client} releases its attempt {attempt}")
            }
            Action::Run(client) => write!(f, "client {client} is run"),
            Action::Execute(at) => write!(f, "the server carries out request {at}"),
            Action::Read(at) => write!(f, "the server reads its clock for request {at}"),
            Action::Deliver(at) => write!(f, "the reply to request {at} arrives"),
            Action::Fail(at, way) => write!(f, "request {at} fails: {way:?}"),
            Action::Lose(at) => write!(f, "request {at} is lost"),
            Action::Duplicate(at) => write!(f, "request {at} is duplicated"),
            Action::Suspend(client) => write!(f, "client {client} is stopped"),
            Action::Resume(client) => write!(f, "client {client} goes on"),
            Action::CrashClient(client) => write!(f, "client {client} dies, and starts again"),
            Action::CrashServer => f.write_str("the server dies"),
            Action::RestartServer => f.write_str("the server starts again"),
            Action::StepServer => f.write_str("the server's clock steps forward"),
            Action::SetServerBack => f.write_str("the server's clock is set back"),
            Action::Move(which) => write!(f, "the server does by itself thing {which}"),
            Action::Kill(which) => write!(f, "the server ends session {which}"),
            Action::Hint(client, name) => write!(f, "client {client} gets a hint for lock {name}"),
            Action::Pin(client, attempt) => {
                write!(f, "a user of client {client} pins the lock of attempt {attempt}")
            }
            Action::End(at, true) => write!(f, "transaction {at} writes and commits"),
            Action::End(at, false) => write!(f, "transaction {at} is rolled back"),
            Action::Advance(_) => f.write_str("time passes"),
        }
    }
}
