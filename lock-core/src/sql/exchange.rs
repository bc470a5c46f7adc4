//! One command as statements, and their rows as its reply.

mod rows;

use super::{Codec, Dialect, Rows, Statement, Text, Value, mysql, postgres, rights, sqlite};
use crate::error::Failure;
use crate::fence::Fence;
use crate::protocol::{Claim, Holder, News};
use crate::table::{Acquired, Command, Freed, Reply, Seen};
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use rows::{Late, Pair, granted, holders, mine, number, pairs, wanted};

/// A command on its way through one statement, or a few.
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
    codec: Codec,
    command: Command,
    now: Instant,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// What the statement does could not be told afterwards: read whose the leases are.
    Look,
    /// The statement that does it is to be run. What was read before it is the reply.
    Act {
        seen: Option<Reply>,
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
    /// Some leases end later than they can: have the first of them end a TTL from now, unless it was
    /// renewed since.
    Correct {
        reply: Reply,
        late: Vec<Late>,
    },
    /// Nobody had said before that it waits for some of them: say so.
    Mark {
        reply: Reply,
    },
    Done(Result<Reply, Failure>),
}

impl Exchange {
    pub(super) fn new(codec: Codec, command: Command, now: Instant) -> Self {
        let releases_several = matches!(&command, Command::Release { leases } if leases.len() > 1);
        let stage = match (&codec.dialect, &command) {
            (Dialect::Postgres { .. }, Command::Listen { .. } | Command::Probe { .. }) => {
                Stage::Act { seen: None }
            }
            (_, Command::Listen { .. } | Command::Probe { .. })
            | (Dialect::Postgres { .. }, Command::Look { .. }) => surprise(),
            (_, Command::Look { .. }) => Stage::Ask { granted: BTreeMap::new() },
            (Dialect::Mysql { .. }, _) if releases_several => Stage::Look,
            _ => Stage::Act { seen: None },
        };
        Self { codec, command, now, stage }
    }

    /// The next statement to run, if there is one.
    pub fn poll_statement(&self) -> Option<Statement> {
        match &self.stage {
            Stage::Look => Some(self.mine(0)),
            Stage::Act { .. } => Some(self.act()),
            Stage::Untold => self.codec.untold.as_ref().map(|text| self.released(text)),
            Stage::Check { since } => Some(self.mine(*since)),
            Stage::Ask { granted } => Some(self.ask(granted)),
            Stage::Correct { late, .. } => self.correct(late),
            Stage::Mark { reply } => self.mark(reply),
            Stage::Done(_) => None,
        }
    }

    /// Takes the rows of the last statement.
    pub fn handle_rows(&mut self, rows: Rows) {
        let claims = self.command.claims();
        let by_number = matches!(self.codec.dialect, Dialect::Mysql { .. });
        let next = match (&self.stage, &self.command) {
            (Stage::Look, _) => mine(rows).map(|mine| {
                let nothing = mine.is_empty();
                let wanted = |of: &Pair| mine.get(of).map(|(_, wanted)| *wanted);
                let freed =
                    Reply::Freed(claims.iter().map(|claim| freed(wanted(&pair(claim)))).collect());
                if nothing { Stage::Done(Ok(freed)) } else { Stage::Act { seen: Some(freed) } }
            }),
            (Stage::Act { seen }, _) if by_number => {
                number(rows).map(|number| self.acted(number, seen.clone()))
            }
            (Stage::Act { .. }, Command::Listen { .. }) => {
                Some(Stage::Done(Ok(Reply::Told(News::Begun))))
            }
            (Stage::Act { .. }, Command::Probe { .. }) => {
                number(rows).map(|_| Stage::Done(Ok(Reply::Probed)))
            }
            (Stage::Act { .. }, Command::Acquire { .. }) => {
                granted(rows).map(|granted| self.granted(granted))
            }
            (Stage::Act { .. } | Stage::Untold, Command::Release { .. }) => {
                wanted(rows).map(|wanted| {
                    let entry = |claim: &Claim| freed(wanted.get(claim.name.as_str()).copied());
                    Stage::Done(Ok(Reply::Freed(claims.iter().map(entry).collect())))
                })
            }
            (Stage::Act { .. } | Stage::Untold, _) => {
                pairs(rows).map(|ours| Stage::Done(Ok(changed(claims, |of| ours.contains(of)))))
            }
            (Stage::Check { .. }, Command::Acquire { .. }) => mine(rows).map(|mine| {
                let fence = |of: &Claim| Some((of.name.to_string(), mine.get(&pair(of))?.0));
                self.granted(claims.iter().filter_map(fence).collect())
            }),
            (Stage::Check { .. }, _) => {
                mine(rows).map(|mine| Stage::Done(Ok(changed(claims, |of| mine.contains_key(of)))))
            }
            (Stage::Ask { .. }, Command::Look { claims }) => {
                holders(rows).map(|(held, late)| self.asked(seen(claims, &held), late))
            }
            (Stage::Ask { granted }, _) => {
                holders(rows).map(|(held, late)| self.asked(acquired(claims, granted, &held), late))
            }
            (Stage::Correct { reply, late }, _) => Some(self.corrected(reply, late)),
            (Stage::Mark { reply }, _) => Some(Stage::Done(Ok(reply.clone()))),
            (Stage::Done(_), _) => None,
        };
        self.stage = next.unwrap_or_else(surprise);
    }

