//! Traces of real drivers against the model. Feature `record`.
//!
//! ```text
//!   a driver's recorder            a trace for each engine, of several processes
//!        |
//!        v
//!   engine   a fresh engine gets the same calls, and must say the same; the driver called it lawfully
//!        |   requests, answers and holds, each with the time between which it happened
//!        v
//!   holds    no two holds of a lock overlap by the one clock that all processes have, and fences rise
//!   search   for each lock: an order in which the model's server gives all the answers
//! ```
//!
//! An order must be within the times: a request takes effect between the moment when its driver sent it and the moment when its
//! driver was answered; without an answer later, or never. The server's clock is taken from the fences that it told, and else lies
//! anywhere between these two.

mod engine;
mod holds;
mod operation;
mod search;
mod sessions;
mod state;

use super::advisory::FakeAdvisory;
use super::consul::FakeConsul;
use super::server::Connection;
use crate::capabilities::Sessions;
use crate::fence::Fence;
use crate::name::LockName;
use crate::outcome::Outcome;
use crate::record::{Head, Line};
use crate::request::{Action, Mode, Request, SessionName};
use crate::time::Instant;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// The calls of one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What people call it.
    pub name: String,
    /// Its first line.
    pub head: Head,
    /// The others.
    pub lines: Vec<Line>,
}

impl Trace {
    /// Reads the text of a trace. It ends before the first line that was not written to its end; [`None`] if that is the first
    /// of all.
    pub fn read(name: &str, text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let head = Head::read(lines.next()?)?;
        Some(Self { name: name.to_string(), head, lines: lines.map_while(Line::read).collect() })
    }
}

/// What the model cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The trace.
    pub trace: String,
    /// The number of its line, from 1.
    pub line: usize,
    /// What is different.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: {}", self.trace, self.line, self.what)
    }
}

/// How much was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Calls of engines.
    pub calls: usize,
    /// Holds that were compared with each other.
    pub holds: usize,
    /// Claims that the model's server answered as the real one did.
    pub claims: usize,
    /// Claims without an answer, and ends of sessions, that were carried out in the order found.
    pub unanswered: usize,
    /// Locks for which the search gave up: so many clients wanted them at once that it found neither an order nor that there is
    /// none.
    pub given_up: usize,
}

/// A place in a trace: which, and the number of the line.
type At = (usize, usize);

/// The things that a trace says about the world outside of its engine.
#[derive(Default)]
struct Seen {
    exchanges: Vec<Exchange>,
    holds: Vec<Hold>,
}

/// A request, with what became of it.
struct Exchange {
    at: At,
    /// Of an engine of its own.
    by: Connection,
    request: Request,
    sent: Instant,
    answer: Option<(Instant, Answer)>,
}

/// What is known of a request's fate.
enum Answer {
    /// An outcome for each claim.
    Outcomes(Vec<Outcome>),
    /// A session was opened, with this name.
    Opened(SessionName),
    /// It had no effect.
    Nothing,
    /// Nobody knows.
    Unknown,
}

/// Locks that a guard had.
struct Hold {
    at: At,
    locks: Vec<(LockName, Fence)>,
    mode: Mode,
    since: Instant,
    until: Instant,
}

/// How much of the world was as the model has it, and is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The engines and their drivers. Others may have changed the locks.
    Drivers,
    /// The holds, too. The server may have forgotten releases: they do not wait for the disk.
    Holds,
    /// The server's answers, too. None of the locks was ever locked before.
    Answers,
}

/// Replays traces whose engines share the locks of one place.
///
/// # Errors
/// The first step that the model cannot do.
pub fn check(traces: &[Trace], depth: Depth) -> Result<Replayed, Difference> {
    let mut replayed = Replayed::default();
    let mut all = Seen::default();
    for (which, trace) in traces.iter().enumerate() {
        let seen = engine::replay(which, trace)?;
        replayed.calls += trace.lines.len();
        all.exchanges.extend(seen.exchanges);
        all.holds.extend(seen.holds);
    }
    let place = Place { traces };
    if depth >= Depth::Holds {
        replayed.holds = all.holds.len();
        holds::check(&place, all.holds)?;
    }
    if depth >= Depth::Answers
        && let Some(server) = place.server()
    {
        let clock = operation::clock(&place, &all.exchanges)?;
        let lives = sessions::lives(&all.exchanges);
        for (_, operations) in operation::of_locks(&all.exchanges, clock) {
            let found = match server {
                Kind::Table => search::check(&place, state::State::new(&operations), operations),
                Kind::Advisory { one_lock } => {
                    let server = FakeAdvisory::new();
                    let server = if one_lock { server.one_lock() } else { server };
                    sessions::check(&place, server, operations, &lives, clock)
                }
                Kind::Consul => {
                    sessions::check(&place, FakeConsul::new(), operations, &lives, clock)
                }
            }?;
            replayed.claims += found.claims;
            replayed.unanswered += found.unanswered;
            replayed.given_up += usize::from(found.gave_up);
        }
    }
    Ok(replayed)
}

/// The model's servers.
enum Kind {
    Table,
    Advisory { one_lock: bool },
    Consul,
}

/// The place that the traces are from.
struct Place<'a> {
    traces: &'a [Trace],
}

impl Place<'_> {
    fn differs(&self, (which, line): At, what: String) -> Difference {
        Difference { trace: self.traces[which].name.clone(), line, what }
    }

    /// The model's server, if there is one. There is none of a table of another package, whose leases are watched.
    fn server(&self) -> Option<Kind> {
        let head = &self.traces.first()?.head;
        let known = &head.capabilities;
        match known.sessions {
            None if known.on_busy == Action::Probe && head.kind.ends_with(" table") => {
                Some(Kind::Table)
            }
            None => None,
            Some(Sessions::Connections { one_lock, .. }) => Some(Kind::Advisory { one_lock }),
            Some(Sessions::Records) => Some(Kind::Consul),
        }
    }

    /// Whether a claim may wait for the row after it has seen whose turn it is.
    fn looks_before_it_locks(&self) -> bool {
        self.traces.iter().any(|trace| trace.head.kind.starts_with("Postgres"))
    }

    /// Whether a first fence is what the server's clock shows. SQLite's fences go by another clock than its leases, and
    /// Consul's count changes.
    fn fences_tell_time(&self) -> bool {
        let other = |trace: &Trace| {
            trace.head.kind.starts_with("Sqlite")
                || trace.head.capabilities.sessions == Some(Sessions::Records)
        };
        !self.traces.iter().any(other)
    }
}
