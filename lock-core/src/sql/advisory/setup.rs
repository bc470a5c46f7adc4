//! What a new connection goes through before its first request.

use super::{Dialect, Session, micros, mysql, postgres, sql_lock};
use crate::error::Failure;
use crate::sql::mysql::is_new_enough;
use crate::sql::{self as table, Refusal, Rows, Statement, Step, Value};
use alloc::string::{String, ToString};
use core::time::Duration;

/// Checks the server, and makes the connection a lease: tells the server to end it when it is idle,
/// and marks it to be known again.
///
/// ```text
///   loop: match setup.step(answer) {
///       Run(statement) -> run it; answer = its rows or failure
///       Ready          -> done: setup.session()
///       Refuse(why)    -> tell
///   }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setup {
    dialect: Dialect,
    ttl: Duration,
    /// The server's name for the connection when it was made.
    id: Option<u32>,
    /// The connection is the caller's, who may be in the middle of something.
    handed: bool,
    stage: Stage,
    session: Session,
    ready: bool,
    /// The table was not there, and could not be created, or so it seemed.
    not_created: Option<Failure>,
    /// How often the table was looked for.
    looked: u32,
}

/// The table is looked for so often at most. Others may be creating it just now.
const MOST: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Inside,
    Rollback,
    Check,
    Session,
    Uptime,
    Find,
    Probe,
    Galera,
    Group,
    Table,
    Create,
    Open,
}

impl Setup {
    pub(super) fn new(dialect: Dialect, ttl: Duration, id: Option<u32>) -> Self {
        let session = Session { id: 0, mark: "".into(), since: 0, whole_seconds: false };
        let (stage, not_created) = (Stage::Begin, None);
        Self {
            dialect,
            ttl,
            id,
            handed: false,
            stage,
            session,
            ready: false,
            not_created,
            looked: 0,
        }
    }

    /// The same for a connection of the caller's: see [that for a table](crate::sql::Setup::handed).
    #[must_use]
    pub fn handed(self, handed: bool) -> Self {
        Self { handed, ..self }
    }

    /// The connection, once it is ready.
    pub fn session(&self) -> Option<&Session> {
        self.ready.then_some(&self.session)
    }

    /// Takes the answer to the last statement (`None` at first), says what is next.
    pub fn step(&mut self, answer: Option<Result<Rows, Failure>>) -> Step {
        let rows = match answer {
            // Not every system can notice that a client is gone; nothing safe rests on it.
            Some(Err(Failure::Rejected { .. })) if self.stage == Stage::Probe => Rows::new(),
            Some(Err(failure)) if self.stage == Stage::Inside => return self.inside(failure),
            Some(Err(failure @ Failure::Rejected { .. })) if self.stage == Stage::Create => {
                self.not_created = Some(failure);
                Rows::new()
            }
            Some(Err(failure)) => return Step::Failed(failure),
            Some(Ok(rows)) => rows,
            None => Rows::new(),
        };
        let postgres = matches!(self.dialect, Dialect::Postgres(_));
        let next = match self.stage {
            Stage::Begin if postgres && self.handed => {
                Some(self.run(Stage::Inside, table::postgres::INSIDE, []))
            }
            Stage::Begin if postgres => Some(self.run(Stage::Check, postgres::CHECK, [])),
            Stage::Begin if self.handed => Some(self.run(Stage::Inside, table::mysql::INSIDE, [])),
            Stage::Begin => Some(self.run(Stage::Rollback, table::mysql::ROLLBACK, [])),
            Stage::Inside if postgres => Some(Step::Refuse(Refusal::InTransaction)),
            Stage::Inside | Stage::Rollback => {
                let ttl = Value::Int(up(micros(self.ttl).max(1), 1_000_000));
                let more = if self.dialect == Dialect::SqlLock { sql_lock::SESSION } else { "" };
                Some(self.run(Stage::Session, &(mysql::SESSION.to_string() + more), [ttl]))
            }
            Stage::Check => self.checked(&rows),
            Stage::Session if postgres => self.marked(&rows),
            Stage::Session => Some(self.run(Stage::Uptime, mysql::UPTIME, [])),
            Stage::Uptime => self.has_run_for(&rows),
            Stage::Find if postgres => self.found_again(&rows),
            Stage::Find => self.found(rows),
            Stage::Probe => Some(self.ready()),
            Stage::Galera => self.alone(&rows, "ON", Some((Stage::Group, mysql::GROUP))),
            Stage::Group => self.alone(&rows, "OFF", None),
            Stage::Table => self.has_table(&rows),
            Stage::Create => Some(self.run(Stage::Table, sql_lock::CHECK, [])),
            Stage::Open => Some(self.ready()),
        };
        next.unwrap_or(Step::Refuse(Refusal::UnexpectedResponse))
    }

