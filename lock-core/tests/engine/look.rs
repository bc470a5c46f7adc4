//! A server that tells nothing: who waits looks, and claims what it finds free.

use crate::scenario::*;
use lock_core::{Action, Event, Holder, NotAcquired};
use std::time::Duration;

/// How long a lease in the way lasts.
const LEFT: Duration = Duration::from_secs(20);

/// Somebody who has just got the lock.
fn next_holder(wanted: bool) -> Holder {
    but(holder("somebody", LEFT), |it| (it.held_for, it.wanted) = (Duration::ZERO, wanted))
}

/// It looks again: when, and what.
fn looks(scene: &mut Scenario) -> Sent {
    scene.sleeps();
    scene.sends(Action::Probe, &["a"])
}

/// An attempt that was denied by its first claim, as the first to wait or not.
fn denied(wanted: bool) -> (Scenario, lock_core::LockId) {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep(TRIP);
    scene.denies_for(&claim, next_holder(wanted));
    scene.told();
    (scene, id)
}

/// For how long it is held back from claiming what it sees to be free.
fn held_back(scene: &mut Scenario) -> Duration {
    let look = looks(scene);
    scene.sleep(TRIP);
    scene.is_free(&look);
    let at = scene.now;
    if !scene.engine.has_work() {
        scene.sleeps();
    }
    let claim = scene.sends(Action::Acquire, &["a"]);
    let back = scene.now.since(at);
    scene.sleep(TRIP);
    scene.denies_for(&claim, next_holder(true));
    back
}

#[test]
fn who_was_the_first_to_wait_claims_at_once_what_it_sees_to_be_free() {
    let (mut scene, id) = denied(false);
    let look = looks(&mut scene);
    // By now it is wanted: by itself.
    scene.denies_for(&look, but(next_holder(true), |it| it.held_for = TRIP * 9));
    let look = looks(&mut scene);
    scene.is_free(&look);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: claim.at.after(VALID) }]);
}

#[test]
fn who_waits_behind_others_is_held_back_the_less_the_more_often_it_was_passed_over() {
    let (mut scene, _) = denied(true);
    let backs: Vec<Duration> = (0..14).map(|_| held_back(&mut scene)).collect();
    assert!(backs[0] >= TRIP * 3 && backs[0] <= TRIP * 6, "{backs:?}");
    let last = backs.iter().position(|back| *back == Duration::ZERO).expect("none in the end");
    // The first few are all the most there is.
    assert!(backs[3..=last].is_sorted_by(|a, b| a > b), "{backs:?}");
    assert!(backs[last..].iter().all(|back| *back == Duration::ZERO), "{backs:?}");
}

#[test]
fn what_is_free_is_claimed_in_vain_no_more_often_than_anything_else() {
    // A replica that has not heard of the holder, or a holder that comes and goes.
    let (mut scene, _) = Scenario::waiting();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let denied = scene.now;
        let claim = scene.looks_and_claims();
        waits.push(scene.now.since(denied));
        scene.denies(&claim);
    }
    assert!(*waits.last().expect("some") >= Duration::from_millis(500), "{waits:?}");
}

#[test]
fn who_has_seen_the_lock_change_hands_looks_often_until_it_should_have_again() {
    let (mut scene, _) = denied(true);
    const TURN: Duration = Duration::from_millis(400);
    let taken = scene.now;
    // It sees the next holder soon after the turn, whenever that is.
    let second = loop {
        let look = looks(&mut scene);
        scene.sleep(TRIP);
        let held_for = scene.now.since(taken);
        if held_for >= TURN {
            scene.denies_for(&look, next_holder(true));
            break scene.now;
        }
        scene.denies_for(&look, but(next_holder(true), |it| it.held_for = held_for));
    };
    let turn = second.since(taken);
    let mut last = second;
    let mut gaps = Vec::new();
    while scene.now.since(second) < turn * 4 {
        let look = looks(&mut scene);
        gaps.push((scene.now.since(second), scene.now.since(last)));
        last = scene.now;
        let held_for = scene.now.since(second);
        scene.denies_for(&look, but(next_holder(true), |it| it.held_for = held_for));
    }
    let soon = gaps.iter().filter(|(at, _)| *at < turn * 2);
    assert!(soon.clone().all(|(_, gap)| *gap <= turn / 4), "{turn:?}: {gaps:?}");
    assert!(soon.count() >= 8, "{turn:?}: {gaps:?}");
    assert!(gaps.iter().any(|(_, gap)| *gap > turn / 4), "it looks less often then: {gaps:?}");
    // After a standstill, it is not asleep for long while others go on.
    assert!(gaps.iter().all(|(at, gap)| *gap <= turn / 4 + *at / 8), "{gaps:?}");
}

#[test]
fn a_look_that_fails_leaves_nothing_to_free() {
    let (mut scene, id) = Scenario::waiting();
    let look = looks(&mut scene);
    scene.fails(&look, unknown());
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_look_that_tells_something_else_is_a_failure() {
    let (mut scene, id) = Scenario::waiting();
    let look = looks(&mut scene);
    scene.grants(&look);
    let [Event::Trouble { id: told, .. }] = scene.told()[..] else { panic!("that was no answer") };
    assert_eq!(told, id);
    looks(&mut scene);
}

#[test]
fn a_wait_runs_out_while_it_looks() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", Duration::from_secs(1));
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies(&claim);
    scene.told();
    let look = looks(&mut scene);
    scene.sleep_until(START.after(Duration::from_secs(1)));
    scene.tells_nothing();
    scene.is_free(&look);
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
    scene.is_over();
}

#[test]
fn looks_leave_together() {
    let mut scene = Scenario::new();
    for name in ["b", "a"] {
        scene.acquire(name);
    }
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.denies(&claim);
    scene.told();
    scene.sleep(TRIP);
    let look = scene.sends(Action::Probe, &["a", "b"]);
    scene.is_free(&look);
    scene.sends(Action::Acquire, &["a", "b"]);
}
