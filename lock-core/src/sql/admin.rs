//! An operator's questions about a lock table, in SQL; see [`admin`](crate::admin).
//!
//! Lists and purges come a [page](PAGE) at a time.

use super::postgres::could_not_tell;
use super::{Codec, Dialect, Rows, Statement, Value, mysql};
#[cfg(doc)]
use crate::admin::PAGE;
use crate::admin::{Answer, Hold, LockState, Question, SHORTEST};
use crate::error::Failure;
use crate::fence::Fence;
use crate::time::Instant;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

impl Codec {
    /// What is to be run for `question`, at `now`, one after the other on one connection. The rows of
    /// the last one are for [`answer`](Self::answer).
    pub fn ask(&self, question: &Question, now: Instant) -> Vec<Statement> {
        let texts = self.texts();
        let statement = |text: &str, params: Vec<Value>| {
            let text = self.dialect.text(text, &self.table).replace("{now}", mysql::NOW);
            vec![Statement::new(text, params)]
        };
        let timed = |param: Value| match &self.dialect {
            Dialect::Sqlite { boot, .. } => {
                let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
                vec![Value::Int(now), Value::Text(boot.clone()), param]
            }
            _ => vec![param],
        };
        match question {
            Question::List { after } => {
                statement(texts.list, timed(Value::Text(after.clone().unwrap_or_default())))
            }
            Question::Status { name } => {
                statement(texts.status, timed(Value::Text(name.to_string())))
            }
            Question::Break { name, fence } => {
                let fence = i64::try_from(fence.get()).unwrap_or(i64::MAX);
                statement(texts.force, vec![Value::Text(name.to_string()), Value::Int(fence)])
            }
            Question::Purge { unused } => {
                let unused = (*unused).max(SHORTEST).as_micros();
                let unused = Value::Int(i64::try_from(unused).unwrap_or(i64::MAX / 2));
                let mut statements = statement(texts.purge, timed(unused));
                if let Dialect::Mysql { .. } = self.dialect {
                    statements.extend(statement(COUNT, vec![]));
                }
                statements
            }
        }
    }

    /// What is to be run instead, and will do, where a statement for `question` failed so: a break that
    /// could not be told to those that wait.
    pub fn ask_untold(&self, question: &Question, failure: &Failure) -> Option<Statement> {
        let told = matches!(question, Question::Break { .. }) && could_not_tell(failure);
        let [Statement { text, params, .. }] =
            <[Statement; 1]>::try_from(self.ask(question, Instant::default())).ok()?;
        let text = text.replace(TOLD, "false");
        (told && self.untold.is_some()).then(|| Statement::new(text, params))
    }

    /// What a failure of `question` means: one of missing rights says which statement would help.
    pub fn explain_to(&self, question: &Question, failure: Failure) -> Failure {
        let rights = match question {
            Question::List { .. } | Question::Status { .. } => "SELECT",
            Question::Break { .. } => "SELECT, UPDATE",
            Question::Purge { .. } => "SELECT, UPDATE, DELETE",
        };
        self.explain(failure, rights)
    }

    /// What the rows of `question`'s last statement mean.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if they are not what the statement returns.
    pub fn answer(&self, question: &Question, rows: Rows) -> Result<Answer, Failure> {
        let answer = match question {
            Question::List { .. } | Question::Status { .. } => {
                rows.into_iter().map(state).collect::<Option<Vec<_>>>().map(Answer::Locks)
            }
            Question::Break { .. } => broken(&rows).map(Answer::Broken),
            Question::Purge { .. } => purged(&rows).map(Answer::Purged),
        };
        let surprise = "the server's rows are not those that were asked for";
        answer.ok_or_else(|| Failure::Unknown(surprise.to_string()))
    }

    fn texts(&self) -> Texts {
        match self.dialect {
            Dialect::Postgres { .. } => POSTGRES,
            Dialect::Sqlite { .. } => SQLITE,
            Dialect::Mysql { .. } => MYSQL,
        }
    }
}

