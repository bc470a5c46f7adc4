//! The table protocol in SQL: statements to run, and what their rows mean.
//!
//! A driver runs what it is given and hands back the rows; it interprets nothing:
//!
//! ```text
//!   Setup     once a connection:  checks the server and the table, creates the table
//!   Codec     Request -> Exchange
//!   Exchange  poll_statement -> Statement     handle_rows(rows) ... finish() -> Reply
//! ```
//!
//! An uncontended acquire is one statement, and so is a renewal or a release of any number of
//! leases. Only when somebody else has a lock, a second statement asks who, and whoever asks first draws
//! a ticket, on PostgreSQL by the same statement and elsewhere by a third; those that wait and are not
//! told ask again. And on [`mysql`], where a
//! statement cannot return rows of what it changed, one reads what became of several leases.

mod admin;
pub mod advisory;
mod exchange;
mod flow;
pub mod mysql;
pub mod node_distributed_lock;
mod pin;
pub mod postgres;
mod prepared;
mod refusal;
mod rights;
mod setup;
pub mod sqlite;
mod terms;

use crate::error::ClaimError;
use crate::name::{LockName, Owner, TableName};
use crate::request::{Mode, Request};
use crate::time::Instant;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

pub use admin::AdminExchange;
pub use exchange::Exchange;
pub use flow::{Do, Flow, Made};
pub use prepared::{Prepared, Run};
pub use refusal::{ConnectError, Refusal};
pub use setup::{Setup, Step};
use terms::Terms;

/// How long after its grant a lock can be kept at most: as long as the longest TTL.
const LONGEST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A value in SQL: a parameter, or a column of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// NULL.
    Null,
    /// A 64-bit integer (`bigint`, `INTEGER`).
    Int(i64),
    /// Text.
    Text(String),
    /// An array of texts (PostgreSQL's `text[]`; parameters only).
    Texts(Vec<String>),
    /// An array of 64-bit integers (PostgreSQL's `bigint[]`; parameters only).
    Ints(Vec<i64>),
}

/// The rows that a statement returned.
pub type Rows = Vec<Vec<Value>>;

/// One statement, committed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Statement {
    /// The same text every time, so that a driver may keep it prepared under it.
    pub text: Arc<str>,
    /// Its parameters, in order.
    pub params: Vec<Value>,
    /// Whether its commit must be on the disk before it is answered. Without it, and where the client
    /// has the choice, a driver need not wait for the disk; it may.
    pub durable: bool,
    /// Whether it is run again and again on a connection, so that a driver does well to have it prepared
    /// from the second time on, though that takes another round trip. The others are not worth it, and
    /// some cannot be prepared at all.
    pub repeated: bool,
}

impl Statement {
    /// One that is durable, and not repeated.
    pub fn new(text: impl Into<Arc<str>>, params: impl Into<Vec<Value>>) -> Self {
        Self { text: text.into(), params: params.into(), durable: true, repeated: false }
    }
}

/// Makes statements from requests, for one table in one dialect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Codec {
    dialect: Dialect,
    table: TableName,
    claim: Text,
    renew: Text,
    release: Text,
    /// The release that leaves a lock taken for a while, and the same that notifies no waiter.
    keep: Option<Arc<[Text; 2]>>,
    /// The release that notifies no waiter, where releases notify waiters.
    untold: Option<Arc<Text>>,
    holders: Text,
    /// The statement by which a waiter draws a ticket, if reading the holders does not draw it.
    draw: Option<Arc<str>>,
    /// The statement that ends a lease that has not changed, where leases are watched instead of compared with the
    /// server's clock.
    end: Option<Arc<str>>,
    /// Whether a missing table is created.
    creates: bool,
    /// The statement that makes a lease end a TTL from now if it ends later, where the clock may be set back.
    correct: Option<Arc<str>>,
    terms: Terms,
    /// The server's name for our account, once it was asked.
    account: Option<Arc<str>>,
}

/// A statement about claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Text {
    /// However many there are.
    any: Arc<str>,
    /// The same for one, where that is less work for the server.
    one: Option<Arc<str>>,
}

