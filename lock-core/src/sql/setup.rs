//! What a new connection goes through before its first request.

mod missing;

use super::{
    Codec, Dialect, Refusal, Rows, Statement, Value, mysql, node_distributed_lock, postgres,
    rights, sqlite,
};
use crate::error::Failure;
use alloc::string::{String, ToString};
use alloc::{format, vec};

/// Checks the server and the table. If the table is missing, it is created for locks, and left alone for
/// readers.
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
    /// The connection is the caller's, who may be in the middle of something.
    handed: bool,
    /// The client's number for the connection, where it has one.
    id: Option<u32>,
    /// The connection is another for each statement, which comes with its settings.
    shared: bool,
    /// A check that was denied, while it is asked to whom.
    denied: Option<Failure>,
    stage: Stage,
    /// How often it went back to the check.
    again: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Inside,
    Rollback,
    Known,
    Session,
    Clock,
    Temporary,
    Synced,
    Journal,
    Durable,
    Check,
    Probe,
    TimerKey,
    Create,
}

/// How often a setup goes back to its check before it gives up.
const MOST: u8 = 5;

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Run this and come back with its rows or its failure.
    Run(Statement),
    /// The connection is fit for requests.
    Ready,
    /// The server, or the way to it, could not be asked.
    Failed(Failure),
    /// Locks would not be safe here, or not possible.
    Refuse(Refusal),
}

impl Setup {
    pub(super) fn new(codec: Codec) -> Self {
        let (handed, shared, id) = (false, false, None);
        Self { codec, handed, shared, id, denied: None, stage: Stage::Begin, again: 0 }
    }

    /// The same for a connection of the caller's: one that is inside a transaction is refused, and left as
    /// it is. On one of our own, a transaction that the server's settings began is rolled back.
    #[must_use]
    pub fn handed(self, handed: bool) -> Self {
        Self { handed, ..self }
    }

    /// With the number that the server gave the connection when it was made, as far as the client knows it.
    #[must_use]
    pub fn numbered(self, id: Option<u32>) -> Self {
        Self { id, ..self }
    }

    /// The same for a pool that others use, too, whose connections keep the settings that they have: the driver sends
    /// each statement in a transaction of its own, with the settings that it needs.
    #[must_use]
    pub fn shared(self, shared: bool) -> Self {
        Self { shared, ..self }
    }

