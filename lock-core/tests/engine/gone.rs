//! When where the locks were kept is gone.

use crate::scenario::*;
use lock_core::{Action, Event, Failure, LockId, LostReason, Release};

fn gone() -> Failure {
    Failure::Gone("it was deleted".into())
}

fn lost(id: LockId) -> Event {
    Event::Lost { id, reason: LostReason::Gone { failure: gone() } }
}

#[test]
fn all_leases_are_lost_with_the_first_renewal_that_finds_nothing() {
    let (mut scene, a) = Scenario::held();
    scene.sleep(RENEW / 2);
    let b = scene.acquire("b");
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id: b, fence: FENCE, deadline: claim.at.after(VALID) }]);
    scene.sleep_until(START.after(RENEW));
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.fails(&renewal, gone());
    scene.tells([lost(a), lost(b)]);
    assert_eq!([a, b].map(|id| scene.engine.held_until(id)), [None, None]);
    // Nothing of theirs is left to be freed.
    scene.release(a);
    scene.tells([Event::Released { id: a, release: Release::NotOurs }]);
    scene.sends_nothing();
}

#[test]
fn a_claim_of_another_name_tells_the_holders() {
    let (mut scene, a) = Scenario::held();
    let b = scene.acquire("b");
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.fails(&claim, gone());
    scene.tells([Event::Trouble { id: b, failure: gone() }, lost(a)]);
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id: b, fence: FENCE, deadline: claim.at.after(VALID) }]);
}

#[test]
fn a_release_that_finds_nothing_tells_of_the_loss() {
    let (mut scene, id, release) = Scenario::releasing();
    scene.fails(&release, gone());
    scene.tells([Event::Released { id, release: Release::Gone(gone()) }]);
    scene.is_over();
}

#[test]
fn an_attempt_that_was_given_up_leaves_nothing_there() {
    let (mut scene, id, claim) = Scenario::claiming();
    scene.fails(&claim, unknown());
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.release(id);
    scene.fails(&claim, gone());
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_waiter_waits_on_where_there_is_something_new() {
    let (mut scene, id) = Scenario::waiting();
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["a"]);
    scene.fails(&look, gone());
    scene.tells([Event::Trouble { id, failure: gone() }]);
    let claim = scene.looks_and_claims();
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: claim.at.after(VALID) }]);
}

#[test]
fn a_renewal_that_is_under_way_revives_nothing() {
    let (mut scene, a, renewal) = {
        let mut scene = Scenario::with(lock_core::Config { in_flight: 2, ..config() });
        let a = scene.acquire("a");
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.grants(&claim);
        scene.told();
        scene.sleep(RENEW);
        let renewal = scene.sends(Action::Renew, &["a"]);
        (scene, a, renewal)
    };
    let b = scene.acquire("b");
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.fails(&claim, gone());
    scene.tells([Event::Trouble { id: b, failure: gone() }, lost(a)]);
    scene.confirms(&renewal);
    scene.tells_nothing();
    scene.release(b);
    scene.tells([freed(b)]);
}
