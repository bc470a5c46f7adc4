//! News from the server, for those that were denied and wait: who is told when a lock is freed
//! need not ask again and again.
//!
//! ```text
//!             somebody waits            answered        nobody has for long
//!    Silent ----------------> Due -------------> Listening ------------> Leaving -> Silent
//!                              ^                     |
//!                              +--- Failed <---------+   after a back-off
//! ```
//!
//! A server that listens to us need not be one that we hear: a pooler forgets who listens, a network
//! forgets a silent connection, and neither says so. So the engine relies on being told only while a
//! *probe* arrives: a notification that it sends to itself over the home connection, once the server
//! tells, and then a quarter of a TTL after the last sign of life while somebody waits:
//!
//! ```text
//!             begun, and somebody waits       sent             heard: verified
//!    Idle -----------------------------> Due -----> Awaited -----------------> At(a quarter of a TTL later)
//!     ^                                   ^            |                         |           |
//!     |                                   |            | overdue                 |           | nobody waits
//!     |          the connection is dropped, and        |           somebody waits|           |
//!     +---------- everybody asks again <---------------+ <-----------------------+           +--> Idle
//! ```
//!
//! Until the first probe was heard, and when one is overdue, waiters ask again after a back-off. Any
//! notification is a sign of life once a probe was heard, so processes that wait for locks of one table
//! need few probes of their own.

use super::{Engine, Lane, index::Who};
use crate::back_off::BackOff;
use crate::error::Failure;
use crate::event::LockId;
use crate::protocol::{Action, News, Notification, Protocol};
use crate::slot::Input;
use crate::time::Instant;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ear {
    stage: Stage,
    /// Since when the server says that it tells.
    since: Option<Instant>,
    /// Whether what it tells is known to arrive.
    verified: bool,
    probe: Probe,
    /// How many probes were sent.
    probes: u64,
    /// When the connection that is being dropped may be opened again, and whether somebody relied on it.
    dropped: Option<(Instant, bool)>,
    /// Since when it was not needed, as far as was noticed.
    unneeded: Option<Instant>,
    /// How often it failed in a row. Only a probe that is heard is a success.
    back_off: BackOff,
    /// When it is to be looked at. Derived from the others.
    wake: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Stage {
    #[default]
    Silent,
    /// The command to listen is due.
    Due,
    UnderWay,
    /// The connection that listens is to be closed.
    Leaving,
    Failed(Instant),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Probe {
    /// Nobody listens, or nobody waits.
    #[default]
    Idle,
    /// The next one is due then.
    At(Instant),
    Due,
    /// It was sent, and is to be heard by then.
    Awaited {
        number: u128,
        until: Instant,
    },
}

impl Ear {
    /// The command on the listening connection that is due.
    pub(super) fn due(&self) -> Option<Action> {
        (self.stage == Stage::Due).then_some(Action::Listen)
    }

    /// Whether the listening connection is to be closed.
    pub(super) fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving
    }

    /// Since when what was freed is sure to be told and to be heard; [`None`] if it is not.
    pub(super) fn told_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.verified && self.probe != Probe::Due)
    }

    /// Nothing is known any more of what the server tells. Whether somebody relied on it.
    fn forget(&mut self) -> bool {
        (self.since, self.probe) = (None, Probe::Idle);
        core::mem::take(&mut self.verified)
    }

    /// The same with times that are waited for as `time` sees them, times past as `past` does, and no
    /// more of the counters than whether they count.
    #[cfg(feature = "sim")]
    pub(super) fn project(
        self,
        time: &dyn Fn(Instant) -> Instant,
        past: &dyn Fn(Instant) -> Instant,
    ) -> Self {
        let stage = match self.stage {
            Stage::Failed(until) => Stage::Failed(time(until)),
            stage => stage,
        };
        let probe = match self.probe {
            Probe::At(at) => Probe::At(time(at)),
            Probe::Awaited { number, until } => Probe::Awaited { number, until: time(until) },
            probe => probe,
        };
        let dropped = self.dropped.map(|(until, relied)| (time(until), relied));
        let unneeded = self.unneeded.map(past);
        let (since, back_off) = (self.since.map(time), self.back_off.project());
        Self { stage, since, probe, dropped, unneeded, back_off, wake: None, ..self }
    }
}

impl<P: Protocol> Engine<P> {
    // -- what is due ------------------------------------------------------------------------------

    /// Somebody waits.
    pub(super) fn listen(&mut self, now: Instant) {
        if self.ear.stage == Stage::Silent && self.is_told() {
            self.ear.stage = Stage::Due;
        }
        if self.ear.since.is_some() && self.ear.probe == Probe::Idle {
            self.ear.probe = Probe::At(now);
        }
        self.set_ear_timer(now);
    }

    /// Whether the server tells what was freed, to who listens.
    fn is_told(&self) -> bool {
        self.protocol.listen(self.config.timing.wait()).is_some()
    }

    /// Whether a probe is to leave. Nothing is sent when nobody waits.
    pub(super) fn is_probe_due(&self) -> bool {
        self.ear.probe == Probe::Due && !self.denied.is_empty() && self.is_free(Lane::HOME)
    }

    pub(super) fn next_probe(&self) -> u128 {
        self.config.seed.wrapping_add(u128::from(self.ear.probes))
    }

    pub(super) fn listen_sent(&mut self, now: Instant) {
        self.ear.stage = Stage::UnderWay;
        self.set_ear_timer(now);
    }

    pub(super) fn probe_sent(&mut self, now: Instant) {
        let until = now.after(self.config.timing.request());
        self.ear.probe = Probe::Awaited { number: self.next_probe(), until };
        self.ear.probes += 1;
        self.set_ear_timer(now);
    }

