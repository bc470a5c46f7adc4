//! What an attempt consists of, and what can be told from it. Nothing here changes a phase.

use super::sight::Known;
use crate::back_off::BackOff;
use crate::contention::Contention;
use crate::error::{Failure, LostReason};
use crate::fence::Fence;
use crate::name::Owner;
use crate::outcome::{Holder, Outcome};
use crate::request::{Action, LeaseVersion, Turn};
use crate::time::Instant;
use core::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Queued,
    Waiting {
        retry_at: Instant,
    },
    /// A claim is under way; or a look whether it is worth one, or a wait at the server for it.
    Claiming {
        sent: Instant,
        waiting: bool,
    },
    Held {
        deadline: Instant,
        renew_at: Instant,
        renewal_sent: Option<Instant>,
    },
    /// Its last renewal may not have been answered yet.
    Lost {
        renewing: bool,
    },
    Releasing {
        retry_at: Instant,
        in_flight: Option<Action>,
    },
    /// Freed, but an earlier request may yet be carried out in a session that lives on.
    Draining {
        until: Instant,
    },
    Gone,
}

/// The caller's interest in the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Interest {
    /// The caller wants the lock or has it.
    Grant,
    /// The caller has asked for the release.
    Release,
    /// There is no caller any more: only the server's state is still to be settled.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// No local rival is in front any more.
    Front,
    /// The request that was due has been taken by the driver; for a claim, whether it takes nothing
    /// at once.
    Sent { waiting: bool },
    /// It was answered, or not.
    Answer(Result<Outcome, Failure>),
    /// The request was about others, too, and was refused because of one of them: nobody is told yet, and each
    /// tries again in a request about so many at most.
    Refused { among: usize },
    /// The caller wants no more of it; what was granted is to stay taken until so long after the grant.
    Release(Option<Duration>),
    /// Something may have changed at the server.
    Hint,
    /// The lock was freed, and it is the turn of this ticket.
    Freed(u64),
    /// The lock was released, and is kept until then. Then it is the turn of this ticket.
    FreeAt(u64, Instant),
    /// Its session was kept, and lasts until then.
    Kept(Instant),
    /// Its session could not be kept.
    KeepFailed(Failure),
    /// It has no session, and why; there may be one later.
    NoSession(Failure),
    /// Its session has ended: closed, or lost for this reason, of which this is to be told.
    SessionEnded(Option<(LostReason, Failure)>),
    /// Where the leases were kept is no more.
    PlaceGone(Failure),
    /// Time has passed.
    Tick,
}

/// After so long, a request that waits at the server was not granted at once.
pub(super) const AT_ONCE: Duration = Duration::from_millis(100);

/// Longer than any lease: what is ordered by the ends of leases comes behind all of them, and in the same order.
const BEHIND_ALL: Duration = Duration::from_secs(48 * 3600);

/// Another's lease, and since when it has not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watched {
    pub(super) version: LeaseVersion,
    pub(super) since: Instant,
    pub(super) ttl: Duration,
}

/// An attempt to hold a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) owner: Owner,
    pub(crate) phase: Phase,
    pub(super) interest: Interest,
    /// A busy answer ends the attempt.
    pub(super) once: bool,
    /// When the caller's wait runs out: nothing more is tried.
    pub(super) give_up: Instant,
    /// Until when an answer to what was tried is worth waiting for. Whoever wants to wait for less
    /// time than an answer takes gets the answer all the same.
    pub(super) answer_deadline: Instant,
    /// Until when the server may hold a lease for this owner.
    pub(super) may_hold_until: Option<Instant>,
    /// Until when a request that was not answered may yet be carried out, in a session that lives
    /// on.
    pub(super) stragglers_until: Option<Instant>,
    /// The most attempts that its next request may be about: fewer after one for several was refused.
    pub(crate) among: usize,
    /// Its place among the waiters.
    pub(crate) contention: Contention,
    /// Of denials and failures.
    pub(super) back_off: BackOff,
    /// How long after its grant the lock is to stay taken, though it is released.
    pub(crate) keep: Option<Duration>,
    /// A release was sent whose answer never came: "not ours" may then be our own doing.
    pub(super) release_unsure: bool,
    /// The server has said that somebody else has the lock, or lets it wait.
    pub(super) denied: bool,
    /// It has said so though nobody is known to have the lock.
    pub(super) withheld: bool,
    /// A grant that the caller is not told of before it is renewed, for it came late.
    pub(super) untold: Option<Fence>,
    /// The holder at the last denial, or when the attempt was told in the queue.
    pub(super) holder: Option<Holder>,
    /// When the last denial came.
    pub(super) denied_at: Instant,
    /// The lease in the way, where its end is found out by watching it.
    pub(super) watched: Option<Watched>,
    /// The holder is not known from a denial, or the lock may have been freed since.
    pub(super) outdated: bool,
    /// How much the caller was told of the holder.
    pub(super) told: Known,
    /// When the lock was granted.
    pub(super) granted_at: Instant,
    /// The last failure since the last denial or, while it is held, since the last renewal.
    pub(super) failure: Option<Failure>,
}

