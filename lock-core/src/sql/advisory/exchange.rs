//! One request as a statement, or two, and their rows as its reply.

use super::key::{Digest, Digests};
use super::{Codec, Dialect, Session, mysql, postgres, sql_lock};
use crate::error::Failure;
use crate::fence::Fence;
use crate::outcome::{Outcome, Reply};
use crate::request::{Mode, Request};
use crate::sql::{Refusal, Rows, Statement, Value};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// A request on its way through a statement.
///
/// Run each statement that [`poll_statement`](Self::poll_statement) gives, hand its rows to
/// [`handle_rows`](Self::handle_rows), or what is known of its fate to
/// [`handle_failure`](Self::handle_failure), and take the reply from [`finish`](Self::finish).
///
/// After [`Failure::Rejected`], the connection has of the request's locks what it had before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    codec: Arc<Codec>,
    request: Request,
    session: Session,
    /// Of the name of a claim that is alone, if locks are called by it and it is known.
    digest: Option<Digest>,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The statement that does it is to be run.
    Act,
    /// It failed, and may have taken locks before it did: read which.
    Look {
        failure: Failure,
    },
    /// A row lock's own.
    Row(sql_lock::Stage),
    Done(Result<Reply, Failure>),
}

/// Numbers that a statement returns instead of a fence, or for a release.
const BUSY: i64 = 0;
const STARTING: i64 = -1;
pub(super) const READ_ONLY: i64 = -2;
pub(super) const REPLACED: i64 = -3;

impl Exchange {
    pub(in crate::sql) fn new(codec: Arc<Codec>, request: Request, session: Session) -> Self {
        let unfit = request.claims().iter().find_map(|c| codec.check(&c.name, c.mode).err());
        let row = codec.dialect == Dialect::SqlLock;
        let stage = match (&request, unfit) {
            (_, Some(error)) => Stage::Done(Err(Failure::refused(error.to_string()))),
            _ if row && request.claims().len() > 1 => {
                Stage::Done(unknown("a connection has one lock at most"))
            }
            (Request::Acquire { .. } | Request::Wait { .. } | Request::Release { .. }, _)
                if row =>
            {
                Stage::Row(sql_lock::Stage::first(&request))
            }
            (
                Request::KeepAlive { .. }
                | Request::Acquire { .. }
                | Request::Wait { .. }
                | Request::Release { .. },
                None,
            ) => Stage::Act,
            _ => Stage::Done(unknown("such a request is no statement on a connection")),
        };
        Self { codec, request, session, digest: None, stage }
    }

    /// Takes what is known of names from earlier requests.
    pub(in crate::sql) fn know(&mut self, digests: &mut Digests) {
        if let [claim] = self.request.claims()
            && self.codec.hashes()
        {
            self.digest = Some(digests.of(&claim.name));
        }
    }

    /// The next statement to run, if there is one.
    pub fn poll_statement(&self) -> Option<Statement> {
        match &self.stage {
            Stage::Act => self.codec.act(&self.request, &self.session, self.digest),
            Stage::Look { .. } => Some(self.codec.held(&self.request, &self.session)),
            Stage::Row(stage) => stage.statement(&self.codec, &self.request, &self.session),
            Stage::Done(_) => None,
        }
    }

    /// Takes the rows of the last statement.
    pub fn handle_rows(&mut self, rows: Rows) {
        let count = self.request.claims().len();
        let next = match (&self.stage, &self.request) {
            (Stage::Act, Request::KeepAlive { .. }) => kept(&rows),
            (Stage::Act, Request::Release { .. }) => numbers(rows, count).and_then(unlocked),
            (Stage::Act, _) => numbers(rows, count).and_then(|said| self.tried(said)),
            (Stage::Look { failure }, _) => {
                numbers(rows, count).and_then(|said| self.found(said, failure))
            }
            (Stage::Row(stage), _) => stage.clone().after(rows).map(row),
            (Stage::Done(_), _) => None,
        };
        let surprise = || unknown("the server's rows are not those that were asked for");
        self.stage = next.unwrap_or_else(|| Stage::Done(surprise()));
    }

    /// Takes the failure of the last statement.
    pub fn handle_failure(&mut self, failure: Failure) {
        self.stage = match (&self.stage, failure) {
            (Stage::Act, failure @ Failure::Rejected { .. }) => self.look(failure),
            (Stage::Act, failure) => Stage::Done(Err(failure)),
            (Stage::Row(stage), failure) => row(stage.clone().failed(failure)),
            // It cannot be found out what the connection has: it must be dropped.
            (_, failure) => Stage::Done(unknown(&failure.to_string())),
        };
    }

    /// The request's reply.
    ///
    /// # Errors
    /// The request's fate, if there is no reply. [`Failure::Unknown`] if the rows were not what the statements
    /// return, or are still missing: a surprise is never a grant.
    pub fn finish(self) -> Result<Reply, Failure> {
        match self.stage {
            Stage::Done(result) => result,
            _ => unknown("the answer is incomplete"),
        }
    }

