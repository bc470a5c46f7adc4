//! Lock tables with a seeded bug, around a good one.

use lock_core::sim::table::FakeTable;
use lock_core::sim::{Connection, Lease, Line, Server};
use lock_core::{Action, Claim, Fence, Instant, LockName, Outcome, Owner, Reply, Request, Turn};
use std::time::Duration;

/// What is wrong with the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bug {
    ReleaseWithoutOwner,
    RenewWithoutOwner,
    RenewOfExpired,
    RenewShortens,
    ClaimShortens,
    FenceResetOnRelease,
    TakeoverKeepsFence,
    ClaimRaisesOwnFence,
    ExpiresTooEarly,
    LeaseTooShort,
    NeverExpires,
    OwnClaimIsBusy,
    RepliesInWrongOrder,
    ReleaseKeepsOwner,
    /// All leases of a statement get the TTL of its first.
    OneTtlForAll,
    /// Of leases that end later than they can, once the clock was set back.
    CorrectsToNow,
    CorrectsByAnEarlierTime,
    CorrectsNothing,
    /// A check that holds up no claim.
    ClaimPassesPin,
    PinIgnoresFence,
    PinEndsWithRelease,
    PinEndsWithLease,
    /// Of locks that are kept after their release.
    KeepFreesAtOnce,
    KeepsFromTheRelease,
    ClaimTakesKept,
    /// A row is left to tickets whose waiters are gone, for ever.
    LeftToTheDead,
    /// A row that is free is granted to any ticket.
    AnyTicketFirst,
    /// Each look draws a ticket.
    DrawsAnew,
}

impl Bug {
    pub(crate) const ALL: [Bug; 28] = [
        Bug::ReleaseWithoutOwner,
        Bug::RenewWithoutOwner,
        Bug::RenewOfExpired,
        Bug::RenewShortens,
        Bug::ClaimShortens,
        Bug::FenceResetOnRelease,
        Bug::TakeoverKeepsFence,
        Bug::ClaimRaisesOwnFence,
        Bug::ExpiresTooEarly,
        Bug::LeaseTooShort,
        Bug::NeverExpires,
        Bug::OwnClaimIsBusy,
        Bug::RepliesInWrongOrder,
        Bug::ReleaseKeepsOwner,
        Bug::OneTtlForAll,
        Bug::CorrectsToNow,
        Bug::CorrectsByAnEarlierTime,
        Bug::CorrectsNothing,
        Bug::ClaimPassesPin,
        Bug::PinIgnoresFence,
        Bug::PinEndsWithRelease,
        Bug::PinEndsWithLease,
        Bug::KeepFreesAtOnce,
        Bug::KeepsFromTheRelease,
        Bug::ClaimTakesKept,
        Bug::LeftToTheDead,
        Bug::AnyTicketFirst,
        Bug::DrawsAnew,
    ];

    /// It needs transactions of users.
    pub(crate) fn is_about_pins(self) -> bool {
        matches!(
            self,
            Bug::ClaimPassesPin
                | Bug::PinIgnoresFence
                | Bug::PinEndsWithRelease
                | Bug::PinEndsWithLease
        )
    }

    /// It needs callers that want the lock again and again.
    pub(crate) fn is_about_turns(self) -> bool {
        matches!(self, Bug::AnyTicketFirst | Bug::DrawsAnew)
    }

    /// It needs callers that want locks kept.
    pub(crate) fn is_about_keeping(self) -> bool {
        matches!(self, Bug::KeepFreesAtOnce | Bug::KeepsFromTheRelease | Bug::ClaimTakesKept)
    }

    /// It needs a clock that is set back.
    pub(crate) fn is_about_clocks(self) -> bool {
        matches!(self, Bug::CorrectsToNow | Bug::CorrectsByAnEarlierTime | Bug::CorrectsNothing)
    }
}

/// A good table, used in a wrong way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BadTable {
    pub(crate) bug: Bug,
    pub(crate) table: FakeTable,
}

impl BadTable {
    /// Makes the row look as if `claim` had it, so that the good table goes on.
    fn pretend(&mut self, claim: &Claim) {
        if let Some(row) = self.table.rows_mut().get_mut(&claim.name) {
            row.owner = Some(claim.owner);
        }
    }

    fn before(&mut self, now: Instant, action: Action, claims: &[Claim]) {
        for claim in claims {
            let Some(row) = self.table.rows_mut().get_mut(&claim.name) else { continue };
            let ours = row.owner == Some(claim.owner);
            match (self.bug, action) {
                (Bug::ReleaseWithoutOwner, Action::Release)
                | (Bug::RenewWithoutOwner, Action::Renew) => self.pretend(claim),
                (Bug::RenewOfExpired, Action::Renew) if ours && row.expires <= now => {
                    row.expires = now.after(Duration::from_nanos(1));
                }
                (Bug::RenewShortens, Action::Renew) if ours && now < row.expires => {
                    row.expires = now.after(Duration::from_nanos(1));
                }
                (Bug::ClaimShortens, Action::Acquire) if ours => row.expires = now,
                (Bug::ExpiresTooEarly, Action::Acquire) if !ours => {
                    row.expires = row.expires.before(Duration::from_millis(600));
                }
                (Bug::NeverExpires, Action::Acquire) if !ours => {
                    row.expires = row.expires.max(now.after(Duration::from_nanos(1)));
                }
                (Bug::ClaimRaisesOwnFence, Action::Acquire) if ours => row.fence += 1,
                (Bug::KeepsFromTheRelease, Action::Release) if ours => row.acquired = now,
                (Bug::ClaimTakesKept, Action::Acquire) if row.owner == Some(Owner::KEPT) => {
                    row.owner = None;
                }
                (Bug::LeftToTheDead, Action::Acquire | Action::Probe) if row.owner.is_none() => {
                    row.expires = now;
                }
                (Bug::PinEndsWithRelease, Action::Release) if ours => self.table.unpin(&claim.name),
                (Bug::PinEndsWithLease, Action::Acquire) if row.expires <= now => {
                    self.table.unpin(&claim.name);
                }
                _ => {}
            }
        }
    }
}

