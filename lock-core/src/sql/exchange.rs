//! One request as statements, and their rows as its reply.

mod draw;
mod outcomes;
mod own;
mod released;
mod rows;

use super::{Codec, Dialect, Rows, Statement, Text, Value, mysql, postgres, rights, sqlite};
use crate::error::Failure;
use crate::fence::Fence;
use crate::outcome::{News, Outcome, Reply};
use crate::request::{Claim, LeaseVersion, Request};
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use outcomes::{acquired, changed, drawn, freed, locked, pair, probed, renewed};
use own::{micros, names};
use rows::{Late, Pair, granted, mine, number, pairs, seen, wanted, watched};

pub(super) use own::Own;

/// A request on its way through one statement, or a few.
///
/// Run each statement that [`poll_statement`](Self::poll_statement) gives, hand its rows to
/// [`handle_rows`](Self::handle_rows), or what is known of its fate to
/// [`handle_failure`](Self::handle_failure), and take the reply from [`finish`](Self::finish).
///
/// # A server whose clock is set back
///
/// It leaves leases behind that end later than their TTL allows, and the holder of one may be dead. Whoever
/// is denied by such a lease has it end a TTL from now, unless it was renewed since it was seen: the
/// statement compares fence and expiry with what was seen, and each renewal moves the expiry. That is as
/// if the holder had renewed it, so it takes nothing from one that lives: its last request was sent before
/// the row was seen, and counts for less than a TTL from then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    codec: Arc<Codec>,
    request: Request,
    now: Instant,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// MySQL cannot report per-row results of the release, so first read which leases are ours.
    Look,
    /// The leases of these claims, from this one on, that have ended by a waiter's clock are to be ended.
    End(usize),
    /// The statement that does it is to be run. What was read before it is the reply.
    Act {
        seen: Option<Vec<Outcome>>,
    },
    /// The leases could be released, but not those told that wait for them: release them all the same.
    Untold,
    /// It could not tell of each claim: read what became of them. An earlier expiry does not count.
    Check {
        since: i64,
    },
    /// Some claims were not granted, or are not yet to be tried: ask who is in the way.
    Ask {
        granted: BTreeMap<String, Fence>,
    },
    /// The row of the only claim is locked: ask whether its lease has ended.
    Locked,
    /// Some leases end later than they can: have the first of them end a TTL from now, unless it was
    /// renewed since.
    Correct {
        outcomes: Vec<Outcome>,
        late: Vec<Late>,
    },
    /// The waiter of the claim `at` is to draw a ticket.
    Draw {
        at: usize,
        outcomes: Vec<Outcome>,
    },
    Done(Result<Reply, Failure>),
}

impl Exchange {
    pub(super) fn new(codec: Arc<Codec>, request: Request, now: Instant) -> Self {
        let ended = request.claims().iter().position(|claim| claim.ended.is_some());
        let takes = matches!(request, Request::Acquire { .. } | Request::Probe { .. });
        let stage = match (&codec.dialect, &request) {
            _ if takes && codec.end.is_some() && ended.is_some() => {
                Stage::End(ended.unwrap_or_default())
            }
            // The subscription would stay with a connection that belongs to others.
            (_, Request::Subscribe { .. } | Request::Unsubscribe | Request::Ping { .. })
                if codec.carries() =>
            {
                let why = "a pooler passes no notifications on".to_string();
                Stage::Done(Err(Failure::NotSent(why)))
            }
            (
                Dialect::Postgres { .. },
                Request::Subscribe { .. } | Request::Unsubscribe | Request::Ping { .. },
            ) => Stage::Act { seen: None },
            (_, Request::Probe { .. }) => Stage::Ask { granted: BTreeMap::new() },
            (_, Request::Keep { .. }) if codec.keep.is_none() => surprise(),
            (
                Dialect::Mysql { .. },
                Request::Release { claims, .. } | Request::Keep { claims, .. },
            ) if claims.len() > 1 => Stage::Look,
            (
                _,
                Request::Acquire { .. }
                | Request::Renew { .. }
                | Request::Release { .. }
                | Request::Keep { .. },
            ) => Stage::Act { seen: None },
            _ => surprise(),
        };
        Self { codec, request, now, stage }
    }

