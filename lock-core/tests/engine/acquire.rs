//! From a claim to a grant, or not.

use crate::scenario::*;
use lock_core::{Action, Event, Failure, Instant, NotAcquired, Outcome, Reply, Request};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn a_free_name_is_granted_by_one_command() {
    let mut scene = Scenario::new();
    let id = scene.acquire("a");
    assert_eq!(scene.engine.held_until(id), None);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let Request::Acquire { ttl, label: holder, .. } = &claim.request else { panic!("not a claim") };
    assert_eq!((*ttl, &**holder), (TTL, "me"));
    assert_eq!(claim.deadline, START.after(scene.engine.timing().request()));
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    assert_eq!(scene.engine.held_until(id), Some(START.after(VALID)));
}

#[test]
fn a_lease_counts_from_the_send_and_not_from_the_reply() {
    let mut scene = Scenario::new();
    let id = scene.acquire("a");
    scene.sleep(Duration::from_secs(2));
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(Duration::from_secs(3));
    scene.grants(&claim);
    let deadline = START.after(Duration::from_secs(2)).after(VALID);
    scene.tells([Event::Granted { id, fence: FENCE, deadline }]);
    scene.sends_nothing();
    assert_eq!(scene.engine.poll_timeout(), Some(claim.at.after(RENEW)), "so does its renewal");
}

#[test]
fn a_grant_counts_until_a_nanosecond_before_its_deadline() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep_until(START.after(VALID).before(NANO));
    scene.grants(&claim);
    // So little is left of it that it is renewed before anybody is told.
    scene.tells_nothing();
    assert_eq!(scene.engine.held_until(id), None);
    let renewal = scene.sends(Action::Renew, &["a"]);
    assert_eq!(renewal.deadline, START.after(VALID), "no longer than it has");
    scene.confirms(&renewal);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: renewal.at.after(VALID) }]);
}

#[test]
fn a_late_grant_that_cannot_be_renewed_is_claimed_again() {
    let (mut scene, _, claim) = Scenario::claiming();
    scene.sleep(RENEW);
    scene.grants(&claim);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.fails(&renewal, not_sent());
    scene.sleep_until(START.after(VALID));
    let [Event::Trouble { .. }, Event::Trouble { .. }] = scene.told()[..] else {
        panic!("nobody has it")
    };
    scene.sleeps();
    let again = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(again.owner(), claim.owner(), "the server may hold it for this owner");
}

/// The lease was over for a moment, in which somebody else may have had it. Then a request of ours that was given up took it
/// again, with another fence, and that is what the renewal met.
#[test]
fn a_late_grant_whose_renewal_is_late_as_well_is_claimed_again() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep(RENEW);
    scene.grants(&claim);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.sleep_until(START.after(VALID));
    scene.confirms(&renewal);
    let [Event::Trouble { .. }] = scene.told()[..] else { panic!("it is told of") };
    assert_eq!(scene.engine.held_until(id), None);
    scene.sleeps();
    let again = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(again.owner(), claim.owner(), "the server holds it for this owner");
    scene.grants(&again);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: again.at.after(VALID) }]);
}

#[test]
fn a_late_grant_that_is_not_renewed_before_the_wait_is_over_is_freed() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", RENEW + TRIP - PATIENCE);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(RENEW);
    scene.grants(&claim);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.sleep(TRIP);
    scene.tells_unanswered(id);
    scene.fails(&renewal, not_sent());
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.is_over();
}

#[test]
fn a_grant_that_arrives_at_its_deadline_is_none_and_is_claimed_again() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep_until(START.after(VALID));
    scene.grants(&claim);
    let [Event::Trouble { failure: Failure::Unknown(_), .. }] = scene.told()[..] else {
        panic!("granted too late")
    };
    assert_eq!(scene.engine.held_until(id), None);
    scene.sleeps();
    let again = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(again.owner(), claim.owner(), "the server may hold it for this owner");
    scene.grants(&again);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: again.at.after(VALID) }]);
}

#[test]
fn a_grant_that_arrives_at_its_deadline_when_the_wait_is_over_is_freed() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", VALID - PATIENCE);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(VALID);
    scene.grants(&claim);
    scene.tells_unanswered(id);
    let release = scene.sends(Action::Release, &["a"]);
    assert_eq!(release.owner(), claim.owner());
    scene.confirms(&release);
    scene.is_over();
}

#[test]
fn an_unknown_claim_is_made_again_by_the_same_owner() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, unknown());
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.sleeps();
    let again = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(again.owner(), claim.owner());
    assert_ne!(again.id, claim.id);
    scene.grants(&again);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: again.at.after(VALID) }]);
}

#[test]
fn what_may_pass_is_tried_again_after_a_while() {
    for failure in [not_sent(), unknown(), deadlock()] {
        let (mut scene, id, claim) = Scenario::claiming();
        scene.fails(&claim, failure.clone());
        scene.tells([Event::Trouble { id, failure }]);
        scene.sleeps();
        scene.sends(Action::Acquire, &["a"]);
    }
}

#[test]
fn a_refusal_ends_the_attempt_at_once() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, refused());
    scene.tells([not_acquired(id, NotAcquired::Failed(refused()))]);
    scene.is_over();
}

