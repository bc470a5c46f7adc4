//! What executes the core's commands.

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod sslmode;

use crate::error::Error;
use lock_core::sql::{Codec, Refusal, Rows, Statement, Step};
use lock_core::table::{Command, Reply, Table};
use lock_core::{Failure, Instant, Protocol};
use std::future::Future;
use std::time::Duration;

/// Executes commands, one at a time.
pub(crate) trait Backend: Send + 'static {
    type Protocol: Protocol<Command: Send + Sync, Reply: Send> + Send;

    /// Executes a command that was made at `now`, within `budget`. If it panics, it may be used
    /// again.
    fn execute(
        &mut self,
        command: &<Self::Protocol as Protocol>::Command,
        now: Instant,
        budget: Duration,
    ) -> impl Future<Output = Result<<Self::Protocol as Protocol>::Reply, Failure>> + Send;

    /// What the connection needs while there is nothing to execute. May be dropped at any time.
    fn idle(&mut self) -> impl Future<Output = ()> + Send;

    /// Says goodbye. Bounded in time.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A connection that statements can be run on, and that can be opened again.
pub(crate) trait Session: Send + 'static {
    /// Whether it is still the connection that was opened.
    fn is_open(&self) -> bool;

    /// Opens it, or a new one in its place, within `limit`.
    fn open(&mut self, limit: Duration) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Runs a statement within `limit`. After [`Failure::Unknown`] it is no longer open, unless
    /// what runs next is sure to run after that statement.
    fn run(
        &mut self,
        statement: &Statement,
        limit: Duration,
    ) -> impl Future<Output = Result<Rows, Failure>> + Send;

    /// What it needs while no statement runs. May be dropped at any time.
    fn idle(&mut self) -> impl Future<Output = ()> + Send;

    /// Says goodbye. Bounded in time.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The table protocol over a session.
pub(crate) struct SqlTable<S> {
    codec: Codec,
    session: S,
    /// Whether this connection is through its checks.
    checked: bool,
}

impl<S: Session> SqlTable<S> {
    /// Opens and checks the session, so that what cannot work is told at once. Each step may take
    /// `budget`.
    pub(crate) async fn open(codec: Codec, session: S, budget: Duration) -> Result<Self, Error> {
        let mut table = Self { codec, session, checked: false };
        table.ready(|| budget).await.map_err(|trouble| match trouble {
            Trouble::Unfit(refusal) => Error::Unfit(refusal),
            Trouble::Failed(failure) => failure.into(),
        })?;
        Ok(table)
    }

    /// Opens the session and lets it through its checks, if it is not open.
    async fn ready(&mut self, limit: impl Fn() -> Duration + Send) -> Result<(), Trouble> {
        if self.checked && self.session.is_open() {
            return Ok(());
        }
        self.checked = false;
        self.session.open(limit()).await.map_err(Trouble::Failed)?;
        let mut setup = self.codec.setup();
        let mut answer = None;
        loop {
            match setup.step(answer.take()) {
                Step::Run(statement) => answer = Some(self.session.run(&statement, limit()).await),
                Step::Ready => {
                    self.checked = true;
                    return Ok(());
                }
                Step::Failed(failure) => return Err(Trouble::Failed(failure)),
                Step::Refuse(refusal) => return Err(Trouble::Unfit(refusal)),
            }
        }
    }
}

enum Trouble {
    Failed(Failure),
    Unfit(Refusal),
}

impl<S: Session> Backend for SqlTable<S> {
    type Protocol = Table;

    async fn execute(
        &mut self,
        command: &Command,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let until = tokio::time::Instant::now() + budget;
        let limit = || until.saturating_duration_since(tokio::time::Instant::now());
        // Whatever goes wrong before the command's own statement: the command was not sent.
        self.ready(limit).await.map_err(|trouble| match trouble {
            Trouble::Failed(rejected @ Failure::Rejected { .. }) => rejected,
            Trouble::Failed(failure) => Failure::NotSent(failure.to_string()),
            Trouble::Unfit(refusal) => {
                Failure::Rejected { retry: false, message: refusal.to_string() }
            }
        })?;
        let mut exchange = self.codec.encode(command, now);
        while let Some(statement) = exchange.poll_statement() {
            match self.session.run(&statement, limit()).await {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        exchange.finish()
    }

    async fn idle(&mut self) {
        self.session.idle().await;
    }

    async fn close(self) {
        self.session.close().await;
    }
}