    /// The next statement to run, if there is one.
    pub fn poll_statement(&self) -> Option<Statement> {
        let statement = self.statement_of_stage()?;
        Some(Statement { repeated: statement.repeated && !self.codec.carries(), ..statement })
    }

    fn statement_of_stage(&self) -> Option<Statement> {
        match &self.stage {
            Stage::End(at) => self.end(*at),
            Stage::Look => Some(self.mine(0)),
            Stage::Act { .. } => Some(self.act()),
            Stage::Untold => self.untold(),
            Stage::Check { since } => Some(self.mine(*since)),
            Stage::Ask { granted } => Some(self.ask(granted)),
            Stage::Locked => Some(self.ask(&BTreeMap::new())),
            Stage::Correct { late, .. } => self.correct(late),
            Stage::Draw { at, .. } => self.draw(*at),
            Stage::Done(_) => None,
        }
    }

    /// Takes the rows of the last statement.
    pub fn handle_rows(&mut self, rows: Rows) {
        let claims = self.request.claims();
        let by_number = matches!(self.codec.dialect, Dialect::Mysql { .. });
        let seen = if self.codec.end.is_some() { watched } else { seen };
        let next = match (&self.stage, &self.request) {
            // It was ended or has changed: in either case, the lock's row tells.
            (Stage::End(at), _) => Some(self.ended(*at)),
            (Stage::Look, _) => mine(rows).map(|mine| {
                let nothing = mine.is_empty();
                let wanted = |of: &Pair| mine.get(of).map(|(_, wanted)| *wanted);
                let freed = claims.iter().map(|claim| freed(wanted(&pair(claim)))).collect();
                if nothing { done(freed) } else { Stage::Act { seen: Some(freed) } }
            }),
            // What is ours all the same is so by an earlier claim.
            (Stage::Act { .. }, Request::Acquire { .. })
                if by_number && rows == mysql::nothing() =>
            {
                Some(self.granted(BTreeMap::new()))
            }
            (Stage::Act { seen }, _) if by_number => {
                number(rows).map(|number| self.acted(number, seen.clone()))
            }
            (Stage::Act { .. }, Request::Subscribe { .. }) => {
                Some(Stage::Done(Ok(Reply::News(News::Begun))))
            }
            (Stage::Act { .. }, Request::Unsubscribe) => Some(done([Outcome::Done].into())),
            (Stage::Act { .. }, Request::Ping { .. }) => {
                number(rows).map(|_| done([Outcome::Done].into()))
            }
            (Stage::Act { .. }, Request::Acquire { .. }) => {
                granted(rows).map(|granted| self.granted(granted))
            }
            (Stage::Act { .. } | Stage::Untold, Request::Release { .. } | Request::Keep { .. }) => {
                wanted(rows).map(|wanted| {
                    let entry = |claim: &Claim| freed(wanted.get(claim.name.as_str()).copied());
                    done(claims.iter().map(entry).collect())
                })
            }
            (Stage::Act { .. } | Stage::Untold, _) => {
                pairs(rows).map(|ours| done(changed(claims, |of| ours.contains(of))))
            }
            (Stage::Check { .. }, Request::Acquire { .. }) => mine(rows).map(|mine| {
                let fence = |of: &Claim| Some((of.name.to_string(), mine.get(&pair(of))?.0));
                self.granted(claims.iter().filter_map(fence).collect())
            }),
            (Stage::Check { .. }, _) => {
                mine(rows).map(|mine| done(changed(claims, |of| mine.contains_key(of))))
            }
            (Stage::Ask { .. }, Request::Probe { claims }) => {
                seen(rows).map(|(seen, late)| self.asked(probed(claims, &seen), late))
            }
            (Stage::Ask { granted }, _) => {
                seen(rows).map(|(seen, late)| self.asked(acquired(claims, granted, &seen), late))
            }
            (Stage::Locked, _) => seen(rows).map(|(seen, _)| done([locked(claims, &seen)].into())),
            (Stage::Correct { outcomes, late }, _) => Some(self.corrected(outcomes, late)),
            (Stage::Draw { at, outcomes }, _) => self.drew(*at, outcomes.clone(), rows),
            (Stage::Done(_), _) => None,
        };
        self.stage = next.unwrap_or_else(surprise);
    }

