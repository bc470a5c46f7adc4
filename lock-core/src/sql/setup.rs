//! What a new connection goes through before its first command.

use super::{Codec, Dialect, Rows, Statement, Value, mysql, postgres, sqlite};
use crate::error::Failure;
use alloc::string::{String, ToString};
use alloc::{format, vec};

/// Checks the server and the table. If the table is missing, it is created for locks, and left alone for
/// those who only look.
///
/// ```text
///   loop: match setup.step(answer) {
///       Run(statement) -> run it; answer = its rows or failure
///       Ready          -> done
///       Refuse(why)    -> tell
///   }
/// ```
///
/// Creating the table needs no rights when it exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setup {
    codec: Codec,
    stage: Stage,
    /// How often it went back to the check.
    again: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Session,
    Isolation,
    Journal,
    Durable,
    Check,
    Probe,
    Create,
}

/// How often a setup goes back to its check before it gives up.
const MOST: u8 = 5;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Run this and come back with its rows or its failure.
    Run(Statement),
    /// The connection is fit for commands.
    Ready,
    /// The server, or the way to it, could not be asked.
    Failed(Failure),
    /// Locks would not be safe here, or not possible.
    Refuse(Refusal),
}

/// Why a connection is not fit for commands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server could not be reached or asked, or refused.
    Failed(Failure),
    /// Locks would not be safe there, or not possible.
    Unfit(Refusal),
    /// There is no way to a connection, and there will be none: the one that was handed over is gone.
    NoWay(String),
}

impl ConnectError {
    /// What it means to the command that a connection was made anew for.
    ///
    /// Only the first connect refuses for good. A server that was fit before may be fit again: in a
    /// switch-over a client meets standbys, read-only primaries, missing tables and unknown passwords. So
    /// the command was not sent, and is sent again until its caller's limit.
    pub fn before_command(self) -> Failure {
        match self {
            Self::Failed(gone @ Failure::Gone(_)) => gone,
            Self::Failed(failure) => Failure::NotSent(failure.to_string()),
            Self::Unfit(refusal) => Failure::NotSent(refusal.to_string()),
            Self::NoWay(why) => Failure::refused(why),
        }
    }
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Why a server or table is refused, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A standby grants what the primary does not know of.
    #[error("the server is a standby: connect to the primary")]
    Standby,
    /// The server is too old.
    #[error("the server is too old: PostgreSQL 12, MySQL 8.0, MariaDB 10.6 or later is needed")]
    TooOld,
    /// Its idle connections live on, and with them the locks of clients that are gone.
    #[error(
        "the server is too old for advisory locks: PostgreSQL 14 or later is needed; or use a lock table"
    )]
    KeepsIdle,
    /// Advisory locks belong to the server's connection, and a pooler changes that.
    #[error(
        "there is a pooler before the server: connect to the server itself, or use a lock table"
    )]
    Pooled,
    /// Advisory locks belong to one node.
    #[error("each node of this cluster has advisory locks of its own: use a lock table")]
    SeveralPrimaries,
    /// Fences are read from the clock when a wait is over, not when it began.
    #[error("the server's clock stands still in a statement: start it without --sysdate-is-now")]
    StandingClock,
    /// A replica, or a server that is being moved.
    #[error("the server is read-only: connect to the primary")]
    ReadOnly,
    /// A server that answers before a commit is on the disk forgets locks and fences in a crash.
    #[error("commits do not survive a crash of this server: have {0} set to 1")]
    Careless(&'static str),
    /// Only InnoDB's tables survive a crash and are locked row by row.
    #[error("{table} is no InnoDB table but {engine}: ALTER TABLE {table} ENGINE = InnoDB")]
    NotInnoDb {
        /// The table's quoted name.
        table: String,
        /// What it is.
        engine: String,
    },
    /// An unlogged or temporary table is empty after a crash, and every lock is forgotten.
    #[error("{0} does not survive a crash: use a plain table (ALTER TABLE {0} SET LOGGED)")]
    NotDurable(String),
    /// The table exists, with other columns.
    #[error(
        "{table} is not a lock table (expected: {expected}; found: {found}): choose another table name"
    )]
    WrongShape {
        /// The table's quoted name.
        table: String,
        /// The columns that a lock table has.
        expected: String,
        /// The ones it has.
        found: String,
    },
    /// The table does not exist, and may not be created.
    #[error(
        "{table} does not exist and could not be created ({reason}): have it created by somebody who may, with: {ddl}"
    )]
    NoTable {
        /// The table's quoted name.
        table: String,
        /// What the server said.
        reason: String,
        /// The statement that creates it.
        ddl: String,
    },
    /// The table does not exist, and this connection is only there to look.
    #[error("{0} does not exist: no lock was ever taken there")]
    NothingThere(String),
    /// The server's answer makes no sense.
    #[error("the server's answer makes no sense: is it a server of the kind that was named?")]
    Nonsense,
}

