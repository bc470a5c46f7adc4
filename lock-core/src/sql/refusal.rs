//! Why a connection is not used.

use super::Value;
use crate::error::{Code, Failure, TimingError};
use alloc::string::{String, ToString};

/// The reason why a connection is not used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server could not be reached or asked, or refused.
    Failed(Failure),
    /// Locks would not be safe there, or not possible.
    UnsafeServer(Refusal),
    /// There is no way to a connection, and there will be none: the one that was handed over is gone.
    NoWay(String),
    /// The way to the server is too slow for the leases.
    TooSlow(TimingError),
}

impl ConnectError {
    /// The failure of a request for which a connection was made anew.
    ///
    /// Only the first connect refuses for good. A server that was fit before may be fit again: in a
    /// switch-over a client meets standbys, read-only primaries, missing tables and unknown passwords. So
    /// the request was not sent, and is sent again until its caller's limit.
    pub fn before_request(self) -> Failure {
        match self {
            Self::Failed(gone @ Failure::Gone(_)) => gone,
            Self::Failed(failure) => Failure::NotSent(failure.to_string()),
            Self::UnsafeServer(refusal) => Failure::NotSent(refusal.to_string()),
            Self::NoWay(why) => Failure::refused(why).with_code(Some(Code::NoWay)),
            Self::TooSlow(error) => Failure::NotSent(error.to_string()),
        }
    }

    /// Whether the first connect ends with it. Anything else may pass, and the connect is worth another try.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Failed(failure) => matches!(failure, Failure::Rejected { retry: false, .. }),
            Self::UnsafeServer(_) | Self::NoWay(_) | Self::TooSlow(_) => true,
        }
    }
}

impl From<TimingError> for ConnectError {
    fn from(error: TimingError) -> Self {
        Self::TooSlow(error)
    }
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The reason why a server or table is refused, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A standby grants what the primary does not know of.
    #[error("the server is a standby: connect to the primary")]
    Standby,
    /// The server is too old.
    #[error("the server is too old: PostgreSQL 12, MySQL 8.0, MariaDB 10.6 or later is needed")]
    UnsupportedVersion,
    /// Its idle connections live on, and with them the locks of clients that are gone.
    #[error(
        "the server is too old for advisory locks: PostgreSQL 14 or later is needed; or use a lock table"
    )]
    KeepsIdle,
    /// Advisory locks belong to the server's connection, and a pooler changes that.
    #[error(
        "there is a pooler before the server: connect to the server itself, or use a lock table"
    )]
    Pooled,
    /// Advisory locks belong to one node.
    #[error("each node of this cluster has advisory locks of its own: use a lock table")]
    SeveralPrimaries,
    /// Fences are read from the clock when a wait is over, not when it began.
    #[error("the server's clock stands still in a statement: start it without --sysdate-is-now")]
    FrozenClock,
    /// A replica, or a server that is being moved.
    #[error("the server is read-only: connect to the primary")]
    ReadOnly,
    /// A role, a database or a server whose transactions write nothing unless they are told to.
    #[error(
        "transactions are read-only here: connect to the primary, or see who makes them so (PostgreSQL: default_transaction_read_only of the role, the database or the server; MySQL and MariaDB: SET SESSION TRANSACTION READ ONLY)"
    )]
    ReadOnlyTransactions,
    /// The connection does not commit its statements by itself.
    #[error(
        "the connection is inside a transaction: commit it or roll it back before you hand the connection over"
    )]
    InTransaction,
    /// Something between us and the server undoes the session's settings, say.
    #[error("statements do not commit by themselves here: have autocommit on")]
    NoAutocommit,
    /// A mode of MariaDB's, in which an update's assignments do not see each other.
    #[error(
        "assignments are not made in order here: have sql_mode without SIMULTANEOUS_ASSIGNMENT"
    )]
    SimultaneousAssignment,
    /// On MySQL and MariaDB, a session may have a time of its own.
    #[error("the session's time was set (SET timestamp): let it go by the server's clock")]
    SetTime,
    /// A mode of MariaDB's, in which rows that are found by others are not changed.
    #[error("leases could not be renewed with sql_safe_updates: switch it off for these sessions")]
    SafeUpdates,
    /// Names and holders would be others than those that were meant, or none.
    #[error(
        "the session's character set is not UTF-8: have client_encoding set to UTF8 (PostgreSQL), or use SET NAMES utf8mb4 (MySQL, MariaDB)"
    )]
    NotUtf8,
    /// A schema or database whose name would have to be escaped.
    #[error(
        "the table's schema {0:?} has a quote, a backslash or one of ${{}}? in its name: choose another schema"
    )]
    OddSchema(String),
    /// A server that answers before a commit is on the disk forgets locks and fences in a crash.
    #[error(
        "commits do not survive a crash of this server: have {0} set to 1, use advisory locks (protocol=advisory), or accept that a crash forgets locks (durability=relaxed)"
    )]
    NotFlushed(&'static str),
    /// Only InnoDB's tables survive a crash and are locked row by row.
    #[error("{table} is no InnoDB table but {engine}: ALTER TABLE {table} ENGINE = InnoDB")]
    NotInnoDb {
        /// The table's quoted name.
        table: String,
        /// Its engine.
        engine: String,
    },
    /// On MySQL and MariaDB, a trigger hides from us what a statement did. An account without the right `TRIGGER`
    /// cannot see that there is one.
    #[error(
        "{0} has triggers, which hide what a statement did: drop them, or choose another table name"
    )]
    Triggers(String),
    /// Other sessions do not see a temporary table, and are granted the same locks in another.
    #[error(
        "{0} is a temporary table here, which no other session sees: drop it, or choose another table name"
    )]
    Temporary(String),
    /// An unlogged table is empty after a crash, and every lock is forgotten.
    #[error(
        "{0} does not survive a crash: use a plain table (ALTER TABLE {0} SET LOGGED), or accept that a crash forgets locks (durability=relaxed)"
    )]
    NotDurable(String),
    /// The table exists, with other columns.
    #[error(
        "{table} is not a lock table (expected: {expected}; found: {found}): choose another table name"
    )]
    WrongShape {
        /// The table's quoted name.
        table: String,
        /// The columns that a lock table has.
        expected: String,
        /// The ones it has.
        found: String,
    },
    /// The table does not exist, and may not be created.
    #[error(
        "{table} does not exist and could not be created ({reason}): {grant}have it created by somebody who may, with: {ddl}"
    )]
    NoTable {
        /// The table's quoted name.
        table: String,
        /// The server's message.
        reason: String,
        /// The statement that would let us create it, and "or", if it was denied; nothing otherwise.
        grant: String,
        /// The statement that creates it.
        ddl: String,
    },
    /// The table does not exist, and this connection is only there to look.
    #[error("{0} does not exist: no lock was ever taken there, or it was deleted")]
    NothingThere(String),
    /// The server's answer makes no sense.
    #[error("the server's answer makes no sense: is it a server of the kind that was named?")]
    UnexpectedResponse,
}

