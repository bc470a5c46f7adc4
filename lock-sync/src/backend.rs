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
use std::time::Duration;

/// Executes commands, one at a time, on the calling thread.
pub(crate) trait Backend: Send + 'static {
    type Protocol: Protocol;

    /// Executes a command that was made at `now`, within `budget`.
    fn execute(
        &mut self,
        command: &<Self::Protocol as Protocol>::Command,
        now: Instant,
        budget: Duration,
    ) -> Result<<Self::Protocol as Protocol>::Reply, Failure>;
}

/// A connection that statements can be run on, and that can be opened again.
pub(crate) trait Session: Send + 'static {
    /// Whether it is still the connection that was opened.
    fn is_open(&self) -> bool;

    /// Opens it, or a new one in its place, within `budget`.
    fn open(&mut self, budget: Duration) -> Result<(), Failure>;

    /// Runs a statement within `budget`. After [`Failure::Unknown`] it is no longer open.
    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure>;
}

/// The table protocol over a session.
pub(crate) struct SqlTable<S> {
    codec: Codec,
    session: S,
    /// Whether this connection is through its checks.
    checked: bool,
}

impl<S: Session> SqlTable<S> {
    /// Opens and checks the session, so that what cannot work is told at once.
    pub(crate) fn open(codec: Codec, session: S, budget: Duration) -> Result<Self, Error> {
        let mut table = Self { codec, session, checked: false };
        table.ready(budget).map_err(|trouble| match trouble {
            Trouble::Unfit(refusal) => Error::Unfit(refusal),
            Trouble::Failed(failure) => failure.into(),
        })?;
        Ok(table)
    }

    /// Opens the session and lets it through its checks, if it is not open.
    fn ready(&mut self, budget: Duration) -> Result<(), Trouble> {
        if self.checked && self.session.is_open() {
            return Ok(());
        }
        self.checked = false;
        self.session.open(budget).map_err(Trouble::Failed)?;
        let mut setup = self.codec.setup();
        let mut answer = None;
        loop {
            match setup.step(answer.take()) {
                Step::Run(statement) => answer = Some(self.session.run(&statement, budget)),
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

    fn execute(
        &mut self,
        command: &Command,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        // Whatever goes wrong before the command's own statement: the command was not sent.
        self.ready(budget).map_err(|trouble| match trouble {
            Trouble::Failed(rejected @ Failure::Rejected { .. }) => rejected,
            Trouble::Failed(failure) => Failure::NotSent(failure.to_string()),
            Trouble::Unfit(refusal) => {
                Failure::Rejected { retry: false, message: refusal.to_string() }
            }
        })?;
        let mut exchange = self.codec.encode(command, now);
        while let Some(statement) = exchange.poll_statement() {
            match self.session.run(&statement, budget) {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        exchange.finish()
    }
}
