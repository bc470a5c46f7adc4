//! Waits and holds that last long are told of, once each.

use crate::scenario::{
    FENCE, RENEW, START, Scenario, TRIP, TTL, VALID, config, freed, holder, name, not_acquired,
};
use lock_core::{
    Action, Config, Event, Holder, LockId, LockName, LostReason, NotAcquired, Outcome, Reply,
    Wanted, WarnAfter, Which,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(4);
const HOLD: Duration = Duration::from_secs(7);

fn warning() -> Scenario {
    let warn_after = WarnAfter { wait: Some(WAIT), hold: Some(HOLD) };
    Scenario::with(Config { warn_after, ..config() })
}

impl Scenario {
    /// The events that it tells until `time` has passed. Looks find the lock taken, and renewals are confirmed.
    fn tells_in(&mut self, time: Duration, label: &str) -> Vec<Event> {
        let (mut told, until) = (Vec::new(), self.now.after(time));
        loop {
            while self.engine.has_work() {
                let sent = self.sends_any();
                match sent.request.action() {
                    Action::Renew => self.confirms(&sent),
                    _ => self.denies_for(&sent, holder(label, TTL)),
                }
            }
            told.extend(self.told());
            match self.engine.poll_timeout().filter(|at| *at <= until) {
                Some(at) => self.sleep_until(at),
                None => break,
            }
        }
        self.sleep_until(until);
        told.extend(self.told());
        told.retain(|event| !matches!(event, Event::Waiting { .. } | Event::Renewed { .. }));
        told
    }
}

fn held_long(id: LockId, label: &str) -> Event {
    Event::HeldLong { id, held: HOLD, label: Some(label.into()) }
}

/// The holder that such an event names.
fn waits_long(told: &[Event], id: LockId) -> Holder {
    let [Event::WaitsLong { id: of, waited, holder: Some(holder), .. }] = told else {
        panic!("{told:?}")
    };
    assert_eq!((*of, *waited), (id, WAIT));
    holder.clone()
}

#[test]
fn a_long_wait_is_told_once_with_the_holder_and_how_long_it_has_had_the_lock_by_then() {
    let mut scene = warning();
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies_for(&claim, holder("they", TTL));
    let _ = scene.told();
    assert_eq!(scene.tells_in(WAIT - Duration::from_nanos(1), "they"), []);
    let told = scene.tells_in(Duration::from_nanos(1), "they");
    let they = waits_long(&told, id);
    // Each look finds it to have had the lock for an hour.
    assert!(they.label == "they" && they.held_for >= holder("", TTL).held_for, "{they:?}");
    assert_eq!(scene.tells_in(WAIT * 5, "they"), []);
    scene.release(id);
    scene.decides([freed(id)]);
    scene.is_over();
}

#[test]
fn the_times_of_a_holder_are_those_of_the_warning_and_not_of_the_last_look() {
    let mut scene = warning();
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies_for(&claim, holder("they", TTL));
    let _ = scene.told();
    // Its next look is not answered.
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["a"]);
    scene.sleep_until(START.after(WAIT));
    let they = waits_long(&scene.told(), id);
    let known = holder("they", TTL);
    assert_eq!((they.held_for, they.expires_in), (known.held_for + WAIT, TTL - WAIT));
    scene.grants(&look);
    scene.release(id);
    let _ = scene.told();
    while scene.engine.has_work() {
        let sent = scene.sends_any();
        scene.confirms(&sent);
    }
    let _ = scene.told();
}

#[test]
fn a_long_hold_is_told_once_with_the_label() {
    let mut scene = warning();
    let wanted = Wanted { label: Some("job".into()), ..Wanted::default() };
    let own = scene.engine.want(scene.now, Which::One(name("a")), wanted);
    let usual = scene.acquire("b");
    let claims = scene.sends(Action::Acquire, &["a", "b"]);
    scene.sleep(TRIP);
    scene.grants(&claims);
    assert_eq!(scene.told().len(), 2);
    assert_eq!(scene.tells_in(HOLD - Duration::from_nanos(1), ""), []);
    let told = scene.tells_in(Duration::from_nanos(1), "");
    assert_eq!(told, [held_long(own, "job"), held_long(usual, "me")]);
    assert_eq!(scene.tells_in(HOLD * 5, ""), []);
    for id in [own, usual] {
        scene.release(id);
    }
    let release = scene.sends(Action::Release, &["a", "b"]);
    scene.confirms(&release);
    scene.tells([freed(own), freed(usual)]);
    scene.is_over();
}

#[test]
fn what_ends_before_is_not_told_of() {
    let mut scene = warning();
    // A wait that runs out, a hold that is released, and one that is lost.
    let waits = scene.acquire_for("a", SECOND);
    let released = scene.acquire("b");
    let lost = scene.acquire("c");
    let claims = scene.sends(Action::Acquire, &["a", "b", "c"]);
    let granted = Outcome::Granted(FENCE);
    let outcomes = vec![Outcome::Busy(None), granted.clone(), granted];
    scene.answers(&claims, Ok(Reply::Outcomes(outcomes)));
    scene.release(released);
    scene.tells([
        Event::Waiting { id: waits, of: None, holder: None, withheld: false },
        Event::Granted { id: released, fence: FENCE, deadline: START.after(VALID) },
        Event::Granted { id: lost, fence: FENCE, deadline: START.after(VALID) },
    ]);
    let release = scene.sends(Action::Release, &["b"]);
    // Nothing more is held as far as the caller is concerned, though the release takes its time.
    scene.sleep(SECOND);
    scene.tells([not_acquired(waits, NotAcquired::TimedOut(None))]);
    scene.confirms(&release);
    scene.tells([freed(released)]);
    scene.sleep(HOLD - SECOND);
    scene.tells([held_long(lost, "me")]);
    scene.sleep_until(START.after(RENEW));
    let renewal = scene.sends(Action::Renew, &["c"]);
    scene.disowns(&renewal);
    scene.tells([Event::Lost { id: lost, reason: LostReason::Taken }]);
    scene.release(lost);
    let _ = scene.told();
    scene.is_over();
}

