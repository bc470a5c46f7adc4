//! A session's lease: it is opened, held and renewed, and closed, or lost.
//!
//! ```text
//!             sent                 opened               deadline, or the session has ended
//!    Wanted ---------> Opening ------------> Held ------------------------------+
//!      ^                  |                   | release                         |
//!      +------------------+                   v                                 v
//!        failed, after a back-off          Closing ------> Closed <-------- (Closing)
//! ```
//!
//! All its changes are here. What they mean to the attempts in the session is in `engine::sessions`.

use crate::back_off::BackOff;
use crate::error::{Failure, LostReason};
use crate::name::Owner;
use crate::request::Action;
use crate::rng::Rng;
use crate::time::Instant;
use crate::timing::Timing;
use core::time::Duration;

/// The news of a session's lease for the attempts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It counts until then.
    Kept(Instant),
    KeepFailed(Failure),
    /// It could not be opened, and is tried again.
    NotOpened(Failure),
    /// It could not be opened, and is given up.
    Refused(Failure),
    Lost(LostReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Wanted {
        open_at: Instant,
    },
    /// Nobody may want it any more by now: it is closed when it was answered.
    Opening {
        sent: Instant,
        wanted: bool,
    },
    Held {
        deadline: Instant,
        renew_at: Instant,
        renewal_sent: Option<Instant>,
    },
    Closing {
        close_at: Instant,
        in_flight: Option<Action>,
    },
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) owner: Owner,
    stage: Stage,
    /// The session is a connection, which the driver closes. Otherwise it is a record at the server, and a
    /// request ends it.
    connection: bool,
    /// Until when the server may have the record that was opened.
    may_hold_until: Option<Instant>,
    back_off: BackOff,
    /// The last failure since the session was opened or kept.
    failure: Option<Failure>,
}

/// What a step may use.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) timing: &'a Timing,
    pub(crate) round_trip: Duration,
    pub(crate) rng: &'a mut Rng,
}

impl Lease {
    /// The lease of a session that is to be opened now.
    pub(crate) fn new(owner: Owner, now: Instant, connection: bool) -> Self {
        let stage = Stage::Wanted { open_at: now };
        Self {
            owner,
            stage,
            connection,
            may_hold_until: None,
            back_off: BackOff::default(),
            failure: None,
        }
    }

