//! Attempts for one name within one engine.

use crate::scenario::*;
use lock_core::{Action, Event, LockId, LostReason, Mode, NotAcquired, Outcome, Reply};
use std::time::Duration;

fn granted(id: LockId, claim: &Sent) -> Event {
    Event::Granted { id, fence: FENCE, deadline: claim.at.after(VALID) }
}

#[test]
fn rivals_are_served_in_order_and_only_one_talks_to_the_server() {
    let mut scene = Scenario::new();
    let ids: Vec<_> = (0..4).map(|_| scene.acquire("a")).collect();
    let mut owners = Vec::new();
    for id in ids {
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.grants(&claim);
        scene.decides([granted(id, &claim)]);
        scene.sends_nothing();
        scene.release(id);
        let release = scene.sends(Action::Release, &["a"]);
        scene.confirms(&release);
        scene.tells([freed(id)]);
        assert_eq!(release.owner(), claim.owner());
        owners.push(claim.owner());
    }
    owners.dedup();
    assert_eq!(owners.len(), 4, "each with an owner of its own");
    scene.is_over();
}

#[test]
fn who_wants_to_share_excludes_where_the_protocol_shares_nothing() {
    let mut scene = Scenario::new();
    let [first, _] =
        [(); 2].map(|()| scene.engine.acquire_as(scene.now, name("a"), Mode::Shared, false, None));
    let claim = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(claim.request.claims()[0].mode, Mode::Exclusive);
    scene.grants(&claim);
    scene.decides([granted(first, &claim)]);
    scene.sends_nothing();
}

#[test]
fn one_name_does_not_wait_for_another() {
    let (mut scene, _) = Scenario::held();
    scene.acquire("a");
    scene.acquire("b");
    scene.decides([]);
    scene.sends(Action::Acquire, &["b"]);
}

#[test]
fn a_rival_that_gives_up_in_the_queue_leaves_the_order_alone() {
    let (mut scene, first) = Scenario::held();
    let [second, third, fourth] = ["a"; 3].map(|text| scene.acquire(text));
    scene.release(third);
    scene.decides([freed(third)]);
    for (leaving, next) in [(first, second), (second, fourth)] {
        scene.release(leaving);
        let release = scene.sends(Action::Release, &["a"]);
        scene.confirms(&release);
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.grants(&claim);
        scene.tells([freed(leaving), granted(next, &claim)]);
    }
}

#[test]
fn a_rivals_wait_runs_out_in_the_queue() {
    let (mut scene, _) = Scenario::held();
    let second = scene.acquire_for("a", TRIP);
    let since = scene.now;
    scene.decides([]);
    scene.sleep(TRIP - NANO);
    scene.tells_nothing();
    scene.sleep(NANO);
    scene.tells([not_acquired(second, NotAcquired::TimedOut(Some(own_hold(scene.now, since))))]);
    assert_eq!(scene.engine.attempts(), 1);
}

