//! An operator's requests about a lock table, in SQL; see [`admin`](crate::admin).
//!
//! Lists and purges come a [page](PAGE) at a time.

mod texts;

use super::postgres::{carried, could_not_tell};
use super::{Codec, Dialect, Rows, Statement, Value, mysql, node_distributed_lock};
#[cfg(doc)]
use crate::admin::PAGE;
use crate::admin::{AdminRequest, AdminResponse, Hold, LockState};
use crate::error::Failure;
use crate::fence::Fence;
use crate::name::Owner;
use crate::time::Instant;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use texts::{TELL, TELL_NOBODY};

/// An operator's request on its way through one statement, or two; used as an [`Exchange`](super::Exchange) is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdminExchange {
    codec: Codec,
    request: AdminRequest,
    now: Instant,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The statement that does it is to be run.
    Act,
    /// The lock's waiters cannot be notified: break it all the same.
    Untold,
    Done(Result<AdminResponse, Failure>),
}

impl Codec {
    /// The statements for `request`, made at `now`. Each may run on a connection of its own.
    pub fn encode_admin(&self, request: &AdminRequest, now: Instant) -> AdminExchange {
        let (codec, request) = (self.clone(), request.clone());
        AdminExchange { codec, request, now, stage: Stage::Act }
    }
}

impl AdminExchange {
    /// The next statement to run, if there is one.
    pub fn poll_statement(&self) -> Option<Statement> {
        match self.stage {
            Stage::Act => Some(self.act(TELL)),
            Stage::Untold => Some(self.act(TELL_NOBODY)),
            Stage::Done(_) => None,
        }
    }

    /// Takes the rows of the last statement.
    pub fn handle_rows(&mut self, rows: Rows) {
        self.stage = Stage::Done(answer(&self.request, rows));
    }

    /// Takes the failure of the last statement. One of missing rights says which statement would help.
    pub fn handle_failure(&mut self, failure: Failure) {
        if let (Stage::Act, AdminRequest::Break { .. }, Dialect::Postgres { .. }) =
            (&self.stage, &self.request, &self.codec.dialect)
            && could_not_tell(&failure)
        {
            self.stage = Stage::Untold;
            return;
        }
        let failure = match self.request {
            AdminRequest::Break { .. } => explain_wait(failure),
            _ => failure,
        };
        let rights = match self.request {
            AdminRequest::List { .. } | AdminRequest::Status { .. } => "SELECT",
            AdminRequest::Break { .. } => "SELECT, UPDATE",
            AdminRequest::Purge { .. } => "SELECT, UPDATE, DELETE",
        };
        self.stage = Stage::Done(Err(self.codec.explain(failure, rights)));
    }

    /// The answer.
    ///
    /// # Errors
    /// The failure of a statement; [`Failure::Unknown`] if its rows do not fit the statement, or are still
    /// missing.
    pub fn finish(self) -> Result<AdminResponse, Failure> {
        match self.stage {
            Stage::Done(result) => result,
            _ => Err(Failure::Unknown("the answer is incomplete".to_string())),
        }
    }

