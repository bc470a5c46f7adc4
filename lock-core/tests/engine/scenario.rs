//! One engine, its clock, and what it says.

use lock_core::{
    Action, Claim, Config, ConnectionId, Dispatch, DispatchId, Engine, Event, Failure, Fence,
    Holder, Instant, LockId, LockName, NotAcquired, Outcome, Owner, Release, Reply, Request,
    Timing, table,
};
use std::time::Duration;

pub(crate) const TTL: Duration = Timing::DEFAULT_TTL;
/// How long a lease counts, from the send.
pub(crate) const VALID: Duration = Duration::from_millis(24_999);
/// How long after a lease was granted it is surely over at the server.
pub(crate) const OVER: Duration = Duration::from_secs(36);
/// For how long after the wait has run out a first answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const RENEW: Duration = Duration::from_secs(10);
/// The round trip of the ready-made scenes.
pub(crate) const TRIP: Duration = Duration::from_millis(10);
pub(crate) const NANO: Duration = Duration::from_nanos(1);
pub(crate) const FENCE: Fence = Fence::new(7);
pub(crate) const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// An engine at some time. When it goes, nothing may be left unsaid: no event, no request due.
pub(crate) struct Scenario {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    /// How often something was waited for; bounded, so that no test goes on for ever.
    turns: u32,
}

/// A request that left.
pub(crate) struct Sent {
    pub(crate) id: DispatchId,
    pub(crate) at: Instant,
    pub(crate) deadline: Instant,
    pub(crate) request: Request,
}

impl Sent {
    /// The owner of its only claim.
    pub(crate) fn owner(&self) -> Owner {
        let [claim] = self.request.claims() else { panic!("not one claim: {:?}", self.request) };
        claim.owner
    }

    pub(crate) fn len(&self) -> usize {
        self.request.claims().len()
    }
}

pub(crate) fn name(text: &str) -> LockName {
    LockName::new(text).expect("a good name")
}

pub(crate) fn config() -> Config {
    Config::new(Timing::default(), 42)
}

pub(crate) fn unknown() -> Failure {
    Failure::Unknown("gone quiet".into())
}

pub(crate) fn not_sent() -> Failure {
    Failure::NotSent("no route".into())
}

pub(crate) fn refused() -> Failure {
    Failure::refused("no permission".into())
}

pub(crate) fn deadlock() -> Failure {
    Failure::not_now("deadlock".into())
}

/// One that has had it for long.
pub(crate) fn holder(label: &str, expires_in: Duration) -> Holder {
    Holder::new(label, Duration::from_secs(3_600), expires_in)
}

/// The same holder but for one thing.
pub(crate) fn but(mut holder: Holder, change: impl FnOnce(&mut Holder)) -> Holder {
    change(&mut holder);
    holder
}

/// The holder that is told of a hold of the engine's own: granted at `since`, by a claim sent one [`TRIP`] before.
pub(crate) fn own_hold(now: Instant, since: Instant) -> Holder {
    let held_for = now.since(since);
    let expires_in = VALID - TRIP - held_for;
    Holder::new("me", held_for, expires_in)
}

pub(crate) fn freed(id: LockId) -> Event {
    Event::Released { id, release: Release::Freed }
}

pub(crate) fn not_acquired(id: LockId, why: NotAcquired) -> Event {
    Event::NotAcquired { id, of: None, why }
}

