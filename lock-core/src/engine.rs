//! The engine: many attempts, one queue a name, requests in batches.

mod attempt;
mod due;
mod first_connect;
mod index;
mod lasting;
mod news;
#[cfg(feature = "sim")]
mod project;
mod queue;
mod semaphore;
mod sessions;
mod several;
mod step;
mod wanted;

use crate::capabilities::Capabilities;
use crate::contention::LastAttempts;
use crate::error::Failure;
use crate::event::{Event, LockId};
use crate::name::LockName;
use crate::outcome::Reply;
use crate::request::{Action, Mode, Request};
use crate::rng::Rng;
use crate::session::{Session, SessionId};
use crate::slot::Input;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use attempt::{Attempt, InFlight, Place, Todo};
use core::time::Duration;
use due::Due;
use first_connect::FirstConnect;
pub use first_connect::Reached;
pub(crate) use index::Entry;
use index::{Rank, TimerKey};
use lasting::Span;
pub use lasting::WarnAfter;
use news::Subscription;
use semaphore::Semaphore;
use several::Several;
use wanted::Budgets;
pub use wanted::{Wanted, Which};

/// The settings of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// The lease times.
    pub timing: Timing,
    /// 128 random bits that no other engine has: owners are made from it, and jitter.
    pub seed: u128,
    /// How many claims a request carries at most.
    pub batch: usize,
    /// Largest number of requests in flight on one connection.
    pub in_flight: usize,
    /// The times after which waits and holds are told of.
    pub warn_after: WarnAfter,
}

impl Config {
    /// One request at a time, of up to 512 claims. No wait and no hold is told of for lasting long.
    pub fn new(timing: Timing, seed: u128) -> Self {
        let warn_after = WarnAfter::default();
        Self { timing, seed, batch: 512, in_flight: 1, warn_after }
    }
}

/// Names one request that is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct DispatchId {
    number: u64,
    connection: ConnectionId,
}

/// Names a connection to the server.
///
/// Requests of one connection are sent one after another. Different connections must not wait for each
/// other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct ConnectionId(pub(crate) u64);

impl ConnectionId {
    /// Carries the requests that do not wait at the server.
    pub const MAIN: Self = Self(0);
    /// Carries the server's notifications of what was freed.
    pub const NOTIFICATIONS: Self = Self(u64::MAX);
}

/// A request for the server. Answer it exactly once, with
/// [`handle_reply`](Engine::handle_reply).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch {
    /// Names it in the answer.
    pub id: DispatchId,
    /// Over which connection it goes.
    pub connection: ConnectionId,
    /// The question or the order.
    pub request: Request,
    /// Give it up at this time, and say so: an answer that comes later is of no use.
    pub deadline: Instant,
}

