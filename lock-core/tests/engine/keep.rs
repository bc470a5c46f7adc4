//! Locks that stay taken for a while after their release.

use crate::scenario::*;
use lock_core::{
    Action, Engine, Event, LockId, Outcome, Release, Reply, Request, advisory, consul, table,
};
use std::time::Duration;

const KEEP: Option<Duration> = Some(Duration::from_secs(60));

fn kept_for(sent: &Sent) -> Option<Duration> {
    match sent.request {
        Request::Keep { keep, .. } => Some(keep),
        _ => None,
    }
}

fn release(scene: &mut Scenario, id: LockId) -> Sent {
    scene.engine.release_after(scene.now, id, KEEP);
    scene.sends(Action::Release, &["a"])
}

#[test]
fn a_lock_is_kept_by_its_release_and_its_caller_is_told_that_it_is_released() {
    let (mut scene, id) = Scenario::held();
    let sent = release(&mut scene, id);
    assert_eq!(kept_for(&sent), KEEP);
    assert_eq!(scene.engine.held_until(id), None, "from now on it is not held");
    scene.confirms(&sent);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_release_without_an_answer_is_repeated_and_says_the_same() {
    let (mut scene, id) = Scenario::held();
    let sent = release(&mut scene, id);
    scene.fails(&sent, unknown());
    scene.sleeps();
    let again = scene.sends(Action::Release, &["a"]);
    assert_eq!((kept_for(&again), again.owner()), (KEEP, sent.owner()));
    // The first has done it.
    scene.disowns(&again);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_lock_that_was_lost_is_kept_if_it_is_still_ours() {
    let (mut scene, id) = Scenario::held();
    scene.sleep(VALID);
    assert!(matches!(scene.told()[..], [Event::Lost { .. }]));
    let sent = release(&mut scene, id);
    assert_eq!(kept_for(&sent), KEEP);
    scene.disowns(&sent);
    scene.tells([Event::Released { id, release: Release::NotOurs }]);
    scene.is_over();
}

#[test]
fn a_lock_whose_caller_was_told_of_no_grant_is_freed() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.engine.release_after(scene.now, id, KEEP);
    scene.sends_nothing();
    scene.grants(&claim);
    let sent = scene.sends(Action::Release, &["a"]);
    assert_eq!(kept_for(&sent), None);
    scene.confirms(&sent);
    scene.tells([freed(id)]);
    scene.is_over();
}

/// So a place that does not know them gets no such request.
#[test]
fn nothing_is_kept_where_that_is_not_known() {
    assert!(!consul::capabilities("me").keeps && !advisory::capabilities(1, None).keeps);
    let mut capabilities = table::capabilities("me", false);
    assert!(std::mem::replace(&mut capabilities.keeps, false));
    let mut scene = Scenario::new();
    scene.engine = Engine::new(capabilities, config());
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.told();
    let sent = release(&mut scene, id);
    assert_eq!(kept_for(&sent), None);
    scene.confirms(&sent);
    scene.tells([freed(id)]);
    scene.is_over();
}

/// A request is about one time. What is freed goes by itself, and so does what is kept for another time.
#[test]
fn locks_that_are_kept_for_the_same_time_share_a_request() {
    let mut scene = Scenario::new();
    let ids = ["a", "b", "c", "d"].map(|text| scene.acquire(text));
    let claim = scene.sends(Action::Acquire, &["a", "b", "c", "d"]);
    scene.grants(&claim);
    scene.told();
    let other = Some(Duration::from_secs(5));
    for (id, keep) in ids.into_iter().zip([KEEP, None, KEEP, other]) {
        scene.engine.release_after(scene.now, id, keep);
    }
    for (names, keep) in [(&["a", "c"][..], KEEP), (&["b"], None), (&["d"], other)] {
        let sent = scene.sends(Action::Release, names);
        assert_eq!(kept_for(&sent), keep);
        scene.confirms(&sent);
        scene.told();
    }
    scene.is_over();
}

/// Of several locks, none is kept before the caller has all.
#[test]
fn several_locks_are_kept_together_once_all_were_granted() {
    let names = || ["a", "b"].map(name).into();
    let mut scene = Scenario::new();
    let id = scene.engine.acquire_all(scene.now, names(), false, None);
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.answers(&claim, Ok(Reply::Outcomes(vec![Outcome::Granted(FENCE), Outcome::Busy(None)])));
    scene.told();
    scene.engine.release_after(scene.now, id, KEEP);
    let back = scene.sends(Action::Release, &["a"]);
    assert_eq!(kept_for(&back), None);
    scene.confirms(&back);
    scene.told();
    let id = scene.engine.acquire_all(scene.now, names(), false, None);
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.grants(&claim);
    scene.told();
    scene.engine.release_after(scene.now, id, KEEP);
    let kept = scene.sends(Action::Release, &["a", "b"]);
    assert_eq!(kept_for(&kept), KEEP);
    scene.confirms(&kept);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_permit_is_kept_as_any_lock() {
    let mut scene = Scenario::new();
    let permits = name("a").permits(2).expect("good");
    let id = scene.engine.acquire_any(scene.now, permits, false, None);
    let claim = scene.sends_any();
    scene.grants(&claim);
    scene.told();
    scene.engine.release_after(scene.now, id, KEEP);
    let kept = scene.sends_any();
    assert_eq!(kept_for(&kept), KEEP);
    scene.confirms(&kept);
    scene.tells([freed(id)]);
    scene.is_over();
}

/// The engine's own next attempt waits like any other, until the time that the server tells.
#[test]
fn the_next_attempt_of_the_same_engine_waits_for_the_end() {
    let (mut scene, id) = Scenario::held();
    let sent = release(&mut scene, id);
    scene.confirms(&sent);
    scene.tells([freed(id)]);
    let next = scene.acquire_once("a", Duration::ZERO);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let kept = but(holder("me", Duration::from_secs(50)), |it| it.kept = true);
    scene.denies_for(&claim, kept.clone());
    scene.tells([not_acquired(next, lock_core::NotAcquired::Busy(Some(kept)))]);
    scene.is_over();
}