    /// The question whether the connection is inside a transaction failed.
    fn inside(&mut self, failure: Failure) -> Step {
        if table::postgres::is_outside(&failure) {
            return self.run(Stage::Check, postgres::CHECK, []);
        }
        if table::mysql::is_inside(&failure) || table::postgres::has_failed(&failure) {
            return Step::Refuse(Refusal::InTransaction);
        }
        Step::Failed(failure)
    }

    // -- PostgreSQL -------------------------------------------------------------------------------

    fn checked(&mut self, rows: &Rows) -> Option<Step> {
        let [
            Value::Int(version),
            Value::Int(standby),
            Value::Int(since),
            Value::Text(mark),
            Value::Text(own),
        ] = only(rows)?
        else {
            return None;
        };
        if *version < postgres::OLDEST {
            return Some(Step::Refuse(Refusal::KeepsIdle));
        }
        if *standby != 0 {
            return Some(Step::Refuse(Refusal::Standby));
        }
        // Without the settings that a connection of ours begins with, it is a pooler's, and tomorrow another client's.
        if !mark.is_empty() || !(self.handed || own == "on") {
            return Some(Step::Refuse(Refusal::Pooled));
        }
        self.session.since = *since;
        let ttl = micros(self.ttl).max(1);
        let share = |part: i64| Value::Int(up(ttl / part, 1_000_000).min(32_767));
        let params = [Value::Int(up(ttl, 1_000)), share(3), share(9)];
        Some(self.run(Stage::Session, postgres::SESSION, params))
    }

    fn marked(&mut self, rows: &Rows) -> Option<Step> {
        let [Value::Int(id), Value::Text(mark), ..] = only(rows)? else { return None };
        self.session.id = *id;
        self.session.mark = mark.as_str().into();
        Some(self.run(Stage::Find, postgres::FIND, []))
    }

    fn found_again(&mut self, rows: &Rows) -> Option<Step> {
        let [Value::Int(id), mark] = only(rows)? else { return None };
        if *id != self.session.id || *mark != Value::Text(self.session.mark.to_string()) {
            return Some(Step::Refuse(Refusal::Pooled));
        }
        if self.is_another() {
            return Some(Step::Refuse(Refusal::Pooled));
        }
        let probe = Value::Int(up(micros(self.ttl) / 9, 1_000).max(1));
        Some(self.run(Stage::Probe, postgres::PROBE, [probe]))
    }

    // -- MySQL and MariaDB ------------------------------------------------------------------------

    fn has_run_for(&mut self, rows: &Rows) -> Option<Step> {
        let [Value::Text(_), Value::Text(seconds)] = only(rows)? else { return None };
        let seconds: i128 = seconds.parse().ok()?;
        // With a clock set back since the start, the server counts less than nothing, and some print
        // that as a number without a sign. How long it has run is not known then.
        let seconds = u32::try_from(seconds).unwrap_or(0);
        // Counted back from a clock that is read later, and from whole seconds: not too early.
        self.session.since = i64::from(seconds) * -1_000_000;
        let text = mysql::FIND.replace("{now}", mysql::NOW);
        Some(self.run(Stage::Find, &text, []))
    }