impl Refusal {
    /// The fault of a session of MySQL or MariaDB by its number in the check: assignments are not made in order; it does not go
    /// by the server's clock, unless the statement took long; it writes nothing; it changes no row without a limit; or it has
    /// another character set.
    pub(super) fn of_session(number: &Value) -> Option<Self> {
        match number {
            Value::Int(1) => None,
            Value::Int(2) => Some(Self::SimultaneousAssignment),
            Value::Int(3) => Some(Self::SetTime),
            Value::Int(4) => Some(Self::ReadOnlyTransactions),
            Value::Int(5) => Some(Self::SafeUpdates),
            Value::Int(6) => Some(Self::NotUtf8),
            _ => Some(Self::NoAutocommit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::Timing;
    use core::time::Duration;

    /// The request itself has never left, so it is sent again.
    #[test]
    fn a_request_without_a_connection_was_not_sent() {
        let second = Duration::from_secs(1);
        let slow = Timing::default().with_room_for(second * 2).lasting(second * 5);
        let not_sent: [ConnectError; 5] = [
            Failure::Unknown("no answer in time".to_string()).into(),
            Failure::NotSent("no route".to_string()).into(),
            Failure::refused("no such user".to_string()).into(),
            ConnectError::UnsafeServer(Refusal::Standby),
            slow.expect_err("too slow").into(),
        ];
        for error in not_sent {
            let failure = error.clone().before_request();
            assert!(matches!(failure, Failure::NotSent(_)), "{error:?}: {failure:?}");
        }
        let gone = Failure::Gone("the session has ended".to_string());
        assert_eq!(ConnectError::from(gone.clone()).before_request(), gone);
        let no_way = ConnectError::NoWay("the connection was dropped".to_string());
        assert!(matches!(no_way.before_request(), Failure::Rejected { retry: false, .. }));
    }
}