impl Text {
    /// The text for so many claims; and the one, if it is for that.
    fn of<'a, C>(&self, claims: &'a [C]) -> (&Arc<str>, Option<&'a C>) {
        match (claims, &self.one) {
            ([claim], Some(one)) => (one, Some(claim)),
            _ => (&self.any, None),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Dialect {
    Postgres {
        /// The statement that begins to listen.
        listen: Arc<str>,
        /// The statement that listens no more.
        unlisten: Arc<str>,
        /// The statement that sends a ping to all that listen.
        ping: Arc<str>,
    },
    /// With the id of the running kernel; see [`sqlite`].
    Sqlite {
        boot: String,
        /// A new database is to have a write-ahead log.
        log: bool,
    },
    Mysql {
        /// The statement that reads which claims are their owner's.
        mine: Text,
    },
}

impl Codec {
    /// Whether there is such a lock. To be asked before an attempt is made.
    ///
    /// # Errors
    /// [`ClaimError::NoShared`]: a row has one owner. [`ClaimError::TooLong`]: the table's column is shorter than the name.
    pub fn check(&self, name: &LockName, mode: Mode) -> Result<(), ClaimError> {
        let longest = self.terms.fleet.map(|_| node_distributed_lock::MAX_NAME);
        match longest {
            _ if mode == Mode::Shared => Err(ClaimError::NoShared),
            Some(longest) if name.as_str().chars().count() > longest => Err(ClaimError::TooLong),
            _ => Ok(()),
        }
    }

    /// Whether a lock can be kept for so long after its grant, though it is released. To be asked before an attempt is
    /// made.
    ///
    /// # Errors
    /// [`ClaimError::NoKeepInFleet`]; [`ClaimError::TooLongKept`] for more than a day.
    pub fn check_keep(&self, keep: Duration) -> Result<(), ClaimError> {
        match self.terms.fleet {
            Some(_) => Err(ClaimError::NoKeepInFleet),
            None if keep > LONGEST_KEPT => Err(ClaimError::TooLongKept),
            None => Ok(()),
        }
    }

    /// Whether the table is that of [another package](node_distributed_lock).
    pub fn is_shared_with_peers(&self) -> bool {
        self.terms.fleet.is_some()
    }

    /// The statements for `request`, made at `now`.
    pub fn encode(&self, request: &Request, now: Instant) -> Exchange {
        Exchange::new(Arc::new(self.clone()), request.clone(), now)
    }

    /// The checks to run on a new connection before its first request.
    pub fn setup(&self) -> Setup {
        Setup::new(self.clone())
    }

    /// The table, with the schema in which the server has it if the codec is [a setup's](Setup::codec).
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// The statement that creates the table, for those who create it by hand.
    pub fn create_table(&self) -> String {
        self.creation().replace("{table}", &self.dialect.quoted(&self.table))
    }

    fn creation(&self) -> &'static str {
        let text = match self.dialect {
            Dialect::Postgres { .. } if self.terms.fleet.is_some() => node_distributed_lock::CREATE,
            Dialect::Postgres { .. } => postgres::CREATE,
            Dialect::Sqlite { .. } => sqlite::CREATE,
            Dialect::Mysql { .. } => mysql::CREATE,
        };
        text.trim_start()
    }

    /// On SQLite, a new database keeps its rollback journal and gets no write-ahead log: for folders in
    /// which users cannot write to each other's files. Elsewhere, this changes nothing.
    #[must_use]
    pub fn without_log(mut self) -> Self {
        if let Dialect::Sqlite { log, .. } = &mut self.dialect {
            *log = false;
        }
        self
    }

    /// For readers: a table that is missing is not created, but is
    /// [`Refusal::NothingThere`]; and it may be one that does not survive a crash.
    #[must_use]
    pub fn look_only(self) -> Self {
        Self { creates: false, ..self }
    }

    fn new(dialect: Dialect, table: TableName, texts: [&str; 4]) -> Self {
        let [claim, renew, release, holders] =
            texts.map(|text| Text { any: dialect.text(text, &table).into(), one: None });
        let (creates, keep, untold, draw, correct) = (true, None, None, None, None);
        Self {
            dialect,
            table,
            claim,
            renew,
            release,
            keep,
            untold,
            holders,
            creates,
            draw,
            correct,
            end: None,
            terms: Terms::default(),
            account: None,
        }
    }

    /// With statements of their own for one claim and one release: what most requests are about.
    fn with_one(mut self, claim: &str, release: &str) -> Self {
        self.claim.one = Some(self.dialect.text(claim, &self.table).into());
        self.release.one = Some(self.dialect.text(release, &self.table).into());
        self
    }

    /// With a statement of its own for who has one name: what those that wait ask again and again.
    fn with_one_holder(mut self, holders: &str) -> Self {
        self.holders.one = Some(self.dialect.text(holders, &self.table).into());
        self
    }

    /// With releases that leave locks taken for a while; the second notifies no waiter.
    fn with_keep(self, texts: [&str; 2]) -> Self {
        let keep = texts.map(|text| {
            let any = text.replace("{kept}", &Owner::KEPT.to_string());
            Text { any: self.dialect.text(&any, &self.table).into(), one: None }
        });
        Self { keep: Some(Arc::new(keep)), ..self }
    }

    /// With releases, of any number and of one, for when waiters cannot be notified.
    fn with_untold(self, texts: [String; 2]) -> Self {
        let [any, one] = texts.map(|text| self.dialect.text(&text, &self.table).into());
        Self { untold: Some(Arc::new(Text { any, one: Some(one) })), ..self }
    }

    /// With a statement for leases that end later than they can.
    fn with_correction(self, correct: &str) -> Self {
        let correct = self.dialect.text(correct, &self.table).into();
        Self { correct: Some(correct), ..self }
    }

    /// With a statement that ends a lease.
    fn with_end(self, end: &str) -> Self {
        let end = self.dialect.text(end, &self.table).into();
        Self { end: Some(end), ..self }
    }

    /// With a statement that draws a ticket.
    fn with_draw(self, draw: &str) -> Self {
        let draw = self.dialect.text(draw, &self.table).into();
        Self { draw: Some(draw), ..self }
    }
}

impl Dialect {
    /// The table's name, quoted, for people.
    fn quoted(&self, table: &TableName) -> String {
        match self {
            Dialect::Mysql { .. } => mysql::quoted(table),
            _ => table.quoted(),
        }
    }

    /// `text` with the table's quoted name for each `{table}`, also in its channel, for each `{channel}`. On SQLite, the
    /// name has its database, which also stands for each `{schema}`.
    fn text(&self, text: &str, table: &TableName) -> String {
        match self {
            Dialect::Sqlite { .. } => {
                let (schema, name) = table.parts();
                let schema = format!("\"{}\"", schema.unwrap_or(sqlite::MAIN));
                let text = text.replace("{table}", &format!("{schema}.\"{name}\""));
                text.replace("{schema}", &schema)
            }
            _ => {
                text.replace("{channel}", postgres::CHANNEL).replace("{table}", &self.quoted(table))
            }
        }
    }
}