    fn found(&mut self, rows: Rows) -> Option<Step> {
        let [
            Value::Int(id),
            mark,
            Value::Text(version),
            Value::Text(read_only),
            Value::Int(now),
            Value::Int(moved),
        ] = only(&rows)?
        else {
            return None;
        };
        if !is_new_enough(version) {
            return Some(Step::Refuse(Refusal::UnsupportedVersion));
        }
        if !matches!(&**read_only, "0" | "OFF") {
            return Some(Step::Refuse(Refusal::ReadOnly));
        }
        if *moved < 1 {
            return Some(Step::Refuse(Refusal::FrozenClock));
        }
        let Value::Text(mark) = mark else { return Some(Step::Refuse(Refusal::Pooled)) };
        self.session = Session {
            id: *id,
            mark: mark.as_str().into(),
            since: self.session.since.saturating_add(*now),
            whole_seconds: !version.contains("MariaDB"),
        };
        if self.is_another() {
            return Some(Step::Refuse(Refusal::Pooled));
        }
        Some(self.run(Stage::Galera, mysql::GALERA, []))
    }

    /// Goes on unless a variable, where there is such a one, says `several`.
    fn alone(&mut self, rows: &Rows, several: &str, next: Option<(Stage, &str)>) -> Option<Step> {
        let value = match &rows[..] {
            [] => None,
            [row] => match &row[..] {
                [Value::Text(_), Value::Text(value)] => Some(value.as_str()),
                _ => return None,
            },
            _ => return None,
        };
        if value.is_some_and(|value| value.eq_ignore_ascii_case(several)) {
            return Some(Step::Refuse(Refusal::SeveralPrimaries));
        }
        Some(match next {
            Some((stage, text)) => self.run(stage, text, []),
            None if self.dialect == Dialect::SqlLock => self.run(Stage::Table, sql_lock::CHECK, []),
            None => self.ready(),
        })
    }

    /// Goes on if the table is the package's.
    fn has_table(&mut self, rows: &Rows) -> Option<Step> {
        let [engine, columns, key] = only(rows)? else { return None };
        self.looked += 1;
        let (table, again) = (sql_lock::TABLE.to_string(), self.looked < MOST);
        Some(match (engine, columns) {
            (Value::Null, _) if again => self.run(Stage::Create, sql_lock::CREATE, []),
            (Value::Null, _) => Step::Refuse(Refusal::NoTable {
                table,
                reason: self.not_created.take().map(|why| why.to_string()).unwrap_or_default(),
                grant: String::new(),
                ddl: sql_lock::CREATE.to_string(),
            }),
            // MariaDB shows the columns of a table that somebody is creating before its key.
            _ if *key == Value::Null && again => self.run(Stage::Table, sql_lock::CHECK, []),
            (Value::Text(engine), Value::Text(columns))
                if columns == sql_lock::COLUMNS && *key == Value::Int(1) =>
            {
                match &**engine {
                    "InnoDB" => self.run(Stage::Open, sql_lock::OPEN, []),
                    _ => Step::Refuse(Refusal::NotInnoDb { table, engine: engine.clone() }),
                }
            }
            (Value::Text(_), columns) => Step::Refuse(Refusal::WrongShape {
                table,
                expected: sql_lock::COLUMNS.to_string() + ", key id",
                found: if let Value::Text(found) = columns { found.clone() } else { String::new() },
            }),
            _ => return None,
        })
    }

    // -- both -------------------------------------------------------------------------------------

    /// Whether it is not the connection that the client was given: something in between has it, and
    /// may have another tomorrow. MySQL's greeting has 32 bits of the number.
    fn is_another(&self) -> bool {
        self.id.is_some_and(|id| i64::from(id) != self.session.id & 0xffff_ffff)
    }

    fn ready(&mut self) -> Step {
        self.ready = true;
        Step::Ready
    }

    fn run<const N: usize>(&mut self, stage: Stage, text: &str, params: [Value; N]) -> Step {
        self.stage = stage;
        Step::Run(Statement::new(text, params))
    }
}

/// The only row.
fn only(rows: &Rows) -> Option<&[Value]> {
    match &rows[..] {
        [row] => Some(row),
        _ => None,
    }
}

/// Divides what is not negative, and rounds up.
fn up(number: i64, by: i64) -> i64 {
    number / by + i64::from(number % by != 0)
}
