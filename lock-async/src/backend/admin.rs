//! An operator's requests about a lock table.

use super::Session;
use super::sql::Sql;
use crate::admin::{AdminBackend, Executing};
use crate::clock;
use lock_core::admin::AdminRequest;
use lock_core::config::Error;
use lock_core::sql::{Codec, ConnectError, Flow, Refusal};
use std::time::Duration;

/// A lock table, and the time limit of each statement. The table is never created.
pub(crate) struct TableAdmin<S> {
    table: Sql<S>,
    /// True if the table was named. The default table may be missing: no lock was ever acquired then.
    named: bool,
    budget: Duration,
}

impl<S: Session> TableAdmin<S> {
    pub(crate) async fn open(
        codec: Codec,
        session: S,
        named: bool,
        budget: Duration,
    ) -> Result<Self, Error> {
        let table = Sql::new(Flow::table(codec.look_only()), Some(session));
        let mut admin = Self { table, named, budget };
        admin.is_there().await?;
        Ok(admin)
    }

    /// True if the table exists.
    async fn is_there(&mut self) -> Result<bool, Error> {
        match self.table.connect(self.budget).await {
            Ok(()) => Ok(true),
            Err(ConnectError::UnsafeServer(Refusal::NothingThere(_))) if !self.named => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl<S: Session> AdminBackend for TableAdmin<S> {
    fn execute<'a>(&'a mut self, request: &'a AdminRequest) -> Executing<'a> {
        Box::pin(async move {
            if !self.is_there().await? {
                return Ok(request.of_nothing());
            }
            let Some(codec) = self.table.flow.codec() else { return Ok(request.of_nothing()) };
            let mut exchange = codec.encode_admin(request, clock::now());
            while let Some(statement) = exchange.poll_statement() {
                match self.table.run(&statement, self.budget).await {
                    Ok(rows) => exchange.handle_rows(rows),
                    Err(failure) => exchange.handle_failure(failure),
                }
            }
            Ok(exchange.finish()?)
        })
    }
}