    /// The codec for requests, once it is ready: its table has the schema in which the server found or
    /// created it. From then on it is the same table, whatever a session's settings are.
    pub fn codec(&self) -> &Codec {
        &self.codec
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
            (Stage::Inside, Dialect::Postgres { .. }) => Step::Refuse(Refusal::InTransaction),
            (Stage::Inside | Stage::Rollback, _) => match self.id {
                Some(_) => self.run(Stage::Known, mysql::KNOWN, vec![]),
                None => self.own_session(),
            },
            (Stage::Known, _) => self.known(&rows),
            (Stage::Synced, _) => Step::Ready,
            (Stage::Probe, _) => self.appeared(),
            (Stage::TimerKey, _) => self.is_denied(rows),
            // Whoever hands a connection over may have set its time.
            (Stage::Session, Dialect::Mysql { .. }) if self.handed => self.own_clock(),
            (Stage::Session | Stage::Clock, _) => self.check_session(),
            (Stage::Temporary, _) if mysql::is_temporary(&rows) => {
                Step::Refuse(Refusal::Temporary(self.quoted()))
            }
            (Stage::Temporary | Stage::Durable | Stage::Create, _) => self.check(),
            (Stage::Journal, _) => self.create(),
            (Stage::Check, Dialect::Postgres { .. }) => self.judge_postgres(rows),
            (Stage::Check, Dialect::Sqlite { .. }) => self.judge_sqlite(rows),
            (Stage::Check, Dialect::Mysql { .. }) => self.judge_mysql(rows),
        }
    }

    fn begin(&mut self) -> Step {
        match self.codec.dialect {
            Dialect::Postgres { .. } if self.shared => self.check(),
            Dialect::Mysql { .. } if self.shared => {
                self.codec = self.codec.carrying(true);
                self.check_session()
            }
            Dialect::Postgres { .. } if self.handed => {
                self.run(Stage::Inside, postgres::INSIDE, vec![])
            }
            Dialect::Postgres { .. } => self.check(),
            Dialect::Sqlite { .. } if sqlite::is_temporary(&self.codec.table) => {
                Step::Refuse(Refusal::Temporary(self.quoted()))
            }
            Dialect::Sqlite { .. } => self.run(Stage::Durable, sqlite::DURABLE, vec![]),
            Dialect::Mysql { .. } if self.handed => self.run(Stage::Inside, mysql::INSIDE, vec![]),
            Dialect::Mysql { .. } => self.run(Stage::Rollback, mysql::ROLLBACK, vec![]),
        }
    }

    /// Whether statements arrive on the connection that was made, or on any that a proxy has.
    fn known(&mut self, rows: &Rows) -> Step {
        let [row] = &rows[..] else { return Step::Refuse(Refusal::UnexpectedResponse) };
        let [Value::Int(number)] = row[..] else {
            return Step::Refuse(Refusal::UnexpectedResponse);
        };
        // The greeting has 32 bits of it.
        if self.id.is_some_and(|id| i64::from(id) != number & 0xffff_ffff) {
            self.codec = self.codec.carrying(true);
            return self.check_session();
        }
        self.own_session()
    }

    fn own_session(&mut self) -> Step {
        self.codec = self.codec.carrying(false);
        self.run(Stage::Session, mysql::SESSION, vec![])
    }

    fn own_clock(&mut self) -> Step {
        self.run(Stage::Clock, mysql::CLOCK, vec![])
    }

    /// The check, and before it, in a session of the caller's on MySQL or MariaDB, what it means by the table's name: nobody
    /// makes a temporary table in one of our own.
    fn check_session(&mut self) -> Step {
        match self.handed || self.shared {
            true => self.run(Stage::Temporary, mysql::SHOW, vec![]),
            false => self.check(),
        }
    }

    fn check(&mut self) -> Step {
        match self.codec.dialect {
            Dialect::Postgres { .. } => {
                let check = match self.codec.is_shared_with_peers() {
                    true => node_distributed_lock::check(),
                    false => postgres::CHECK.to_string(),
                };
                let commit = postgres::commit(self.codec.terms.relaxed);
                let name = vec![Value::Text(self.quoted())];
                self.run(Stage::Check, &check.replace("{commit}", commit), name)
            }
            Dialect::Sqlite { .. } => {
                let (schema, table) = self.codec.table.parts();
                let name =
                    [table, schema.unwrap_or(sqlite::MAIN)].map(|part| Value::Text(part.into()));
                self.run(Stage::Check, sqlite::CHECK, name.into())
            }
            Dialect::Mysql { .. } => {
                let (schema, table) = self.codec.table.parts();
                let schema = schema.map_or(Value::Null, |schema| Value::Text(schema.into()));
                let name = [schema, Value::Text(table.into())];
                let params = [&name[..], &name, &name[..1], &name, &name].concat();
                self.run(Stage::Check, mysql::CHECK, params)
            }
        }
    }

    fn judge_postgres(&mut self, rows: Rows) -> Step {
        let Some(Ok([standby, version, Value::Text(_), kind, columns, keys, rest @ ..])) =
            rows.into_iter().next().map(<[Value; 11]>::try_from)
        else {
            return Step::Refuse(Refusal::UnexpectedResponse);
        };
        let [read_only, schema, role, own, encoding] = rest;
        self.codec = self.codec.carrying(self.shared || own != Value::Text("on".to_string()));
        let (Value::Int(standby), Value::Int(version)) = (standby, version) else {
            return Step::Refuse(Refusal::UnexpectedResponse);
        };
        if version < postgres::OLDEST {
            return Step::Refuse(Refusal::UnsupportedVersion);
        }
        if standby != 0 {
            return Step::Refuse(Refusal::Standby);
        }
        if read_only != Value::Int(0) {
            return Step::Refuse(Refusal::ReadOnlyTransactions);
        }
        // SQL_ASCII leaves texts as they are.
        if !["UTF8", "SQL_ASCII"].map(|name| Value::Text(name.into())).contains(&encoding) {
            return Step::Refuse(Refusal::NotUtf8);
        }
        if let Some(refusal) = self.settle(schema, role) {
            return Step::Refuse(refusal);
        }
        let Value::Text(kind) = kind else { return self.table_missing() };
        let expected = match self.codec.is_shared_with_peers() {
            true => node_distributed_lock::COLUMNS,
            false => postgres::COLUMNS,
        };
        let fits = columns == Value::Text(expected.to_string());
        if !fits || kind.starts_with(['v', 'm', 'f']) || keys == Value::Int(0) {
            return self.wrong_shape(expected, columns);
        }
        if kind.ends_with('t') {
            return Step::Refuse(Refusal::Temporary(self.quoted()));
        }
        let survives = kind.ends_with('p') || (self.codec.terms.relaxed && kind.ends_with('u'));
        if self.codec.creates && !survives {
            return Step::Refuse(Refusal::NotDurable(self.quoted()));
        }
        Step::Ready
    }

    fn judge_mysql(&mut self, rows: Rows) -> Step {
        let Some(Ok(row)) = rows.into_iter().next().map(<[Value; 13]>::try_from) else {
            return Step::Refuse(Refusal::UnexpectedResponse);
        };
        let [version, read_only, flush, unsynced, engine, columns, keys, fitting, rest @ ..] = row;
        let [commits, schema, account, triggers, galera] = rest;
        let (Value::Text(version), Value::Text(read_only)) = (version, read_only) else {
            return Step::Refuse(Refusal::UnexpectedResponse);
        };
        if !mysql::is_new_enough(&version) {
            return Step::Refuse(Refusal::UnsupportedVersion);
        }
        if !mysql::takes_writes(&read_only) {
            return Step::Refuse(Refusal::ReadOnly);
        }
        let may_forget = self.codec.terms.relaxed || !self.codec.creates;
        if flush != Value::Int(1) && !may_forget {
            return Step::Refuse(Refusal::NotFlushed("innodb_flush_log_at_trx_commit"));
        }
        if unsynced != Value::Int(0) && !may_forget {
            return Step::Refuse(Refusal::NotFlushed("sync_binlog"));
        }
        match Refusal::of_session(&commits) {
            // It was set when the connection was made.
            Some(Refusal::SetTime) if !self.codec.carries() && self.again == 0 => {
                self.again += 1;
                return self.own_clock();
            }
            Some(refusal) => return Step::Refuse(refusal),
            None => {}
        }
        if let Some(refusal) = self.settle(schema, account) {
            return Step::Refuse(refusal);
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
        if triggers != Value::Int(0) {
            return Step::Refuse(Refusal::Triggers(self.quoted()));
        }
        self.codec.terms.cluster = galera == Value::Text("ON".to_string());
        if self.codec.terms.cluster && !self.shared && !self.codec.carries() {
            return self.run(Stage::Synced, mysql::SYNCED, vec![]);
        }
        Step::Ready
    }

    fn judge_sqlite(&mut self, rows: Rows) -> Step {
        match rows.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Value::Null) => self.table_missing(),
            Some(Value::Text(columns)) if columns == sqlite::COLUMNS => Step::Ready,
            Some(columns) => self.wrong_shape(sqlite::COLUMNS, columns),
            None => Step::Refuse(Refusal::UnexpectedResponse),
        }
    }

    /// Has the table in the schema where the server has it, for the account that it knows us by.
    fn settle(&mut self, schema: Value, account: Value) -> Option<Refusal> {
        let Value::Text(account) = account else { return Some(Refusal::UnexpectedResponse) };
        // Without a schema to create it in, the server's error tells the fault.
        let schema = if let Value::Text(schema) = schema { Some(schema) } else { None };
        match self.codec.settled(schema.as_deref(), &account) {
            Some(codec) => self.codec = codec,
            None => return schema.map(Refusal::OddSchema),
        }
        None
    }

    /// The check was denied, and it was asked to whom.
    fn is_denied(&mut self, rows: Rows) -> Step {
        if let Some([Value::Text(role)]) = rows.first().map(vec::Vec::as_slice)
            && let Some(codec) = self.codec.settled(None, &role.clone())
        {
            self.codec = codec;
        }
        let denied = self.denied.take().unwrap_or_else(|| Failure::refused(String::new()));
        Step::Failed(self.codec.explain(denied, rights::COMMANDS))
    }

    fn failed(&mut self, failure: Failure) -> Step {
        self.again += 1;
        match (self.stage, failure) {
            (Stage::Probe, failure) if mysql::is_no_table(&failure) => self.nothing_there(),
            (Stage::Probe, failure) => Step::Failed(self.codec.explain(failure, "SELECT")),
            (Stage::Inside, failure) if postgres::is_outside(&failure) => self.check(),
            (Stage::Inside, failure)
                if mysql::is_inside(&failure) || postgres::has_failed(&failure) =>
            {
                Step::Refuse(Refusal::InTransaction)
            }
            // Only speed depends on the journal, and whoever is changing it just now will do.
            (Stage::Journal, Failure::Rejected { .. }) => self.create(),
            // The check finds out whether it matters.
            (Stage::Clock, Failure::Rejected { .. }) => self.check_session(),
            // It is not there, or not ours to see. A temporary table would be.
            (Stage::Temporary, Failure::Rejected { retry: false, .. }) => self.check(),
            (Stage::Check, failure)
                if rights::is_denied(&failure)
                    && matches!(self.codec.dialect, Dialect::Postgres { .. }) =>
            {
                self.denied = Some(failure);
                self.run(Stage::TimerKey, postgres::WHO, vec![])
            }
            (Stage::TimerKey, _) => self.is_denied(Rows::new()),
            // Somebody created it at the same moment (PostgreSQL answers 23505 or 42P07 then), or it
            // truly may not be created: if it is there now, it does not matter which.
            (Stage::Create, failure @ Failure::Rejected { retry: false, .. })
                if self.again >= MOST =>
            {
                self.no_table(&failure)
            }
            (Stage::Create, Failure::Rejected { retry: false, .. }) => self.check(),
            (_, Failure::Rejected { retry: true, .. }) if self.again <= MOST => self.begin(),
            (_, failure) => Step::Failed(failure),
        }
    }

    fn wrong_shape(&self, expected: &str, found: Value) -> Step {
        let found = match found {
            Value::Text(found) if !found.is_empty() => found,
            _ => "none of them".to_string(),
        };
        let key = if self.codec.is_shared_with_peers() { "mutex" } else { "name" };
        Step::Refuse(Refusal::WrongShape {
            table: self.quoted(),
            expected: format!("{expected}, {key} unique"),
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
