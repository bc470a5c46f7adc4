//! One request about a row lock, as several statements.
//!
//! ```text
//!   a try    Lock -> granted, or Insert if there is no row     Lock fails: somebody has it
//!   a wait   Insert, for some seconds -> Lock -> granted       Insert fails: somebody has it
//!   release  Same -> End
//!
//!   all that was not granted -> End, the COMMIT
//! ```

use super::super::exchange::{READ_ONLY, REPLACED, entry, is_same, numbers, replaced, unknown};
use super::super::{Codec, Session, mysql};
use super::{COMMIT, INSERT, LIMIT};
use crate::error::{Code, Failure};
use crate::outcome::{Outcome, Reply};
use crate::request::Request;
use crate::sql::{Refusal, Rows, Statement, Value};
use alloc::string::ToString;
use core::time::Duration;

/// The statement that is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Stage {
    /// Lock the row; `made`: it is ours already, to tell its fence.
    Lock { made: bool },
    /// Limit the wait of the next one.
    Limit { seconds: u64 },
    /// Make the row, or wait for it.
    Insert,
    /// See that the transaction is ours.
    Same,
    /// End the transaction, and then answer so.
    End(Result<Reply, Failure>),
    /// Nothing is left to run.
    Done(Result<Reply, Failure>),
}

impl Stage {
    /// The first statement of a request, which is neither to keep alive nor to open.
    pub(in super::super) fn first(request: &Request) -> Self {
        match request {
            Request::Release { .. } => Stage::Same,
            Request::Wait { up_to, .. } if *up_to >= Duration::from_secs(1) => {
                Stage::Limit { seconds: up_to.as_secs() }
            }
            _ => Stage::Lock { made: false },
        }
    }

    pub(in super::super) fn statement(
        &self,
        codec: &Codec,
        request: &Request,
        session: &Session,
    ) -> Option<Statement> {
        let name = || request.claims().first().map(|claim| claim.name.as_str());
        let name = || Value::Text(name().unwrap_or_default().to_string());
        Some(match self {
            Stage::Lock { .. } => {
                let from = session.granted_from(request);
                let statement = codec.on(session, &codec.attempt.any, [from, name()]);
                Statement { repeated: true, ..statement }
            }
            Stage::Limit { seconds } => {
                Statement::new(LIMIT, [Value::Int(i64::try_from(*seconds).unwrap_or(i64::MAX))])
            }
            Stage::Insert => Statement::new(INSERT, [name()]),
            Stage::Same => codec.held(request, session),
            Stage::End(_) => Statement::new(COMMIT, []),
            Stage::Done(_) => return None,
        })
    }

    /// The stage after a statement's rows; [`None`] if they make no sense.
    pub(in super::super) fn after(self, rows: Rows) -> Option<Self> {
        Some(match self {
            Stage::Lock { made: false } if rows.is_empty() => Stage::Limit { seconds: 1 },
            Stage::Lock { .. } => locked(rows)?,
            Stage::Limit { .. } => Stage::Insert,
            Stage::Insert => Stage::Lock { made: true },
            Stage::Same => match is_same(&rows)? {
                true => Stage::End(Ok(Reply::one(Outcome::Done))),
                false => Stage::Done(replaced()),
            },
            Stage::End(reply) | Stage::Done(reply) => Stage::Done(reply),
        })
    }

    /// The stage after a statement's failure. A transaction whose `COMMIT` failed may be open still.
    pub(in super::super) fn failed(self, failure: Failure) -> Self {
        match (self, &failure) {
            (Stage::Done(reply), _) => Stage::Done(reply),
            (Stage::End(_), Failure::Rejected { .. }) => Stage::Done(unknown(&failure.to_string())),
            (Stage::Lock { .. } | Stage::Insert, Failure::Rejected { .. }) => {
                let busy = somebody_has_it(&failure);
                Stage::End(if busy { Ok(Reply::one(Outcome::Busy(None))) } else { Err(failure) })
            }
            (Stage::Limit { .. }, Failure::Rejected { .. }) => Stage::End(Err(failure)),
            _ => Stage::Done(Err(failure)),
        }
    }
}

fn locked(rows: Rows) -> Option<Stage> {
    let number = numbers(rows, 1)?.pop()??;
    Some(match number {
        REPLACED => Stage::Done(replaced()),
        READ_ONLY => {
            // It may be one for a while only, in a switch-over.
            Stage::End(Err(Failure::not_now(Refusal::ReadOnly.to_string())))
        }
        number => match entry(number)? {
            Outcome::Granted(fence) => Stage::Done(Ok(Reply::one(Outcome::Granted(fence)))),
            other => Stage::End(Ok(Reply::one(other))),
        },
    })
}

/// Whether the row was another's: a lock that was not to be waited for, the end of the wait, and a deadlock among those that wait,
/// after which the server has rolled back.
fn somebody_has_it(failure: &Failure) -> bool {
    mysql::wait_ended(failure) || matches!(failure.code(), Some(Code::Mysql(3572 | 1205 | 1213)))
}
