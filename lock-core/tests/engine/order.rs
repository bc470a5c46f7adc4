//! Which of many requests goes first, where there is not time for all of them at once.

use crate::scenario::*;
use lock_core::{
    Action, Config, Engine, Event, Instant, LockId, LockName, News, Notification, Outcome, Place,
    Reply, Request, table,
};
use std::collections::BTreeMap;
use std::time::Duration;

const TRIP: Duration = Duration::from_millis(1);

fn engine(set: impl Fn(&mut Config)) -> Engine {
    let mut config = Config::new(lock_core::Timing::default(), 42);
    set(&mut config);
    Engine::new(table::capabilities("me", false), config)
}

/// To renew all takes longer than a third of the TTL, after which the first are due again, but less than a lease counts.
#[test]
fn leases_that_would_be_lost_first_are_renewed_first() {
    let mut engine = engine(|config| config.batch = 10);
    let mut now = START;
    for n in 0..100 {
        engine.acquire(now, name(&format!("{n:03}")), false, None);
    }
    // Ten statements take half of the time that a lease counts.
    let slow = VALID / 2 / 10;
    let mut renewals = 0;
    while now < START.after(VALID * 20) {
        if let Some(sent) = engine.poll_request(now) {
            let renews = sent.request.action() == Action::Renew;
            renewals += usize::from(renews);
            now = now.after(if renews { slow } else { TRIP });
            let answer = |_: &_| if renews { Outcome::Done } else { Outcome::Granted(FENCE) };
            let answers = sent.request.claims().iter().map(answer).collect();
            engine.handle_reply(now, sent.id, Ok(Reply::Outcomes(answers)));
        } else {
            now = engine.poll_timeout().expect("there are leases").max(now);
            engine.handle_timeout(now);
        }
        while let Some(event) = engine.poll_event() {
            assert!(!matches!(event, Event::Lost { .. }), "{event:?} after {renewals} renewals");
        }
    }
    assert!(renewals > 100, "{renewals}");
}

/// Where nobody is notified, a waiter has to look. Others take and release free locks over the same connection, so many that
/// one of their requests is always due.
#[test]
fn a_look_is_not_kept_up_by_claims_and_releases_without_end() {
    const OTHERS: usize = 16;
    let mut engine = engine(|_| {});
    let (mut now, mut probes) = (START, 0);
    let waiter = engine.acquire(now, name("busy"), false, None);
    let mut next: BTreeMap<(Instant, usize), Option<LockId>> = BTreeMap::new();
    let mut of: BTreeMap<LockId, usize> = BTreeMap::new();
    for other in 0..OTHERS {
        next.insert((now.after(TRIP * other as u32 / 3), other), None);
    }
    let until = START.after(Duration::from_secs(20));
    let mut granted = None;
    while now < until && granted.is_none() {
        while let Some(((at, other), held)) = next.first_key_value().map(|(at, id)| (*at, *id))
            && at <= now
        {
            next.remove(&(at, other));
            match held {
                Some(id) => engine.release(now, id),
                None => {
                    let id = engine.acquire(now, name(&format!("n{other}")), false, None);
                    of.insert(id, other);
                }
            }
        }
        let sent = engine.poll_request(now).expect("one of the others always wants something");
        probes += usize::from(sent.request.action() == Action::Probe);
        now = now.after(TRIP);
        let is_free = now > START.after(Duration::from_secs(1));
        let answer = |claim: &lock_core::Claim| match &sent.request {
            Request::Release { .. } => Outcome::Done,
            _ if claim.name == name("busy") && !is_free => Outcome::Busy(Some(holder("they", TTL))),
            Request::Probe { .. } => Outcome::Free,
            _ => Outcome::Granted(FENCE),
        };
        let answers = sent.request.claims().iter().map(answer).collect();
        engine.handle_reply(now, sent.id, Ok(Reply::Outcomes(answers)));
        while let Some(event) = engine.poll_event() {
            match event {
                Event::Granted { id, .. } if id == waiter => granted = Some(now),
                Event::Granted { id, .. } => _ = next.insert((now, of[&id]), Some(id)),
                Event::Released { id, .. } => {
                    let other = of.remove(&id).expect("one of them");
                    next.insert((now, other), None);
                }
                _ => {}
            }
        }
    }
    let granted = granted.unwrap_or_else(|| panic!("not granted; {probes} looks"));
    let after = granted.since(START.after(Duration::from_secs(1)));
    assert!(after < Duration::from_secs(2), "it was free for {after:?}");
}

