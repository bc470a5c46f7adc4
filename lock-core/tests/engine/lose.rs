//! When a holder can no longer be sure.

use crate::scenario::*;
use lock_core::{Action, Config, Event, Failure, LockId, LostReason, Outcome, Release, Reply};
use std::time::Duration;

fn lost(id: LockId) -> Event {
    lost_after(id, None)
}

fn lost_after(id: LockId, last_failure: Option<Failure>) -> Event {
    Event::Lost { id, reason: LostReason::Deadline { last_failure } }
}

#[test]
fn the_loss_says_why_the_last_renewal_failed() {
    let (mut scene, id, mut renewal) = Scenario::renewing();
    for failure in [unknown(), deadlock()] {
        scene.fails(&renewal, failure);
        scene.sleeps();
        renewal = scene.sends(Action::Renew, &["a"]);
    }
    scene.told();
    scene.sleep_until(START.after(VALID));
    scene.tells([lost_after(id, Some(deadlock()))]);
    scene.fails(&renewal, unknown());
    scene.tells_nothing();
}

#[test]
fn a_renewal_that_succeeds_makes_earlier_failures_history() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.fails(&renewal, deadlock());
    scene.sleeps();
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.confirms(&renewal);
    scene.told();
    scene.sleeps();
    let hung = scene.sends(Action::Renew, &["a"]);
    scene.sleep_until(renewal.at.after(VALID));
    scene.tells([lost(id)]);
    scene.fails(&hung, unknown());
}

#[test]
fn a_release_is_not_blamed_on_an_earlier_renewal() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.fails(&renewal, deadlock());
    scene.told();
    scene.release(id);
    // Nothing is sent until the lease is over: the driver was asleep.
    scene.sleep(OVER);
    let no_answer = Failure::Unknown("no answer came".into());
    scene.tells([Event::Released { id, release: Release::Unconfirmed(no_answer) }]);
}

#[test]
fn a_loss_reads_as_one_line_with_its_cause() {
    let full = Failure::not_now("disk full".into());
    let deadline = |last_failure| LostReason::Deadline { last_failure }.to_string();
    let unrenewed = "no renewal was confirmed before the lease's deadline";
    assert_eq!(deadline(None), unrenewed);
    assert_eq!(deadline(Some(full.clone())), format!("{unrenewed} (last error: disk full)"));
    let gone = LostReason::Disconnected { last_failure: Some(full.clone()) };
    let text = "the connection that held the lock is gone (last error: disk full)";
    assert_eq!((gone.to_string().as_str(), gone.last_failure()), (text, Some(&full)));
    assert_eq!(LostReason::Taken.last_failure(), None);
}

#[test]
fn it_is_lost_at_the_deadline_and_not_a_nanosecond_before() {
    let (mut scene, id, _) = Scenario::renewing();
    scene.sleep_until(START.after(VALID).before(NANO));
    scene.tells_nothing();
    assert!(scene.engine.held_until(id).is_some());
    scene.sleep(NANO);
    scene.tells([lost(id)]);
    assert_eq!(scene.engine.held_until(id), None);
}

#[test]
fn a_hung_renewal_does_not_delay_the_loss() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleeps();
    assert_eq!(scene.now, START.after(VALID));
    scene.tells([lost(id)]);
    scene.fails(&renewal, unknown());
    scene.tells_nothing();
}

#[test]
fn an_ok_before_the_deadline_still_counts() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleep_until(START.after(VALID).before(NANO));
    scene.confirms(&renewal);
    scene.tells([Event::Renewed { id, deadline: renewal.at.after(VALID) }]);
    scene.sends(Action::Renew, &["a"]);
}

#[test]
fn an_ok_at_or_after_the_deadline_revives_nothing() {
    for late in [Duration::ZERO, NANO, TTL] {
        let (mut scene, id, renewal) = Scenario::renewing();
        // The driver was asleep: it learns the time and the answer at once.
        scene.now = START.after(VALID).after(late);
        scene.confirms(&renewal);
        scene.tells([lost(id)]);
        assert_eq!(scene.engine.held_until(id), None);
        scene.sends_nothing();
    }
}

#[test]
fn it_is_lost_once_whatever_comes_after() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleep_until(START.after(VALID));
    scene.tells([lost(id)]);
    scene.confirms(&renewal);
    scene.engine.handle_hint(scene.now, &name("a"));
    for _ in 0..3 {
        scene.sleep(TTL);
        scene.sends_nothing();
    }
    scene.tells_nothing();
    assert_eq!((scene.engine.attempts(), scene.engine.poll_timeout()), (1, None));
}

#[test]
fn not_ours_loses_at_once() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleep(TRIP);
    scene.disowns(&renewal);
    scene.tells([Event::Lost { id, reason: LostReason::Taken }]);
    assert_eq!(scene.engine.held_until(id), None);
    scene.sends_nothing();
    scene.sleep(TTL);
    scene.tells_nothing();
}

#[test]
fn what_was_taken_needs_no_release_at_the_server() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.disowns(&renewal);
    scene.tells([Event::Lost { id, reason: LostReason::Taken }]);
    scene.release(id);
    scene.tells([Event::Released { id, release: Release::NotOurs }]);
    scene.is_over();
}

