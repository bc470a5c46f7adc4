//! Giving back what is held.

use crate::scenario::*;
use lock_core::{Action, Event, Failure, Outcome, Release, Reply};
use std::time::Duration;

#[test]
fn a_release_is_one_command_by_the_owner() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    scene.release(id);
    assert_eq!(scene.engine.held_until(id), None, "from now on it is not held");
    scene.tells_nothing();
    let release = scene.sends(Action::Release, &["a"]);
    assert_eq!(release.owner(), claim.owner());
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_release_waits_for_the_renewal_under_way_whose_ok_re_arms_nothing() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.release(id);
    scene.sends_nothing();
    scene.tells_nothing();
    scene.sleep(TRIP);
    scene.confirms(&renewal);
    scene.tells_nothing();
    assert_eq!(scene.engine.held_until(id), None);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_release_waits_for_the_renewal_under_way_with_room_for_more_commands() {
    let mut scene = Scenario::with(lock_core::Config { in_flight: 2, ..config() });
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.told();
    scene.sleep(RENEW);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.release(id);
    scene.sends_nothing();
    scene.fails(&renewal, unknown());
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_release_follows_a_renewal_that_failed_or_was_refused() {
    let disowned = Ok(Reply::Outcomes(vec![Outcome::NotOwner]));
    for answer in [Err(not_sent()), Err(unknown()), Err(refused()), disowned] {
        let (mut scene, id, renewal) = Scenario::renewing();
        scene.release(id);
        scene.answers(&renewal, answer);
        scene.tells_nothing();
        let release = scene.sends(Action::Release, &["a"]);
        scene.disowns(&release);
        scene.tells([Event::Released { id, release: Release::NotOurs }]);
        scene.is_over();
    }
}

#[test]
fn no_renewal_leaves_and_nothing_is_lost_after_a_release() {
    let (mut scene, id) = Scenario::held();
    scene.release(id);
    while scene.engine.attempts() > 0 {
        let release = scene.sends(Action::Release, &["a"]);
        scene.sleep(Duration::from_secs(3));
        scene.fails(&release, unknown());
        if scene.engine.attempts() > 0 {
            scene.sleeps();
        }
    }
    let told = scene.told();
    assert!(matches!(told[..], [Event::Released { .. }]), "{told:?}");
}

#[test]
fn a_release_that_found_nothing_says_so() {
    let (mut scene, id, release) = Scenario::releasing();
    scene.disowns(&release);
    scene.tells([Event::Released { id, release: Release::NotOurs }]);
    scene.is_over();
}

#[test]
fn not_ours_after_an_unknown_release_was_our_own_doing() {
    let (mut scene, id, release) = Scenario::releasing();
    scene.fails(&release, unknown());
    scene.tells_nothing();
    scene.sleeps();
    let again = scene.sends(Action::Release, &["a"]);
    assert_eq!(again.owner(), release.owner());
    scene.disowns(&again);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn not_ours_after_a_release_that_was_not_sent_was_not() {
    for failure in [not_sent(), deadlock()] {
        let (mut scene, id, release) = Scenario::releasing();
        scene.fails(&release, failure);
        scene.sleeps();
        let again = scene.sends(Action::Release, &["a"]);
        scene.disowns(&again);
        scene.tells([Event::Released { id, release: Release::NotOurs }]);
    }
}

#[test]
fn a_refused_release_is_not_repeated() {
    let (mut scene, id, release) = Scenario::releasing();
    scene.fails(&release, refused());
    scene.tells([Event::Released { id, release: Release::Unconfirmed(refused()) }]);
    scene.is_over();
}

#[test]
fn a_release_is_repeated_until_the_lease_is_surely_over() {
    let (mut scene, id) = Scenario::held();
    let granted = scene.now;
    scene.release(id);
    let mut releases = 0;
    while scene.engine.attempts() > 0 {
        scene.tells_nothing();
        let release = scene.sends(Action::Release, &["a"]);
        scene.fails(&release, unknown());
        releases += 1;
        scene.sleeps();
    }
    assert_eq!(scene.now, granted.after(OVER));
    assert!((36..90).contains(&releases), "{releases}: with a growing back-off");
    scene.tells([Event::Released { id, release: Release::Unconfirmed(unknown()) }]);
    scene.is_over();
}

#[test]
fn a_hung_release_is_awaited_for_the_server_may_yet_do_it() {
    let (mut scene, id, release) = Scenario::releasing();
    scene.sleep(OVER * 2);
    scene.tells_nothing();
    scene.sends_nothing();
    assert_eq!((scene.engine.attempts(), scene.engine.poll_timeout()), (1, None));
    scene.fails(&release, unknown());
    scene.tells([Event::Released { id, release: Release::Unconfirmed(unknown()) }]);
    scene.is_over();
    // It has been answered, and the attempt has ended.
    scene.confirms(&release);
    scene.release(id);
    scene.is_over();
}

#[test]
fn a_release_that_never_left_is_unconfirmed_for_no_earlier_reason() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, not_sent());
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.told();
    scene.release(id);
    scene.sleep(OVER);
    let told = scene.told();
    let [Event::Released { release: Release::Unconfirmed(Failure::Unknown(_)), .. }] = told[..]
    else {
        panic!("{told:?}")
    };
    scene.is_over();
}

