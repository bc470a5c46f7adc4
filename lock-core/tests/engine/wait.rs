//! Between a denial and the next look or claim.

use crate::scenario::*;
use lock_core::{Action, Config, Event, LockId};
use std::time::Duration;

/// Claims, then looks, and is denied `turns` times; how long it waited after each.
fn waits(scene: &mut Scenario, turns: usize) -> Vec<Duration> {
    let mut waits = Vec::new();
    for turn in 0..turns {
        let ask = if turn == 0 { Action::Acquire } else { Action::Probe };
        let asked = scene.sends(ask, &["a"]);
        scene.sleep(TRIP);
        scene.denies(&asked);
        let denied = scene.now;
        scene.sleeps();
        waits.push(scene.now.since(denied));
    }
    scene.told();
    waits
}

fn ends(scene: &mut Scenario, id: LockId) {
    scene.release(id);
    assert_eq!(scene.told().last(), Some(&freed(id)));
    scene.is_over();
}

#[test]
fn a_denied_waiter_is_told_once_and_again_when_the_holder_changes() {
    let (mut scene, id) = Scenario::waiting();
    let one = holder("one", TTL);
    let two = holder("two", TTL);
    for (now, news) in [(&one, true), (&one, false), (&two, true), (&two, false)] {
        scene.sleeps();
        let look = scene.sends(Action::Probe, &["a"]);
        scene.denies_for(&look, now.clone());
        if news {
            scene.tells([Event::Waiting {
                id,
                of: None,
                holder: Some(now.clone()),
                withheld: false,
            }]);
        }
        scene.tells_nothing();
    }
}

#[test]
fn a_denied_waiter_is_told_again_after_trouble() {
    for failure in [not_sent(), unknown(), deadlock()] {
        let (mut scene, id) = Scenario::waiting();
        let one = holder("one", TTL);
        for turn in 0..3 {
            scene.sleeps();
            let look = scene.sends(Action::Probe, &["a"]);
            scene.denies_for(&look, one.clone());
            scene.tells([Event::Waiting {
                id,
                of: None,
                holder: Some(one.clone()),
                withheld: false,
            }]);
            for _ in 0..=turn {
                scene.sleeps();
                let look = scene.sends(Action::Probe, &["a"]);
                scene.fails(&look, failure.clone());
                scene.tells([Event::Trouble { id, failure: failure.clone() }]);
            }
        }
    }
}

#[test]
fn waits_double_from_a_round_trip_up_to_a_second() {
    let mut scene = Scenario::new();
    let id = scene.acquire("a");
    let waits = waits(&mut scene, 20);
    for (turn, wait) in waits.iter().enumerate() {
        let full = (TRIP * (1 << turn.min(10))).min(Duration::from_secs(1));
        assert!(*wait >= full / 2, "{turn}: {wait:?} is too short");
        assert!(*wait <= full, "{turn}: {wait:?} is too long");
    }
    ends(&mut scene, id);
}

#[test]
fn failures_back_off_like_denials_and_never_to_zero() {
    for failure in [not_sent(), unknown(), deadlock()] {
        let mut scene = Scenario::new();
        scene.acquire("a");
        let mut last = Duration::ZERO;
        for turn in 0..20 {
            let claim = scene.sends(Action::Acquire, &["a"]);
            scene.fails(&claim, failure.clone());
            let failed = scene.now;
            scene.sleeps();
            last = scene.now.since(failed);
            let full = Duration::from_millis(1 << turn.min(10)).min(Duration::from_secs(1));
            assert!(last >= full / 2 && last <= full, "{turn}: {last:?}");
            scene.told();
        }
        assert!(last >= Duration::from_millis(500));
        scene.sends(Action::Acquire, &["a"]);
    }
}

#[test]
fn the_time_that_a_failed_request_took_is_no_round_trip() {
    let (mut scene, _, claim) = Scenario::claiming();
    scene.sleep_until(claim.deadline);
    scene.fails(&claim, unknown());
    scene.told();
    scene.sleeps();
    assert!(scene.now.since(claim.deadline) <= TRIP);
    scene.sends(Action::Acquire, &["a"]);
}