/// Many lock attempts over one server, as a value.
///
/// Its methods are of four kinds:
///
/// * **mutators**, what the caller wants: [`acquire`](Self::acquire), [`release`](Self::release);
/// * **`handle_*`**, what has happened: [`handle_reply`](Self::handle_reply),
///   [`handle_hint`](Self::handle_hint), [`handle_timeout`](Self::handle_timeout),
///   [`handle_connect`](Self::handle_connect);
/// * **`poll_*`**, what is to be done: [`poll_close`](Self::poll_close), [`poll_connect`](Self::poll_connect),
///   [`poll_request`](Self::poll_request), [`poll_event`](Self::poll_event),
///   [`poll_timeout`](Self::poll_timeout);
/// * **getters**.
///
/// After any mutator or `handle_*`, poll closes, connects, requests and events until all are `None`; then sleep until
/// [`poll_timeout`](Self::poll_timeout) or an answer. Every method takes the time it is called at,
/// which must not go backwards; calling `handle_timeout` too often does no harm.
///
/// A request is made when it is taken, and a lease counts from that instant: take one only to
/// send it at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Engine {
    capabilities: Capabilities,
    config: Config,
    rng: Rng,
    last_id: u64,
    last_session: u64,
    last_dispatch: u64,
    /// Boxed, for a map makes room for eleven at once.
    attempts: BTreeMap<LockId, Box<Attempt>>,
    budgets: Budgets,
    /// Attempts for any one of several locks.
    semaphores: BTreeMap<LockId, Semaphore>,
    /// Attempts for all of several locks.
    several: BTreeMap<LockId, Several>,
    /// Waits and holds that are to be told of once they have lasted long.
    spans: BTreeMap<LockId, Span>,
    /// Attempts for one name, first come first served; only those in front talk to the server.
    queues: BTreeSet<(LockName, LockId)>,
    /// How many wait in a queue and have not been told who has the lock. Derived from the slots; see `index`.
    unaware: usize,
    sessions: BTreeMap<SessionId, Session>,
    /// The session that new claims go to.
    home: Option<SessionId>,
    /// A connection that was there to wait, for the next that waits soon.
    idle_waiter: Option<SessionId>,
    /// No session is kept for claims that may come.
    closing: bool,
    first_connect: FirstConnect,
    subscription: Subscription,
    last_attempts: LastAttempts,
    /// Attempts that were denied and wait. Derived from the slots; see `index`.
    denied: BTreeSet<LockId>,
    /// Those of them that are to be notified. Derived from the slots; see `index`.
    near: BTreeSet<LockId>,
    /// The time at which each slot wants to be looked at. Derived from the slots; see `index`.
    timers: BTreeSet<(Instant, TimerKey)>,
    /// The timers of leases that only wait for their renewal. Derived from the slots; see
    /// `index`.
    renewals: BTreeSet<(Instant, LockId)>,
    /// The actions that are due on each connection, which may leave when it is free. No attempt is named for a
    /// session's own requests. Derived from the slots; see `index`.
    due: BTreeSet<(Rank, LockId)>,
    /// The connections that are to be closed. Derived from the sessions' leases; see `index`.
    closes: BTreeSet<ConnectionId>,
    /// The connections besides [`ConnectionId::MAIN`] on which something is due that may leave now. Derived; see `index`.
    ready: BTreeSet<ConnectionId>,
    in_flight: BTreeMap<(ConnectionId, u64), InFlight>,
    /// How many requests about claims were refused in a row, each perhaps because of a single claim.
    refusals: u32,
    /// How many sessions are there to wait.
    waiting: usize,
    /// The rest of the step that is being made: empty between two calls.
    todo: Vec<Todo>,
    events: VecDeque<Event>,
    /// Of the last answered requests: the natural unit of a back-off.
    round_trip: Duration,
}

impl Engine {
    /// An engine without attempts, whose server the driver has connected to. Less than one claim a request, or one request at a time, counts
    /// as one.
    pub fn new(capabilities: Capabilities, mut config: Config) -> Self {
        config.batch = config.batch.max(1);
        config.in_flight = config.in_flight.max(1);
        let rng = Rng::new((config.seed >> 64) as u64 ^ config.seed as u64);
        Self {
            capabilities,
            config,
            rng,
            last_id: 0,
            last_session: 0,
            last_dispatch: 0,
            attempts: BTreeMap::new(),
            budgets: Budgets::default(),
            semaphores: BTreeMap::new(),
            several: BTreeMap::new(),
            spans: BTreeMap::new(),
            queues: BTreeSet::new(),
            unaware: 0,
            sessions: BTreeMap::new(),
            home: None,
            idle_waiter: None,
            closing: false,
            first_connect: FirstConnect::default(),
            subscription: Subscription::default(),
            last_attempts: LastAttempts::default(),
            denied: BTreeSet::new(),
            near: BTreeSet::new(),
            timers: BTreeSet::new(),
            renewals: BTreeSet::new(),
            due: BTreeSet::new(),
            closes: BTreeSet::new(),
            ready: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            refusals: 0,
            waiting: 0,
            todo: Vec::new(),
            events: VecDeque::new(),
            round_trip: Duration::ZERO,
        }
    }

    // -- mutators -------------------------------------------------------------------------------

