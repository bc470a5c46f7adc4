//! The table protocol's connections: one for all commands and, where the server tells what was freed,
//! one on which it is heard.

use super::{Backends, Source, SqlTable};
use crate::error::Error;
use lock_core::sql::Codec;
use std::time::Duration;

/// Connections to one table, as many as there are lanes.
pub(crate) struct Tables<S: Source> {
    pub(crate) codec: Codec,
    source: S,
    /// The one that was opened to see whether locks are safe there.
    first: Option<SqlTable<S::Session>>,
}

impl<S: Source> Tables<S> {
    /// Opens and checks a connection, so that what cannot work is told at once. Each step may take
    /// `budget`.
    pub(crate) async fn open(codec: Codec, mut source: S, budget: Duration) -> Result<Self, Error> {
        let session = source.session().ok_or_else(super::nowhere)?;
        let first = SqlTable::open(codec, session, budget).await?;
        // All others use the very table that this one found.
        Ok(Self { codec: first.codec.clone(), source, first: Some(first) })
    }
}

impl<S: Source> Backends for Tables<S> {
    type Backend = SqlTable<S::Session>;

    fn backend(&mut self) -> Option<Self::Backend> {
        self.first
            .take()
            .or_else(|| Some(SqlTable::new(self.codec.clone(), self.source.session()?)))
    }
}