#[test]
fn a_renewal_under_way_postpones_the_end_of_what_the_server_may_hold() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.release(id);
    scene.sleep(Duration::from_secs(5));
    scene.fails(&renewal, unknown());
    let answered = scene.now;
    while scene.engine.attempts() > 0 {
        let release = scene.sends(Action::Release, &["a"]);
        scene.fails(&release, not_sent());
        scene.sleeps();
    }
    assert_eq!(scene.now, answered.after(OVER));
    scene.tells([Event::Released { id, release: Release::Unconfirmed(not_sent()) }]);
    scene.is_over();
}

#[test]
fn a_reply_that_does_not_answer_a_release_confirms_nothing() {
    for reply in [
        Reply::Outcomes(vec![]),
        Reply::Outcomes(vec![Outcome::Done, Outcome::Done]),
        Reply::Outcomes(vec![Outcome::Granted(FENCE)]),
        Reply::Outcomes(vec![Outcome::Busy(None)]),
    ] {
        let (mut scene, id, release) = Scenario::releasing();
        scene.answers(&release, Ok(reply));
        scene.tells_nothing();
        scene.sleeps();
        let again = scene.sends(Action::Release, &["a"]);
        scene.confirms(&again);
        scene.tells([freed(id)]);
    }
}

/// The lock is released, and the server answers so after that time.
fn frees(scene: &mut Scenario, held: lock_core::LockId, took: Duration, answer: Outcome) {
    scene.release(held);
    let release = scene.sends(Action::Release, &["a"]);
    scene.sleep(took);
    scene.answers(&release, Ok(Reply::Outcomes(vec![answer])));
    scene.told();
}

#[test]
fn others_go_first_for_each_name_that_they_wait_for() {
    let mut scene = Scenario::new();
    let ids = ["a", "b"].map(|name| scene.acquire(name));
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.sleep(TRIP);
    scene.grants(&claim);
    scene.told();
    for id in ids {
        scene.release(id);
    }
    let release = scene.sends(Action::Release, &["a", "b"]);
    scene.sleep(TRIP);
    scene.answers(&release, Ok(Reply::Outcomes(vec![Outcome::DoneContended; 2])));
    scene.told();
    let freed = scene.now;
    for name in ["a", "b"] {
        scene.acquire(name);
    }
    // It draws tickets before it claims, and at once: the server lets those go first whose turn it is.
    let look = scene.sends(Action::Probe, &["a", "b"]);
    scene.is_free(&look);
    scene.sends(Action::Acquire, &["a", "b"]);
    assert_eq!(scene.now, freed);
}

#[test]
fn who_will_not_wait_comes_behind_nobody() {
    let (mut scene, held) = Scenario::held();
    frees(&mut scene, held, TRIP, Outcome::DoneContended);
    scene.acquire_once("a", VALID);
    scene.sends(Action::Acquire, &["a"]);
}
