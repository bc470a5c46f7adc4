//! An attempt behind others of the same engine is told who has the lock.

use crate::scenario::*;
use lock_core::{
    Action, Config, Engine, Event, Holder, LockId, Mode, NotAcquired, Outcome, Reply, Request,
    SessionName, Timing, advisory,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn waiting(id: LockId, holder: &Holder) -> Event {
    Event::Waiting { id, of: None, holder: Some(holder.clone()), withheld: false }
}

#[test]
fn a_waiter_behind_the_own_hold_is_told_at_once_and_at_the_end() {
    let (mut scene, _) = Scenario::held();
    let since = scene.now;
    let second = scene.acquire_for("a", SECOND * 2);
    scene.tells([waiting(second, &own_hold(since, since))]);
    scene.sleep(SECOND);
    let third = scene.acquire_for("a", SECOND * 2);
    scene.tells([waiting(third, &own_hold(scene.now, since))]);
    scene.sleep(SECOND);
    let why = NotAcquired::TimedOut(Some(own_hold(scene.now, since)));
    scene.tells([not_acquired(second, why)]);
    scene.sleep(SECOND);
    let why = NotAcquired::TimedOut(Some(own_hold(scene.now, since)));
    scene.tells([not_acquired(third, why)]);
}

#[test]
fn an_attempt_that_does_not_wait_is_told_at_its_end_who_is_ahead() {
    let (mut scene, _) = Scenario::held();
    let holder = own_hold(scene.now, scene.now);
    let id = scene.acquire_once("a", TTL);
    scene.tells([not_acquired(id, NotAcquired::Busy(Some(holder.clone())))]);
    let id = scene.acquire_for("a", Duration::ZERO);
    scene.tells([not_acquired(id, NotAcquired::TimedOut(Some(holder)))]);
}

#[test]
fn waiters_in_the_queue_are_told_when_the_first_is_granted() {
    let (mut scene, first, claim) = Scenario::claiming();
    let [second, third] = ["a"; 2].map(|text| scene.acquire(text));
    scene.tells_nothing();
    scene.sleep(TRIP);
    scene.grants(&claim);
    let deadline = claim.at.after(VALID);
    let holder = own_hold(scene.now, scene.now);
    scene.tells([
        Event::Granted { id: first, fence: FENCE, deadline },
        waiting(second, &holder),
        waiting(third, &holder),
    ]);
}

#[test]
fn waiters_in_the_queue_are_told_when_the_first_is_denied_and_later_changes_are_the_fronts() {
    let (mut scene, first, claim) = Scenario::claiming();
    let one = holder("one", TTL);
    let second = scene.acquire_for("a", SECOND * 5);
    scene.sleep(TRIP);
    scene.denies_for(&claim, one.clone());
    scene.tells([waiting(first, &one), waiting(second, &one)]);
    // Somebody who comes later is told at once.
    let third = scene.acquire("a");
    scene.tells([waiting(third, &one)]);
    let two = holder("two", TTL);
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["a"]);
    scene.denies_for(&look, two.clone());
    scene.tells([waiting(first, &two)]);
    // At the end it is the holder by then.
    scene.now = START.after(SECOND * 5);
    scene.engine.handle_timeout(scene.now);
    scene.tells([not_acquired(second, NotAcquired::TimedOut(Some(two.clone())))]);
    let look = scene.sends(Action::Probe, &["a"]);
    // In front, it was told of another holder.
    scene.release(first);
    scene.denies_for(&look, two.clone());
    scene.tells([freed(first)]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies_for(&claim, two.clone());
    scene.tells([waiting(third, &two)]);
}

#[test]
fn a_waiter_that_comes_to_the_front_is_not_told_the_same_again() {
    let (mut scene, first, claim) = Scenario::claiming();
    let one = holder("one", TTL);
    let second = scene.acquire("a");
    scene.denies_for(&claim, one.clone());
    scene.tells([waiting(first, &one), waiting(second, &one)]);
    scene.release(first);
    scene.tells([freed(first)]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies_for(&claim, one.clone());
    scene.tells_nothing();
    let (look, two) = (scene.looks(), holder("two", TTL));
    scene.denies_for(&look, two.clone());
    scene.tells([waiting(second, &two)]);
}

/// The server does not say who; the engine knows when it is one of its own.
#[test]
fn a_waiter_that_was_told_of_nobody_is_told_of_the_first_holder_with_a_name() {
    let (mut scene, first, claim) = Scenario::claiming();
    let second = scene.acquire("a");
    scene.sleep(TRIP);
    scene.denies(&claim);
    let nobody = |id| Event::Waiting { id, of: None, holder: None, withheld: false };
    scene.tells([nobody(first), nobody(second)]);
    let third = scene.acquire("a");
    scene.tells([nobody(third)]);
    let claim = scene.looks_and_claims();
    scene.sleep(TRIP);
    scene.grants(&claim);
    let deadline = claim.at.after(VALID);
    let holder = own_hold(scene.now, scene.now);
    scene.tells([
        Event::Granted { id: first, fence: FENCE, deadline },
        waiting(second, &holder),
        waiting(third, &holder),
    ]);
    scene.release(first);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(first)]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.grants(&claim);
    // The label is the same.
    let deadline = claim.at.after(VALID);
    scene.tells([Event::Granted { id: second, fence: FENCE, deadline }]);
}

#[test]
fn nobody_is_told_of_a_holder_while_the_first_is_in_trouble() {
    let (mut scene, first, claim) = Scenario::claiming();
    scene.fails(&claim, not_sent());
    scene.tells([Event::Trouble { id: first, failure: not_sent() }]);
    let second = scene.acquire("a");
    scene.tells_nothing();
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    let one = holder("one", TTL);
    scene.denies_for(&claim, one.clone());
    scene.tells([waiting(first, &one), waiting(second, &one)]);
}

/// A lock that is being freed may be anybody's next.
#[test]
fn a_waiter_behind_a_release_is_told_of_the_next_holder() {
    let (mut scene, first, release) = Scenario::releasing();
    let second = scene.acquire("a");
    let third = scene.acquire("a");
    scene.tells_nothing();
    scene.confirms(&release);
    scene.tells([freed(first)]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let one = holder("one", TTL);
    scene.denies_for(&claim, one.clone());
    scene.tells([waiting(second, &one), waiting(third, &one)]);
}

// -- what is found free --------------------------------------------------------------------------

#[test]
fn a_holder_that_is_gone_is_not_named_at_the_end() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", SECOND * 5);
    let second = scene.acquire_for("a", SECOND * 5 - NANO);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let one = holder("one", TTL);
    scene.denies_for(&claim, one.clone());
    scene.tells([waiting(id, &one), waiting(second, &one)]);
    let look = scene.looks();
    scene.sleep_until(START.after(SECOND * 5 - NANO * 2));
    scene.is_free(&look);
    for id in [second, id] {
        scene.sleep(NANO);
        scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
    }
}

#[test]
fn a_holder_that_is_said_to_have_gone_is_not_named_at_the_end() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", SECOND * 5);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let one = holder("one", TTL);
    scene.denies_for(&claim, one.clone());
    scene.tells([waiting(id, &one)]);
    scene.now = START.after(SECOND * 5 - NANO);
    scene.engine.handle_hint(scene.now, &name("a"));
    scene.sleep(NANO);
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
}

