//! Giving up, in every phase: one `Released`, and nothing left behind.

use crate::scenario::*;
use lock_core::{Action, Event, Failure, NotAcquired, Outcome, Release, Reply};

fn granted() -> Result<Reply, Failure> {
    Ok(Reply::Outcomes(vec![Outcome::Granted(FENCE)]))
}

fn busy() -> Result<Reply, Failure> {
    Ok(Reply::Outcomes(vec![Outcome::Busy(None)]))
}

#[test]
fn a_release_before_the_claim_leaves_costs_nothing() {
    let mut scene = Scenario::new();
    let id = scene.acquire("a");
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_queued_attempt_is_released_at_once() {
    let (mut scene, first) = Scenario::held();
    let second = scene.acquire("a");
    scene.release(second);
    scene.decides([freed(second)]);
    scene.sends_nothing();
    assert!(scene.engine.held_until(first).is_some());
    assert_eq!(scene.engine.attempts(), 1);
}

#[test]
fn a_denied_attempt_is_released_at_once() {
    let (mut scene, id) = Scenario::waiting();
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_claim_under_way_is_awaited_and_what_it_may_hold_is_freed() {
    // What the answer is, and whether the server may then hold something.
    let answers = [
        (granted(), true),
        (Err(unknown()), true),
        (Ok(Reply::Outcomes(vec![Outcome::Done])), true),
        (busy(), false),
        (Err(not_sent()), false),
        (Err(deadlock()), false),
        (Err(refused()), false),
    ];
    for (answer, exposed) in answers {
        let (mut scene, id, claim) = Scenario::claiming();
        scene.release(id);
        scene.tells_nothing();
        scene.sends_nothing();
        scene.answers(&claim, answer);
        if exposed {
            scene.tells_nothing();
            let release = scene.sends(Action::Release, &["a"]);
            assert_eq!(release.owner(), claim.owner());
            scene.confirms(&release);
        }
        scene.tells([freed(id)]);
        scene.is_over();
    }
}

#[test]
fn a_grant_after_its_deadline_that_nobody_waits_for_is_freed() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.release(id);
    scene.sleep(VALID);
    scene.grants(&claim);
    scene.tells_nothing();
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn an_unknown_claim_given_up_is_released_until_answered() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, unknown());
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.release(id);
    for failure in [unknown(), not_sent(), deadlock()] {
        let release = scene.sends(Action::Release, &["a"]);
        assert_eq!(release.owner(), claim.owner());
        scene.fails(&release, failure);
        scene.tells_nothing();
        scene.sleeps();
    }
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn an_unknown_claim_given_up_is_released_until_surely_over() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.sleep(TRIP);
    scene.fails(&claim, unknown());
    let failed = scene.now;
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.release(id);
    while scene.engine.attempts() > 0 {
        scene.tells_nothing();
        let release = scene.sends(Action::Release, &["a"]);
        scene.fails(&release, not_sent());
        scene.sleeps();
    }
    assert_eq!(scene.now, failed.after(OVER));
    scene.tells([Event::Released { id, release: Release::Unconfirmed(not_sent()) }]);
    scene.is_over();
}

#[test]
fn a_claim_whose_wait_ran_out_is_freed_without_a_word() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.fails(&claim, unknown());
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.sleep_until(START.after(TRIP).after(PATIENCE));
    scene.tells([not_acquired(id, NotAcquired::Failed(unknown()))]);
    let release = scene.sends(Action::Release, &["a"]);
    assert_eq!(release.owner(), claim.owner());
    // The attempt has ended for its caller: giving it up again changes nothing.
    scene.release(id);
    scene.fails(&release, unknown());
    scene.sleeps();
    let again = scene.sends(Action::Release, &["a"]);
    scene.disowns(&again);
    scene.is_over();
}

#[test]
fn what_was_not_sent_is_not_released() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, not_sent());
    scene.tells([Event::Trouble { id, failure: not_sent() }]);
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn what_was_not_sent_does_not_settle_an_earlier_unknown_claim() {
    for failure in [not_sent(), deadlock()] {
        let (mut scene, id, claim) = Scenario::claiming();
        scene.fails(&claim, unknown());
        scene.sleeps();
        let again = scene.sends(Action::Acquire, &["a"]);
        scene.fails(&again, failure);
        scene.told();
        scene.release(id);
        let release = scene.sends(Action::Release, &["a"]);
        scene.confirms(&release);
        scene.tells([freed(id)]);
        scene.is_over();
    }
}

#[test]
fn a_denial_settles_an_earlier_unknown_claim() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, unknown());
    scene.sleeps();
    let again = scene.sends(Action::Acquire, &["a"]);
    scene.denies_for(&again, holder("somebody", TTL));
    scene.told();
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn an_unknown_claim_is_forgotten_when_it_is_surely_over() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, unknown());
    let failed = scene.now;
    while scene.now < failed.after(OVER) {
        scene.sleeps();
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.fails(&claim, not_sent());
    }
    scene.told();
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_release_after_the_wait_ran_out_tells_nothing_more() {
    let mut scene = Scenario::new();
    let id = scene.acquire_for("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP + PATIENCE);
    scene.tells_unanswered(id);
    scene.release(id);
    scene.grants(&claim);
    let release = scene.sends(Action::Release, &["a"]);
    scene.release(id);
    scene.confirms(&release);
    scene.is_over();
}

#[test]
fn released_twice_is_told_once_in_every_phase() {
    let scenes = || {
        let (claiming, a, claim) = Scenario::claiming();
        let (waiting, b) = Scenario::waiting();
        let (held, c) = Scenario::held();
        let (renewing, d, renewal) = Scenario::renewing();
        let (lost, e) = Scenario::lost();
        let (releasing, f, release) = Scenario::releasing();
        [
            (claiming, a, Some(claim)),
            (waiting, b, None),
            (held, c, None),
            (renewing, d, Some(renewal)),
            (lost, e, None),
            (releasing, f, Some(release)),
        ]
    };
    for (phase, (mut scene, id, mut sent)) in scenes().into_iter().enumerate() {
        scene.release(id);
        scene.release(id);
        let mut told = scene.told();
        // Nobody ever answers.
        while scene.engine.attempts() > 0 {
            if let Some(sent) = sent.take() {
                scene.sleep(TRIP);
                scene.fails(&sent, unknown());
            } else if scene.engine.has_work() {
                sent = Some(scene.sends_any());
            } else {
                scene.sleeps();
            }
            scene.release(id);
            told.extend(scene.told());
        }
        assert!(matches!(told[..], [Event::Released { .. }]), "phase {phase}: {told:?}");
    }
}