/// Nor the other way round, where requests take so long that some look is always overdue.
#[test]
fn a_release_is_not_kept_up_by_looks_without_end() {
    let mut engine = engine(|_| {});
    let (mut now, slow) = (START, Duration::from_millis(400));
    let ours = engine.acquire(now, name("ours"), false, None);
    for other in 0..50 {
        engine.acquire(now, name(&format!("n{other}")), false, None);
    }
    let (mut released, mut looks) = (None, 0);
    while now < START.after(TTL * 4) {
        if released.is_none() && now > START.after(TTL * 2) {
            engine.release(now, ours);
            released = Some(now);
        }
        let Some(sent) = engine.poll_request(now) else {
            now = engine.poll_timeout().expect("there are waiters").max(now);
            engine.handle_timeout(now);
            continue;
        };
        looks += usize::from(sent.request.action() == Action::Probe);
        if let (Some(at), Action::Release) = (released, sent.request.action()) {
            let after = now.since(at);
            assert!(after < Duration::from_secs(2), "it left after {after:?}");
            assert!(looks > 20, "{looks}");
            return;
        }
        now = now.after(slow);
        let answer = |claim: &lock_core::Claim| match sent.request.action() {
            Action::Renew => Outcome::Done,
            _ if claim.name == name("ours") => Outcome::Granted(FENCE),
            _ => Outcome::Busy(Some(holder("they", TTL))),
        };
        let answers = sent.request.claims().iter().map(answer).collect();
        engine.handle_reply(now, sent.id, Ok(Reply::Outcomes(answers)));
        while engine.poll_event().is_some() {}
    }
    panic!("it never left");
}

/// The holder releases the lock while a waiter's look is under way, and the one ahead of it is dead: the look's answer is
/// older than the notification.
#[test]
fn who_is_notified_during_a_look_does_not_sleep_until_the_end_of_the_lease_that_it_saw() {
    let mut engine =
        Engine::new(table::capabilities("me", true), Config::new(lock_core::Timing::default(), 42));
    let mut now = START;
    engine.acquire(now, name("a"), false, None);
    let busy = || {
        let mut they = holder("they", TTL);
        they.place = Some(Place { ticket: 2, ahead: 1 });
        Ok(Reply::Outcomes(vec![Outcome::Busy(Some(they))]))
    };
    let (mut listening, mut begun, mut pings) = (None, false, Vec::new());
    let mut released: Option<Instant> = None;
    loop {
        while let Some(sent) = engine.poll_request(now) {
            let id = sent.id;
            match &sent.request {
                Request::Subscribe { .. } if !begun => {
                    begun = true;
                    engine.handle_reply(now, id, Ok(Reply::News(News::Begun)));
                }
                Request::Subscribe { .. } => listening = Some(id),
                Request::Ping { number } => {
                    pings.push(Notification::Ping(*number));
                    now = now.after(TRIP);
                    engine.handle_reply(now, id, Ok(Reply::one(Outcome::Done)));
                }
                _ if released.is_some() => {
                    let after = now.since(released.expect("set"));
                    assert!(after < Duration::from_secs(2), "it was free for {after:?}");
                    return;
                }
                _ => {
                    now = now.after(TRIP);
                    // By then, it relies on what it is told.
                    let ready = now > START.after(TTL);
                    if let (true, Some(listens)) = (ready, listening) {
                        let freed = Notification::Freed { name: name("a"), ticket: 1 };
                        let news = Reply::News(News::Notified(vec![freed]));
                        engine.handle_reply(now, listens, Ok(news));
                        released = Some(now);
                    }
                    engine.handle_reply(now, id, busy());
                }
            }
        }
        if !pings.is_empty()
            && let Some(listens) = listening.take()
        {
            let news = Reply::News(News::Notified(std::mem::take(&mut pings)));
            engine.handle_reply(now, listens, Ok(news));
            continue;
        }
        now = engine.poll_timeout().expect("it waits").max(now);
        engine.handle_timeout(now);
        assert!(now < START.after(TTL * 10), "it does not rely on notifications");
    }
}

/// A server on which somebody else has rows locked, for so long that each statement about them is refused after a second.
struct Locked {
    engine: Engine,
    now: Instant,
    rows: Vec<LockName>,
    granted: Vec<LockId>,
    lost: Vec<LockId>,
}

impl Locked {
    /// Each of so many locks is held, and its row is not locked yet.
    fn holding(count: usize) -> (Self, Vec<LockId>) {
        let (rows, granted, lost) = Default::default();
        let mut server = Self { engine: engine(|_| {}), now: START, rows, granted, lost };
        let ids = (0..count).map(|n| server.acquire(&format!("{n:02}"))).collect();
        server.pass(TRIP * 100);
        assert_eq!(server.granted.len(), count);
        (server, ids)
    }

