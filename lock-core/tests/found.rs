//! What the engine should do and does not.

#[path = "engine/scenario.rs"]
#[allow(dead_code)]
mod scenario;

use lock_core::{Action, Config, Event, NotAcquired};
use scenario::*;
use std::time::Duration;

/// A wait of no time behind a local holder must end, and now.
#[test]
fn a_wait_that_is_over_at_once_ends_in_the_queue() {
    let (mut scene, _) = Scenario::held();
    let id = scene.acquire_for("a", Duration::ZERO);
    scene.sleep(Duration::from_secs(1));
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
}

/// One reply that took an hour (the machine slept) must not make the waiter sleep for another.
#[test]
fn a_denial_after_a_pause_is_followed_by_a_claim_within_a_second() {
    let (mut scene, _, claim) = Scenario::claiming();
    scene.sleep(Duration::from_secs(3600));
    scene.denies(&claim);
    scene.told();
    let denied = scene.now;
    scene.sleeps();
    assert!(scene.now.since(denied) <= Duration::from_secs(1), "{:?}", scene.now.since(denied));
    scene.sends(Action::Acquire, &["a"]);
}

/// A driver that answers two commands at once: the late answer to a renewal is no answer to the
/// release that left after the lock was lost.
#[test]
fn the_answer_to_a_lost_renewal_does_not_answer_the_release() {
    let mut scene = Scenario::with(Config { in_flight: 2, ..config() });
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.sleep(RENEW);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.sleep_until(START.after(VALID));
    scene.told();
    scene.release(id);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&renewal);
    scene.tells_nothing();
    scene.fails(&release, not_sent());
    scene.tells_nothing();
    assert_eq!(scene.engine.attempts(), 1, "the lease is still to be freed");
}

/// Who will not wait for a holder must not wait for a rival that came before it either.
#[test]
fn who_will_not_wait_is_busy_behind_a_release_and_a_waiter() {
    let (mut scene, first, release) = Scenario::releasing();
    scene.acquire("a");
    let once = scene.acquire_once("a", TTL);
    scene.confirms(&release);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    let told = scene.told();
    assert!(told.contains(&freed(first)));
    assert!(told.contains(&not_acquired(once, NotAcquired::Busy(None))), "it waits on: {told:?}");
}

/// "Nothing is told about it afterwards": the attempt ended with `NotAcquired`.
#[test]
fn a_release_after_the_end_tells_nothing() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.tells_unanswered(id);
    scene.release(id);
    scene.denies(&claim);
    scene.tells_nothing();
}

/// A hint at the end of the wait must not be answered with a claim (and a grant).
#[test]
fn a_hint_does_not_prolong_a_wait() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP * 2);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.denies(&claim);
    scene.told();
    scene.now = START.after(TRIP * 2);
    scene.engine.handle_hint(scene.now, &name("a"));
    scene.sends_nothing();
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
}

/// "Told at the first denial", also when something else went wrong before it.
#[test]
fn the_first_denial_after_trouble_is_told() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, not_sent());
    scene.told();
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies(&claim);
    scene.tells([Event::Waiting { id, holder: None }]);
}

/// A holder whose lease is just ending, and a clock too coarse to see the round trip.
#[test]
fn a_denial_is_never_followed_by_a_claim_at_the_same_instant() {
    let (mut scene, _, claim) = Scenario::claiming();
    scene.denies_for(&claim, holder("somebody", Duration::ZERO));
    scene.told();
    scene.sends_nothing();
}
