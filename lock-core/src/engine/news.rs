//! The subscription to the server's notifications: a waiter that is notified when a lock is freed need not ask again
//! and again.
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
//! *ping* arrives: a notification that it sends to itself over the home connection, once the server
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
//! Until the first ping was heard, and when one is overdue, waiters ask again after a back-off. Any
//! notification is a sign of life once a ping was heard, so processes that wait for locks of one table
//! need few pings of their own.

use super::{ConnectionId, Engine, index::TimerKey};
use crate::back_off::BackOff;
use crate::error::Failure;
use crate::event::LockId;
use crate::name::LockName;
use crate::outcome::{News, Notification, Reply};
use crate::request::Action;
use crate::slot::Input;
use crate::time::Instant;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Subscription {
    stage: Stage,
    /// The time since which the server notifies, by its own word.
    since: Option<Instant>,
    /// Whether what it tells is known to arrive.
    verified: bool,
    ping: Ping,
    /// How many pings were sent.
    pings: u64,
    /// The time at which the connection that is being dropped may be opened again, and whether a waiter relied on it.
    dropped: Option<(Instant, bool)>,
    /// The time since which it was not needed, as far as was noticed.
    unneeded: Option<Instant>,
    /// How often it failed in a row. Only a ping that is heard is a success.
    back_off: BackOff,
    /// The time at which it is to be looked at. Derived from the others.
    wake: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Stage {
    #[default]
    Silent,
    /// The request to listen is due.
    Due,
    InFlight,
    /// The request to be notified no more is due.
    Enough,
    /// It is not notified, and the connection is kept until then, or for as long as somebody waits.
    Quiet(Instant),
    /// The connection that listens is to be closed.
    Leaving,
    Failed(Instant),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Ping {
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

impl Subscription {
    /// The request on the listening connection that is due.
    pub(super) fn due(&self) -> Option<Action> {
        match self.stage {
            Stage::Due => Some(Action::Subscribe),
            Stage::Enough => Some(Action::Unsubscribe),
            _ => None,
        }
    }

    /// Whether the listening connection is to be closed.
    pub(super) fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving
    }

    /// The time since which releases are sure to be notified and heard; [`None`] if they are not.
    pub(super) fn notified_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.verified && self.ping != Ping::Due)
    }

    /// Nothing is known any more of what the server tells. Whether somebody relied on it.
    fn forget(&mut self) -> bool {
        (self.since, self.ping) = (None, Ping::Idle);
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
            Stage::Quiet(until) => Stage::Quiet(time(until)),
            stage => stage,
        };
        let ping = match self.ping {
            Ping::At(at) => Ping::At(time(at)),
            Ping::Awaited { number, until } => Ping::Awaited { number, until: time(until) },
            ping => ping,
        };
        let dropped = self.dropped.map(|(until, relied)| (time(until), relied));
        let unneeded = self.unneeded.map(past);
        let (since, back_off) = (self.since.map(time), self.back_off.project());
        Self { stage, since, ping, dropped, unneeded, back_off, wake: None, ..self }
    }
}

impl Engine {
    // -- what is due ------------------------------------------------------------------------------

    /// Somebody waits.
    pub(super) fn listen(&mut self, now: Instant) {
        let is_silent = matches!(self.subscription.stage, Stage::Silent | Stage::Quiet(_));
        if is_silent && self.capabilities.notifies {
            self.subscription.stage = Stage::Due;
        }
        if self.subscription.since.is_some() && self.subscription.ping == Ping::Idle {
            self.subscription.ping = Ping::At(now);
        }
        self.set_subscription_timer(now);
    }

    /// Whether a ping is to leave. Nothing is sent when nobody waits.
    pub(super) fn is_ping_due(&self) -> bool {
        self.subscription.ping == Ping::Due
            && !self.near.is_empty()
            && self.is_free(ConnectionId::MAIN)
    }

    pub(super) fn next_ping(&self) -> u128 {
        self.config.seed.wrapping_add(u128::from(self.subscription.pings))
    }

