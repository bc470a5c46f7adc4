//! Requests as operations on one lock each, and the clock of the server.

use super::{Answer, At, Difference, Exchange, Place};
use crate::name::{LockName, Owner};
use crate::outcome::Outcome;
use crate::request::{Claim, Request};
use crate::sim::server::Connection;
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

/// One clock may be slewed against the other by so much while a test runs.
const SLEWED: i64 = 5_000_000;

/// A request about one lock, and its answer.
pub(super) struct Operation {
    pub(super) at: At,
    /// Of an engine of its own.
    pub(super) by: Connection,
    /// With one claim, or the end of a session.
    pub(super) request: Request,
    /// [`None`] if nobody knows whether it was carried out.
    pub(super) told: Option<Outcome>,
    /// On the drivers' clock.
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    /// The same on the server's.
    pub(super) earliest: Instant,
    pub(super) latest: Instant,
}

impl Operation {
    pub(super) fn new(
        at: At,
        by: Connection,
        request: Request,
        told: Option<Outcome>,
        (sent, answered): (Instant, Instant),
        (least, most): Offset,
    ) -> Self {
        let shifted = |at: Instant, by: i64| match at == Instant::END {
            true => at,
            false => Instant::from_nanos(at.as_nanos().saturating_add_signed(by)),
        };
        let (earliest, latest) = (shifted(sent, least), shifted(answered, most));
        Self { at, by, request, told, sent, answered, earliest, latest }
    }

    /// Of a request about a lock.
    pub(super) fn claim(&self) -> &Claim {
        &self.request.claims()[0]
    }

    /// How much is not known of the time at which it was carried out.
    pub(super) fn width(&self) -> Duration {
        self.latest.since(self.earliest)
    }

    pub(super) fn contains(&self, at: Instant) -> bool {
        self.earliest <= at && at <= self.latest
    }
}

/// By how much the server's clock is ahead of the drivers', in nanoseconds: at least and at most.
pub(super) type Offset = (i64, i64);

/// The server's clock, by the first grant to each owner: its fence is the time.
pub(super) fn clock(place: &Place<'_>, exchanges: &[Exchange]) -> Result<Offset, Difference> {
    if !place.fences_tell_time() {
        return Ok((0, 0));
    }
    let mut asked = BTreeSet::new();
    let mut known: Option<(Offset, At)> = None;
    for exchange in exchanges {
        let outcomes = match &exchange.answer {
            Some((at, Answer::Outcomes(outcomes))) => Some((*at, outcomes)),
            _ => None,
        };
        for (which, claim) in exchange.request.claims().iter().enumerate() {
            let (Request::Acquire { .. } | Request::Wait { .. }) = exchange.request else {
                continue;
            };
            let Some((answered, outcomes)) = outcomes else {
                asked.insert(claim.owner);
                continue;
            };
            let Some(Outcome::Granted(fence)) = outcomes.get(which) else { continue };
            if !asked.insert(claim.owner) {
                continue;
            }
            let told = nanos(Instant::from_nanos(fence.get().saturating_mul(1_000)));
            let this = (told - nanos(answered), told - nanos(exchange.sent));
            let (all, first) = known.get_or_insert((this, exchange.at));
            *all = (all.0.max(this.0), all.1.min(this.1));
            if all.0 > all.1 + SLEWED {
                let (other, line) = *first;
                let other = &place.traces[other].name;
                let late = Duration::from_nanos(all.0.abs_diff(all.1));
                let what = format!(
                    "by its fence, {:?} was granted {late:?} before it was asked for or after the answer, by the clock of other grants, such as {other}, line {line}",
                    claim.name
                );
                return Err(place.differs(exchange.at, what));
            }
        }
    }
    let (least, most) = known.map_or((0, 0), |(all, _)| all);
    Ok((least.min(most) - SLEWED, most.max(least) + SLEWED))
}

fn nanos(at: Instant) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}

/// The operations on each lock.
pub(super) fn of_locks(
    exchanges: &[Exchange],
    clock: Offset,
) -> BTreeMap<LockName, Vec<Operation>> {
    let mut locks: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for exchange in exchanges {
        let outcomes = match &exchange.answer {
            Some((_, Answer::Nothing | Answer::Opened(_))) => continue,
            Some((at, Answer::Outcomes(outcomes))) => Some((*at, outcomes)),
            Some((_, Answer::Unknown)) | None => None,
        };
        // A line of sessions, and word of a change, are not compared.
        let skips = match &exchange.request {
            Request::Join { .. } | Request::Leave { .. } => true,
            Request::Wait { session, .. } => session.0.is_some(),
            _ => false,
        };
        let claims: &[Claim] = if skips { &[] } else { exchange.request.claims() };
        for (which, claim) in claims.iter().enumerate() {
            let told = outcomes.and_then(|(_, outcomes)| outcomes.get(which)).cloned();
            let answered = match (outcomes, &told) {
                (Some((answered, _)), Some(_)) => answered,
                _ => Instant::END,
            };
            let request = about(&exchange.request, claim);
            let operation = Operation::new(
                exchange.at,
                exchange.by,
                request,
                told,
                (exchange.sent, answered),
                clock,
            );
            locks.entry(claim.name.clone()).or_default().push(operation);
        }
    }
    locks
}

/// The same request about one of its claims.
fn about(request: &Request, claim: &Claim) -> Request {
    let mut request = request.clone();
    if let Request::Acquire { claims, .. }
    | Request::Renew { claims, .. }
    | Request::Release { claims, .. }
    | Request::Keep { claims, .. }
    | Request::Probe { claims } = &mut request
    {
        *claims = Vec::from([claim.clone()]);
    }
    request
}

/// The fence of each owner's grant, as far as it was told.
pub(super) fn fences(operations: &[Operation]) -> BTreeMap<Owner, u64> {
    let fence = |one: &Operation| match one.told {
        Some(Outcome::Granted(fence)) => Some((one.claim().owner, fence.get())),
        _ => None,
    };
    operations.iter().filter_map(fence).collect()
}

/// The operations that were carried out, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Done(Vec<u64>);

impl Done {
    /// None of these.
    pub(super) fn of(operations: &[Operation]) -> Self {
        Self([0].repeat(operations.len().div_ceil(64)))
    }

    pub(super) fn has(&self, which: usize) -> bool {
        self.0[which / 64] >> (which % 64) & 1 == 1
    }

    pub(super) fn insert(&mut self, which: usize) {
        self.0[which / 64] |= 1 << (which % 64);
    }
}
