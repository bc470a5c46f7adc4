//! The table protocol's connections: one for all commands and, where the server tells what was freed,
//! one on which it is heard.

use super::{Backends, Source, SqlTable};
use lock_core::Timing;
use lock_core::config::Error;
use lock_core::sql::Codec;

/// Connections to one table, as many as there are lanes.
pub(crate) struct Tables<S: Source> {
    pub(crate) codec: Codec,
    source: S,
    /// The one that was opened to see whether locks are safe there.
    first: Option<SqlTable<S::Session>>,
}

impl<S: Source> Tables<S> {
    /// Opens and checks a connection, so that what cannot work is told at once; and the timing at its pace.
    pub(crate) async fn open(
        codec: Codec,
        mut source: S,
        timing: Timing,
    ) -> Result<(Self, Timing), Error> {
        let session = source.session().ok_or_else(super::unsupported)?;
        let (first, timing) = match S::RECONNECTS {
            true => SqlTable::open_at_pace(codec, session, timing).await?,
            false => (SqlTable::open(codec, session, timing.request()).await?, timing),
        };
        // All others use the very table that this one found.
        Ok((Self { codec: first.codec.clone(), source, first: Some(first) }, timing))
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
