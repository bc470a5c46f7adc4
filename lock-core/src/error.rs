//! What can go wrong, by who is at fault.

use crate::name::LockName;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// A lock name that breaks a rule of [`LockName`]. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    #[error("the lock name is empty: give it 1 to {} bytes", LockName::MAX_BYTES)]
    Empty,
    /// The name is longer than [`LockName::MAX_BYTES`].
    #[error("the lock name has {bytes} bytes, at most {} are allowed", LockName::MAX_BYTES)]
    TooLong {
        /// How many bytes the name has.
        bytes: usize,
    },
    /// The name contains a control character.
    #[error("the lock name has a control character (newline, NUL, …) at byte {at}: leave it out")]
    Control {
        /// The place of the first one, in bytes.
        at: usize,
    },
    /// The name of a semaphore leaves no room for the numbers of its permits.
    #[error("the name of a semaphore has at most {most} bytes, for its permits' names are longer")]
    NoRoom {
        /// How many bytes it may have.
        most: usize,
    },
    /// A semaphore with more than [`LockName::MAX_PERMITS`].
    #[error("a semaphore has at most {} permits, not {count}", LockName::MAX_PERMITS)]
    Permits {
        /// How many permits were asked for.
        count: u32,
    },
}

/// A table name that is not a plain identifier. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error(
    "the table name must be letters, digits and _ (63 at most, no digit first), with a schema before a dot if wanted"
)]
pub struct TableError;

/// A lock that cannot be had where locks are kept. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// With [`Key::Int`](crate::sql::advisory::Key::Int).
    #[error(
        "the lock's name must be a whole number of 64 bits, such as -7, where it is used as the key"
    )]
    NotAnInt,
    /// With [`Key::Pair`](crate::sql::advisory::Key::Pair).
    #[error(
        "the lock's name must be two whole numbers of 32 bits, such as 12,-7, where they are used as the key"
    )]
    NotAPair,
    /// Anywhere but with PostgreSQL's advisory locks.
    #[error(
        "there are no shared locks here: take it exclusively, or use PostgreSQL's advisory locks"
    )]
    NoShared,
    /// In the table of [another package](crate::sql::node_distributed_lock).
    #[error(
        "the lock's name must not have more than 36 characters, like those of node-distributed-lock"
    )]
    TooLong,
    /// To [keep](crate::Request::Keep) a lock after its release, anywhere but on a table of our own.
    #[error(
        "a lock cannot be kept after its release here, as it ends with its connection or session: use a lock table, or hold it for longer"
    )]
    NoKeep,
    /// The same, in the table of [another package](crate::sql::node_distributed_lock).
    #[error(
        "a lock cannot be kept after its release in the table of node-distributed-lock, whose rows do not say when they were granted: use a table of the protocol `table`"
    )]
    NoKeepInFleet,
    /// To keep a lock for longer than a day.
    #[error("a lock is kept for 24h after its grant at most")]
    TooLongKept,
    /// A TTL of its own for one lock, with advisory locks, with Consul, or in the table of another package.
    #[error(
        "a lock cannot have a TTL of its own here, where it is that of the connection, of Consul's session, or of all \
         that use the table: set it for all locks"
    )]
    NoOwnTtl,
    /// A TTL of its own that cannot be safe.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// A permit of a semaphore, or several locks at once.
    #[error("a permit and several locks at once are exclusive, and cannot be acquired together")]
    Combined,
}

impl ClaimError {
    /// Whether there is such a lock, but it cannot be kept after its release.
    pub fn is_about_keeping(self) -> bool {
        matches!(self, Self::NoKeep | Self::NoKeepInFleet | Self::TooLongKept)
    }
}