/// A row of (name, fence, holder, µs held, µs left, whether that is more than its TTL allows).
fn state(row: Vec<Value>) -> Option<LockState> {
    match <[Value; 6]>::try_from(row).ok()? {
        [
            Value::Text(name),
            Value::Int(fence),
            Value::Text(label),
            Value::Int(held),
            Value::Int(left),
            Value::Int(late),
        ] => {
            let span = |us: i64| Some(Duration::from_micros(u64::try_from(us).unwrap_or(0)));
            let hold =
                Hold { label, held_for: span(held), expires_in: span(left), ends_late: late != 0 };
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

/// Statements of one dialect. `list` and `status` return rows for [`state`].
struct Texts {
    list: &'static str,
    status: &'static str,
    force: &'static str,
    purge: &'static str,
}

/// `$1`: the name, after which; the name; the name, `$2` the fence; the time unused, in µs.
const POSTGRES: Texts = Texts {
    list: r#"
SELECT l.name, l.fence, l.holder,
       (extract(epoch FROM clock_timestamp() - l.acquired_at) * 1000000)::bigint,
       (extract(epoch FROM l.expires_at - clock_timestamp()) * 1000000)::bigint,
       (l.expires_at > clock_timestamp() + (l.ttl_us + 1000000) * interval '1 microsecond')::int::bigint
  FROM {table} AS l
 WHERE l.owner IS NOT NULL AND l.expires_at > clock_timestamp() AND l.name > $1::text
 ORDER BY l.name
 LIMIT 500"#,
    status: r#"
SELECT l.name, l.fence, l.holder,
       (extract(epoch FROM clock_timestamp() - l.acquired_at) * 1000000)::bigint,
       CASE WHEN l.owner IS NULL THEN 0
            ELSE (extract(epoch FROM l.expires_at - clock_timestamp()) * 1000000)::bigint END,
       (l.expires_at > clock_timestamp() + (l.ttl_us + 1000000) * interval '1 microsecond')::int::bigint
  FROM {table} AS l
 WHERE l.name = $1::text"#,
    force: r#"
UPDATE {table}
   SET owner = NULL,
       fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
RETURNING CASE WHEN contended AND pg_notify('withlock_' || tableoid::text, name) IS NULL THEN NULL
               ELSE fence END"#,
    purge: r#"
DELETE FROM {table}
 WHERE name IN (
   SELECT l.name
     FROM {table} AS l
    WHERE (l.owner IS NULL OR l.expires_at <= clock_timestamp())
      AND l.fence < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint
    ORDER BY l.name
    LIMIT 500
      FOR UPDATE SKIP LOCKED
 )
RETURNING name"#,
};

/// `?1` now in µs, `?2` boot, `?3` as for PostgreSQL; to break, `?1` the name, `?2` the fence.
const SQLITE: Texts = Texts {
    list: r#"
SELECT name, fence, holder, ?1 - acquired_us, expires_us - ?1, 0
  FROM {table}
 WHERE owner IS NOT NULL AND boot = ?2 AND expires_us > ?1 AND name > ?3
 ORDER BY name
 LIMIT 500"#,
    status: r#"
SELECT name, fence, holder, ?1 - acquired_us,
       CASE WHEN owner IS NULL OR boot <> ?2 THEN 0 ELSE expires_us - ?1 END, 0
  FROM {table}
 WHERE name = ?3"#,
    force: r#"
UPDATE {table}
   SET owner = NULL,
       fence = max(fence + 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000)
 WHERE name = ?1 AND fence = ?2 AND owner IS NOT NULL
RETURNING fence"#,
    purge: r#"
DELETE FROM {table}
 WHERE name IN (
   SELECT name
     FROM {table}
    WHERE (owner IS NULL OR boot <> ?2 OR expires_us <= ?1)
      AND fence < CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000 - ?3
    ORDER BY name
    LIMIT 500
 )
RETURNING name"#,
};

/// Parameters as for PostgreSQL.
const MYSQL: Texts = Texts {
    list: r#"
SELECT name, fence, holder, {now} - acquired_us, expires_us - {now}, expires_us > {now} + ttl_us + 1000000
  FROM {table}
 WHERE owner IS NOT NULL AND expires_us > {now} AND name > ?
 ORDER BY name
 LIMIT 500"#,
    status: r#"
SELECT name, fence, holder, {now} - acquired_us,
       CASE WHEN owner IS NULL THEN 0 ELSE expires_us - {now} END, expires_us > {now} + ttl_us + 1000000
  FROM {table}
 WHERE name = ?"#,
    force: r#"
UPDATE {table}
   SET fence = LAST_INSERT_ID(GREATEST(fence + 1, {now})), owner = NULL, expires_us = 0
 WHERE name = ? AND fence = ? AND owner IS NOT NULL"#,
    purge: r#"
DELETE FROM {table}
 WHERE (owner IS NULL OR expires_us <= {now}) AND fence < {now} - ?
 ORDER BY name
 LIMIT 500"#,
};

/// What PostgreSQL's break does for those that wait.
const TOLD: &str = "pg_notify('withlock_' || tableoid::text, name) IS NULL";

/// How many rows the statement before has removed.
const COUNT: &str = "\nSELECT ROW_COUNT()";
