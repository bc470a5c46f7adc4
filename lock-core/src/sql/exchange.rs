//! One command as statements, and their rows as its reply.

use super::{Codec, Dialect, Rows, Statement, Value, sqlite};
use crate::error::Failure;
use crate::fence::Fence;
use crate::protocol::{Claim, Holder};
use crate::table::{Acquired, Command, Reply};
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// A command on its way through one or two statements.
///
/// Run each statement that [`poll_statement`](Self::poll_statement) gives, hand its rows to
/// [`handle_rows`](Self::handle_rows), or what is known of its fate to
/// [`handle_failure`](Self::handle_failure), and take the reply from [`finish`](Self::finish).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    codec: Codec,
    command: Command,
    now: Instant,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The statement that does it is to be run.
    Act,
    /// Some claims were not granted: ask who is in the way.
    Ask {
        granted: BTreeMap<String, Fence>,
    },
    Done(Result<Reply, Failure>),
}

impl Exchange {
    pub(super) fn new(codec: Codec, command: Command, now: Instant) -> Self {
        Self { codec, command, now, stage: Stage::Act }
    }

    /// The next statement to run, if there is one.
    pub fn poll_statement(&self) -> Option<Statement> {
        match &self.stage {
            Stage::Act => Some(self.act()),
            Stage::Ask { granted } => Some(self.ask(granted)),
            Stage::Done(_) => None,
        }
    }

    /// Takes the rows of the last statement.
    pub fn handle_rows(&mut self, rows: Rows) {
        self.stage = match (&self.stage, &self.command) {
            (Stage::Act, Command::Acquire { claims, .. }) => match granted(rows) {
                Some(granted) if claims.iter().any(|c| !granted.contains_key(c.name.as_str())) => {
                    Stage::Ask { granted }
                }
                Some(granted) => Stage::Done(Ok(acquired(claims, &granted, &BTreeMap::new()))),
                None => surprise(),
            },
            (Stage::Ask { granted }, Command::Acquire { claims, .. }) => match holders(rows) {
                Some(holders) => Stage::Done(Ok(acquired(claims, granted, &holders))),
                None => surprise(),
            },
            (Stage::Act, Command::Renew { leases, .. } | Command::Release { leases }) => {
                match changed(rows, leases) {
                    Some(reply) => Stage::Done(Ok(reply)),
                    None => surprise(),
                }
            }
            (Stage::Ask { .. } | Stage::Done(_), _) => surprise(),
        };
    }

    /// Takes the failure of the last statement.
    pub fn handle_failure(&mut self, failure: Failure) {
        self.stage = match (&self.stage, &self.command) {
            // What was granted is granted; only who is in the way stays unknown.
            (Stage::Ask { granted }, Command::Acquire { claims, .. }) => {
                Stage::Done(Ok(acquired(claims, granted, &BTreeMap::new())))
            }
            _ => Stage::Done(Err(failure)),
        };
    }

    /// The command's reply.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if the rows were not what the statements return, or are still missing:
    /// a surprise is never a grant.
    pub fn finish(self) -> Result<Reply, Failure> {
        match self.stage {
            Stage::Done(result) => result,
            Stage::Act | Stage::Ask { .. } => {
                Err(Failure::Unknown("the answer is incomplete".to_string()))
            }
        }
    }

    fn act(&self) -> Statement {
        let claims: Vec<&Claim> = self.command.claims().iter().collect();
        match &self.command {
            Command::Acquire { ttl, holder, .. } => {
                let more = [micros(*ttl), Value::Text(holder.to_string())];
                self.statement(&self.codec.claim, &claims, true, more)
            }
            Command::Renew { ttl, .. } => {
                self.statement(&self.codec.renew, &claims, true, [micros(*ttl)])
            }
            Command::Release { .. } => self.statement(&self.codec.release, &claims, false, []),
        }
    }

    fn ask(&self, granted: &BTreeMap<String, Fence>) -> Statement {
        let denied =
            self.command.claims().iter().filter(|claim| !granted.contains_key(claim.name.as_str()));
        let denied: Vec<&Claim> = denied.collect();
        match self.codec.dialect {
            Dialect::Postgres => Statement::new(&self.codec.holders, [names(&denied)]),
            Dialect::Sqlite { .. } => self.statement(&self.codec.holders, &denied, true, []),
        }
    }

    /// `text` with its claims, with the client's clock where the dialect wants it, and with `more`.
    fn statement<const N: usize>(
        &self,
        text: &Arc<str>,
        claims: &[&Claim],
        timed: bool,
        more: [Value; N],
    ) -> Statement {
        let mut params = match &self.codec.dialect {
            Dialect::Postgres => {
                let owners = claims.iter().map(|claim| claim.owner.to_string()).collect();
                Vec::from([names(claims), Value::Texts(owners)])
            }
            Dialect::Sqlite { .. } => Vec::from([Value::Text(sqlite::json(claims))]),
        };
        if let Dialect::Sqlite { boot } = &self.codec.dialect
            && timed
        {
            let now = i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX);
            params.extend([Value::Int(now), Value::Text(boot.clone())]);
        }
        params.extend(more);
        Statement::new(text, params)
    }
}

fn names(claims: &[&Claim]) -> Value {
    Value::Texts(claims.iter().map(|claim| claim.name.to_string()).collect())
}

fn micros(duration: Duration) -> Value {
    Value::Int(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

fn surprise() -> Stage {
    Stage::Done(Err(Failure::Unknown(
        "the server's rows are not those that were asked for".to_string(),
    )))
}

/// Rows of (name, fence); `None` if they are anything else.
fn granted(rows: Rows) -> Option<BTreeMap<String, Fence>> {
    rows.into_iter()
        .map(|row| match <[Value; 2]>::try_from(row).ok()? {
            [Value::Text(name), Value::Int(fence)] => {
                Some((name, Fence::new(u64::try_from(fence).ok()?)))
            }
            _ => None,
        })
        .collect()
}

/// Rows of (name, holder, µs held, µs left).
fn holders(rows: Rows) -> Option<BTreeMap<String, Holder>> {
    rows.into_iter()
        .map(|row| match <[Value; 4]>::try_from(row).ok()? {
            [Value::Text(name), Value::Text(label), Value::Int(held), Value::Int(left)] => {
                let span = |us: i64| Duration::from_micros(u64::try_from(us).unwrap_or(0));
                Some((name, Holder { label, held_for: span(held), expires_in: span(left) }))
            }
            _ => None,
        })
        .collect()
}

/// Rows of (name, owner): which leases were ours.
fn changed(rows: Rows, leases: &[Claim]) -> Option<Reply> {
    let ours = rows
        .into_iter()
        .map(|row| match <[Value; 2]>::try_from(row).ok()? {
            [Value::Text(name), Value::Text(owner)] => Some((name, owner)),
            _ => None,
        })
        .collect::<Option<alloc::collections::BTreeSet<_>>>()?;
    let is_ours = |lease: &Claim| ours.contains(&(lease.name.to_string(), lease.owner.to_string()));
    Some(Reply::Changed(leases.iter().map(is_ours).collect()))
}

fn acquired(
    claims: &[Claim],
    granted: &BTreeMap<String, Fence>,
    holders: &BTreeMap<String, Holder>,
) -> Reply {
    let entry = |claim: &Claim| match granted.get(claim.name.as_str()) {
        Some(fence) => Acquired::Granted(*fence),
        None => Acquired::Busy(holders.get(claim.name.as_str()).cloned()),
    };
    Reply::Acquired(claims.iter().map(entry).collect())
}