#[test]
fn one_slow_answer_does_not_make_a_slow_server() {
    let slow = Duration::from_millis(500);
    // How long it waits after the first denial, when so many answers have been slow.
    let waits = |slow_answers| {
        let (mut scene, _) = Scenario::waiting();
        for _ in 1..slow_answers {
            scene.sleeps();
            let look = scene.sends(Action::Probe, &["a"]);
            scene.sleep(slow);
            scene.denies(&look);
        }
        let first = scene.acquire("b");
        let claim = scene.sends(Action::Acquire, &["b"]);
        scene.sleep(slow);
        scene.denies(&claim);
        let denied = scene.now;
        scene.told();
        loop {
            if !scene.engine.has_work() {
                scene.sleeps();
            }
            let sent = scene.sends_any();
            if sent.request.claims().iter().any(|claim| claim.name == name("b")) {
                scene.release(first);
                return scene.now.since(denied);
            }
            scene.denies(&sent);
        }
    };
    assert!(waits(1) <= TRIP * 2, "{:?}", waits(1));
    assert!(waits(60) > slow / 2, "but many do: {:?}", waits(60));
}

#[test]
fn waits_are_jittered_by_the_seed() {
    let trace = |seed| {
        let mut scene = Scenario::with(Config { seed, ..config() });
        let id = scene.acquire("a");
        let waits = waits(&mut scene, 10);
        ends(&mut scene, id);
        waits
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
    assert_ne!(trace(1), trace(1 << 100), "the upper half of the seed counts as well");
}

#[test]
fn a_grant_after_denials_begins_the_back_off_anew() {
    let mut scene = Scenario::new();
    let id = scene.acquire("a");
    waits(&mut scene, 12);
    let look = scene.sends(Action::Probe, &["a"]);
    scene.is_free(&look);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.grants(&claim);
    assert!(matches!(scene.told()[..], [Event::Granted { .. }]));
    scene.sleep_until(claim.at.after(RENEW));
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.fails(&renewal, not_sent());
    assert!(matches!(scene.told()[..], [Event::RenewalFailed { .. }]));
    scene.sleeps();
    assert!(scene.now <= renewal.at.after(TRIP), "the first failure of its own");
    scene.sends(Action::Renew, &["a"]);
    assert_eq!(scene.engine.held_until(id), Some(claim.at.after(VALID)));
}

#[test]
fn the_holders_expiry_shortens_a_wait_but_not_below_a_round_trip() {
    let mut scene = Scenario::new();
    scene.acquire("a");
    waits(&mut scene, 12); // by now it waits for half a second or longer
    for (left, wait) in [(Duration::from_millis(40), Duration::from_millis(40)), (NANO, TRIP)] {
        let look = scene.sends(Action::Probe, &["a"]);
        scene.sleep(TRIP);
        scene.denies_for(&look, holder("somebody", left));
        let denied = scene.now;
        scene.told();
        scene.sleeps();
        assert_eq!(scene.now.since(denied), wait);
    }
    scene.sends(Action::Probe, &["a"]);
}

#[test]
fn a_hint_shortens_a_wait() {
    let (mut scene, _) = Scenario::waiting();
    scene.sends_nothing();
    scene.engine.handle_hint(scene.now, &name("a"));
    scene.tells_nothing();
    scene.sends(Action::Probe, &["a"]);
}

#[test]
fn a_hint_concerns_only_who_waits_for_that_name() {
    let (waiting, _) = Scenario::waiting();
    let (held, _) = Scenario::held();
    let (releasing, _, _) = Scenario::releasing();
    let cases = [(waiting, "b"), (held, "a"), (releasing, "a")];
    for (mut scene, hinted) in cases {
        let before = scene.engine.clone();
        scene.engine.handle_hint(scene.now, &name(hinted));
        assert_eq!(scene.engine, before);
    }
}

#[test]
fn a_denial_after_a_pause_is_followed_by_a_look_within_a_second() {
    let (mut scene, _, claim) = Scenario::claiming();
    scene.sleep(Duration::from_secs(3600));
    scene.denies(&claim);
    scene.told();
    let denied = scene.now;
    scene.sleeps();
    assert!(scene.now.since(denied) <= Duration::from_secs(1), "{:?}", scene.now.since(denied));
    scene.sends(Action::Probe, &["a"]);
}

#[test]
fn the_first_denial_is_told_whatever_came_before() {
    for failure in [not_sent(), unknown(), deadlock()] {
        let (mut scene, id, claim) = Scenario::claiming();
        scene.fails(&claim, failure.clone());
        scene.tells([Event::Trouble { id, failure }]);
        scene.sleeps();
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.denies(&claim);
        scene.tells([Event::Waiting { id, of: None, holder: None, withheld: false }]);
    }
}

#[test]
fn a_denial_is_never_followed_by_a_claim_at_the_same_instant() {
    // A holder whose lease is just ending, and a clock too coarse to see the round trip.
    let (mut scene, _, claim) = Scenario::claiming();
    scene.denies_for(&claim, holder("somebody", Duration::ZERO));
    assert!(matches!(scene.told()[..], [Event::Waiting { .. }]));
    scene.sends_nothing();
}
