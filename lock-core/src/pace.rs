//! How fast the way to a server is, as its first connect showed, and whether a lease allows that.
//!
//! A connection that is cut is made anew by the next request, a renewal most likely. All of that has the
//! time of one [request](Timing::request): connecting, with TLS and the login, the checks, and the
//! request's own statements, of which there are two at most. Where it takes longer, no connection is ever
//! made again, and each lock is lost with the connection that it was taken on.
//!
//! So the first connect takes the times, and each driver asks for the [`Judgment`]:
//!
//! ```text
//!   needs = connecting + (statements of the checks + 2) * round trip
//!
//!   needs <= a quarter of what a lease counts        fits: a request may take twice that, if there is room
//!   else, with fewer than three round trips known    check again: it may have been a stall
//!   else, if the round trips alone are too slow      too slow: says which TTL allows it
//!   else, if it connected in less than two seconds fits: the machine was busy
//!   else, if it was not the third connect            connect again: it may have been a stall
//!   else                                             too slow
//! ```
//!
//! Each time that counts is the shortest that was seen. "Round trips alone" means that connecting takes eight
//! at the most: TCP, the request for TLS, two for its handshake, and four for the login.
//!
//! A quarter is enough to lose no lock when a connection falls silent: a third of the TTL until the renewal
//! is due, a quarter of what a lease counts until it is given up, as long to connect and renew, and a
//! twelfth of the TTL for the pause between the two are just what a lease counts.

use crate::error::TimingError;
use crate::timing::Timing;
use core::time::Duration;

/// The times that the first connect took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pace {
    connecting: Option<Duration>,
    round_trip: Option<Duration>,
    /// Those of the last checks.
    statements: u32,
    connects: u32,
    answers: u32,
}

/// The consequence of a first connect's times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgment {
    /// The connection can be used, with this timing.
    Fits(Timing),
    /// Go through the checks again, on the same connection.
    CheckAgain,
    /// Connect again.
    ConnectAgain,
    /// Refuse.
    TooSlow(TimingError),
}

impl Pace {
    /// Answers until the shortest of them is believed, and connects.
    const ENOUGH: u32 = 3;
    /// The round trips in which every server is connected to.
    const ROUND_TRIPS: u32 = 8;
    /// Connecting in less may have taken so long because the machine is busy.
    const STALL: Duration = Duration::from_secs(2);

    /// The connection was made, which took that long; its checks begin.
    pub fn connected(&mut self, took: Duration) {
        self.connecting = Some(self.connecting.map_or(took, |least| least.min(took)));
        self.connects += 1;
        self.statements = 0;
    }

    /// The checks begin anew on the same connection.
    pub fn checks(&mut self) {
        self.statements = 0;
    }

    /// A statement of the checks was answered after so long.
    pub fn answered(&mut self, took: Duration) {
        self.statements += 1;
        self.answer(took);
    }

    /// Requests were answered after so long each, the first of which made the connection. They are not made
    /// again with the next one.
    pub fn requested(&mut self, took: &[Duration]) {
        let Some((first, rest)) = took.split_first() else { return };
        let least = rest.iter().min().unwrap_or(first);
        self.connected(first.saturating_sub(*least));
        self.answer(*least);
        rest.iter().for_each(|took| self.answer(*took));
    }

    fn answer(&mut self, took: Duration) {
        self.answers += 1;
        self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
    }

    /// Whether leases of this timing can be kept at this pace.
    pub fn judge(&self, timing: Timing) -> Judgment {
        let (connecting, round_trip) =
            (self.connecting.unwrap_or_default(), self.round_trip.unwrap_or_default());
        let statements = round_trip.saturating_mul(self.statements.saturating_add(2));
        let needs = connecting.saturating_add(statements);
        let at_least =
            connecting.min(round_trip.saturating_mul(Self::ROUND_TRIPS)).saturating_add(statements);
        let most = timing.longest_request();
        if needs <= most {
            Judgment::Fits(timing.with_room_for(needs))
        } else if self.answers < Self::ENOUGH {
            Judgment::CheckAgain
        } else if at_least > most {
            Judgment::TooSlow(timing.too_short(needs))
        } else if connecting < Self::STALL {
            Judgment::Fits(timing.with_room_for(at_least))
        } else if self.connects < Self::ENOUGH {
            Judgment::ConnectAgain
        } else {
            Judgment::TooSlow(timing.too_short(needs))
        }
    }
}