    /// Wants `name` until `give_up`, [`None`] for as long as it takes. With `once`, the first
    /// "busy" ends it.
    ///
    /// The server is asked once at least: an attempt that was never denied goes on for
    /// [`Timing::answer_grace`] after `give_up`, and so does one whose claim is under way then.
    ///
    /// Leads to [`Event::Granted`] or [`Event::NotAcquired`], unless released before.
    pub fn acquire(
        &mut self,
        now: Instant,
        name: LockName,
        once: bool,
        give_up: Option<Instant>,
    ) -> LockId {
        self.acquire_as(now, name, Mode::Exclusive, once, give_up)
    }

    /// The same, with a [`Mode`]. Where there are no shared locks, every lock is exclusive. [`want`](Self::want) has
    /// further choices.
    pub fn acquire_as(
        &mut self,
        now: Instant,
        name: LockName,
        mode: Mode,
        once: bool,
        give_up: Option<Instant>,
    ) -> LockId {
        let wanted = Wanted { mode, once, give_up, ..Wanted::default() };
        self.want(now, Which::One(name), wanted)
    }

    /// Wants no more of an attempt: gives up waiting, frees what is held. Legal in every phase, and
    /// a no-op for an attempt that has ended.
    ///
    /// Leads to one [`Event::Released`], at once if nothing was ever sent.
    pub fn release(&mut self, now: Instant, id: LockId) {
        self.release_after(now, id, None);
    }

    /// The same, but what the caller was told it was granted stays taken until so long after its grant, by the server's
    /// clock. Nobody has it until then, this engine included. An attempt that was not granted leaves nothing behind, and
    /// where [`Capabilities::keeps`] is false, nothing stays taken.
    pub fn release_after(&mut self, now: Instant, id: LockId, keep: Option<Duration>) {
        self.handle_timeout(now);
        self.span_ends(id);
        let keep = keep.filter(|_| self.capabilities.keeps);
        if self.release_any(id, keep) || self.release_all(id, keep) {
            self.apply_effects(now);
        } else {
            self.step(now, id, Input::Release(keep));
        }
    }

    /// Wants no session to be kept for claims that may come: those that no attempt needs are
    /// closed. Ended by the next [`acquire`](Self::acquire).
    pub fn close(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.closing = true;
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        self.todo.extend(sessions.into_iter().map(Todo::Tidy));
        self.apply_effects(now);
    }

    // -- what has happened ------------------------------------------------------------------------

    /// Takes the answer to a request, or what is known of its fate. An id that is not under way is
    /// ignored.
    pub fn handle_reply(&mut self, now: Instant, id: DispatchId, reply: Result<Reply, Failure>) {
        self.handle_timeout(now);
        let answered = self.in_flight.remove(&(id.connection, id.number));
        let Some(InFlight { due, sent, void }) = answered else { return };
        self.connection_changed(id.connection);
        if reply.is_ok() && !matches!(due, Due::Wait { .. } | Due::Subscribe | Due::Unsubscribe) {
            let took = now.since(sent).min(Timing::MAX_BACK_OFF);
            // One slow answer does not make a slow server: nobody is to stay behind others for so long.
            self.round_trip = match self.round_trip {
                Duration::ZERO => took,
                known => took.min(known + known / 4),
            };
        }
        match due {
            _ if void => {}
            Due::Open(session) => self.session_answered(now, session, Action::Open, reply),
            Due::KeepAlive(session) => {
                self.session_answered(now, session, Action::KeepAlive, reply)
            }
            Due::Close(session) => self.session_answered(now, session, Action::Close, reply),
            Due::Claims { action, session, ids } => {
                self.claims_answered(now, session, action, &ids, reply);
            }
            Due::Wait { session, id } => {
                self.claims_answered(now, session, Action::Wait, &[id], reply);
            }
            Due::Subscribe => self.listened(now, sent, reply),
            Due::Unsubscribe => self.unlistened(now, reply),
            // Only the notification counts.
            Due::Ping => {}
        }
    }