    pub(super) fn listen_sent(&mut self, now: Instant) {
        self.subscription.stage = Stage::InFlight;
        self.set_subscription_timer(now);
    }

    pub(super) fn ping_sent(&mut self, now: Instant) {
        let until = now.after(self.config.timing.request());
        self.subscription.ping = Ping::Awaited { number: self.next_ping(), until };
        self.subscription.pings += 1;
        self.set_subscription_timer(now);
    }

    /// The time has come to try it again, to send a ping, or to have heard one.
    pub(super) fn subscription_timeout(&mut self, now: Instant) {
        if let Stage::Failed(until) = self.subscription.stage
            && until <= now
        {
            self.subscription.stage = Stage::Silent;
            if !self.near.is_empty() {
                self.listen(now);
            }
        }
        if let Stage::Quiet(until) = self.subscription.stage
            && until <= now
        {
            let waits = !self.denied.is_empty();
            let again = Stage::Quiet(now.after(self.config.timing.wait()));
            self.subscription.stage = if waits { again } else { Stage::Leaving };
        }
        match self.subscription.ping {
            Ping::Awaited { until, .. } if until <= now => self.overdue(now),
            _ => self.set_subscription_timer(now),
        }
    }

    /// Keeps true what follows from the time, and when the next such time is.
    fn set_subscription_timer(&mut self, now: Instant) {
        if let Ping::At(at) = self.subscription.ping
            && at <= now
        {
            self.subscription.ping = if self.near.is_empty() { Ping::Idle } else { Ping::Due };
            // It is not looked after, so nobody is to rely on it.
            self.subscription.verified &= !self.near.is_empty();
        }
        let again = match self.subscription.stage {
            Stage::Failed(until) | Stage::Quiet(until) => Some(until),
            _ => None,
        };
        let ping = match self.subscription.ping {
            Ping::At(at) | Ping::Awaited { until: at, .. } => Some(at),
            Ping::Idle | Ping::Due => None,
        };
        let wake = again.into_iter().chain(ping).min();
        let old = core::mem::replace(&mut self.subscription.wake, wake);
        if old != wake {
            self.timers.extend(wake.map(|at| (at, TimerKey::Subscription)));
            old.map(|at| self.timers.remove(&(at, TimerKey::Subscription)));
        }
    }

    // -- what has happened ------------------------------------------------------------------------

    /// The driver closes the connection that listens. False if it is not to be closed.
    pub(super) fn stops_listening(&mut self, now: Instant) -> bool {
        if !self.subscription.is_leaving() {
            return false;
        }
        self.subscription.stage = Stage::Silent;
        self.subscription.unneeded = None;
        self.subscription.forget();
        let dropped = self.subscription.dropped.take();
        if let Some((until, _)) = dropped.filter(|(until, _)| now < *until) {
            self.subscription.stage = Stage::Failed(until);
        }
        if dropped.is_some_and(|(_, relied)| relied) {
            self.hint_all(now);
        }
        if !self.near.is_empty() {
            self.listen(now);
        }
        self.set_subscription_timer(now);
        true
    }

    /// Takes the answer to a request to listen that was sent at `sent`.
    pub(super) fn listened(&mut self, now: Instant, sent: Instant, reply: Result<Reply, Failure>) {
        self.take_answer(now, sent, reply);
        self.set_subscription_timer(now);
    }

    /// Takes the answer to a request to be notified no more.
    pub(super) fn unlistened(&mut self, now: Instant, reply: Result<Reply, Failure>) {
        if reply.is_err() {
            self.failed(now);
        } else {
            self.subscription.stage = Stage::Quiet(now.after(self.config.timing.wait()));
            self.subscription.since = None;
            if let Ping::Awaited { .. } = self.subscription.ping {
                self.subscription.forget();
            }
            if !self.near.is_empty() {
                self.listen(now);
            }
        }
        self.set_subscription_timer(now);
    }