    /// The stage after the lease of the claim `at` was ended.
    fn ended(&self, at: usize) -> Stage {
        let rest = self.request.claims().iter().skip(at + 1);
        match (rest.clone().position(|claim| claim.ended.is_some()), &self.request) {
            (Some(next), _) => Stage::End(at + 1 + next),
            (None, Request::Probe { .. }) => Stage::Ask { granted: BTreeMap::new() },
            (None, _) => Stage::Act { seen: None },
        }
    }

    fn end(&self, at: usize) -> Option<Statement> {
        let (text, claim) = (self.codec.end.as_ref()?, self.request.claims().get(at)?);
        let LeaseVersion { fence, expiry } = claim.ended?;
        let fence = Value::Int(i64::try_from(fence.get()).unwrap_or(i64::MAX));
        let params = [Value::Text(claim.name.to_string()), fence, Value::Int(expiry)];
        Some(Statement::new(text.clone(), params))
    }

    /// The stage after a MySQL statement, which reports one number.
    fn acted(&self, number: i64, seen: Option<Vec<Outcome>>) -> Stage {
        match (&self.request, self.request.claims()) {
            (Request::Acquire { .. }, [claim]) => {
                let fence = u64::try_from(number).map(Fence::new).ok().filter(|_| number != 0);
                self.granted(
                    fence.map(|fence| (claim.name.to_string(), fence)).into_iter().collect(),
                )
            }
            (Request::Acquire { .. }, _) => Stage::Check { since: 0 },
            // They last a TTL from then, each its own.
            (Request::Renew { .. }, [_, _, ..]) if number != 0 => Stage::Check { since: number },
            (Request::Release { .. } | Request::Keep { .. }, claims) => {
                let wanted = (number != 0).then_some(number != 1);
                done(seen.unwrap_or_else(|| claims.iter().map(|_| freed(wanted)).collect()))
            }
            (_, claims) => done(claims.iter().map(|_| renewed(number != 0)).collect()),
        }
    }

    /// The stage after the grants are known.
    fn granted(&self, granted: BTreeMap<String, Fence>) -> Stage {
        let claims = self.request.claims();
        if claims.iter().all(|claim| granted.contains_key(claim.name.as_str())) {
            return done(acquired(claims, &granted, &BTreeMap::new()));
        }
        Stage::Ask { granted }
    }

    /// The stage after the first of the late leases was corrected, or found to be renewed.
    fn corrected(&self, outcomes: &[Outcome], late: &[Late]) -> Stage {
        self.asked(outcomes.to_vec(), late.get(1..).unwrap_or_default().to_vec())
    }

    /// The stage after the holders of the other claims are known.
    fn asked(&self, outcomes: Vec<Outcome>, late: Vec<Late>) -> Stage {
        if self.correct(&late).is_some() {
            return Stage::Correct { outcomes, late };
        }
        self.draws(0, outcomes)
    }