impl Server for BadTable {
    fn apply(&mut self, now: Instant, connection: Connection, request: &Request) -> Reply {
        let (action, claims) = (request.action(), request.claims());
        let rows = self.table.rows().clone();
        let acquires = action == Action::Acquire;
        let released = |freed: &Outcome| action == Action::Release && *freed != Outcome::NotOwner;
        self.before(now, action, claims);
        if self.bug == Bug::CorrectsByAnEarlierTime {
            self.table.tick(now);
        }
        let mut reply = match (self.bug, request) {
            (Bug::OneTtlForAll, request) => self.table.apply(now, connection, &alike(request)),
            (Bug::AnyTicketFirst, request) => {
                let any =
                    |turn| if let Turn::Of(ticket) = turn { Turn::Loose(ticket) } else { turn };
                self.table.apply(now, connection, &turned(request, any))
            }
            (Bug::DrawsAnew, request) => {
                let anew = |turn| if let Turn::Of(_) = turn { Turn::Of(None) } else { turn };
                self.table.apply(now, connection, &turned(request, anew))
            }
            _ => self.table.apply(now, connection, request),
        };
        for (at, claim) in claims.iter().enumerate() {
            let old = rows.get(&claim.name);
            let Some(row) = self.table.rows_mut().get_mut(&claim.name) else { continue };
            let was_ours =
                old.is_some_and(|old| old.owner == Some(claim.owner) && now < old.expires);
            let corrected = old.is_some_and(|old| {
                old.owner.is_some() && old.owner == row.owner && row.expires < old.expires
            });
            match (self.bug, &mut reply) {
                (Bug::CorrectsToNow, _) if corrected => row.expires = now,
                (Bug::ExpiresTooEarly, Reply::Outcomes(entries)) => {
                    if let (Outcome::Busy(_), Some(old)) = (&entries[at], old) {
                        row.expires = old.expires;
                    }
                }
                (Bug::LeaseTooShort, Reply::Outcomes(entries)) => {
                    if let Outcome::Granted(_) = entries[at] {
                        row.expires = row.expires.before(Duration::from_millis(600));
                    }
                }
                (Bug::TakeoverKeepsFence, Reply::Outcomes(entries)) => {
                    if let (Outcome::Granted(fence), Some(old)) = (&mut entries[at], old) {
                        row.fence = old.fence;
                        *fence = Fence::new(old.fence);
                    }
                }
                (Bug::FenceResetOnRelease, Reply::Outcomes(entries)) => {
                    match (&mut entries[at], old) {
                        (Outcome::Granted(fence), None) => {
                            row.fence = 1;
                            *fence = Fence::new(1);
                        }
                        (freed, _) if released(freed) => {
                            self.table.rows_mut().remove(&claim.name);
                        }
                        _ => {}
                    }
                }
                (Bug::OwnClaimIsBusy, Reply::Outcomes(entries)) if was_ours && acquires => {
                    entries[at] = Outcome::Busy(None);
                }
                (Bug::KeepFreesAtOnce, Reply::Outcomes(freed)) if released(&freed[at]) => {
                    row.owner = None;
                }
                (Bug::ReleaseKeepsOwner, Reply::Outcomes(freed)) if released(&freed[at]) => {
                    row.owner = Some(claim.owner);
                    row.expires = old.map_or(row.expires, |old| old.expires);
                }
                _ => {}
            }
        }
        if let (Bug::RepliesInWrongOrder, Reply::Outcomes(entries)) = (self.bug, &mut reply)
            && acquires
        {
            entries.reverse();
        }
        reply
    }

    fn tick(&mut self, now: Instant) {
        if self.bug != Bug::CorrectsNothing {
            self.table.tick(now);
        }
    }

    fn pin(&mut self, name: &LockName, fence: Fence) -> bool {
        let last = self.table.rows().get(name).map_or(fence, |row| Fence::new(row.fence));
        match self.bug {
            Bug::ClaimPassesPin => last == fence,
            Bug::PinIgnoresFence => self.table.pin(name, last),
            _ => self.table.pin(name, fence),
        }
    }

    fn unpin(&mut self, name: &LockName) {
        self.table.unpin(name);
    }

    fn line(&self, name: &LockName) -> Option<Line> {
        self.table.line(name)
    }

    fn leases(&self) -> Vec<Lease> {
        self.table.leases()
    }

    fn crash(&mut self) {
        self.table.crash();
    }
}

/// The request with each turn as `turn` has it.
fn turned(request: &Request, turn: impl Fn(Turn) -> Turn) -> Request {
    let mut request = request.clone();
    if let Request::Acquire { claims, .. } | Request::Probe { claims } = &mut request {
        claims.iter_mut().for_each(|claim| claim.turn = turn(claim.turn));
    }
    request
}

/// The request with the TTL of the first of its claims for all of them.
fn alike(request: &Request) -> Request {
    let mut request = request.clone();
    if let Request::Acquire { claims, .. } | Request::Renew { claims, .. } = &mut request {
        let first = claims.first().and_then(|claim| claim.ttl);
        claims.iter_mut().for_each(|claim| claim.ttl = first);
    }
    request
}