/// Timing that cannot be safe. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// The TTL is too short to be renewed in time, or longer than a day.
    #[error("the TTL must be between 1s and 24h")]
    Ttl,
    /// The longest TTL of all that use a server's locks is longer than a day.
    #[error("the longest TTL must not be more than 24h")]
    LongestTtl,
    /// A request may take so long that a lease could not be renewed after one failed.
    #[error(
        "a request may take {request:?} but a lease counts as held for {} only: allow a request a third of that at most, or use a longer TTL",
        rounded(.valid)
    )]
    Request {
        /// The budget asked for.
        request: Duration,
        /// How long a lease of this TTL counts as held.
        valid: Duration,
    },
    /// The request budget is less than 10 ms, in which no server can be connected to.
    #[error("the request timeout must be at least 10ms")]
    NoTime,
    /// The way to the server is too slow for the TTL: a lock would be lost as soon as its connection is cut.
    /// Found out by the [first connect](crate::Pace).
    #[error(
        "the way to the server is too slow: to connect and renew a lock takes {}, and {} {} for that; use a TTL of {ttl:?} or more{}",
        rounded(.needs),
        if *.chosen { "the request timeout allows" } else { "the TTL leaves" },
        rounded(.allowed),
        if *.chosen { " without a request timeout" } else { "" }
    )]
    #[non_exhaustive]
    TooSlow {
        /// How long it takes to connect, to be checked and to renew a lock.
        needs: Duration,
        /// How long that may take: a quarter of the time that a lease counts as held, or what a request was
        /// allowed by the caller.
        allowed: Duration,
        /// The shortest TTL that allows it, in round numbers.
        ttl: Duration,
        /// The caller has chosen how long a request may take.
        chosen: bool,
    },
}

/// Without digits that nobody reads.
fn rounded(time: &Duration) -> String {
    format!("{:?}", Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

/// Why a request has no reply: what the driver knows of its fate. Drivers never guess.
///
/// The text is for people: one line, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Failure {
    /// The request did not reach the server: it has had and will have no effect.
    #[error("{0}")]
    NotSent(String),
    /// The request may have taken effect, may do so later, or never.
    #[error("{0}")]
    Unknown(String),
    /// The server answered that it did not do it. Made by [`Failure::refused`] and
    /// [`Failure::not_now`].
    #[error("{message}")]
    #[non_exhaustive]
    Rejected {
        /// Whether trying again may help: true for a deadlock or a full disk, false for a missing
        /// permission. A rejection that is not known is not retried.
        retry: bool,
        /// The server's own code for it, if the server said it.
        code: Option<Code>,
        /// The server's message.
        message: String,
    },
    /// The place of the locks is no more: it was deleted, or something else is in its place.
    /// All leases in it are lost, and nothing that was asked of it counts. The text names it, and holders
    /// are told it as the reason of the loss.
    #[error("{0}")]
    Gone(String),
}

impl Failure {
    /// A rejection that stays: the server will not do it.
    pub fn refused(message: String) -> Self {
        Self::Rejected { retry: false, code: None, message }
    }

    /// A rejection that may pass: it is worth trying again.
    pub fn not_now(message: String) -> Self {
        Self::Rejected { retry: true, code: None, message }
    }

    /// The same with the server's code, if it is a rejection.
    #[must_use]
    pub fn with_code(self, code: Option<Code>) -> Self {
        match self {
            Self::Rejected { retry, message, .. } => Self::Rejected { retry, code, message },
            other => other,
        }
    }

    /// The same as what stays: whoever is told it does not try again.
    pub(crate) fn staying(self) -> Self {
        match self {
            Self::Rejected { code, message, .. } => Self::Rejected { retry: false, code, message },
            Self::NotSent(message) | Self::Unknown(message) | Self::Gone(message) => {
                Self::refused(message)
            }
        }
    }

    /// Whether the server says that it takes no writes. Another may by now be where this one was, so the
    /// next request is to go over a connection that was made, and checked, anew.
    pub fn is_read_only(&self) -> bool {
        match self.code() {
            Some(Code::SqlState(state)) => state == *b"25006",
            // A node that is cut off from its cluster; super-read-only, a read-only transaction, InnoDB; a group's member
            // that is no primary.
            Some(Code::Mysql(number)) => {
                matches!(number, 1047 | 1290 | 1792 | 1836 | 1874 | 3100)
            }
            _ => false,
        }
    }

    /// The same as what may pass, if it is a rejection.
    #[must_use]
    pub(crate) fn may_pass(self, may: bool) -> Self {
        match self {
            Self::Rejected { code, message, .. } => Self::Rejected { retry: may, code, message },
            other => other,
        }
    }

    /// Whether a request for several may have been rejected because of a single one of them: a
    /// rejection that stays and is not about the table, or a row that somebody else has locked.
    pub(crate) fn may_be_of_one(&self) -> bool {
        match (self, self.code()) {
            (_, Some(code)) if code.is_of_the_table() => false,
            (Self::Rejected { retry: false, .. }, _) => true,
            // A deadlock, a conflict.
            (_, Some(Code::SqlState(state))) if [*b"40P01", *b"40001"].contains(&state) => true,
            (_, Some(Code::Mysql(1213))) => true,
            _ => self.is_of_a_locked_row(),
        }
    }

    /// Whether somebody else has a row locked, for longer than a statement waits for it.
    pub(crate) fn is_of_a_locked_row(&self) -> bool {
        match self.code() {
            Some(Code::SqlState(state)) => state == *b"55P03",
            Some(Code::Mysql(number)) => number == 1205,
            _ => false,
        }
    }

    /// The server's own code for a rejection.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Rejected { code, .. } => *code,
            _ => None,
        }
    }
}