    /// The statement for the request, in which `tell` notifies the waiters.
    fn act(&self, tell: &str) -> Statement {
        let Self { codec: Codec { dialect, table, .. }, request, now, .. } = self;
        let texts = match dialect {
            Dialect::Postgres { .. } if self.codec.terms.fleet.is_some() => texts::PEERS,
            Dialect::Postgres { .. } => texts::POSTGRES,
            Dialect::Sqlite { .. } => texts::SQLITE,
            Dialect::Mysql { .. } => texts::MYSQL,
        };
        let statement = |text: &str, params: Vec<Value>| {
            let text = text.replace("{tell}", tell).replace("{now}", mysql::NOW);
            let text = carried(&text, self.codec.terms);
            let text = text.replace("{and}", mysql::commits(self.codec.terms));
            // Where leases are watched, only what is kept ends by the server's clock, for nobody has it.
            let ends = match (self.codec.terms.watched, dialect) {
                (false, _) => "",
                (true, Dialect::Mysql { .. }) => "owner = X'{kept}' AND ",
                (true, _) => "l.owner = '{kept}' AND ",
            };
            let text = text.replace("{ends}", ends);
            let text = text.replace("{kept}", &Owner::KEPT.to_string());
            let text = match self.codec.terms.fleet {
                Some(ttl) => text.replace("{ttl}", &node_distributed_lock::interval(ttl)),
                None => text,
            };
            Statement::new(dialect.text(&text, table), params)
        };
        let timed = |param: Value| match dialect {
            Dialect::Sqlite { boot, .. } => {
                let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
                vec![Value::Int(now), Value::Text(boot.clone()), param]
            }
            _ => vec![param],
        };
        match request {
            AdminRequest::List { after } => {
                statement(texts.list, timed(Value::Text(after.clone().unwrap_or_default())))
            }
            AdminRequest::Status { name } => {
                statement(texts.status, timed(Value::Text(name.to_string())))
            }
            AdminRequest::Break { name, fence } => {
                let fence = i64::try_from(fence.get()).unwrap_or(i64::MAX);
                statement(texts.force, vec![Value::Text(name.to_string()), Value::Int(fence)])
            }
            AdminRequest::Purge { unused } => {
                // The server takes the time from its clock: there is room for that.
                let unused = i64::try_from(unused.as_micros()).unwrap_or(i64::MAX / 2);
                statement(texts.purge, timed(Value::Int(unused)))
            }
        }
    }
}

/// The failure to break a lock, with what to do if it waited for the lock's row. On MySQL and MariaDB, it waits for a pin, too:
/// the new fence is in the index that the pin has locked.
fn explain_wait(failure: Failure) -> Failure {
    match failure {
        Failure::Rejected { code, ref message, .. } if failure.is_of_a_locked_row() => {
            Failure::not_now(format!(
                "an open transaction has the lock pinned or its row locked: end that transaction, or try again later ({message})"
            ))
            .with_code(code)
        }
        other => other,
    }
}

/// The answer that the rows of the last statement for `request` give.
fn answer(request: &AdminRequest, rows: Rows) -> Result<AdminResponse, Failure> {
    let answer = match request {
        AdminRequest::List { .. } | AdminRequest::Status { .. } => {
            rows.into_iter().map(state).collect::<Option<Vec<_>>>().map(AdminResponse::Locks)
        }
        AdminRequest::Break { .. } => broken(&rows).map(AdminResponse::Broken),
        AdminRequest::Purge { .. } => purged(&rows).map(AdminResponse::Purged),
    };
    let surprise = "the server's rows are not those that were asked for";
    answer.ok_or_else(|| Failure::Unknown(surprise.to_string()))
}

/// A row of (name, fence, holder, µs held, µs left, whether that is more than its TTL allows, whether it is kept and nobody
/// has it).
fn state(row: Vec<Value>) -> Option<LockState> {
    match <[Value; 7]>::try_from(row).ok()? {
        [
            Value::Text(name),
            Value::Int(fence),
            Value::Text(label),
            Value::Int(held),
            Value::Int(left),
            Value::Int(late),
            Value::Int(kept),
        ] => {
            let span = |us: i64| Some(Duration::from_micros(u64::try_from(us).unwrap_or(0)));
            let (held_for, expires_in, ends_late) = (span(held), span(left), late != 0);
            let hold = Hold { label, held_for, expires_in, ends_late, kept: kept != 0 };
            let fence = Fence::new(u64::try_from(fence).ok()?);
            Some(LockState { name, fence, hold: (left > 0).then_some(hold) })
        }
        _ => None,
    }
}

/// No row, or one of a fence; on MySQL 0 if there was nothing to break.
fn broken(rows: &Rows) -> Option<Option<Fence>> {
    match &rows[..] {
        [] => Some(None),
        [row] => match row[..] {
            [Value::Int(0)] => Some(None),
            [Value::Int(fence)] => Some(Some(Fence::new(u64::try_from(fence).ok()?))),
            _ => None,
        },
        _ => None,
    }
}

/// The names that were removed, or on MySQL how many.
fn purged(rows: &Rows) -> Option<usize> {
    match &rows[..] {
        [row] if matches!(row[..], [Value::Int(_)]) => match row[..] {
            [Value::Int(number)] => usize::try_from(number).ok(),
            _ => None,
        },
        rows => rows.iter().all(|row| matches!(row[..], [Value::Text(_)])).then_some(rows.len()),
    }
}