    // -- getters ----------------------------------------------------------------------------------

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Held { .. })
    }

    /// Whether it is open or is to be opened.
    pub(crate) fn is_wanted(&self) -> bool {
        match self.stage {
            Stage::Opening { wanted, .. } => wanted,
            Stage::Wanted { .. } | Stage::Held { .. } => true,
            Stage::Closing { .. } | Stage::Closed => false,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Until when it counts, while it is held.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Held { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// The request that is due.
    pub(crate) fn due(&self, now: Instant) -> Option<Action> {
        match self.stage {
            Stage::Wanted { open_at } if open_at <= now => Some(Action::Open),
            Stage::Held { renew_at, renewal_sent: None, .. } if renew_at <= now => {
                Some(Action::KeepAlive)
            }
            Stage::Closing { close_at, in_flight: None } if close_at <= now && !self.connection => {
                Some(Action::Close)
            }
            _ => None,
        }
    }

    /// Whether its connection is to be closed.
    pub(crate) fn closes(&self) -> bool {
        self.connection && matches!(self.stage, Stage::Closing { in_flight: None, .. })
    }

    /// When a request will be due, or something must be noticed, if nothing else happens before.
    pub(crate) fn wake(&self, now: Instant) -> Option<Instant> {
        let times = match self.stage {
            Stage::Wanted { open_at } => [Some(open_at), None],
            Stage::Held { deadline, renew_at, renewal_sent } => {
                [renewal_sent.is_none().then_some(renew_at), Some(deadline)]
            }
            Stage::Closing { close_at, in_flight: None } => {
                [Some(close_at), self.may_hold_until.filter(|_| !self.connection)]
            }
            Stage::Opening { .. } | Stage::Closing { .. } | Stage::Closed => [None; 2],
        };
        times.into_iter().flatten().filter(|at| now < *at).min()
    }

    /// Whether there is something to close.
    fn exposed(&self, now: Instant) -> bool {
        self.connection || self.may_hold_until.is_some_and(|until| now < until)
    }

    // -- what happens -----------------------------------------------------------------------------

    /// Notices what time alone has changed.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Change> {
        match self.stage {
            Stage::Held { deadline, .. } if deadline <= now => {
                let last_failure = self.failure.take();
                return self.lose(now, LostReason::Deadline { last_failure });
            }
            Stage::Closing { in_flight: None, .. } if !self.exposed(now) => {
                self.stage = Stage::Closed;
            }
            _ => {}
        }
        None
    }

    /// The request that was due has left.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.stage = match self.stage {
            Stage::Wanted { .. } => Stage::Opening { sent: now, wanted: true },
            Stage::Held { deadline, renew_at, .. } => {
                Stage::Held { deadline, renew_at, renewal_sent: Some(now) }
            }
            Stage::Closing { close_at, .. } => {
                Stage::Closing { close_at, in_flight: Some(Action::Close) }
            }
            stage => stage,
        };
    }

    /// The request was answered, or not; to one that keeps a session, whether it exists.
    pub(crate) fn answered(
        &mut self,
        answer: Result<bool, Failure>,
        cx: &mut Context<'_>,
    ) -> Option<Change> {
        let now = cx.now;
        match self.stage {
            Stage::Opening { sent, wanted } => self.opened(sent, wanted, answer, cx),
            Stage::Held { deadline, renewal_sent: Some(sent), .. } => {
                self.kept(deadline, sent, answer, cx)
            }
            Stage::Closing { in_flight: Some(Action::Close), .. } => {
                self.stage = match answer {
                    Ok(_) | Err(Failure::Gone(_) | Failure::Rejected { retry: false, .. }) => {
                        Stage::Closed
                    }
                    Err(failure) => {
                        self.failure = Some(failure);
                        Stage::Closing { close_at: self.back_off(cx), in_flight: None }
                    }
                };
                None
            }
            // It was to be kept when nobody wanted it any more.
            Stage::Closing { in_flight: Some(_), .. } => {
                self.may_hold_until = Some(cx.timing.surely_over(now));
                self.stage = Stage::Closing { close_at: now, in_flight: None };
                None
            }
            _ => None,
        }
    }

    fn opened(
        &mut self,
        sent: Instant,
        wanted: bool,
        answer: Result<bool, Failure>,
        cx: &mut Context<'_>,
    ) -> Option<Change> {
        let now = cx.now;
        if answer.is_ok() {
            self.may_hold_until = Some(cx.timing.surely_over(now));
        }
        let deadline = cx.timing.deadline(sent);
        let failure = match answer {
            Ok(_) if !wanted => {
                self.close(now);
                return None;
            }
            Ok(_) if now < deadline => {
                self.hold(deadline, sent, cx);
                return None;
            }
            Ok(_) => Failure::Unknown("the grant came too late to count".into()),
            Err(failure) => failure,
        };
        self.failure = Some(failure.clone());
        if !wanted {
            self.close(now);
            return None;
        }
        if let Failure::Rejected { retry: false, .. } = failure {
            self.close(now);
            return Some(Change::Refused(failure));
        }
        self.stage = Stage::Wanted { open_at: self.back_off(cx) };
        Some(Change::NotOpened(failure))
    }

    fn kept(
        &mut self,
        deadline: Instant,
        sent: Instant,
        answer: Result<bool, Failure>,
        cx: &mut Context<'_>,
    ) -> Option<Change> {
        match answer {
            Ok(true) => {
                self.may_hold_until = Some(cx.timing.surely_over(cx.now));
                let deadline = deadline.max(cx.timing.deadline(sent));
                self.hold(deadline, sent, cx);
                Some(Change::Kept(deadline))
            }
            Ok(false) => self.lose(cx.now, LostReason::Taken),
            Err(failure @ Failure::Gone(_)) => self.lose(cx.now, LostReason::Gone { failure }),
            // Nothing is lost yet: the lease counts until the deadline it has.
            Err(failure) => {
                self.failure = Some(failure.clone());
                self.may_hold_until = Some(cx.timing.surely_over(cx.now));
                let renew_at = self.back_off(cx);
                self.stage = Stage::Held { deadline, renew_at, renewal_sent: None };
                Some(Change::KeepFailed(failure))
            }
        }
    }

    /// The server has confirmed it, by the answer to a request that was sent then.
    fn hold(&mut self, deadline: Instant, sent: Instant, cx: &Context<'_>) {
        self.back_off.reset();
        self.failure = None;
        let renew_at = sent.after(cx.timing.renew_every());
        self.stage = Stage::Held { deadline, renew_at, renewal_sent: None };
    }

    /// The session is lost, for this reason, if it was held.
    pub(crate) fn lose(&mut self, now: Instant, reason: LostReason) -> Option<Change> {
        let renewal_sent = match self.stage {
            Stage::Held { renewal_sent, .. } => renewal_sent,
            Stage::Closing { .. } if self.connection => {
                self.close(now);
                return None;
            }
            _ => return None,
        };
        let ended = matches!(reason, LostReason::Taken | LostReason::Gone { .. });
        if ended {
            self.may_hold_until = None;
        }
        // On a connection that is lost nothing will be answered any more.
        let answered = ended || self.connection;
        let in_flight = renewal_sent.filter(|_| !answered).map(|_| Action::KeepAlive);
        self.stage = if in_flight.is_some() || self.exposed(now) {
            Stage::Closing { close_at: now, in_flight }
        } else {
            Stage::Closed
        };
        Some(Change::Lost(reason))
    }

    /// Nobody wants the session any more.
    pub(crate) fn release(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Wanted { .. } => self.close(now),
            Stage::Opening { wanted, .. } => *wanted = false,
            Stage::Held { renewal_sent, .. } => {
                let in_flight = renewal_sent.map(|_| Action::KeepAlive);
                self.failure = None;
                self.stage = Stage::Closing { close_at: now, in_flight };
            }
            Stage::Closing { .. } | Stage::Closed => {}
        }
    }

    /// The driver closes the connection.
    pub(crate) fn closed(&mut self) {
        self.stage = Stage::Closed;
    }

    fn close(&mut self, now: Instant) {
        self.stage = if self.exposed(now) {
            Stage::Closing { close_at: now, in_flight: None }
        } else {
            Stage::Closed
        };
    }

    fn back_off(&mut self, cx: &mut Context<'_>) -> Instant {
        self.back_off.next(cx.now, cx.timing, cx.round_trip, cx.rng)
    }

    /// The state that tells leases apart for a search through states: the same with times that are waited
    /// for as `time` sees them, times at which something was sent as `sent_at` does, and no more of the
    /// counter than whether it counts anything.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        sent_at: &dyn Fn(Instant) -> Instant,
    ) -> Self {
        let stage = match self.stage {
            Stage::Wanted { open_at } => Stage::Wanted { open_at: time(open_at) },
            Stage::Opening { sent, wanted } => Stage::Opening { sent: sent_at(sent), wanted },
            Stage::Held { deadline, renew_at, renewal_sent } => Stage::Held {
                deadline: time(deadline),
                renew_at: time(renew_at),
                renewal_sent: renewal_sent.map(sent_at),
            },
            Stage::Closing { close_at, in_flight } => {
                Stage::Closing { close_at: time(close_at), in_flight }
            }
            Stage::Closed => Stage::Closed,
        };
        Self {
            stage,
            may_hold_until: self.may_hold_until.map(time),
            back_off: self.back_off.project(),
            // While it is held, it is only told.
            failure: self.failure.clone().filter(|_| !self.is_open()),
            ..self.clone()
        }
    }
}