impl Slot {
    pub(crate) fn new(
        owner: Owner,
        contention: Contention,
        once: bool,
        give_up: Instant,
        answer_deadline: Instant,
    ) -> Self {
        Self {
            owner,
            phase: Phase::Queued,
            interest: Interest::Grant,
            once,
            give_up,
            answer_deadline,
            may_hold_until: None,
            stragglers_until: None,
            among: usize::MAX,
            contention,
            back_off: BackOff::default(),
            keep: None,
            release_unsure: false,
            denied: false,
            withheld: false,
            untold: None,
            holder: None,
            denied_at: Instant::default(),
            watched: None,
            outdated: false,
            told: Known::Nothing,
            granted_at: Instant::default(),
            failure: None,
        }
    }

    /// Whether it was not granted the lock yet, and may be.
    pub(crate) fn wants(&self) -> bool {
        matches!(self.phase, Phase::Queued | Phase::Waiting { .. } | Phase::Claiming { .. })
    }

    /// Whether the attempt is in the way of a local rival for the same name.
    pub(crate) fn contends(&self) -> bool {
        !matches!(self.phase, Phase::Lost { .. } | Phase::Draining { .. } | Phase::Gone)
    }

    /// Whether its claims may only go to the session that it has: the server may have something
    /// for it there, or will.
    pub(crate) fn bound(&self, now: Instant) -> bool {
        self.exposed(now) || self.stragglers_until.is_some_and(|until| now < until)
    }

    /// Whether the attempt needs its session to live.
    pub(crate) fn needs_session(&self) -> bool {
        match self.phase {
            Phase::Waiting { .. } => self.wanted(),
            Phase::Claiming { waiting, .. } => self.wanted() || !waiting,
            Phase::Held { .. } | Phase::Releasing { .. } => true,
            Phase::Queued | Phase::Lost { .. } | Phase::Draining { .. } | Phase::Gone => false,
        }
    }

    /// Whether somebody has or wants the lock through this attempt.
    pub(crate) fn wanted(&self) -> bool {
        self.interest == Interest::Grant && self.contends()
    }

    /// Which waiters its claim lets go first.
    pub(crate) fn turn(&self) -> Turn {
        if self.once { Turn::Any } else { self.contention.turn() }
    }

    /// Whether it waits for somebody else to free the lock, and is to be notified of it.
    pub(crate) fn is_to_be_notified(&self) -> bool {
        self.is_denied() && self.contention.is_near()
    }

    /// Whether it waits for somebody else to free the lock.
    pub(crate) fn is_denied(&self) -> bool {
        let waits = matches!(self.phase, Phase::Waiting { .. } | Phase::Claiming { .. });
        waits && self.denied && self.wanted()
    }

    /// Whether it claims the lock, looks whether it is worth it, or waits at the server.
    pub(crate) fn is_claiming(&self) -> bool {
        matches!(self.phase, Phase::Claiming { .. })
    }

    /// Whether nobody is known to have the lock that it waits for.
    pub(crate) fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// The holder at the last denial, if the lock was not seen to be free since. It has had the lock for longer by now.
    pub(crate) fn denied_by(&self, now: Instant) -> Option<Holder> {
        let holder = self.holder.as_ref().filter(|_| self.is_denied() && !self.outdated)?;
        let since = now.since(self.denied_at);
        let held_for = holder.held_for.saturating_add(since);
        let expires_in = holder.expires_in.saturating_sub(since);
        Some(Holder { held_for, expires_in, ..holder.clone() })
    }

    /// The lease in the way that may be ended: its holder has not renewed it for a whole TTL. The holder cannot count on
    /// it any more, for it counts on less than a TTL from a renewal that was sent before the lease was seen.
    pub(crate) fn ended(&self, now: Instant) -> Option<LeaseVersion> {
        self.watched.filter(|it| it.since.after(it.ttl) <= now).map(|it| it.version)
    }

