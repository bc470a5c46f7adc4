//! A server that tells nothing: who waits looks, and claims what it finds free.

use crate::scenario::*;
use lock_core::{Action, Event, Holder, NotAcquired, Outcome, Place, Reply, Turn};
use std::time::Duration;

/// How long a lease in the way lasts.
const LEFT: Duration = Duration::from_secs(20);

/// Somebody who has just got the lock, and our place in the line.
fn next_holder(place: Option<Place>) -> Holder {
    but(holder("somebody", LEFT), |it| (it.held_for, it.place) = (NANO, place))
}

fn at(ticket: u64, ahead: u64) -> Option<Place> {
    Some(Place { ticket, ahead })
}

/// It looks again: when, and what.
fn looks(scene: &mut Scenario) -> Sent {
    scene.sleeps();
    scene.sends(Action::Probe, &["a"])
}

/// An attempt that was denied by its first claim.
fn denied(place: Option<Place>) -> (Scenario, lock_core::LockId) {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep(TRIP);
    scene.denies_for(&claim, next_holder(place));
    scene.told();
    (scene, id)
}

/// How long a turn takes.
const TURN: Duration = Duration::from_millis(100);

/// How long a turn is believed to take at first, at most.
const BELIEVED: Duration = Duration::from_millis(2);

/// How long it sleeps until the next look with so many ahead of it.
fn pause_at(ahead: u64) -> Duration {
    let (mut scene, _) = denied(at(100, ahead + 1));
    let look = looks(&mut scene);
    // It sees the line move.
    scene.now = START.after(TRIP + TURN);
    scene.denies_for(&look, next_holder(at(100, ahead)));
    let seen = scene.now;
    let look = looks(&mut scene);
    assert_eq!(look.request.claims()[0].turn, Turn::Of(Some(100)));
    look.at.since(seen)
}

#[test]
fn whoever_is_further_behind_looks_less_often() {
    let next = pause_at(0);
    assert!(next <= TURN / 6 && next >= TRIP, "{next:?}");
    for ahead in [1, 2, 4, 7, 16, 64] {
        let (pause, turns) = (pause_at(ahead), u32::try_from(ahead).expect("few"));
        // It has seen one turn only, and does not believe that the next takes as long.
        let most = (BELIEVED * turns).max(TURN / 8);
        assert!(pause <= most && pause >= most / 2, "{ahead}: {pause:?}");
    }
}

/// The first turns may be slow because all begin at once.
#[test]
fn a_slow_pace_is_believed_step_by_step() {
    let (mut scene, _) = denied(at(100, 65));
    let mut look = looks(&mut scene);
    scene.now = START.after(TRIP + TURN);
    let mut holder = next_holder(at(100, 64));
    for step in [1, 2, 4, 8] {
        scene.denies_for(&look, holder.clone());
        let seen = scene.now;
        look = looks(&mut scene);
        // No more than a third of what is ahead, nor than a second.
        let most = (BELIEVED * 64 * step).min(Duration::from_secs(1));
        let pause = look.at.since(seen);
        assert!(pause <= most && pause >= most / 8 * 7, "{step}: {pause:?}");
        holder.held_for += pause + TRIP * 2;
    }
}

#[test]
fn nobody_sleeps_for_more_than_a_second_or_than_those_ahead_have_to_claim() {
    for (ahead, most) in [(7, 1), (1_000, 1), (1_000_000, 1)] {
        assert!(pause_at(ahead) <= Duration::from_secs(most));
    }
    let (mut scene, _) = denied(at(1_000, 900));
    let look = looks(&mut scene);
    scene.now = START.after(Duration::from_secs(15));
    scene.denies_for(&look, next_holder(at(1_000, 899)));
    let seen = scene.now;
    // Ten graces, of a quarter of a second each.
    assert!(looks(&mut scene).at.since(seen) <= Duration::from_millis(2_501));
}

#[test]
fn what_is_left_to_those_ahead_is_asked_for_again_once_they_had_the_time() {
    let (mut scene, id) = denied(at(9, 3));
    let look = looks(&mut scene);
    let reserved = Outcome::Reserved(Place { ticket: 9, ahead: 3 });
    scene.answers(&look, Ok(Reply::one(reserved)));
    scene.tells_nothing();
    let look = looks(&mut scene);
    scene.is_free(&look);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: claim.at.after(VALID) }]);
}

/// As a newcomer, who has drawn its first ticket.
#[test]
fn a_claim_may_find_that_the_lock_is_left_to_others() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.answers(&claim, Ok(Reply::one(Outcome::Reserved(Place { ticket: 9, ahead: 3 }))));
    scene.tells([Event::Waiting { id, of: None, holder: None, withheld: false }]);
    looks(&mut scene);
}

#[test]
fn who_does_not_wait_takes_what_is_free_whoever_waits() {
    let mut scene = Scenario::new();
    scene.acquire_once("a", TRIP * 9);
    let claim = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(claim.request.claims()[0].turn, Turn::Any);
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
    let (mut scene, _) = denied(None);
    const TURN: Duration = Duration::from_millis(400);
    let taken = scene.now;
    // It sees the next holder soon after the turn, whenever that is.
    let second = loop {
        let look = looks(&mut scene);
        scene.sleep(TRIP);
        let held_for = scene.now.since(taken).max(NANO);
        if held_for >= TURN {
            scene.denies_for(&look, next_holder(None));
            break scene.now;
        }
        scene.denies_for(&look, but(next_holder(None), |it| it.held_for = held_for));
    };
    let turn = second.since(taken);
    let mut last = second;
    let mut gaps = Vec::new();
    while scene.now.since(second) < turn * 4 {
        let look = looks(&mut scene);
        gaps.push((scene.now.since(second), scene.now.since(last)));
        last = scene.now;
        let held_for = scene.now.since(second).max(NANO);
        scene.denies_for(&look, but(next_holder(None), |it| it.held_for = held_for));
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
