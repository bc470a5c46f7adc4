//! The table protocol's connections: one for all commands and, where the server tells what was freed,
//! one on which it is heard.

use super::{Backend, Backends, Source, SqlTable};
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
    pub(crate) fn open(
        codec: Codec,
        mut source: S,
        timing: Timing,
    ) -> Result<(Self, Timing), Error> {
        let session = source.session(false).ok_or_else(super::unsupported)?;
        let (first, timing) = match S::RECONNECTS {
            true => SqlTable::open_at_pace(codec, session, timing)?,
            false => (SqlTable::open(codec, session, timing.request())?, timing),
        };
        // All others use the very table that this one found.
        Ok((Self { codec: first.codec.clone(), source, first: Some(first) }, timing))
    }
}

impl<S: Source> Backends for Tables<S> {
    fn are_many(&self) -> bool {
        false
    }

    fn backend(&mut self, waits: bool) -> Option<Box<dyn Backend>> {
        let first = if waits { None } else { self.first.take() };
        let table = first
            .or_else(|| Some(SqlTable::new(self.codec.clone(), self.source.session(waits)?)))?;
        Some(Box::new(table))
    }
}