#[test]
fn the_next_rival_claims_as_soon_as_the_first_gives_up_or_is_refused() {
    // Released while waiting.
    let (mut scene, first) = Scenario::waiting();
    let second = scene.acquire("a");
    scene.sends_nothing();
    scene.release(first);
    scene.decides([freed(first)]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    // Refused.
    let third = scene.acquire("a");
    scene.fails(&claim, refused());
    scene.tells([not_acquired(second, NotAcquired::Failed(refused()))]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.tells([granted(third, &claim)]);
}

#[test]
fn the_next_rival_claims_as_soon_as_the_first_has_lost() {
    let (mut scene, first, renewal) = Scenario::renewing();
    let second = scene.acquire("a");
    scene.disowns(&renewal);
    scene.decides([Event::Lost { id: first, reason: LostReason::Taken }]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    assert_ne!(claim.owner(), renewal.owner());
    scene.grants(&claim);
    scene.tells([granted(second, &claim)]);
}

#[test]
fn the_next_rival_waits_until_the_first_is_settled_at_the_server() {
    let mut scene = Scenario::new();
    let first = scene.acquire_for("a", TRIP);
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP + PATIENCE);
    scene.tells_unanswered(first);
    scene.sends_nothing();
    scene.fails(&claim, unknown());
    let release = scene.sends(Action::Release, &["a"]);
    scene.fails(&release, unknown());
    scene.sleeps();
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    let second = scene.sends(Action::Acquire, &["a"]);
    assert_ne!(second.owner(), claim.owner());
}

#[test]
fn who_will_not_wait_is_busy_at_once_behind_a_rival_that_has_the_name_or_was_denied() {
    let scenes = || {
        let own = Some(START.after(TRIP));
        let (waiting, _) = Scenario::waiting();
        let (held, _) = Scenario::held();
        let (renewing, _, _) = Scenario::renewing();
        [(waiting, None), (held, own), (renewing, own)]
    };
    for (mut scene, since) in scenes() {
        let id = scene.acquire_once("a", TTL);
        let holder = since.map(|since| own_hold(scene.now, since));
        scene.tells([not_acquired(id, NotAcquired::Busy(holder))]);
        scene.sends_nothing();
        assert_eq!(scene.engine.attempts(), 1);
    }
}

#[test]
fn who_will_not_wait_goes_by_the_answer_that_a_rival_gets() {
    let (mut scene, first, claim) = Scenario::claiming();
    let [second, third] = [(); 2].map(|()| scene.acquire_once("a", TTL));
    scene.sends_nothing();
    scene.tells_nothing();
    scene.sleep(TRIP);
    scene.grants(&claim);
    let busy = |id| {
        not_acquired(
            id,
            NotAcquired::Busy(Some(own_hold(claim.at.after(TRIP), claim.at.after(TRIP)))),
        )
    };
    scene.tells([granted(first, &claim), busy(second), busy(third)]);

    let (mut scene, _, claim) = Scenario::claiming();
    let second = scene.acquire_once("a", TTL);
    scene.denies_for(&claim, holder("somebody", TTL));
    let busy = not_acquired(second, NotAcquired::Busy(Some(holder("somebody", TTL))));
    scene.decides([busy]);
}

/// Nobody is known to have the lock: a program must not take that for a lock that somebody else has.
#[test]
fn behind_a_rival_that_gets_no_answer_nobody_is_said_to_have_the_lock() {
    let (mut scene, _, claim) = Scenario::claiming();
    let once = scene.acquire_once("a", Duration::ZERO);
    let patient = scene.acquire_for("a", TRIP);
    scene.sleep_until(claim.deadline);
    scene.fails(&claim, unknown());
    let told = scene.told();
    assert!(matches!(told[..], [Event::Trouble { .. }]), "only the first asks: {told:?}");
    // The server stays silent until their waits are over.
    let until = START.after(TRIP + PATIENCE);
    let mut ended = Vec::new();
    while scene.now < until {
        match scene.engine.poll_timeout() {
            Some(at) if at > scene.now => scene.sleep_until(at.min(until)),
            _ => {
                let claim = scene.sends(Action::Acquire, &["a"]);
                scene.fails(&claim, not_sent());
            }
        }
        ended.extend(
            scene.told().into_iter().filter(|event| !matches!(event, Event::Trouble { .. })),
        );
    }
    let failed = |id| not_acquired(id, NotAcquired::Failed(unknown()));
    assert_eq!(ended, [failed(once), failed(patient)]);
    scene.sends(Action::Acquire, &["a"]);
}

#[test]
fn what_the_server_does_not_give_away_yet_is_nobodys_for_those_behind_either() {
    let (mut scene, first, claim) = Scenario::claiming();
    let [once, patient] = [scene.acquire_once("a", TTL), scene.acquire_for("a", TTL)];
    scene.answers(&claim, Ok(Reply::one(Outcome::Delayed)));
    let waiting = |id| Event::Waiting { id, of: None, holder: None, withheld: true };
    let withheld = not_acquired(once, NotAcquired::Withheld);
    scene.tells([waiting(first), withheld, waiting(patient)]);
}

#[test]
fn who_will_not_wait_does_wait_for_a_rival_that_is_only_releasing() {
    let (mut scene, first, release) = Scenario::releasing();
    let id = scene.acquire_once("a", TTL);
    scene.tells_nothing();
    scene.confirms(&release);
    scene.tells([freed(first)]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.tells([granted(id, &claim)]);
}

#[test]
fn who_will_not_wait_does_wait_for_a_claim_that_nobody_wants_any_more() {
    let (mut scene, first, claim) = Scenario::claiming();
    scene.release(first);
    let id = scene.acquire_once("a", TTL);
    scene.tells_nothing();
    scene.denies(&claim);
    scene.tells([freed(first)]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies(&claim);
    scene.tells([not_acquired(id, NotAcquired::Busy(None))]);
    scene.is_over();
}

#[test]
fn who_will_not_wait_behind_a_release_waits_no_longer_than_wanted() {
    let (mut scene, _, _) = Scenario::releasing();
    let id = scene.acquire_once("a", TRIP);
    scene.sleep(TRIP + PATIENCE - NANO);
    scene.tells_nothing();
    scene.sleep(NANO);
    scene.tells_unanswered(id);
    assert_eq!(scene.engine.attempts(), 1);
}

#[test]
fn who_will_not_wait_behind_a_waiter_behind_a_release_goes_by_the_waiters_answer() {
    let (mut scene, first, release) = Scenario::releasing();
    let second = scene.acquire("a");
    let once = scene.acquire_once("a", TTL);
    scene.tells_nothing();
    scene.confirms(&release);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.grants(&claim);
    let busy = NotAcquired::Busy(Some(own_hold(scene.now, scene.now)));
    scene.tells([freed(first), granted(second, &claim), not_acquired(once, busy)]);
}

#[test]
fn a_wait_of_no_time_behind_a_rival_ends_at_once() {
    let (mut scene, _) = Scenario::held();
    let id = scene.acquire_for("a", Duration::ZERO);
    let holder = own_hold(scene.now, scene.now);
    scene.tells([not_acquired(id, NotAcquired::TimedOut(Some(holder)))]);
    assert_eq!(scene.engine.attempts(), 1);
}

#[test]
fn who_comes_after_a_loss_does_not_wait_for_its_release() {
    let (mut scene, _) = Scenario::lost();
    let id = scene.acquire_once("a", TTL);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.tells([granted(id, &claim)]);
}

#[test]
fn a_hint_moves_the_first_and_not_the_others() {
    let (mut scene, first) = Scenario::waiting();
    scene.acquire("a");
    scene.engine.handle_hint(scene.now, &name("a"));
    let look = scene.sends(Action::Probe, &["a"]);
    scene.is_free(&look);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.decides([granted(first, &claim)]);
}

/// An acquire looks at the clock first.
#[test]
fn who_will_not_wait_is_not_denied_by_a_lock_that_is_lost_by_now() {
    let timing = lock_core::Timing::default();
    let mut engine = lock_core::Engine::new(
        lock_core::table::capabilities("me", false),
        lock_core::Config::new(timing, 42),
    );
    let name = lock_core::LockName::new("a").expect("a good name");
    let start = lock_core::Instant::from_nanos(0);
    engine.acquire(start, name.clone(), false, None);
    let claim = engine.poll_request(start).expect("a claim");
    let granted =
        lock_core::Reply::Outcomes(vec![lock_core::Outcome::Granted(lock_core::Fence::new(7))]);
    engine.handle_reply(start, claim.id, Ok(granted));

    let deadline = start.after(timing.valid());
    engine.acquire(deadline, name, true, None);
    let told: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    assert!(
        matches!(told[..], [lock_core::Event::Granted { .. }, lock_core::Event::Lost { .. }]),
        "{told:?}"
    );
}