    /// Something may have changed about `name` at the server: whoever waits for it tries again
    /// now. Safety never rests on it.
    pub fn handle_hint(&mut self, now: Instant, name: &LockName) {
        self.handle_timeout(now);
        self.notify(now, name, &Input::Hint);
    }

    /// Notices what time alone has changed: deadlines passed, waits run out, retries due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, who)) = self.first_timer()
            && at <= now
        {
            match who {
                // It ticks with every step.
                TimerKey::Session(id) => self.tell_session(now, id, |_, _| None),
                TimerKey::Attempt(id) => self.step(now, id, Input::Tick),
                TimerKey::Subscription => self.subscription_timeout(now),
                TimerKey::Span(id) => self.span_is_long(now, id),
                TimerKey::FirstConnect => self.first_connect_timeout(at),
            }
        }
    }

    // -- what is to be done -----------------------------------------------------------------------

    /// The next connection to close, whatever is under way on it: an answer that comes all the same is
    /// ignored. Poll it before [`poll_request`](Self::poll_request), as a later request of the same connection goes
    /// over a new connection.
    ///
    /// May change after: any call but a getter.
    pub fn poll_close(&mut self, now: Instant) -> Option<ConnectionId> {
        self.handle_timeout(now);
        if self.stops_listening(now) {
            return Some(ConnectionId::NOTIFICATIONS);
        }
        let connection = self.closes.pop_first()?;
        self.tell_session(now, SessionId::new(connection.0)?, |lease, _| {
            lease.closed();
            None
        });
        Some(connection)
    }

    /// The next request to send, if one is due and may be in flight on its connection: what a session
    /// needs before renewals before releases before claims before waits. Its claims are sorted by
    /// name, so that two clients cannot deadlock, and no name is in it twice.
    ///
    /// May change after: any call but a getter.
    pub fn poll_request(&mut self, now: Instant) -> Option<Dispatch> {
        self.handle_timeout(now);
        let (connection, due) = self.next_due(now)?;
        let (request, deadline) = self.request(now, &due)?;
        self.sent(now, &due);
        self.last_dispatch += 1;
        let id = DispatchId { number: self.last_dispatch, connection };
        self.in_flight.insert((connection, id.number), InFlight { due, sent: now, void: false });
        self.connection_changed(connection);
        Some(Dispatch { id, connection, request, deadline })
    }

    /// The next thing to tell. May change after: any call but a getter.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The time to call [`handle_timeout`](Self::handle_timeout) or
    /// [`poll_request`](Self::poll_request) if nothing else happens before; `None` for never.
    ///
    /// To be asked when closes, requests and events are drained. May change after: any call but a getter.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.first_timer().map(|(at, _)| at)
    }

    // -- getters ----------------------------------------------------------------------------------

    /// Whether [`poll_close`](Self::poll_close), [`poll_connect`](Self::poll_connect) or [`poll_request`](Self::poll_request)
    /// would give something that is already known to be due.
    pub fn has_work(&self) -> bool {
        self.first_due().is_some()
            || !self.closes.is_empty()
            || self.subscription.is_leaving()
            || self.connects()
    }

    /// How many attempts are not yet settled, including those that only the engine still knows.
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// How many sessions are not yet closed.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether this connection is there to wait at the server, and one that does not
    /// answer at once is no surprise.
    pub fn waits_on(&self, connection: ConnectionId) -> bool {
        let session = SessionId::new(connection.0).and_then(|id| self.sessions.get(&id));
        session.is_some_and(|session| session.waits)
    }

    /// The deadline of the attempt's lock if it is not renewed; `None` if it is not held.
    pub fn held_until(&self, id: LockId) -> Option<Instant> {
        match self.several.get(&id) {
            Some(several) => several.held_until(),
            None => self.attempts.get(&self.winner(id))?.slot.held_until(),
        }
    }

    /// The lease times it was made with, or those of the [first connect](Self::handle_connect).
    pub fn timing(&self) -> &Timing {
        &self.config.timing
    }
}