#[test]
fn what_was_lost_by_the_deadline_is_freed_at_the_server() {
    let (mut scene, id) = Scenario::lost();
    scene.release(id);
    scene.tells_nothing();
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn what_was_lost_long_ago_needs_no_release_at_the_server() {
    let (mut scene, id) = Scenario::lost();
    scene.sleep(OVER);
    scene.release(id);
    scene.tells([Event::Released { id, release: Release::NotOurs }]);
    scene.is_over();
}

#[test]
fn after_a_pause_the_loss_comes_first() {
    // Each driver call alone notices what the pause has done.
    let hour = Duration::from_secs(3600);
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.now = scene.now.after(hour);
    scene.confirms(&renewal);
    scene.tells([lost(id)]);

    let (mut scene, id) = Scenario::held();
    scene.now = scene.now.after(hour);
    scene.sends_nothing();
    scene.tells([lost(id)]);

    let (mut scene, id) = Scenario::held();
    scene.now = scene.now.after(hour);
    scene.release(id);
    scene.tells([lost(id), Event::Released { id, release: Release::NotOurs }]);
    scene.is_over();
}

#[test]
fn a_lost_lock_can_be_taken_again_by_a_new_owner() {
    let (mut scene, old) = Scenario::lost();
    let new = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id: new, fence: FENCE, deadline: claim.at.after(VALID) }]);
    // Releasing the old attempt names the old owner and leaves the new one alone.
    scene.release(old);
    let release = scene.sends(Action::Release, &["a"]);
    assert_ne!(release.owner(), claim.owner());
    scene.disowns(&release);
    scene.tells([Event::Released { id: old, release: Release::NotOurs }]);
    assert_eq!(scene.engine.held_until(new), Some(claim.at.after(VALID)));
}

#[test]
fn the_release_of_a_lost_lock_waits_for_its_hung_renewal() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleep_until(START.after(VALID));
    scene.tells([lost(id)]);
    scene.release(id);
    scene.sends_nothing();
    scene.confirms(&renewal);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn the_answer_to_a_lost_renewal_is_no_answer_to_the_release() {
    for late in [true, false] {
        let mut scene = Scenario::with(Config { in_flight: 2, ..config() });
        let id = scene.acquire("a");
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.grants(&claim);
        scene.sleep(RENEW);
        let renewal = scene.sends(Action::Renew, &["a"]);
        scene.sleep_until(START.after(VALID));
        scene.told();
        if late {
            // Even so late that the lease is surely over, unless this renews it.
            scene.sleep(OVER);
        }
        scene.release(id);
        scene.sends_nothing();
        scene.confirms(&renewal);
        scene.tells_nothing();
        let release = scene.sends(Action::Release, &["a"]);
        scene.confirms(&release);
        scene.tells([freed(id)]);
        scene.is_over();
    }
}

#[test]
fn a_late_answer_tells_whether_a_lost_lease_may_still_be_there() {
    let disowned = Ok(Reply::Outcomes(vec![Outcome::NotOwner]));
    let confirmed = Ok(Reply::Outcomes(vec![Outcome::Done]));
    for (answer, there) in [(confirmed, true), (Err(unknown()), true), (disowned, false)] {
        let (mut scene, id, renewal) = Scenario::renewing();
        scene.sleep_until(START.after(VALID));
        scene.tells([lost(id)]);
        scene.sleep_until(START.after(OVER).after(TTL));
        scene.answers(&renewal, answer);
        scene.tells_nothing();
        scene.release(id);
        if there {
            let release = scene.sends(Action::Release, &["a"]);
            scene.confirms(&release);
            scene.tells([freed(id)]);
        } else {
            scene.tells([Event::Released { id, release: Release::NotOurs }]);
        }
        scene.is_over();
    }
}

#[test]
fn a_failed_renewal_may_have_extended_what_was_lost() {
    let (mut scene, id, renewal) = Scenario::renewing();
    scene.sleep(Duration::from_secs(5));
    scene.fails(&renewal, unknown());
    let failed = scene.now;
    scene.sleep_until(failed.after(OVER).before(NANO));
    scene.release(id);
    assert_eq!(scene.told().last(), Some(&lost_after(id, Some(unknown()))));
    let release = scene.sends(Action::Release, &["a"]);
    scene.disowns(&release);
    scene.tells([Event::Released { id, release: Release::NotOurs }]);
}

#[test]
fn leases_are_lost_one_by_one() {
    let (mut scene, a) = Scenario::held();
    scene.sleep(Duration::from_secs(2));
    let b = scene.acquire("b");
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id: b, fence: FENCE, deadline: claim.at.after(VALID) }]);
    scene.sleep_until(START.after(RENEW));
    let both = scene.sends(Action::Renew, &["a", "b"]);
    scene.fails(&both, not_sent());
    // 2 s before the first deadline, 4 s before the second: it lasts for whoever lasts longest.
    scene.sleep_until(START.after(VALID).before(Duration::from_secs(2)));
    scene.told();
    let both = scene.sends(Action::Renew, &["a", "b"]);
    assert_eq!(both.deadline, claim.at.after(VALID));
    scene.sleeps();
    scene.tells([lost_after(a, Some(not_sent()))]);
    scene.sleeps();
    assert_eq!(scene.now, claim.at.after(VALID));
    scene.tells([lost_after(b, Some(not_sent()))]);
}