// -- sharing -------------------------------------------------------------------------------------

/// Grants what is due.
fn grant_all(engine: &mut Engine, now: lock_core::Instant) {
    while let Some(dispatch) = engine.poll_request(now) {
        let reply = match &dispatch.request {
            Request::Open { .. } => Reply::Opened(SessionName::default()),
            Request::Acquire { claims, .. } => {
                Reply::Outcomes(vec![Outcome::Granted(FENCE); claims.len()])
            }
            Request::Release { claims: leases, .. } => {
                Reply::Outcomes(vec![Outcome::Done; leases.len()])
            }
            other => panic!("{other:?}"),
        };
        engine.handle_reply(now, dispatch.id, Ok(reply));
    }
}

/// The labels that waiters were told of, and who they are.
fn labels(engine: &mut Engine) -> Vec<(LockId, String)> {
    let told = std::iter::from_fn(|| engine.poll_event());
    told.filter_map(|event| match event {
        Event::Waiting { id, of: None, holder: Some(holder), withheld: false } => {
            Some((id, holder.label))
        }
        Event::Waiting { .. } => panic!("{event:?}"),
        _ => None,
    })
    .collect()
}

#[test]
fn a_waiter_behind_sharers_is_told_of_the_first_that_stays() {
    let capabilities = advisory::capabilities(advisory::WAITING, Some("me"));
    let mut engine = Engine::new(capabilities, Config::new(Timing::default(), 42));
    let sharers = [(); 2].map(|()| engine.acquire_as(START, name("a"), Mode::Shared, false, None));
    grant_all(&mut engine, START);
    assert_eq!(labels(&mut engine), []);
    engine.release(START, sharers[0]);
    let release = engine.poll_request(START).expect("a release");
    // The next ahead of it holds the lock; of the others, the one in front is leaving.
    let waiters =
        [(); 2].map(|()| engine.acquire_as(START, name("a"), Mode::Exclusive, false, None));
    assert_eq!(labels(&mut engine), [(waiters[0], "me".to_string())]);
    engine.handle_reply(START, release.id, Ok(Reply::Outcomes(vec![Outcome::Done])));
    assert_eq!(labels(&mut engine), [(waiters[1], "me".to_string())]);
}