    /// Whether its request waits at the server, and none was denied before.
    pub(super) fn waits_undenied(&self) -> bool {
        let waits = matches!(self.phase, Phase::Claiming { waiting: true, .. });
        waits && !self.denied && self.contention.next_action() == Action::Wait
    }

    /// Whether it frees what it got after a denial, or in the server's queue.
    pub(crate) fn has_waited(&self) -> bool {
        let waited = self.denied || self.contention.was_queued();
        waited && matches!(self.phase, Phase::Releasing { .. })
    }

    /// When the caller's wait runs out.
    pub(crate) fn give_up(&self) -> Instant {
        self.give_up
    }

    /// When the attempt ends without the lock. Until its first denial it is owed an answer.
    pub(crate) fn limit(&self) -> Instant {
        match self.phase {
            Phase::Queued if !self.once && self.told > Known::Nothing => self.give_up,
            Phase::Waiting { .. } if self.denied => self.give_up,
            _ => self.answer_deadline,
        }
    }

    /// Until when it is held, as far as its caller knows.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.deadline().filter(|_| self.untold.is_none())
    }

    /// Until when the lease counts.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// The request that is due.
    pub(crate) fn due(&self, now: Instant) -> Option<(Action, Instant)> {
        match self.phase {
            Phase::Waiting { retry_at } if retry_at <= now => {
                Some((self.contention.next_action(), retry_at))
            }
            Phase::Held { deadline, renew_at, renewal_sent: None } if renew_at <= now => {
                let behind = self.refused_at().map_or(Duration::ZERO, |_| BEHIND_ALL);
                Some((Action::Renew, deadline.after(behind)))
            }
            Phase::Releasing { retry_at, in_flight: None } if retry_at <= now => {
                Some((self.ends_by(now), retry_at))
            }
            _ => None,
        }
    }

    /// When its renewal or release is due again, if the last one was refused for its own sake. The row may be locked, and then
    /// each try keeps the connection busy for as long as a statement waits for a row.
    pub(crate) fn refused_at(&self) -> Option<Instant> {
        let again = match self.phase {
            Phase::Held { renew_at, .. } => renew_at,
            Phase::Releasing { retry_at, .. } => retry_at,
            _ => return None,
        };
        self.failure.as_ref().filter(|failure| failure.may_be_of_one()).map(|_| again)
    }

    /// The request that ends it: to free what the server may hold, or else to leave the line.
    pub(super) fn ends_by(&self, now: Instant) -> Action {
        if self.exposed(now) { Action::Release } else { Action::Leave }
    }

    /// When something will be due or must be noticed, if nothing else happens before. `in_session`: where there are
    /// sessions.
    pub(crate) fn wake(&self, now: Instant, in_session: bool) -> Option<Instant> {
        // A waiter without a limit needs no timer.
        let limit = || Some(self.limit()).filter(|at| *at < Instant::END);
        let (request, limit) = match self.phase {
            Phase::Queued | Phase::Claiming { .. } if !self.wanted() => (None, None),
            Phase::Claiming { sent, .. } if self.waits_undenied() => {
                (Some(sent.after(AT_ONCE)), limit())
            }
            Phase::Queued | Phase::Claiming { .. } => (None, limit()),
            Phase::Waiting { retry_at } => (Some(retry_at), limit()),
            // It is the session that is renewed and lost, and what is in it ends with it.
            Phase::Held { .. } if in_session => (None, self.untold.map(|_| self.answer_deadline)),
            Phase::Held { deadline, renew_at, renewal_sent } => {
                let answer_deadline = self.untold.map_or(Instant::END, |_| self.answer_deadline);
                (renewal_sent.is_none().then_some(renew_at), Some(deadline.min(answer_deadline)))
            }
            Phase::Releasing { retry_at, in_flight: None } => {
                (Some(retry_at), self.may_hold_until.filter(|_| !in_session))
            }
            Phase::Draining { until } => (Some(until), None),
            Phase::Releasing { .. } | Phase::Lost { .. } | Phase::Gone => (None, None),
        };
        let ahead = |at: &Instant| now < *at;
        match (request.filter(ahead), limit.filter(ahead)) {
            (Some(request), Some(limit)) => Some(request.min(limit)),
            (request, limit) => request.or(limit),
        }
    }

    /// Whether it is its next renewal that it waits for.
    pub(crate) fn renews(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Held { deadline, renew_at, renewal_sent: None } => {
                (now < renew_at) && (renew_at < deadline)
            }
            _ => false,
        }
    }

    /// Whether the server may hold a lease for this owner.
    pub(super) fn exposed(&self, now: Instant) -> bool {
        self.may_hold_until.is_some_and(|until| now < until)
    }
}