    /// What follows the number by which a MySQL statement told what it did.
    fn acted(&self, number: i64, seen: Option<Reply>) -> Stage {
        match (&self.command, self.command.claims()) {
            (Command::Acquire { .. }, [claim]) => {
                let fence = u64::try_from(number).map(Fence::new).ok().filter(|_| number != 0);
                self.granted(
                    fence.map(|fence| (claim.name.to_string(), fence)).into_iter().collect(),
                )
            }
            (Command::Acquire { .. }, _) => Stage::Check { since: 0 },
            (Command::Renew { ttl, .. }, [_, _, ..]) if number != 0 => {
                let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
                Stage::Check { since: number.saturating_add(ttl) }
            }
            (Command::Release { .. }, leases) => {
                let wanted = (number != 0).then_some(number != 1);
                let all = Reply::Freed(leases.iter().map(|_| freed(wanted)).collect());
                Stage::Done(Ok(seen.unwrap_or(all)))
            }
            (_, leases) => {
                Stage::Done(Ok(Reply::Changed(leases.iter().map(|_| number != 0).collect())))
            }
        }
    }

    /// What follows when it is known what was granted.
    fn granted(&self, granted: BTreeMap<String, Fence>) -> Stage {
        let claims = self.command.claims();
        if claims.iter().all(|claim| granted.contains_key(claim.name.as_str())) {
            return Stage::Done(Ok(acquired(claims, &granted, &BTreeMap::new())));
        }
        Stage::Ask { granted }
    }

    /// What follows when one of them ends as it should, or was renewed.
    fn corrected(&self, reply: &Reply, late: &[Late]) -> Stage {
        self.asked(reply.clone(), late.get(1..).unwrap_or_default().to_vec())
    }

    /// What follows when it is known who is in the way.
    fn asked(&self, reply: Reply, late: Vec<Late>) -> Stage {
        if self.correct(&late).is_some() {
            return Stage::Correct { reply, late };
        }
        if self.mark(&reply).is_some() { Stage::Mark { reply } } else { Stage::Done(Ok(reply)) }
    }

    /// Takes the failure of the last statement.
    pub fn handle_failure(&mut self, failure: Failure) {
        let failure = self.codec.explain(failure, rights::COMMANDS);
        self.stage = match &self.stage {
            // Then nothing that was done before counts.
            _ if matches!(failure, Failure::Gone(_)) => Stage::Done(Err(failure)),
            // What was granted is granted; only who is in the way stays unknown.
            Stage::Ask { granted } if matches!(self.command, Command::Acquire { .. }) => {
                Stage::Done(Ok(acquired(self.command.claims(), granted, &BTreeMap::new())))
            }
            // It is found to be late again.
            Stage::Correct { reply, late } => self.corrected(reply, late),
            // Whoever has it will not know that somebody waits.
            Stage::Mark { reply } => Stage::Done(Ok(reply.clone())),
            // They find out by themselves, later.
            Stage::Act { .. }
                if self.codec.untold.is_some()
                    && matches!(self.command, Command::Release { .. })
                    && postgres::could_not_tell(&failure) =>
            {
                Stage::Untold
            }
            // It was done, and what came of it stays unknown.
            Stage::Check { .. } => Stage::Done(Err(Failure::Unknown(failure.to_string()))),
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
            _ => Err(Failure::Unknown("the answer is incomplete".to_string())),
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
            Command::Release { .. } => self.released(&self.codec.release),
            // Looks never get here: they only ask.
            Command::Listen { .. } | Command::Probe { .. } | Command::Look { .. } => {
                match (&self.codec.dialect, &self.command) {
                    (Dialect::Postgres { probe, .. }, Command::Probe { number }) => {
                        let payload = Value::Text(postgres::probe(*number));
                        Statement { durable: false, ..Statement::new(probe.clone(), [payload]) }
                    }
                    (Dialect::Postgres { listen, .. }, _) => Statement::new(listen.clone(), []),
                    // The others never get here: they cannot tell.
                    _ => Statement::new(self.codec.holders.any.clone(), []),
                }
            }
        }
    }