#[test]
fn a_refusal_after_an_unknown_claim_frees_what_that_may_hold() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, unknown());
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.sleeps();
    let again = scene.sends(Action::Acquire, &["a"]);
    scene.fails(&again, refused());
    scene.tells([not_acquired(id, NotAcquired::Failed(refused()))]);
    let release = scene.sends(Action::Release, &["a"]);
    assert_eq!(release.owner(), claim.owner());
    scene.disowns(&release);
    scene.is_over();
}

#[test]
fn a_reply_with_the_wrong_count_or_kind_is_never_a_grant() {
    let granted = Outcome::Granted(FENCE);
    for reply in [
        Reply::Outcomes(vec![]),
        Reply::Outcomes(vec![granted.clone(), granted]),
        Reply::Outcomes(vec![Outcome::Done]),
        Reply::Outcomes(vec![Outcome::NotOwner]),
    ] {
        let (mut scene, id, claim) = Scenario::claiming();
        scene.answers(&claim, Ok(reply));
        let [Event::Trouble { failure: Failure::Unknown(_), .. }] = scene.told()[..] else {
            panic!("that was no answer")
        };
        // Nothing is known: it may hold the lock, and giving it up frees it.
        scene.release(id);
        let release = scene.sends(Action::Release, &["a"]);
        scene.confirms(&release);
        scene.tells([freed(id)]);
    }
}

#[test]
fn a_second_answer_to_a_command_is_ignored() {
    let (mut scene, id) = Scenario::waiting();
    let claim = scene.looks_and_claims();
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: claim.at.after(VALID) }]);
    let before = scene.engine.clone();
    scene.denies(&claim);
    scene.disowns(&claim);
    scene.fails(&claim, refused());
    assert_eq!(scene.engine, before);
}

#[test]
fn an_answer_to_a_command_that_never_left_is_ignored() {
    let (mut other, _, _) = Scenario::claiming();
    other.sleep(TRIP);
    let (mut elsewhere, _) = Scenario::waiting();
    let second = elsewhere.looks_and_claims();
    let before = other.engine.clone();
    other.grants(&second);
    assert_eq!(other.engine, before);
}

#[test]
fn every_attempt_has_an_owner_of_its_own() {
    let mut owners = BTreeSet::new();
    for seed in [1, 1 << 64] {
        let mut scene = Scenario::with(lock_core::Config { seed, ..config() });
        for turn in 0..300 {
            let id = scene.acquire(["a", "b", "c"][turn % 3]);
            let claim = scene.sends_any();
            assert!(owners.insert(claim.owner()), "an owner was used twice");
            scene.denies(&claim);
            scene.release(id);
            assert_eq!(scene.told().last(), Some(&freed(id)));
        }
    }
}

#[test]
fn who_will_not_wait_is_told_at_the_first_denial() {
    let mut scene = Scenario::new();
    let id = scene.acquire_once("a", TTL);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let somebody = holder("somebody", TTL);
    scene.denies_for(&claim, somebody.clone());
    scene.tells([not_acquired(id, NotAcquired::Busy(Some(somebody)))]);
    scene.is_over();
}

#[test]
fn who_will_not_wait_for_a_holder_waits_for_the_server() {
    let mut scene = Scenario::new();
    let id = scene.acquire_once("a", Duration::from_secs(1));
    let mut claims = 0;
    while scene.engine.attempts() > 0 {
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.fails(&claim, not_sent());
        claims += 1;
        scene.sleeps();
    }
    assert!(claims > 3);
    let told = scene.told();
    assert_eq!(told.last(), Some(&not_acquired(id, NotAcquired::Failed(not_sent()))));
    assert_eq!(told.len(), claims + 1, "one trouble for each claim");
    assert_eq!(scene.now, START.after(Duration::from_secs(1)).after(PATIENCE));
    scene.is_over();
}

#[test]
fn a_clock_near_its_end_overflows_nothing() {
    let mut scene = Scenario::new();
    scene.now = Instant::from_nanos(u64::MAX - 1_000);
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    let end = Instant::from_nanos(u64::MAX);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: end }]);
    scene.sleep_until(end);
    assert!(matches!(scene.told()[..], [Event::Lost { .. }]), "at the end of time");
}

/// Nobody is known to have it: its last holder's session was lost, say.
#[test]
fn what_the_server_does_not_give_away_yet_is_nobodys() {
    for once in [true, false] {
        let mut scene = Scenario::new();
        let id = if once { scene.acquire_once("a", TTL) } else { scene.acquire_for("a", TRIP) };
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.sleep(TRIP);
        scene.answers(&claim, Ok(Reply::one(Outcome::Delayed)));
        scene.tells([not_acquired(id, NotAcquired::Withheld)]);
        scene.is_over();
    }
    // Until it is.
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TTL);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let waiting = |withheld| Event::Waiting { id, of: None, holder: None, withheld };
    scene.answers(&claim, Ok(Reply::one(Outcome::Delayed)));
    scene.tells([waiting(true)]);
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.answers(&claim, Ok(Reply::one(Outcome::Busy(None))));
    scene.tells([waiting(false)]);
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["a"]);
    scene.sleep(TTL);
    scene.answers(&look, Ok(Reply::one(Outcome::Busy(None))));
    scene.tells([not_acquired(id, NotAcquired::TimedOut(None))]);
    scene.is_over();
}