    fn take_answer(&mut self, now: Instant, sent: Instant, reply: Result<Reply, Failure>) {
        match reply.and_then(Reply::news) {
            // An empty answer long before the deadline means that the server does not wait: back off, or this spins.
            Ok(News::Notified(all))
                if all.is_empty() && now.since(sent) < self.config.timing.wait() / 2 =>
            {
                return self.failed(now);
            }
            Ok(news) => self.take_news(now, news),
            Err(_) => return self.failed(now),
        }
        // A process that waited once may soon wait again, and a connection is dear.
        let unneeded = self.subscription.unneeded.filter(|_| self.near.is_empty());
        let enough = unneeded.is_some_and(|at| now.since(at) >= self.config.timing.wait());
        self.subscription.unneeded = self.near.is_empty().then(|| unneeded.unwrap_or(now));
        self.subscription.stage = match enough {
            true => Stage::Leaving,
            // Each notification wakes all that listen, and those that wait here are far behind.
            _ if self.near.is_empty() && !self.denied.is_empty() => Stage::Enough,
            _ => Stage::Due,
        };
    }

    fn take_news(&mut self, now: Instant, news: News) {
        let all = match news {
            News::Begun => {
                // The connection was heard on a moment ago, and is the same.
                if !matches!(self.subscription.ping, Ping::At(_)) {
                    self.subscription.forget();
                    if !self.near.is_empty() {
                        self.subscription.ping = Ping::At(now);
                    }
                }
                self.subscription.since = Some(now);
                return;
            }
            News::Notified(all) => all,
        };
        let Ping::Awaited { number, .. } = self.subscription.ping else {
            return self.take_notifications(now, all);
        };
        if all.contains(&Notification::Ping(number)) {
            self.subscription.verified = true;
            self.subscription.back_off.reset();
        }
        self.take_notifications(now, all);
    }

    fn take_notifications(&mut self, now: Instant, all: Vec<Notification>) {
        if self.subscription.verified && !all.is_empty() {
            let quarter = self.config.timing.wait();
            // Of many processes that heard the same, one is the first to send the next.
            self.subscription.ping =
                Ping::At(now.after(quarter).after(self.rng.jitter(quarter / 8)));
        }
        for one in all {
            match one {
                Notification::Freed { name, ticket } => {
                    self.notify(now, &name, &Input::Freed(ticket));
                }
                Notification::Kept { name, ticket, left } => {
                    self.notify(now, &name, &Input::FreeAt(ticket, now.after(left)));
                }
                Notification::Ping(_) => {}
            }
        }
    }

    /// Nothing is told any more, and nobody may rely on it.
    fn failed(&mut self, now: Instant) {
        self.subscription.stage = Stage::Failed(self.listens_again_at(now));
        if self.subscription.forget() {
            self.hint_all(now);
        }
    }

    /// A ping was sent and not heard: the listening connection is dropped.
    fn overdue(&mut self, now: Instant) {
        // A pooler most likely swallows notifications if no ping was ever heard, and will go on doing so.
        let pause =
            if self.subscription.verified { now } else { now.after(self.config.timing.wait()) };
        let until = self.listens_again_at(now).max(pause);
        self.in_flight.retain(|(connection, _), _| *connection != ConnectionId::NOTIFICATIONS);
        self.subscription.dropped = Some((until, self.subscription.forget()));
        self.subscription.stage = Stage::Leaving;
        self.set_subscription_timer(now);
    }

    fn listens_again_at(&mut self, now: Instant) -> Instant {
        self.subscription.back_off.next(now, &self.config.timing, self.round_trip, &mut self.rng)
    }

    /// Tells those that wait for a lock at the server what has become of it.
    pub(super) fn notify(&mut self, now: Instant, name: &LockName, input: &Input) {
        let front: Vec<LockId> = self.in_front(name).collect();
        for front in front {
            self.step(now, front, input.clone());
        }
    }

    fn hint_all(&mut self, now: Instant) {
        let waiting: Vec<LockId> = self.near.iter().copied().collect();
        for id in waiting {
            self.step(now, id, Input::Hint);
        }
    }
}
