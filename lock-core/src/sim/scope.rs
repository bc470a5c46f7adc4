//! How big a world is, and what may go wrong in it.

use super::clock::{Clock, Rate};
use super::flaw::Flaw;
use super::invariants::Check;
use super::target::Target;
use crate::request::Mode;
use crate::time::Instant;
use crate::timing::Timing;
use alloc::vec::Vec;
use core::time::Duration;

/// The settings of a [`World`](super::World). They do not change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The lease times, the same for everybody that does not [wish](Wish::ttl) otherwise.
    pub timing: Timing,
    /// The lease times of the last client, if it is another program, with others.
    pub last: Option<Timing>,
    /// A clock for each client.
    pub clients: Vec<Clock>,
    /// The server's.
    pub server: Clock,
    /// How many locks there are.
    pub names: usize,
    /// The choices of callers. If empty: each lock by itself.
    pub targets: Vec<Target>,
    /// How many attempts each client may begin.
    pub acquires: u8,
    /// How its caller may want a lock.
    pub wishes: Vec<Wish>,
    /// How many sessions a client may open; further requests to open one are never carried out. For
    /// ever going on, a search would never be over.
    pub opens: u8,
    /// Callers may give up attempts that have not been granted.
    pub cancels: bool,
    /// How many requests a client has under way at most.
    pub in_flight: usize,
    /// How much of each kind may go wrong.
    pub faults: Faults,
    /// With a step: time goes on by it, so few distinct times are met. Without: from one
    /// interesting time to another, and to the last moment before it.
    pub grid: Option<Duration>,
    /// Time does not go on beyond this. [`None`]: it goes on for ever, and a search ends when nothing
    /// new can happen. Only on a grid.
    pub horizon: Option<Instant>,
    /// Clients poll at once when their caller wants something, and need not be run for it.
    pub eager: bool,
    /// How many transactions of users pin a lock.
    pub transactions: u8,
    /// For how long after its grant a lock is kept, though its caller releases it.
    pub keep: Option<Duration>,
    /// How often each caller wants each lock again when the faults have stopped, to see whether all have their turn; a round
    /// takes long.
    pub rounds: u8,
    /// What is checked.
    pub checks: Vec<Check>,
    /// A seeded bug in the clients' driver.
    pub flaw: Option<Flaw>,
}

/// How a lock is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// The first "busy" ends it.
    pub once: bool,
    /// For how long.
    pub give_up: Option<Duration>,
    /// Together with others that want it so. Permits and several locks are always exclusive.
    pub mode: Mode,
    /// With a TTL of its own.
    pub ttl: Option<Duration>,
}

impl Wish {
    /// For as long as it takes.
    pub const WAIT: Self = Self { once: false, give_up: None, mode: Mode::Exclusive, ttl: None };
    /// Now or never.
    pub const TRY: Self = Self { once: true, ..Self::WAIT };

    /// For `duration` at most.
    pub const fn within(duration: Duration) -> Self {
        Self { give_up: Some(duration), ..Self::WAIT }
    }

    /// The same with a TTL of its own, which the [timing](Scope::timing) must allow.
    #[must_use]
    pub const fn lasting(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// The same, shared.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self { mode: Mode::Shared, ..self }
    }
}

/// How much may still go wrong, by kind. Each fault uses one up.
///
/// Late replies, lost replies and late wake-ups are not counted: a reply may always be delivered
/// later or never, and a client is run when the schedule says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Requests that their client gave up on, and that may still be carried out.
    pub ghosts: u8,
    /// Requests that vanish.
    pub losses: u8,
    /// Requests that are carried out once more.
    pub duplicates: u8,
    /// Failures that the driver learns at once: not sent, broken off, rejected.
    pub failures: u8,
    /// Requests for which the server reads its clock, and which then wait.
    pub stale_reads: u8,
    /// Processes stopped or machines put to sleep.
    pub suspends: u8,
    /// Clients that die and are started again.
    pub client_crashes: u8,
    /// Server crashes.
    pub server_crashes: u8,
    /// Hints that nothing has given rise to.
    pub hints: u8,
    /// Sessions that the server ends before their time.
    pub kills: u8,
    /// Steps of the server's clock, forward by a TTL. **Not** what the promises hold under.
    pub clock_steps: u8,
    /// How often the server's clock is set back, by ten TTLs. Mutual exclusion holds under it, and
    /// those that wait are granted in time.
    pub set_backs: u8,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        ghosts: 0,
        losses: 0,
        duplicates: 0,
        failures: 0,
        stale_reads: 0,
        suspends: 0,
        client_crashes: 0,
        server_crashes: 0,
        hints: 0,
        kills: 0,
        clock_steps: 0,
        set_backs: 0,
    };
}

impl Scope {
    /// A small world that can be searched exhaustively: two clients, one lock, one attempt each.
    ///
    /// Times fall on a grid of 2.75 s, on which a client as slow and a server as fast as the theorem
    /// allows meet exactly: a lease of 6 s ends at the server after 2 steps, a renewal is due and a
    /// request given up after 1.
    ///
    /// # Panics
    /// Never: the timing is good.
    pub fn small() -> Self {
        let timing = Timing::new(Duration::from_secs(6))
            .and_then(|timing| timing.with_request(Duration::from_secs(1)));
        Self {
            timing: timing.expect("6 s and 1 s are good"),
            last: None,
            clients: Vec::from([
                Clock::new(Rate::SLOW, Duration::ZERO),
                Clock::new(Rate::FAST, Duration::from_secs(1_000)),
            ]),
            server: Clock::new(Rate::FAST, Duration::from_secs(500)),
            names: 1,
            targets: Vec::new(),
            acquires: 1,
            wishes: Vec::from([Wish::WAIT]),
            opens: u8::MAX,
            cancels: true,
            in_flight: 1,
            faults: Faults::NONE,
            grid: Some(Duration::from_millis(2_750)),
            horizon: None,
            eager: true,
            transactions: 0,
            keep: None,
            rounds: 0,
            checks: Check::ALL.into(),
            flaw: None,
        }
    }

    /// The same on a grid of 1.1 s: a lease ends at the server after 5 steps, a renewal is due
    /// after 2, a request given up after 1.
    #[must_use]
    pub fn finer(self) -> Self {
        Self { grid: Some(Duration::from_millis(1_100)), ..self }
    }

    /// The lease times of a client.
    pub(super) fn timing_at(&self, client: usize) -> Timing {
        self.last.filter(|_| client + 1 == self.clients.len()).unwrap_or(self.timing)
    }

    /// The lease times of a client's wish.
    pub(super) fn timing_of(&self, client: usize, wish: &Wish) -> Timing {
        let timing = self.timing_at(client);
        wish.ttl.and_then(|ttl| timing.lasting(ttl).ok()).unwrap_or(timing)
    }

    /// All lease times.
    fn timings(&self) -> impl Iterator<Item = Timing> {
        let wishes = self.wishes.iter().map(|wish| self.timing_of(0, wish));
        wishes.chain([self.timing]).chain(self.last)
    }

    /// The longest lease times.
    pub(super) fn longest(&self) -> Timing {
        self.timings().max_by_key(Timing::ttl).unwrap_or(self.timing)
    }

    /// The shortest TTL.
    pub(super) fn shortest_ttl(&self) -> Duration {
        self.timings().map(|timing| timing.ttl()).min().unwrap_or(self.timing.ttl())
    }

    pub(super) fn checks(&self, check: Check) -> bool {
        self.checks.contains(&check)
    }
}
