//! An operator's requests about a lock table.

use super::sql::Sql;
use super::{Backend, Session};
use crate::admin::{AdminBackend, Executing, Waiting};
use crate::clock;
use lock_core::admin::AdminRequest;
use lock_core::config::Error;
use lock_core::sql::{Codec, ConnectError, Flow, Refusal};
use lock_core::{LockName, Reply, Request};
use std::time::Duration;

/// A lock table, and the time limit of each statement. The table is never created.
pub(crate) struct TableAdmin<S> {
    table: Sql<S>,
    /// True if the table was named. The default table may be missing: no lock was ever acquired then.
    named: bool,
    /// True if the server notifies the connection of freed locks, once it asks for that.
    notified: bool,
    budget: Duration,
}

impl<S: Session> TableAdmin<S> {
    pub(crate) async fn open(
        codec: Codec,
        session: S,
        named: bool,
        notified: bool,
        budget: Duration,
    ) -> Result<Self, Error> {
        let table = Sql::new(Flow::table(codec.look_only()), Some(session));
        let mut admin = Self { table, named, notified, budget };
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

    fn moved(&mut self) {
        if let Some(session) = &mut self.table.session {
            session.moved();
        }
    }

    fn wait<'a>(&'a mut self, name: &'a LockName, up_to: Duration) -> Waiting<'a> {
        Box::pin(async move {
            let until = tokio::time::Instant::now() + up_to;
            if self.notified && self.table.flow.is_notified() {
                let listens = Request::Subscribe { up_to };
                let told = self.table.execute(listens, clock::now(), self.budget).await;
                if let Ok(Reply::News(news)) = told
                    && !news.is_empty()
                {
                    return news.is_about(name);
                }
            }
            // A broken connection is mended by the next look.
            tokio::time::sleep_until(until).await;
            false
        })
    }
}
