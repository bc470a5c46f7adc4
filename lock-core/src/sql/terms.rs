//! The terms on which a table's statements are made.

use super::{Codec, Dialect, mysql, node_distributed_lock, postgres};
use crate::name::TableName;
use core::time::Duration;

/// The demands on the server, and the kind of its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Terms {
    /// The server may forget locks in a crash.
    pub(super) relaxed: bool,
    /// A lease ends when it has not changed for its TTL by a waiter's clock, whatever the server's shows.
    pub(super) watched: bool,
    /// The time that a request may take at the server.
    pub(super) request: Duration,
    /// The session may be anybody's, so that statements carry the settings that matter.
    pub(super) carries: bool,
    /// The server is a node of a cluster whose others decide, too.
    pub(super) cluster: bool,
    /// The table is that of [another package](super::node_distributed_lock), whose users all have this TTL.
    pub(super) fleet: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        let request = Duration::from_secs(5);
        Self {
            relaxed: false,
            watched: false,
            request,
            carries: false,
            cluster: false,
            fleet: None,
        }
    }
}

impl Codec {
    /// The same for the table in `schema`, unless another one was named, and for `account`. [`None`] for a
    /// schema that cannot be written.
    pub(super) fn settled(&self, schema: Option<&str>, account: &str) -> Option<Self> {
        let codec = match (schema, self.table.parts().0) {
            (Some(schema), None) => self.made(self.table.within(schema)?, self.terms),
            _ => self.clone(),
        };
        Some(Self { account: Some(account.into()), ..codec })
    }

    /// With the time that a request may take at the server.
    #[must_use]
    pub fn within(self, request: Duration) -> Self {
        let terms = Terms { request, ..self.terms };
        Self { terms, ..self }
    }

    /// For locks that may be forgotten when the server's machine crashes, so that a server or a table is not refused for
    /// that.
    #[must_use]
    pub fn relaxed(&self) -> Self {
        self.made(self.table.clone(), Terms { relaxed: true, ..self.terms })
    }

    /// For a server whose clock is not trusted: a lease ends when it has not changed for its TTL by the clock of whoever
    /// waits for it. SQLite's clock is never set, and its leases end as they always do.
    #[must_use]
    pub fn watched(&self) -> Self {
        self.made(self.table.clone(), Terms { watched: true, ..self.terms })
    }

    /// Whether the connection's session may be anybody's. So it is through a pooler, and on a client that was brought.
    /// Then its statements carry the settings that matter, none is prepared, nothing is left behind in the session,
    /// and no notification is expected on it. A [`Setup`](super::Setup) finds that out.
    pub fn carries(&self) -> bool {
        self.terms.carries
    }

    /// The same for a session that may be anybody's, or is ours.
    pub(super) fn carrying(&self, carries: bool) -> Self {
        let carries = carries || self.terms.fleet.is_some();
        self.made(self.table.clone(), Terms { carries, ..self.terms })
    }

    /// The same on these terms.
    fn made(&self, table: TableName, terms: Terms) -> Self {
        let made = match self.dialect {
            Dialect::Postgres { .. } => match terms.fleet {
                Some(ttl) => node_distributed_lock::make(table, terms, ttl),
                None => postgres::make(table, terms),
            },
            Dialect::Mysql { .. } => mysql::make(table, terms),
            Dialect::Sqlite { .. } => self.clone(),
        };
        Self { creates: self.creates, account: self.account.clone(), terms, ..made }
    }
}