// Scenes to start from, all about the name "a".
impl Scenario {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::of(Engine::new(table::capabilities("me", false), config))
    }

    pub(crate) fn of(engine: Engine) -> Self {
        Self { engine, now: START, turns: 0 }
    }

    /// Its claim has left at [`START`].
    pub(crate) fn claiming() -> (Self, LockId, Sent) {
        let mut scene = Self::new();
        let id = scene.acquire("a");
        let claim = scene.sends(Action::Acquire, &["a"]);
        (scene, id, claim)
    }

    /// Its claim was denied, one [`TRIP`] after [`START`].
    pub(crate) fn waiting() -> (Self, LockId) {
        let (mut scene, id, claim) = Self::claiming();
        scene.sleep(TRIP);
        scene.denies(&claim);
        scene.tells([Event::Waiting { id, of: None, holder: None, withheld: false }]);
        (scene, id)
    }

    /// Its claim was granted, one [`TRIP`] after [`START`].
    pub(crate) fn held() -> (Self, LockId) {
        let (mut scene, id, claim) = Self::claiming();
        scene.sleep(TRIP);
        scene.grants(&claim);
        scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
        (scene, id)
    }

    /// Its first renewal has left.
    pub(crate) fn renewing() -> (Self, LockId, Sent) {
        let (mut scene, id) = Self::held();
        scene.sleep_until(START.after(RENEW));
        let renewal = scene.sends(Action::Renew, &["a"]);
        (scene, id, renewal)
    }

    /// It was never renewed, and its deadline is over.
    pub(crate) fn lost() -> (Self, LockId) {
        let (mut scene, id, renewal) = Self::renewing();
        scene.fails(&renewal, not_sent());
        scene.sleep_until(START.after(VALID));
        let [Event::RenewalFailed { .. }, Event::Lost { .. }] = scene.told()[..] else {
            panic!("not lost")
        };
        (scene, id)
    }

    /// Its release has left.
    pub(crate) fn releasing() -> (Self, LockId, Sent) {
        let (mut scene, id) = Self::held();
        scene.release(id);
        let release = scene.sends(Action::Release, &["a"]);
        (scene, id, release)
    }
}

// What happens.
impl Scenario {
    /// Waits for as long as it takes.
    pub(crate) fn acquire(&mut self, text: &str) -> LockId {
        self.engine.acquire(self.now, name(text), false, None)
    }

    /// Waits for that long.
    pub(crate) fn acquire_for(&mut self, text: &str, wait: Duration) -> LockId {
        self.engine.acquire(self.now, name(text), false, Some(self.now.after(wait)))
    }

    /// Does not wait for a holder, but that long for the server.
    pub(crate) fn acquire_once(&mut self, text: &str, wait: Duration) -> LockId {
        self.engine.acquire(self.now, name(text), true, Some(self.now.after(wait)))
    }

    pub(crate) fn release(&mut self, id: LockId) {
        self.engine.release(self.now, id);
    }

    pub(crate) fn sleep(&mut self, time: Duration) {
        self.sleep_until(self.now.after(time));
    }

    pub(crate) fn sleep_until(&mut self, at: Instant) {
        assert!(at >= self.now, "time goes on");
        self.now = at;
        self.engine.handle_timeout(at);
    }

    pub(crate) fn answers(&mut self, sent: &Sent, reply: Result<Reply, Failure>) {
        self.engine.handle_reply(self.now, sent.id, reply);
    }

    pub(crate) fn grants(&mut self, sent: &Sent) {
        self.answers(sent, Ok(Reply::Outcomes(vec![Outcome::Granted(FENCE); sent.len()])));
    }

    /// Somebody has what was claimed, or looked at.
    pub(crate) fn denies(&mut self, sent: &Sent) {
        self.is_held_by(sent, None);
    }

    pub(crate) fn denies_for(&mut self, sent: &Sent, holder: Holder) {
        self.is_held_by(sent, Some(holder));
    }

    fn is_held_by(&mut self, sent: &Sent, holder: Option<Holder>) {
        let reply = match sent.request.action() {
            Action::Probe => Reply::Outcomes(vec![Outcome::Busy(holder); sent.len()]),
            _ => Reply::Outcomes(vec![Outcome::Busy(holder); sent.len()]),
        };
        self.answers(sent, Ok(reply));
    }

    /// What a renewal, or a release, asked for was done.
    pub(crate) fn confirms(&mut self, sent: &Sent) {
        let reply = match sent.request.action() {
            Action::Release => Reply::Outcomes(vec![Outcome::Done; sent.len()]),
            _ => Reply::Outcomes(vec![Outcome::Done; sent.len()]),
        };
        self.answers(sent, Ok(reply));
    }

    /// It was not theirs to renew, or to release.
    pub(crate) fn disowns(&mut self, sent: &Sent) {
        let reply = match sent.request.action() {
            Action::Release => Reply::Outcomes(vec![Outcome::NotOwner; sent.len()]),
            _ => Reply::Outcomes(vec![Outcome::NotOwner; sent.len()]),
        };
        self.answers(sent, Ok(reply));
    }