#[test]
fn a_lock_that_is_lost_is_held_no_longer() {
    let warn_after = WarnAfter { wait: None, hold: Some(RENEW + SECOND) };
    let mut scene = Scenario::with(Config { warn_after, ..config() });
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.sleep(RENEW);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.disowns(&renewal);
    assert_eq!(scene.told().len(), 2);
    scene.sleep(SECOND * 60);
    scene.tells_nothing();
    scene.release(id);
    let _ = scene.told();
    scene.is_over();
}

#[test]
fn a_waiter_behind_others_is_told_who_has_the_lock_by_then() {
    let mut scene = warning();
    let first = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    let second = scene.acquire("a");
    let third = scene.acquire("a");
    let _ = scene.told();
    scene.sleep(SECOND);
    scene.release(first);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    let _ = scene.told();
    let told = scene.tells_in(WAIT - SECOND, "");
    // The second has it since a second after the start, and is the one that is told of.
    let now = waits_long(&told, third);
    assert_eq!((&*now.label, now.held_for), ("me", WAIT - SECOND));
    for id in [third, second] {
        scene.release(id);
    }
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.decides([freed(third), freed(second)]);
    scene.is_over();
}

#[test]
fn permits_and_several_locks_are_told_of_as_one() {
    let mut scene = warning();
    let permits = LockName::new("p").and_then(|name| name.permits(2)).expect("good");
    let any = scene.engine.acquire_any(scene.now, permits, false, None);
    let all = scene.engine.acquire_all(scene.now, vec![name("a"), name("b")], false, None);
    while scene.engine.has_work() {
        let sent = scene.sends_any();
        let busy = |claim: &lock_core::Claim| match claim.name.as_str() {
            "a" => Outcome::Granted(FENCE),
            _ => Outcome::Busy(Some(holder("they", TTL))),
        };
        let outcomes = sent.request.claims().iter().map(busy).collect();
        scene.answers(&sent, Ok(Reply::Outcomes(outcomes)));
    }
    let _ = scene.told();
    let mut told = scene.tells_in(WAIT, "they");
    told.retain(|event| matches!(event, Event::WaitsLong { .. }));
    let [one, two] = &told[..] else { panic!("{told:?}") };
    // Of several, the one that is in the way: the first is held.
    for (event, id, one_of) in [(one, any, None), (two, all, Some(name("b")))] {
        assert_eq!(waits_long(std::slice::from_ref(event), id).label, "they");
        assert!(matches!(event, Event::WaitsLong { of, .. } if *of == one_of), "{event:?}");
    }
    // Both are granted, and held for long.
    let mut granted = 0;
    while granted < 2 {
        while scene.engine.has_work() {
            let sent = scene.sends_any();
            match sent.request.action() {
                Action::Probe => scene.is_free(&sent),
                Action::Acquire => scene.grants(&sent),
                _ => scene.confirms(&sent),
            }
        }
        granted += scene.told().iter().filter(|it| matches!(it, Event::Granted { .. })).count();
        if granted < 2 {
            scene.sleeps();
        }
    }
    let mut told = scene.tells_in(HOLD, "they");
    told.retain(|event| matches!(event, Event::HeldLong { .. }));
    told.sort_by_key(|event| matches!(event, Event::HeldLong { id, .. } if *id == all));
    let long = |event: &Event, of: LockId| matches!(event, Event::HeldLong { id, label: Some(label), .. } if *id == of && &**label == "me");
    assert!(told.len() == 2 && long(&told[0], any) && long(&told[1], all), "{told:?}");
    for id in [any, all] {
        scene.release(id);
    }
    while scene.engine.has_work() {
        let sent = scene.sends_any();
        scene.confirms(&sent);
    }
    let _ = scene.told();
}

#[test]
fn nothing_is_told_unless_it_is_asked_for() {
    let mut scene = Scenario::new();
    let (waits, holds) = (scene.acquire("a"), scene.acquire("b"));
    let claims = scene.sends(Action::Acquire, &["a", "b"]);
    let outcomes = vec![Outcome::Busy(Some(holder("they", TTL))), Outcome::Granted(FENCE)];
    scene.answers(&claims, Ok(Reply::Outcomes(outcomes)));
    let _ = scene.told();
    assert_eq!(scene.tells_in(Duration::from_secs(3_600), "they"), []);
    for id in [waits, holds] {
        scene.release(id);
    }
    let release = scene.sends(Action::Release, &["b"]);
    scene.confirms(&release);
    scene.decides([freed(waits), freed(holds)]);
}