/// The server's code for an error. Unlike the error's text, it does not change with versions and languages:
/// decisions go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Code {
    /// PostgreSQL's SQLSTATE, such as `55P03`.
    SqlState([u8; 5]),
    /// The number of a MySQL or MariaDB error.
    Mysql(u16),
    /// SQLite's primary result code.
    Sqlite(i32),
    /// The status of an HTTP answer.
    Http(u16),
    /// None of a server's: there is no way to a connection, and there will be none.
    NoWay,
}

impl Code {
    /// The SQLSTATE of this text; [`None`] if it is not one.
    pub fn sql_state(text: &str) -> Option<Self> {
        text.as_bytes().try_into().ok().map(Self::SqlState)
    }

    /// Whether it is about the table or the account, and so about each row alike. Class 42 of PostgreSQL is about names and
    /// rights, but a policy for rows says 42501, too.
    fn is_of_the_table(self) -> bool {
        match self {
            Self::SqlState(state) => {
                state == *b"3F000" || (state.starts_with(b"42") && state != *b"42501")
            }
            Self::Mysql(number) => matches!(number, 1044 | 1049 | 1054 | 1142 | 1143 | 1146),
            Self::Sqlite(_) | Self::Http(_) | Self::NoWay => false,
        }
    }
}

/// Why a guard can no longer be sure that it holds its lock. Its text is one line, and says why the
/// renewals failed, where that is known. So it has no `source()`; [`last_failure`](Self::last_failure) is that error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LostReason {
    /// No renewal was confirmed before the local deadline: the server may since have given the
    /// lock to another.
    #[error("no renewal was confirmed before the lease's deadline{}", after(.last_failure))]
    Deadline {
        /// Why the last renewal failed. [`None`] if none had failed since the last success: the
        /// process was stopped, say, or the answer is still outstanding.
        last_failure: Option<Failure>,
    },
    /// The server said that the lease is no longer ours.
    #[error("the server says that the lease is no longer ours")]
    Taken,
    /// The connection that held the lock has broken, or can no longer be trusted.
    #[error("the connection that held the lock is gone{}", after(.last_failure))]
    Disconnected {
        /// How the connection failed. [`None`] if it was closed from this side.
        last_failure: Option<Failure>,
    },
    /// The guard is a copy in a fork of the process that took the lock. Told by drivers.
    #[error("the lock belongs to the process that this one was forked from")]
    Forked,
    /// Nobody renews the lock any more: the driver has ended before its guards. The runtime that it ran on has ended, or
    /// one of its threads panicked, which is a bug. Told by drivers.
    #[error(
        "nobody renews the lock any more: its driver, or the runtime that it ran on, has ended"
    )]
    Unattended,
    /// The place of the lock was deleted, or something else took its place: another may have got
    /// the lock there.
    #[error("{failure}")]
    Gone {
        /// It names the thing that was deleted or replaced, and says what to do.
        failure: Failure,
    },
}

impl LostReason {
    /// The last error before the loss, if there was one.
    pub fn last_failure(&self) -> Option<&Failure> {
        match self {
            Self::Deadline { last_failure } | Self::Disconnected { last_failure } => {
                last_failure.as_ref()
            }
            Self::Gone { failure } => Some(failure),
            Self::Taken | Self::Forked | Self::Unattended => None,
        }
    }
}

fn after(last: &Option<Failure>) -> String {
    last.as_ref().map_or_else(String::new, |last| format!(" (last error: {last})"))
}