impl Setup {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, stage: Stage::Begin, again: 0 }
    }

    /// Takes the answer to the last statement (`None` at first), says what is next.
    pub fn step(&mut self, answer: Option<Result<Rows, Failure>>) -> Step {
        let rows = match answer {
            Some(Err(failure)) => return self.failed(failure),
            Some(Ok(rows)) => rows,
            None => Rows::new(),
        };
        match (self.stage, &self.codec.dialect) {
            (Stage::Begin, _) => self.begin(),
            (Stage::Session, _) => self.run(Stage::Isolation, mysql::ISOLATION, vec![]),
            (Stage::Durable, Dialect::Postgres { .. }) => Step::Ready,
            (Stage::Durable | Stage::Create | Stage::Isolation, _) => self.check(),
            (Stage::Probe, _) => self.appeared(),
            (Stage::Journal, _) => self.create(),
            (Stage::Check, Dialect::Postgres { .. }) => self.judge_postgres(rows),
            (Stage::Check, Dialect::Sqlite { .. }) => self.judge_sqlite(rows),
            (Stage::Check, Dialect::Mysql { .. }) => self.judge_mysql(rows),
        }
    }

    fn begin(&mut self) -> Step {
        match self.codec.dialect {
            Dialect::Postgres { .. } => self.check(),
            Dialect::Sqlite { .. } => self.run(Stage::Durable, sqlite::DURABLE, vec![]),
            Dialect::Mysql { .. } => self.run(Stage::Session, mysql::SESSION, vec![]),
        }
    }

    fn check(&mut self) -> Step {
        match self.codec.dialect {
            Dialect::Postgres { .. } => {
                let name = Value::Text(self.quoted());
                self.run(Stage::Check, postgres::CHECK, vec![name])
            }
            Dialect::Sqlite { .. } => {
                let (schema, table) = self.codec.table.parts();
                let name = [table, schema.unwrap_or("main")].map(|part| Value::Text(part.into()));
                self.run(Stage::Check, sqlite::CHECK, name.into())
            }
            Dialect::Mysql { .. } => {
                let (schema, table) = self.codec.table.parts();
                let schema = schema.map_or(Value::Null, |schema| Value::Text(schema.into()));
                let name = [schema, Value::Text(table.into())];
                self.run(Stage::Check, mysql::CHECK, [&name[..]; 3].concat())
            }
        }
    }

    fn judge_postgres(&mut self, rows: Rows) -> Step {
        let Some(Ok([standby, version, commit, kind, columns, keys])) =
            rows.into_iter().next().map(<[Value; 6]>::try_from)
        else {
            return Step::Refuse(Refusal::Nonsense);
        };
        let (Value::Int(standby), Value::Int(version), Value::Text(commit)) =
            (standby, version, commit)
        else {
            return Step::Refuse(Refusal::Nonsense);
        };
        if version < postgres::OLDEST {
            return Step::Refuse(Refusal::TooOld);
        }
        if standby != 0 {
            return Step::Refuse(Refusal::Standby);
        }
        let Value::Text(kind) = kind else { return self.table_missing() };
        let fits = columns == Value::Text(postgres::COLUMNS.to_string());
        if !fits || kind.starts_with(['v', 'm', 'f']) || keys == Value::Int(0) {
            return self.wrong_shape(postgres::COLUMNS, columns);
        }
        if !kind.ends_with('p') {
            return Step::Refuse(Refusal::NotDurable(self.quoted()));
        }
        if commit == "off" {
            return self.run(Stage::Durable, postgres::DURABLE, vec![]);
        }
        Step::Ready
    }

    fn judge_mysql(&mut self, rows: Rows) -> Step {
        let Some(Ok([version, read_only, flush, unsynced, engine, columns, keys, fitting])) =
            rows.into_iter().next().map(<[Value; 8]>::try_from)
        else {
            return Step::Refuse(Refusal::Nonsense);
        };
        let (Value::Text(version), Value::Text(read_only)) = (version, read_only) else {
            return Step::Refuse(Refusal::Nonsense);
        };
        if !mysql::is_new_enough(&version) {
            return Step::Refuse(Refusal::TooOld);
        }
        if !matches!(&*read_only, "0" | "OFF") {
            return Step::Refuse(Refusal::ReadOnly);
        }
        if flush != Value::Int(1) {
            return Step::Refuse(Refusal::Careless("innodb_flush_log_at_trx_commit"));
        }
        if unsynced != Value::Int(0) {
            return Step::Refuse(Refusal::Careless("sync_binlog"));
        }
        let Value::Text(engine) = engine else { return self.table_missing() };
        let fits = columns == Value::Text(mysql::COLUMNS.to_string());
        self.again += 1;
        if fits && keys == Value::Int(0) && self.again <= MOST {
            // MariaDB shows the columns of a table that somebody is creating before its key.
            return self.check();
        }
        if !fits || engine.contains("VIEW") || keys == Value::Int(0) || keys != fitting {
            return self.wrong_shape(mysql::COLUMNS, columns);
        }
        if engine != "InnoDB" {
            return Step::Refuse(Refusal::NotInnoDb { table: self.quoted(), engine });
        }
        Step::Ready
    }

    fn judge_sqlite(&mut self, rows: Rows) -> Step {
        match rows.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Value::Null) => self.table_missing(),
            Some(Value::Text(columns)) if columns == sqlite::COLUMNS => Step::Ready,
            Some(columns) => self.wrong_shape(sqlite::COLUMNS, columns),
            None => Step::Refuse(Refusal::Nonsense),
        }
    }

    fn table_missing(&mut self) -> Step {
        match (self.codec.creates, &self.codec.dialect) {
            (true, _) => {}
            // MySQL's catalogue hides what the user has no rights on.
            (false, Dialect::Mysql { .. }) => return self.run(Stage::Probe, mysql::PROBE, vec![]),
            (false, _) => return self.nothing_there(),
        }
        self.again += 1;
        if self.again > MOST {
            return self.no_table("it is not there after it was created");
        }
        match self.codec.dialect {
            Dialect::Postgres { .. }
            | Dialect::Mysql { .. }
            | Dialect::Sqlite { log: false, .. } => self.create(),
            Dialect::Sqlite { .. } => self.run(Stage::Journal, sqlite::JOURNAL, vec![]),
        }
    }

    /// It was made since it was looked for.
    fn appeared(&mut self) -> Step {
        self.again += 1;
        if self.again > MOST { Step::Refuse(Refusal::Nonsense) } else { self.check() }
    }

    fn nothing_there(&self) -> Step {
        Step::Refuse(Refusal::NothingThere(self.quoted()))
    }

    fn create(&mut self) -> Step {
        let text = self.codec.create_table();
        self.run(Stage::Create, &text, vec![])
    }

    fn failed(&mut self, failure: Failure) -> Step {
        self.again += 1;
        match (self.stage, failure) {
            (Stage::Probe, failure) if mysql::is_no_table(&failure) => self.nothing_there(),
            // Only speed depends on the journal, and whoever is changing it just now will do.
            (Stage::Journal, Failure::Rejected { .. }) => self.create(),
            // Somebody created it at the same moment (PostgreSQL answers 23505 or 42P07 then), or it
            // truly may not be created: if it is there now, it does not matter which.
            (Stage::Create, Failure::Rejected { retry: false, message, .. })
                if self.again >= MOST =>
            {
                self.no_table(&message)
            }
            (Stage::Create, Failure::Rejected { retry: false, .. }) => self.check(),
            (_, Failure::Rejected { retry: true, .. }) if self.again <= MOST => self.begin(),
            (_, failure) => Step::Failed(failure),
        }
    }

    fn no_table(&self, reason: &str) -> Step {
        Step::Refuse(Refusal::NoTable {
            table: self.quoted(),
            reason: reason.to_string(),
            ddl: one_line(&self.codec.create_table()),
        })
    }

    fn wrong_shape(&self, expected: &str, found: Value) -> Step {
        let found = match found {
            Value::Text(found) if !found.is_empty() => found,
            _ => "none of them".to_string(),
        };
        Step::Refuse(Refusal::WrongShape {
            table: self.quoted(),
            expected: format!("{expected}, name unique"),
            found,
        })
    }

    fn run(&mut self, stage: Stage, text: &str, params: vec::Vec<Value>) -> Step {
        self.stage = stage;
        let text = self.codec.dialect.text(text, &self.codec.table);
        Step::Run(Statement::new(text, params))
    }

    fn quoted(&self) -> String {
        self.codec.dialect.quoted(&self.codec.table)
    }
}

/// A statement without its comments and line breaks.
fn one_line(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or("").trim());
    lines.filter(|line| !line.is_empty()).collect::<vec::Vec<_>>().join(" ")
}