    /// Takes the failure of the last statement.
    pub fn handle_failure(&mut self, failure: Failure) {
        let failure = self.codec.explain(failure, rights::COMMANDS);
        self.stage = match &self.stage {
            // Then nothing that was done before counts.
            _ if matches!(failure, Failure::Gone(_)) => Stage::Done(Err(failure)),
            // The grants stand. Only the holders of the others stay unknown.
            Stage::Ask { granted } if matches!(self.request, Request::Acquire { .. }) => {
                done(acquired(self.request.claims(), granted, &BTreeMap::new()))
            }
            // It is found to be late again.
            Stage::Correct { outcomes, late } => self.corrected(outcomes, late),
            // They try again, without a place.
            Stage::Draw { outcomes, .. } => done(drawn(outcomes.clone())),
            // They find out by themselves, later.
            Stage::Act { .. }
                if self.codec.untold.is_some()
                    && matches!(self.request, Request::Release { .. } | Request::Keep { .. })
                    && postgres::could_not_tell(&failure) =>
            {
                Stage::Untold
            }
            // Somebody's transaction has the row pinned, or locked. Nothing tells when it ends. On MySQL, it may be that of
            // the holder: there, a claim waits also for the row of a lease that has not ended.
            Stage::Act { .. }
                if matches!(self.request, Request::Acquire { .. })
                    && self.request.claims().len() == 1
                    && failure.is_of_a_locked_row() =>
            {
                match self.codec.dialect {
                    Dialect::Mysql { .. } => Stage::Locked,
                    _ => done([Outcome::Delayed].into()),
                }
            }
            Stage::Locked => done([Outcome::Delayed].into()),
            // It was done, and what came of it stays unknown.
            Stage::Check { .. } => Stage::Done(Err(Failure::Unknown(failure.to_string()))),
            _ => Stage::Done(Err(failure)),
        };
    }

    /// The request's reply.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if the rows were not what the statements return, or are still missing:
    /// a surprise is never a grant.
    pub fn finish(self) -> Result<Reply, Failure> {
        match self.stage {
            Stage::Done(result) => result,
            _ => Err(Failure::Unknown("the answer is incomplete".to_string())),
        }
    }

    fn act(&self) -> Statement {
        let claims: Vec<&Claim> = self.request.claims().iter().collect();
        match (&self.request, &self.codec.dialect) {
            (Request::Acquire { ttl, label, .. }, _) => {
                let (ttl, label) = match claims[..] {
                    [_] => self.terms_of_first(),
                    _ => (micros(*ttl), label.to_string()),
                };
                let more = [Value::Int(ttl), Value::Text(label)];
                self.statement(&self.codec.claim, &claims, true, more)
            }
            (Request::Renew { ttl, .. }, _) => {
                let ttl = Value::Int(micros(*ttl));
                self.statement(&self.codec.renew, &claims, true, [ttl])
            }
            (Request::Release { .. }, _) => self.released(&self.codec.release),
            (Request::Keep { keep, .. }, _) => match &self.codec.keep {
                Some(texts) => self.kept(&texts[0], *keep),
                // The first stage refuses it.
                None => Statement::new(self.codec.holders.any.clone(), []),
            },
            (Request::Ping { number }, Dialect::Postgres { ping, .. }) => {
                let payload = Value::Text(postgres::ping(*number));
                Statement { durable: false, ..Statement::new(ping.clone(), [payload]) }
            }
            (Request::Unsubscribe, Dialect::Postgres { unlisten, .. }) => {
                Statement::new(unlisten.clone(), [])
            }
            (_, Dialect::Postgres { listen, .. }) => Statement::new(listen.clone(), []),
            // The others never get here: the first stage refuses them.
            _ => Statement::new(self.codec.holders.any.clone(), []),
        }
    }

