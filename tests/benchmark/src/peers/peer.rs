//! Who is compared, and what each promises.

use std::fmt;

/// One of those who are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// `tokio-postgres` with our two statements for advisory locks.
    RawAdvisory,
    /// The same with our statement that waits in the server's queue.
    QueuedRaw,
    Advisory,
    /// `postgres` with our two statements for advisory locks.
    BlockingRawAdvisory,
    BlockingAdvisory,
    Sqlx,
    /// Over a pool that pings a connection before it hands it out, which is the default.
    PingingSqlx,
    Rslock,
    /// Looks every millisecond, about.
    EagerRslock,
    Etcd,
    /// `tokio-postgres` with our two statements for a table.
    RawTable,
    Table,
    /// `postgres` with our two statements for a table.
    BlockingRawTable,
    BlockingTable,
}

/// All, in the order of the tables' rows.
pub(crate) const PEERS: [Peer; 14] = [
    Peer::RawAdvisory,
    Peer::QueuedRaw,
    Peer::Advisory,
    Peer::BlockingRawAdvisory,
    Peer::BlockingAdvisory,
    Peer::Sqlx,
    Peer::PingingSqlx,
    Peer::Rslock,
    Peer::EagerRslock,
    Peer::Etcd,
    Peer::RawTable,
    Peer::Table,
    Peer::BlockingRawTable,
    Peer::BlockingTable,
];

impl Peer {
    /// The raw driver that runs the same statements, or does as little that lasts.
    pub(crate) fn raw(self) -> Option<Self> {
        match self {
            Self::RawTable | Self::Table => Some(Self::RawTable),
            Self::BlockingRawTable | Self::BlockingTable => Some(Self::BlockingRawTable),
            Self::BlockingRawAdvisory | Self::BlockingAdvisory => Some(Self::BlockingRawAdvisory),
            Self::Etcd => None,
            _ => Some(Self::RawAdvisory),
        }
    }

    /// Whether it blocks the thread that it runs on.
    pub(crate) fn blocks(self) -> bool {
        use Peer::{BlockingAdvisory, BlockingRawAdvisory, BlockingRawTable, BlockingTable};
        matches!(self, BlockingAdvisory | BlockingRawAdvisory | BlockingRawTable | BlockingTable)
    }

    /// Whether it is measured at all without contenders: both settings of rslock are the same then, and nothing waits.
    pub(crate) fn makes_pairs(self) -> bool {
        !matches!(self, Self::EagerRslock | Self::QueuedRaw)
    }

    /// Whether it waits for a lock in a task, and not as another does.
    pub(crate) fn contends(self) -> bool {
        use Peer::{Advisory, EagerRslock, Etcd, QueuedRaw, Rslock, Sqlx, Table};
        matches!(self, QueuedRaw | Advisory | Table | Sqlx | Rslock | EagerRslock | Etcd)
    }

    /// Whether it locks many names in tasks.
    pub(crate) fn shares(self) -> bool {
        use Peer::{Advisory, Etcd, RawAdvisory, RawTable, Rslock, Sqlx, Table};
        matches!(self, RawAdvisory | RawTable | Advisory | Table | Sqlx | Rslock | Etcd)
    }

    /// Whether a lock outlives a crash of the server, whether a grant has a fencing token, and whether the holder is told of
    /// a loss.
    pub(crate) fn promises(self) -> [&'static str; 3] {
        match self {
            Self::RawAdvisory | Self::QueuedRaw | Self::BlockingRawAdvisory => ["no", "yes", "no"],
            Self::Advisory | Self::BlockingAdvisory => ["no", "yes", "yes"],
            Self::Sqlx | Self::PingingSqlx => ["no", "no", "no"],
            Self::Rslock | Self::EagerRslock => ["no", "no", "no"],
            Self::Etcd => ["yes", "yes", "no"],
            Self::RawTable | Self::BlockingRawTable => ["yes", "yes", "no"],
            Self::Table | Self::BlockingTable => ["yes", "yes", "yes"],
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RawAdvisory => "tokio-postgres, our statements for advisory locks",
            Self::QueuedRaw => "tokio-postgres, our statement that waits",
            Self::Advisory => "**lock-async, PostgreSQL advisory**",
            Self::BlockingRawAdvisory => "postgres, our statements for advisory locks",
            Self::BlockingAdvisory => "**lock-sync, PostgreSQL advisory**",
            Self::Sqlx => "sqlx `PgAdvisoryLock`, pool without pings",
            Self::PingingSqlx => "sqlx `PgAdvisoryLock`, pool with pings",
            Self::Rslock => "rslock on Valkey",
            Self::EagerRslock => "rslock, retries within 2 ms",
            Self::Etcd => "etcd's lock service",
            Self::RawTable => "tokio-postgres, our statements for a table",
            Self::Table => "**lock-async, PostgreSQL table**",
            Self::BlockingRawTable => "postgres, our statements for a table",
            Self::BlockingTable => "**lock-sync, PostgreSQL table**",
        })
    }
}