    /// The time has come to try it again, to send a probe, or to have heard one.
    pub(super) fn ear_timeout(&mut self, now: Instant) {
        if let Stage::Failed(until) = self.ear.stage
            && until <= now
        {
            self.ear.stage = Stage::Silent;
            if !self.denied.is_empty() {
                self.listen(now);
            }
        }
        match self.ear.probe {
            Probe::Awaited { until, .. } if until <= now => self.overdue(now),
            _ => self.set_ear_timer(now),
        }
    }

    /// Keeps true what follows from the time, and when the next such time is.
    fn set_ear_timer(&mut self, now: Instant) {
        if let Probe::At(at) = self.ear.probe
            && at <= now
        {
            self.ear.probe = if self.denied.is_empty() { Probe::Idle } else { Probe::Due };
            // It is not looked after, so nobody is to rely on it.
            self.ear.verified &= !self.denied.is_empty();
        }
        let again = match self.ear.stage {
            Stage::Failed(until) => Some(until),
            _ => None,
        };
        let probe = match self.ear.probe {
            Probe::At(at) | Probe::Awaited { until: at, .. } => Some(at),
            Probe::Idle | Probe::Due => None,
        };
        let wake = again.into_iter().chain(probe).min();
        let old = core::mem::replace(&mut self.ear.wake, wake);
        if old != wake {
            self.timers.extend(wake.map(|at| (at, Who::Ear)));
            old.map(|at| self.timers.remove(&(at, Who::Ear)));
        }
    }

    // -- what has happened ------------------------------------------------------------------------

    /// The driver closes the connection that listens. False if it is not to be closed.
    pub(super) fn stops_listening(&mut self, now: Instant) -> bool {
        if !self.ear.is_leaving() {
            return false;
        }
        self.ear.stage = Stage::Silent;
        self.ear.unneeded = None;
        self.ear.forget();
        let dropped = self.ear.dropped.take();
        if let Some((until, _)) = dropped.filter(|(until, _)| now < *until) {
            self.ear.stage = Stage::Failed(until);
        }
        if dropped.is_some_and(|(_, relied)| relied) {
            self.hint_all(now);
        }
        if !self.denied.is_empty() {
            self.listen(now);
        }
        self.set_ear_timer(now);
        true
    }

    /// Takes the answer to a command to listen that was sent at `sent`.
    pub(super) fn listened(
        &mut self,
        now: Instant,
        sent: Instant,
        reply: Result<P::Reply, Failure>,
    ) {
        self.take_answer(now, sent, reply);
        self.set_ear_timer(now);
    }

    fn take_answer(&mut self, now: Instant, sent: Instant, reply: Result<P::Reply, Failure>) {
        match reply.and_then(|reply| self.protocol.news(reply)) {
            // Who has nothing to tell does not say so again and again.
            Ok(News::Notified(all))
                if all.is_empty() && now.since(sent) < self.config.timing.wait() / 2 =>
            {
                return self.deaf(now);
            }
            Ok(news) => self.take_news(now, news),
            Err(_) => return self.deaf(now),
        }
        // Who waited once may soon wait again, and a connection is dear.
        let unneeded = self.ear.unneeded.filter(|_| self.denied.is_empty());
        let enough = unneeded.is_some_and(|at| now.since(at) >= self.config.timing.wait());
        self.ear.unneeded = self.denied.is_empty().then(|| unneeded.unwrap_or(now));
        self.ear.stage = if enough { Stage::Leaving } else { Stage::Due };
    }

    fn take_news(&mut self, now: Instant, news: News) {
        let all = match news {
            News::Begun => {
                self.ear.forget();
                self.ear.since = Some(now);
                if !self.denied.is_empty() {
                    self.ear.probe = Probe::At(now);
                }
                return;
            }
            News::Notified(all) => all,
        };
        let Probe::Awaited { number, .. } = self.ear.probe else {
            return self.take_notifications(now, all);
        };
        if all.contains(&Notification::Probe(number)) {
            self.ear.verified = true;
            self.ear.back_off.reset();
        }
        self.take_notifications(now, all);
    }

    fn take_notifications(&mut self, now: Instant, all: Vec<Notification>) {
        if self.ear.verified && !all.is_empty() {
            let quarter = self.config.timing.wait();
            // Of many processes that heard the same, one is the first to send the next.
            self.ear.probe = Probe::At(now.after(quarter).after(self.rng.jitter(quarter / 8)));
        }
        for one in all {
            if let Notification::Freed(name) = one {
                self.handle_hint(now, &name);
            }
        }
    }

    /// Nothing is told any more, and nobody may rely on it.
    fn deaf(&mut self, now: Instant) {
        self.ear.stage = Stage::Failed(self.listens_again_at(now));
        if self.ear.forget() {
            self.hint_all(now);
        }
    }

    /// A probe was sent and not heard: the listening connection is dropped.
    fn overdue(&mut self, now: Instant) {
        // Where no probe was ever heard, there is most likely a pooler, which is no different in a moment.
        let pause = if self.ear.verified { now } else { now.after(self.config.timing.wait()) };
        let until = self.listens_again_at(now).max(pause);
        self.in_flight.retain(|(lane, _), _| *lane != Lane::NEWS);
        self.ear.dropped = Some((until, self.ear.forget()));
        self.ear.stage = Stage::Leaving;
        self.set_ear_timer(now);
    }

    fn listens_again_at(&mut self, now: Instant) -> Instant {
        self.ear.back_off.next(now, &self.config.timing, self.round_trip, &mut self.rng)
    }

    fn hint_all(&mut self, now: Instant) {
        let waiting: Vec<LockId> = self.denied.iter().copied().collect();
        for id in waiting {
            self.step(now, id, Input::Hint);
        }
    }
}