    /// The stage after a failed statement on a connection that works.
    fn look(&self, failure: Failure) -> Stage {
        let shared = self.request.claims().iter().any(|claim| claim.mode == Mode::Shared);
        match &self.request {
            // A connection may share a lock with itself, and the server does not tell how often: it
            // would not be known whether one of ours was taken, or freed.
            Request::Acquire { .. } | Request::Release { .. } if shared => {
                Stage::Done(unknown(&failure.to_string()))
            }
            Request::Acquire { .. } | Request::Wait { .. } => Stage::Look { failure },
            _ => Stage::Done(Err(failure)),
        }
    }

    /// The stage after a try or a wait.
    fn tried(&self, said: Vec<Option<i64>>) -> Option<Stage> {
        if said.contains(&Some(REPLACED)) {
            return Some(Stage::Done(replaced()));
        }
        if said.contains(&None) {
            let message = "the server could not take the lock, and did not say why".to_string();
            return Some(self.look(Failure::not_now(message)));
        }
        if said.contains(&Some(READ_ONLY)) {
            // Some may have been taken before it became so.
            let none = said.iter().all(|number| *number <= Some(BUSY));
            let why = match self.codec.dialect {
                Dialect::Postgres(_) => Refusal::Standby,
                _ => Refusal::ReadOnly,
            };
            let message = why.to_string();
            // It may be one for a while only, in a switch-over.
            let rejected = || Err(Failure::not_now(message.clone()));
            return Some(Stage::Done(if none { rejected() } else { unknown(&message) }));
        }
        let entries: Option<Vec<Outcome>> = said.into_iter().map(|number| entry(number?)).collect();
        entries.map(done)
    }

    /// The stage after reading which locks a failed statement has taken all the same.
    fn found(&self, said: Vec<Option<i64>>, failure: &Failure) -> Option<Stage> {
        if said.contains(&Some(REPLACED)) {
            return Some(Stage::Done(replaced()));
        }
        if said.iter().any(|number| number.is_none_or(|number| number < BUSY)) {
            return None;
        }
        let waited = matches!(&self.request, Request::Wait { .. });
        let denied = waited
            && match self.codec.dialect {
                Dialect::Postgres(_) => postgres::wait_ended(failure),
                _ => mysql::wait_ended(failure),
            };
        if !denied && said.iter().all(|number| *number == Some(BUSY)) {
            return Some(Stage::Done(Err(failure.clone())));
        }
        // The locks that were taken stand. Of the others it is only known that they are not ours.
        let entries: Option<Vec<Outcome>> = said.into_iter().map(|number| entry(number?)).collect();
        entries.map(done)
    }
}

fn row(stage: sql_lock::Stage) -> Stage {
    match stage {
        sql_lock::Stage::Done(result) => Stage::Done(result),
        stage => Stage::Row(stage),
    }
}

fn done(outcomes: Vec<Outcome>) -> Stage {
    Stage::Done(Ok(Reply::Outcomes(outcomes)))
}

pub(super) fn entry(number: i64) -> Option<Outcome> {
    match number {
        STARTING => Some(Outcome::Delayed),
        BUSY => Some(Outcome::Busy(None)),
        fence => Some(Outcome::Granted(Fence::new(u64::try_from(fence).ok()?))),
    }
}

fn kept(rows: &Rows) -> Option<Stage> {
    Some(done([if is_same(rows)? { Outcome::Done } else { Outcome::NoSession }].into()))
}

/// Whether it is the connection that was opened.
pub(super) fn is_same(rows: &Rows) -> Option<bool> {
    match rows.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] {
        [[Value::Int(0)]] => Some(false),
        [[Value::Int(1)]] => Some(true),
        _ => None,
    }
}

fn unlocked(said: Vec<Option<i64>>) -> Option<Stage> {
    if said.contains(&Some(REPLACED)) {
        return Some(Stage::Done(replaced()));
    }
    let entry = |number| match number {
        Some(0) => Some(Outcome::NotOwner),
        Some(1) => Some(Outcome::Done),
        _ => None,
    };
    let entries: Option<Vec<Outcome>> = said.into_iter().map(entry).collect();
    entries.map(done)
}

/// Rows of (place, number or NULL), one for each place from 1 to `count`; `None` if they are
/// anything else.
pub(super) fn numbers(rows: Rows, count: usize) -> Option<Vec<Option<i64>>> {
    let mut said = vec![None; count];
    for row in rows {
        let (at, number) = match <[Value; 2]>::try_from(row).ok()? {
            [Value::Int(at), Value::Int(number)] => (at, Some(number)),
            [Value::Int(at), Value::Null] => (at, None),
            _ => return None,
        };
        let at = usize::try_from(at).ok()?.checked_sub(1)?;
        if said.get_mut(at)?.replace(number).is_some() {
            return None;
        }
    }
    said.into_iter().collect()
}

pub(super) fn unknown<T>(message: &str) -> Result<T, Failure> {
    Err(Failure::Unknown(String::from(message)))
}

pub(super) fn replaced<T>() -> Result<T, Failure> {
    unknown("the connection was replaced or reset by something between us and the server")
}
