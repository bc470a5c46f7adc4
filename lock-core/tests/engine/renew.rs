//! Keeping a lease.

use crate::scenario::*;
use lock_core::{Action, Event, Failure, LostReason, Outcome, Reply, Request};
use std::time::Duration;

#[test]
fn a_renewal_leaves_a_third_of_the_ttl_after_the_claim_left() {
    let (mut scene, _) = Scenario::held();
    scene.sleep_until(START.after(TTL / 3).before(NANO));
    scene.sends_nothing();
    scene.sleep(NANO);
    let renewal = scene.sends(Action::Renew, &["a"]);
    let Request::Renew { ttl, .. } = renewal.request else { panic!("not a renewal") };
    assert_eq!(ttl, TTL);
}

#[test]
fn a_renewal_is_made_by_the_owner_of_the_claim() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    scene.sleep(RENEW);
    let renewal = scene.sends(Action::Renew, &["a"]);
    assert_eq!(renewal.owner(), claim.owner());
}

#[test]
fn a_renewal_counts_from_its_own_request() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleep(Duration::from_secs(3));
    scene.confirms(&renewal);
    let deadline = START.after(RENEW).after(VALID);
    scene.tells([Event::Renewed { id, deadline }]);
    assert_eq!(scene.engine.held_until(id), Some(deadline));
    scene.sends_nothing();
    assert_eq!(scene.engine.poll_timeout(), Some(renewal.at.after(RENEW)));
}

#[test]
fn a_lease_is_renewed_for_as_long_as_the_server_answers() {
    let (mut scene, id) = Scenario::held();
    for period in 1..=100 {
        scene.sleeps();
        assert_eq!(scene.now, START.after(RENEW * period));
        let renewal = scene.sends(Action::Renew, &["a"]);
        scene.sleep(TRIP);
        scene.confirms(&renewal);
        scene.tells([Event::Renewed { id, deadline: renewal.at.after(VALID) }]);
    }
}

#[test]
fn a_failed_renewal_keeps_the_deadline_and_is_tried_again() {
    for failure in [not_sent(), unknown(), deadlock(), refused()] {
        let (mut scene, id, renewal) = Scenario::renewing();
        scene.sleep(TRIP);
        scene.fails(&renewal, failure.clone());
        let deadline = START.after(VALID);
        scene.tells([Event::RenewalFailed { id, failure, deadline }]);
        assert_eq!(scene.engine.held_until(id), Some(deadline));
        let failed = scene.now;
        scene.sleeps();
        assert!(scene.now.since(failed) <= TRIP, "soon");
        let again = scene.sends(Action::Renew, &["a"]);
        assert_eq!(again.owner(), renewal.owner());
        scene.confirms(&again);
        scene.tells([Event::Renewed { id, deadline: again.at.after(VALID) }]);
    }
}

#[test]
fn failed_renewals_are_tried_again_up_to_the_deadline() {
    let (mut scene, id) = Scenario::held();
    let deadline = START.after(VALID);
    let mut renewals = 0;
    scene.sleeps();
    while scene.now < deadline {
        let renewal = scene.sends(Action::Renew, &["a"]);
        assert!(renewal.deadline <= deadline, "no request may outlive the lease");
        scene.fails(&renewal, unknown());
        scene.tells([Event::RenewalFailed { id, failure: unknown(), deadline }]);
        renewals += 1;
        scene.sleeps();
    }
    assert!((15..60).contains(&renewals), "{renewals}: often, and not too often");
    let last_failure = Some(unknown());
    scene.tells([Event::Lost { id, reason: LostReason::Deadline { last_failure } }]);
}

#[test]
fn one_hung_renewal_leaves_room_for_two_more() {
    let (mut scene, id) = Scenario::held();
    let deadline = START.after(VALID);
    scene.sleeps();
    let mut renewals = 0;
    loop {
        let renewal = scene.sends(Action::Renew, &["a"]);
        renewals += 1;
        scene.sleep_until(renewal.deadline);
        scene.fails(&renewal, unknown());
        if scene.now == deadline {
            break;
        }
        scene.tells([Event::RenewalFailed { id, failure: unknown(), deadline }]);
        scene.sleeps();
    }
    assert!(renewals >= 3);
    let last_failure = Some(unknown());
    scene.tells([Event::Lost { id, reason: LostReason::Deadline { last_failure } }]);
}

#[test]
fn a_renewal_after_failures_counts_in_full_and_begins_the_back_off_anew() {
    let (mut scene, id, mut renewal) = Scenario::renewing();
    for _ in 0..8 {
        scene.fails(&renewal, not_sent());
        scene.sleeps();
        renewal = scene.sends(Action::Renew, &["a"]);
    }
    scene.told();
    scene.sleep(TRIP);
    scene.confirms(&renewal);
    scene.tells([Event::Renewed { id, deadline: renewal.at.after(VALID) }]);
    scene.sleeps();
    assert_eq!(scene.now, renewal.at.after(RENEW));
    let next = scene.sends(Action::Renew, &["a"]);
    scene.fails(&next, not_sent());
    scene.told();
    scene.sleeps();
    assert!(scene.now.since(next.at) <= TRIP);
    scene.sends(Action::Renew, &["a"]);
}

#[test]
fn a_reply_that_does_not_answer_a_renewal_renews_nothing() {
    for reply in [
        Reply::Outcomes(vec![]),
        Reply::Outcomes(vec![Outcome::Done, Outcome::Done]),
        Reply::Outcomes(vec![Outcome::NotOwner, Outcome::NotOwner]),
        Reply::Outcomes(vec![Outcome::Granted(FENCE)]),
        Reply::Outcomes(vec![Outcome::Busy(None)]),
    ] {
        let (mut scene, id, renewal) = Scenario::renewing();
        scene.answers(&renewal, Ok(reply));
        let told = scene.told();
        let [Event::RenewalFailed { failure: Failure::Unknown(_), deadline, .. }] = told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(deadline, START.after(VALID));
        assert_eq!(scene.engine.held_until(id), Some(deadline));
    }
}

#[test]
fn a_grant_slower_than_a_renewal_period_is_renewed_before_it_is_handed_on() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep(RENEW - NANO);
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);

    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep(RENEW);
    scene.grants(&claim);
    scene.tells_nothing();
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.sleep(TRIP);
    scene.confirms(&renewal);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: renewal.at.after(VALID) }]);
}

#[test]
fn a_renewal_slower_than_a_renewal_period_is_followed_by_the_next() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleep(RENEW);
    scene.confirms(&renewal);
    scene.tells([Event::Renewed { id, deadline: renewal.at.after(VALID) }]);
    scene.sends(Action::Renew, &["a"]);
}