    fn acquire(&mut self, lock: &str) -> LockId {
        self.engine.acquire(self.now, name(lock), false, None)
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while self.now < until {
            self.engine.handle_timeout(self.now);
            if let Some(sent) = self.engine.poll_request(self.now) {
                let claims = sent.request.claims();
                let is_refused = claims.iter().any(|claim| self.rows.contains(&claim.name));
                let granted = sent.request.action() == Action::Acquire;
                let outcome = if granted { Outcome::Granted(FENCE) } else { Outcome::Done };
                let (takes, reply) = match is_refused {
                    true => (Duration::from_secs(1), Err(row_locked())),
                    false => (TRIP, Ok(Reply::Outcomes(vec![outcome; claims.len()]))),
                };
                self.now = self.now.after(takes);
                self.engine.handle_reply(self.now, sent.id, reply);
            } else {
                let next = self.engine.poll_timeout().unwrap_or(until);
                self.now = next.max(self.now.after(NANO)).min(until);
            }
            while let Some(event) = self.engine.poll_event() {
                match event {
                    Event::Granted { id, .. } => self.granted.push(id),
                    Event::Lost { id, .. } => self.lost.push(id),
                    _ => {}
                }
            }
        }
    }
}

fn row_locked() -> lock_core::Failure {
    let text = "canceling statement due to lock timeout";
    lock_core::sql::postgres::statement_failed(Some("55P03"), text)
}

/// Their renewals are refused again and again, and their leases end first of all.
#[test]
fn locked_rows_cost_no_other_lock() {
    for (locked, of) in [(1, 10), (2, 10), (2, 60), (4, 60)] {
        let (mut server, ids) = Locked::holding(of);
        server.rows = (0..locked).map(|n| name(&format!("{:02}", n * 3))).collect();
        server.pass(TTL * 3);
        server.lost.sort();
        let expected: Vec<LockId> = (0..locked).map(|n| ids[n * 3]).collect();
        assert_eq!(server.lost, expected, "{locked} of {of}");
    }
}

#[test]
fn releases_and_renewals_of_locked_rows_keep_no_claim_from_leaving() {
    for releases in [true, false] {
        let (mut server, ids) = Locked::holding(3);
        server.rows = ["00", "01", "02"].map(name).into();
        if releases {
            ids.iter().for_each(|id| server.engine.release(server.now, *id));
        }
        // They are refused together, and then each by itself.
        server.pass(RENEW + Duration::from_secs(5));
        let free = server.acquire("free");
        server.pass(Duration::from_secs(3));
        assert!(server.granted.contains(&free), "releases: {releases}");
    }
}

/// One refusal, of a deadlock say, is no reason to let others go first for ever.
#[test]
fn claims_without_end_keep_no_renewal_and_no_release_that_was_refused() {
    const SLOW: Duration = Duration::from_millis(150);
    for releases in [false, true] {
        let mut engine = engine(|_| {});
        let (mut now, mut others, mut refused, mut done) = (START, 0, false, false);
        let held = engine.acquire(now, name("held"), false, None);
        let mut to_release = releases;
        while !done && now < START.after(TTL * 2) {
            if now > START.after(Duration::from_secs(2)) && std::mem::take(&mut to_release) {
                engine.release(now, held);
            }
            let sent = engine.poll_request(now);
            // Somebody wants a free lock while each request is under way.
            let _ = engine.acquire(now, name(&format!("{others}")), false, None);
            others += 1;
            now = now.after(SLOW);
            engine.handle_timeout(now);
            let Some(sent) = sent else { continue };
            let is_its = sent.request.claims().iter().any(|claim| claim.name == name("held"));
            let repeats = is_its && sent.request.action() != Action::Acquire;
            // First among others, and then for its own sake.
            if repeats && !refused {
                refused = sent.request.claims().len() == 1;
                engine.handle_reply(now, sent.id, Err(conflict()));
                continue;
            }
            done = repeats;
            let granted = sent.request.action() == Action::Acquire;
            let outcome = if granted { Outcome::Granted(FENCE) } else { Outcome::Done };
            let reply = Reply::Outcomes(vec![outcome; sent.request.claims().len()]);
            engine.handle_reply(now, sent.id, Ok(reply));
            while let Some(event) = engine.poll_event() {
                assert!(!matches!(event, Event::Lost { .. }), "{event:?}");
            }
        }
        assert!(done, "releases: {releases}");
    }
}

fn conflict() -> lock_core::Failure {
    lock_core::sql::postgres::statement_failed(Some("40001"), "could not serialize access")
}