    fn released(&self, text: &Text) -> Statement {
        let claims: Vec<&Claim> = self.command.claims().iter().collect();
        self.statement(text, &claims, false, [])
    }

    fn ask(&self, granted: &BTreeMap<String, Fence>) -> Statement {
        let denied =
            self.command.claims().iter().filter(|claim| !granted.contains_key(claim.name.as_str()));
        let denied: Vec<&Claim> = denied.collect();
        match self.codec.dialect {
            Dialect::Postgres { .. } => {
                let text = self.codec.holders.any.clone();
                Statement { repeated: true, ..Statement::new(text, [names(&denied)]) }
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

    /// Says that somebody waits for the names of which nobody had said so.
    fn mark(&self, reply: &Reply) -> Option<Statement> {
        let unmarked = |holder: &Option<Holder>| holder.as_ref().is_some_and(|one| !one.wanted);
        let unmarked: Vec<bool> = match reply {
            Reply::Acquired(entries) => entries
                .iter()
                .map(|entry| matches!(entry, Acquired::Busy(holder) if unmarked(holder)))
                .collect(),
            Reply::Seen(entries) => entries
                .iter()
                .map(|entry| matches!(entry, Seen::Held(holder) if unmarked(holder)))
                .collect(),
            _ => Vec::new(),
        };
        let claims = self.command.claims().iter().zip(unmarked).filter(|(_, unmarked)| *unmarked);
        let claims: Vec<&Claim> = claims.map(|(claim, _)| claim).collect();
        let text = self.codec.mark.as_ref().filter(|_| !claims.is_empty())?;
        Some(Statement { durable: false, ..self.statement(text, &claims, false, []) })
    }

    /// Which claims are their owner's, with an expiry that is not earlier than `since`.
    fn mine(&self, since: i64) -> Statement {
        let text = match &self.codec.dialect {
            Dialect::Mysql { mine } => mine,
            // The others never get here: their statements return rows.
            _ => &self.codec.holders,
        };
        let claims: Vec<&Claim> = self.command.claims().iter().collect();
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
            }
            (Dialect::Sqlite { .. }, None) => params.push(Value::Text(sqlite::json(claims))),
            (Dialect::Mysql { .. }, None) => params.push(Value::Text(mysql::json(claims))),
        }
        // After a power cut another kernel runs, for which all rows of this one are free: by then, only
        // the fences must be on the disk.
        let durable = !matches!(
            (&self.codec.dialect, &self.command),
            (_, Command::Look { .. })
                | (Dialect::Sqlite { .. }, Command::Renew { .. } | Command::Release { .. })
        );
        // Where arrays are parameters, one text serves however many claims there are, and cheaply.
        let repeated = one.is_some() || matches!(self.codec.dialect, Dialect::Postgres { .. });
        Statement { durable, repeated, ..Statement::new(text.clone(), params) }
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

fn pair(claim: &Claim) -> Pair {
    (claim.name.to_string(), claim.owner.to_string())
}

/// What became of a lease, by whether somebody waits for it, if it was its owner's.
fn freed(wanted: Option<bool>) -> Freed {
    match wanted {
        None => Freed::NotOurs,
        Some(false) => Freed::Free,
        Some(true) => Freed::Wanted,
    }
}

/// Which leases were ours.
fn changed(leases: &[Claim], is_ours: impl Fn(&Pair) -> bool) -> Reply {
    Reply::Changed(leases.iter().map(|lease| is_ours(&pair(lease))).collect())
}

fn seen(claims: &[Claim], holders: &BTreeMap<String, Holder>) -> Reply {
    let entry = |claim: &Claim| match holders.get(claim.name.as_str()) {
        Some(holder) => Seen::Held(Some(holder.clone())),
        None => Seen::Free,
    };
    Reply::Seen(claims.iter().map(entry).collect())
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