    /// Nobody else has what was looked at.
    pub(crate) fn is_free(&mut self, look: &Sent) {
        self.answers(look, Ok(Reply::Outcomes(vec![Outcome::Free; look.len()])));
    }

    /// It waits for "a", and looks.
    pub(crate) fn looks(&mut self) -> Sent {
        self.sleeps();
        self.sends(Action::Probe, &["a"])
    }

    /// The same; it finds it free, and claims it.
    pub(crate) fn looks_and_claims(&mut self) -> Sent {
        let look = self.looks();
        self.is_free(&look);
        self.sends(Action::Acquire, &["a"])
    }

    pub(crate) fn fails(&mut self, sent: &Sent, failure: Failure) {
        self.answers(sent, Err(failure));
    }
}

// What must follow.
impl Scenario {
    /// The next request is this one, about these names.
    pub(crate) fn sends(&mut self, action: Action, names: &[&str]) -> Sent {
        let sent = self.sends_any();
        let claimed: Vec<_> = sent.request.claims().iter().map(|c| c.name.as_str()).collect();
        assert_eq!((sent.request.action(), &claimed[..]), (action, names), "{:?}", sent.request);
        sent
    }

    pub(crate) fn sends_any(&mut self) -> Sent {
        self.engine.handle_timeout(self.now);
        assert!(self.engine.has_work());
        assert_eq!(self.engine.poll_close(self.now), None, "nothing is to be closed before");
        let Dispatch { id, request, deadline, .. } =
            self.engine.poll_request(self.now).expect("a request is due");
        assert!(deadline > self.now, "a request is given some time");
        let claims: &[Claim] = request.claims();
        assert!(claims.windows(2).all(|w| w[0].name < w[1].name), "unsorted, or a name twice");
        Sent { id, at: self.now, deadline, request }
    }

    /// The connection that listens is closed now.
    pub(crate) fn stops_listening(&mut self) {
        assert!(self.engine.has_work());
        assert_eq!(self.engine.poll_close(self.now), Some(ConnectionId::NOTIFICATIONS));
    }

    /// Nothing is to be closed, no request is due, and the next look at the engine is due in the future.
    pub(crate) fn sends_nothing(&mut self) {
        assert_eq!(self.engine.poll_close(self.now), None);
        assert_eq!(self.engine.poll_request(self.now), None);
        assert!(!self.engine.has_work());
        assert!(self.engine.poll_timeout().is_none_or(|at| at > self.now), "due, but not polled");
    }

    /// Sleeps until the engine wants to be looked at.
    pub(crate) fn sleeps(&mut self) {
        self.turns += 1;
        assert!(self.turns < 10_000, "it goes on and on");
        self.sends_nothing();
        let at = self.engine.poll_timeout().expect("something will be due");
        self.sleep_until(at);
    }

    /// Exactly these events, in this order.
    pub(crate) fn tells<const N: usize>(&mut self, events: [Event; N]) {
        assert_eq!(self.told(), events);
    }

    /// Exactly these, besides what waiters are told of holders.
    pub(crate) fn decides<const N: usize>(&mut self, events: [Event; N]) {
        let mut told = self.told();
        told.retain(|event| !matches!(event, Event::Waiting { .. }));
        assert_eq!(told, events);
    }

    pub(crate) fn tells_nothing(&mut self) {
        self.tells([]);
    }

    /// Exactly that the wait is over, and that nothing is known of whoever may have the lock.
    pub(crate) fn tells_unanswered(&mut self, id: LockId) {
        let told = self.told();
        let [Event::NotAcquired { id: ended, why: NotAcquired::Failed(Failure::Unknown(_)), .. }] =
            told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!(ended, id);
    }

    pub(crate) fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }

    /// Nothing is left: no attempt, no timer, no request, no event.
    pub(crate) fn is_over(&mut self) {
        self.tells_nothing();
        self.sends_nothing();
        assert_eq!((self.engine.attempts(), self.engine.poll_timeout()), (0, None));
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tells_nothing();
            self.sends_nothing();
        }
    }
}
