//! When the wait for a lock is over.

use crate::scenario::*;
use lock_core::{Action, Event, LockId, NotAcquired};
use std::time::Duration;

#[test]
fn a_wait_that_runs_out_says_who_was_in_the_way() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP * 2);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    let somebody = holder("somebody", TTL);
    scene.denies_for(&claim, somebody.clone());
    scene.tells([Event::Waiting { id, of: None, holder: Some(somebody.clone()), withheld: false }]);
    scene.sleep(TRIP - NANO);
    scene.tells_nothing();
    scene.sleep(NANO);
    scene.tells([not_acquired(id, NotAcquired::TimedOut(Some(somebody)))]);
    scene.is_over();
}

#[test]
fn a_wait_of_no_time_gets_one_answer() {
    for somebody in [None, Some(holder("somebody", TTL))] {
        let mut scene = Scenario::new();
        let id = scene.acquire_for("a", Duration::ZERO);
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.sleep(TRIP);
        if let Some(somebody) = somebody {
            scene.denies_for(&claim, somebody.clone());
            scene.tells([not_acquired(id, NotAcquired::TimedOut(Some(somebody)))]);
            scene.is_over();
        } else {
            scene.grants(&claim);
            scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
        }
    }
}

#[test]
fn a_wait_with_no_answer_goes_on_for_the_time_of_two_requests() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let mut last = START;
    while scene.engine.attempts() > 0 {
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.fails(&claim, not_sent());
        last = scene.now;
        scene.sleeps();
    }
    assert_eq!(scene.now, START.after(TRIP).after(PATIENCE));
    assert_eq!(PATIENCE, scene.engine.timing().answer_grace());
    assert!(scene.now.since(last) <= Duration::from_secs(1), "it is tried until then");
    let told = scene.told();
    assert_eq!(told.last(), Some(&not_acquired(id, NotAcquired::Failed(not_sent()))));
    scene.is_over();
}

#[test]
fn a_wait_runs_out_though_the_claim_hangs() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleeps();
    assert_eq!(scene.now, START.after(TRIP).after(PATIENCE));
    scene.tells_unanswered(id);
    scene.sends_nothing();
    assert_eq!((scene.engine.attempts(), scene.engine.poll_timeout()), (1, None));
    // Denied: there was nothing to free.
    scene.denies(&claim);
    scene.is_over();
}

#[test]
fn a_grant_after_the_wait_ran_out_is_freed_and_not_told() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP + PATIENCE);
    scene.grants(&claim);
    scene.tells_unanswered(id);
    let release = scene.sends(Action::Release, &["a"]);
    assert_eq!(release.owner(), claim.owner());
    scene.confirms(&release);
    scene.is_over();
}

/// Denied once; its second claim left before the wait ran out at `START + 1 s`, which it now has.
fn in_between() -> (Scenario, LockId, Sent) {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", Duration::from_secs(1));
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies(&claim);
    scene.tells([Event::Waiting { id, of: None, holder: None, withheld: false }]);
    let claim = scene.looks_and_claims();
    scene.sleep_until(START.after(Duration::from_secs(1)));
    scene.tells_nothing();
    (scene, id, claim)
}

#[test]
fn a_claim_under_way_when_the_wait_runs_out_is_still_of_use() {
    let (mut scene, id, claim) = in_between();
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: claim.at.after(VALID) }]);

    let (mut scene, id, claim) = in_between();
    scene.denies(&claim);
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
    scene.is_over();

    let (mut scene, id, claim) = in_between();
    scene.fails(&claim, not_sent());
    let failed = not_acquired(id, NotAcquired::Failed(not_sent()));
    scene.tells([Event::Trouble { id, failure: not_sent() }, failed]);
    scene.is_over();

    // But not for ever.
    let (mut scene, id, claim) = in_between();
    scene.sleep(PATIENCE);
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
    scene.denies(&claim);
    scene.is_over();
}

#[test]
fn after_a_pause_the_end_of_the_wait_comes_first() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.now = START.after(TRIP).after(PATIENCE);
    scene.grants(&claim);
    scene.tells_unanswered(id);
    scene.sends(Action::Release, &["a"]);
}

#[test]
fn trouble_before_a_denial_is_no_reason_for_the_end() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.fails(&claim, not_sent());
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies(&claim);
    scene.told();
    scene.sleep_until(START.after(TRIP));
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
    scene.is_over();
}

#[test]
fn a_hint_does_not_prolong_a_wait() {
    let (mut scene, id) = Scenario::waiting();
    scene.release(id);
    scene.tells([freed(id)]);
    let id = scene.acquire_for("a", TRIP * 2);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.denies(&claim);
    scene.tells([Event::Waiting { id, of: None, holder: None, withheld: false }]);
    scene.now = scene.now.after(TRIP);
    scene.engine.handle_hint(scene.now, &name("a"));
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
    scene.is_over();
}

#[test]
fn a_waiter_without_a_limit_has_no_timer() {
    let (mut scene, _, claim) = Scenario::claiming();
    assert_eq!(scene.engine.poll_timeout(), None);
    scene.sleep(TTL * 1000);
    scene.tells_nothing();
    scene.fails(&claim, not_sent());
    assert!(matches!(scene.told()[..], [Event::Trouble { .. }]));
    scene.sleeps();
    scene.sends(Action::Acquire, &["a"]);
}
