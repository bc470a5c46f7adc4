//! Looking at locks and putting them right by hand: for operators, not for the protocols.
//!
//! | request | what is done | a table's rows need | Consul's keys need |
//! |---|---|---|---|
//! | [`List`](AdminRequest::List) | shows the locks that are held | `SELECT` | `key_prefix` read |
//! | [`Status`](AdminRequest::Status) | shows one lock, also if it is free | `SELECT` | `key` read |
//! | [`Break`](AdminRequest::Break) | takes the lock from its holder, and raises its fence | `UPDATE` | `session` write; it ends the holder's session, and all its locks |
//! | [`Purge`](AdminRequest::Purge) | removes what is long unused | `DELETE` | there is no such thing |
//!
//! A break names the fence of the hold that is meant: a later holder keeps the lock. The
//! holder hears that it has lost at its next renewal.
//!
//! A purge forgets fences, and must not make them fall. The first fence of a name is the server's
//! clock in µs; so a row goes only when its fence is older by that clock than the time it must have
//! been unused, which is at least [`SHORTEST`]: the clock would have to be stepped back by more for a
//! later fence to be lower.

mod observation;
mod paging;

pub use observation::{Leader, Observation};
pub use paging::{Listing, Purging};

use crate::duration::Shown;
use crate::error::{Failure, NameError};
use crate::fence::Fence;
use crate::name::LockName;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// If an answer is about so many locks, there may be more.
pub const PAGE: usize = 500;

/// How long a row must have been unused before it may be purged, at least.
pub const SHORTEST: Duration = Duration::from_secs(3600);

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AdminRequest {
    /// The locks that are held, those whose names come after this one.
    List {
        /// The last name of the page before.
        after: Option<String>,
    },
    /// One lock.
    Status {
        /// Its name.
        name: LockName,
    },
    /// Takes the lock from the holder that was granted this fence.
    Break {
        /// Its name.
        name: LockName,
        /// The fence of the hold that is meant.
        fence: Fence,
    },
    /// Removes the rows of locks that are free and were not granted for so long. Only
    /// [`purge`](Self::purge) makes it.
    #[non_exhaustive]
    Purge {
        /// At least [`SHORTEST`].
        unused: Duration,
    },
}

/// Why rows cannot be purged. Told without asking the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PurgeError {
    /// They are too young.
    #[error(
        "rows can be removed when they were not used for {} or longer: else a fence could fall",
        Shown(SHORTEST)
    )]
    TooYoung,
    /// There are none: Consul keeps only keys.
    #[error("Consul has no rows to purge")]
    NoRows,
}

impl AdminRequest {
    /// Removes the rows of locks that are free and were not granted for so long.
    ///
    /// # Errors
    /// [`PurgeError::TooYoung`] if that is less than [`SHORTEST`].
    pub fn purge(unused: Duration) -> Result<Self, PurgeError> {
        if unused < SHORTEST { Err(PurgeError::TooYoung) } else { Ok(Self::Purge { unused }) }
    }

    /// The answer where no lock was ever taken: the default table does not exist yet.
    pub fn of_nothing(&self) -> AdminResponse {
        match self {
            Self::List { .. } | Self::Status { .. } => AdminResponse::Locks(Vec::new()),
            Self::Break { .. } => AdminResponse::Broken(None),
            Self::Purge { .. } => AdminResponse::Purged(0),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AdminResponse {
    /// Locks, in the order of their names as bytes.
    Locks(Vec<LockState>),
    /// What the next fence is greater than; `None` if that hold was over already.
    Broken(Option<Fence>),
    /// How many rows were removed; there may be more if it is a [`PAGE`].
    Purged(usize),
}

impl AdminResponse {
    /// The lock that [`AdminRequest::Status`] was about; [`None`] if it has no row.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if this answers another request.
    pub fn lock(self) -> Result<Option<LockState>, Failure> {
        match self {
            Self::Locks(mut locks) => Ok(locks.pop()),
            _ => Err(surprise()),
        }
    }

    /// The fence that [`AdminRequest::Break`] has raised; [`None`] if that hold was over already.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if this answers another request.
    pub fn raised(self) -> Result<Option<Fence>, Failure> {
        match self {
            Self::Broken(fence) => Ok(fence),
            _ => Err(surprise()),
        }
    }
}

fn surprise() -> Failure {
    Failure::Unknown("the answer is to another request".to_string())
}

/// A lock, as the server shows it. By the time it is read it may be out of date.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LockState {
    /// Its name.
    pub name: String,
    /// The fence of its holder; if it is free, what the next one is greater than.
    pub fence: Fence,
    /// The holder; `None` if the lock is free.
    pub hold: Option<Hold>,
}

/// Also of a [permit](LockName::permits), whose name [`LockName::new`] refuses.
impl TryFrom<&LockState> for LockName {
    type Error = NameError;

    fn try_from(state: &LockState) -> Result<Self, NameError> {
        LockName::stored(&state.name).map_or_else(|| LockName::new(&state.name), Ok)
    }
}

impl LockState {
    /// A lock in this state.
    pub fn new(name: impl Into<String>, fence: Fence, hold: Option<Hold>) -> Self {
        Self { name: name.into(), fence, hold }
    }
}

/// The holder of a lock, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Hold {
    /// What the holder said of itself: host, process id and a label of its own.
    pub label: String,
    /// How long it has had the lock, by the server's clock. Consul does not tell.
    pub held_for: Option<Duration>,
    /// When its lease ends unless it is renewed, by the server's clock. Consul does not tell.
    pub expires_in: Option<Duration>,
    /// Its lease ends later than its TTL allows: the server's clock was set back since. If its holder is
    /// dead, whoever wants the lock gets it within two TTLs all the same.
    pub ends_late: bool,
    /// It was released, and nobody has it: it is [kept](crate::Request::Keep) until its lease ends.
    pub kept: bool,
}

impl Hold {
    /// A holder that calls itself so, of whom nothing else is known.
    pub fn new(label: impl Into<String>) -> Self {
        let (label, ends_late, kept) = (label.into(), false, false);
        Self { label, held_for: None, expires_in: None, ends_late, kept }
    }
}
