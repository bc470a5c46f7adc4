//! How locks are kept where they are kept.

use super::ConfigError;
use alloc::string::ToString;
use core::fmt;

/// The kind of lock at its place.
///
/// | | a lock is | when its holder dies, it is free | shared locks |
/// |---|---|---|---|
/// | [`Table`](Self::Table) | a row of a table | after the TTL | no |
/// | [`Advisory`](Self::Advisory) | a lock of the server's own, of a connection | when the server sees the connection end, or after the TTL | PostgreSQL |
/// | [`Session`](Self::Session) | a key in Consul, of a session | after one to two TTLs, and the lock-delay | no |
/// | [`NodeDistributedLock`](Self::NodeDistributedLock) | a row of another package's table | after the TTL | no |
/// | [`SqlLock`](Self::SqlLock) | a row of another package's table, locked by an open transaction | when the server sees the connection end, or after the TTL | no |
///
/// Locks of different protocols do not exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// On PostgreSQL, MySQL, MariaDB and SQLite, and there the one if none is named.
    Table,
    /// On PostgreSQL from version 14 (`pg_advisory_lock`), MySQL and MariaDB (`GET_LOCK`). Nothing is
    /// written: they survive neither a restart of the server nor a fail-over. Each waiting acquire
    /// takes a connection of its own.
    Advisory,
    /// On Consul, which has no other.
    Session,
    /// On PostgreSQL, in the table of the npm package `node-distributed-lock`, beside its users; see
    /// [`node_distributed_lock`](crate::sql::node_distributed_lock).
    NodeDistributedLock,
    /// On MySQL and MariaDB, in the table of the npm package `sql-lock`, beside its users; see
    /// [`sql_lock`](crate::sql::advisory::sql_lock). Each lock that is held or waited for takes a connection of its own.
    SqlLock,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Advisory => "advisory",
            Self::Session => "session",
            Self::NodeDistributedLock => "node-distributed-lock",
            Self::SqlLock => "sql-lock",
        })
    }
}

impl core::str::FromStr for Protocol {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Ok(match text {
            "table" => Self::Table,
            "advisory" => Self::Advisory,
            "session" => Self::Session,
            "node-distributed-lock" => Self::NodeDistributedLock,
            "sql-lock" => Self::SqlLock,
            _ => {
                return Err(ConfigError::Parameter {
                    name: "protocol".to_string(),
                    reason: "must be table, advisory, session, node-distributed-lock or sql-lock"
                        .to_string(),
                });
            }
        })
    }
}