    fn ask(&self, granted: &BTreeMap<String, Fence>) -> Statement {
        let is_denied = |claim: &&Claim| !granted.contains_key(claim.name.as_str());
        let denied: Vec<&Claim> = self.request.claims().iter().filter(is_denied).collect();
        match self.codec.dialect {
            Dialect::Postgres { .. } => {
                let text = self.codec.holders.any.clone();
                let turns = self.own_columns(&denied).into_iter().map(Value::Texts);
                let owners = denied.iter().map(|claim| claim.owner.to_string()).collect();
                let params: Vec<Value> = [names(&denied)]
                    .into_iter()
                    .chain(turns)
                    .chain([Value::Texts(owners)])
                    .collect();
                Statement { repeated: true, durable: false, ..Statement::new(text, params) }
            }
            Dialect::Sqlite { .. } | Dialect::Mysql { .. } => {
                self.statement(&self.codec.holders, &denied, true, [])
            }
        }
    }

    /// Ends the first of these leases a TTL from now.
    fn correct(&self, late: &[Late]) -> Option<Statement> {
        let (text, Late { name, fence, expiry }) = (self.codec.correct.as_ref()?, late.first()?);
        let params = [Value::Text(name.clone()), Value::Int(*fence), Value::Int(*expiry)];
        Some(Statement { durable: false, ..Statement::new(text.clone(), params) })
    }

    /// Which claims are their owner's, with an expiry that is not earlier than `since`.
    fn mine(&self, since: i64) -> Statement {
        let text = match &self.codec.dialect {
            Dialect::Mysql { mine } => mine,
            // The others never get here: their statements return rows.
            _ => &self.codec.holders,
        };
        let claims: Vec<&Claim> = self.request.claims().iter().collect();
        self.statement(text, &claims, false, [Value::Int(since)])
    }

    /// `text` with the client's clock where the dialect wants it, with `more`, and with the claims.
    fn statement<const N: usize>(
        &self,
        text: &Text,
        claims: &[&Claim],
        timed: bool,
        more: [Value; N],
    ) -> Statement {
        let (text, one) = text.of(claims);
        let mut params = Vec::new();
        if let Dialect::Sqlite { boot, .. } = &self.codec.dialect
            && timed
        {
            let now = i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX);
            params.extend([Value::Int(now), Value::Text(boot.clone())]);
        }
        params.extend(more);
        match (&self.codec.dialect, one) {
            (Dialect::Mysql { .. }, Some(claim)) => {
                params.extend(mysql::pair(claim).map(Value::Text));
            }
            (_, Some(claim)) => {
                let (name, owner) = pair(claim);
                params.extend([name, owner].map(Value::Text));
            }
            (Dialect::Postgres { .. }, None) => {
                let owners = claims.iter().map(|claim| claim.owner.to_string()).collect();
                params.extend([names(claims), Value::Texts(owners)]);
                params.extend(self.own_columns(claims).into_iter().map(Value::Texts));
            }
            (Dialect::Sqlite { .. }, None) => {
                params.push(Value::Text(sqlite::json(claims, |claim| self.own(claim))));
            }
            (Dialect::Mysql { .. }, None) => {
                params.push(Value::Text(mysql::json(claims, |claim| self.own(claim))));
            }
        }
        if let (Some(claim), true) = (one, self.has_turns()) {
            params.push(Value::Int(claim.turn.number()));
        }
        // After a power cut another kernel runs, for which all rows of this one are free: by then, only
        // the fences must be on the disk.
        let durable = !matches!(
            (&self.codec.dialect, &self.request),
            (_, Request::Probe { .. })
                | (Dialect::Sqlite { .. }, Request::Renew { .. } | Request::Release { .. })
        );
        // A dialect with array parameters has one text for any number of claims.
        let repeated = one.is_some() || matches!(self.codec.dialect, Dialect::Postgres { .. });
        Statement { durable, repeated, ..Statement::new(text.clone(), params) }
    }
}

fn surprise() -> Stage {
    Stage::Done(Err(Failure::Unknown(
        "the server's rows are not those that were asked for".to_string(),
    )))
}

fn done(outcomes: Vec<Outcome>) -> Stage {
    Stage::Done(Ok(Reply::Outcomes(outcomes)))
}
