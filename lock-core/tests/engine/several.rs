//! Attempts for several locks at once.

use super::scenario::{FENCE, START, Scenario, TRIP, VALID, freed, holder, name, unknown};
use lock_core::{Action, Event, Holder, LockId, LostReason, NotAcquired, Outcome, Reply};
use std::time::Duration;

impl Scenario {
    fn acquire_all(&mut self, names: &[&str], once: bool) -> LockId {
        let names = names.iter().map(|text| name(text)).collect();
        self.engine.acquire_all(self.now, names, once, None)
    }
}

#[test]
fn one_statement_takes_them_all_and_one_frees_them() {
    let mut scene = Scenario::new();
    let id = scene.acquire_all(&["c", "a", "b", "a"], false);
    let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    assert_eq!(scene.engine.fences(id), ["a", "b", "c"].map(|text| (name(text), FENCE)));
    assert_eq!(scene.engine.held_until(id), Some(START.after(VALID)));
    scene.release(id);
    let release = scene.sends(Action::Release, &["a", "b", "c"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn what_comes_after_a_lock_that_is_taken_is_given_back_and_wanted_again() {
    let mut scene = Scenario::new();
    let id = scene.acquire_all(&["a", "b", "c"], false);
    let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
    let they = holder("they", Duration::from_secs(9));
    let (granted, busy) = (Outcome::Granted(FENCE), Outcome::Busy(Some(they.clone())));
    scene.answers(&claim, Ok(Reply::Outcomes(vec![granted.clone(), busy, granted])));
    scene.tells([Event::Waiting { id, of: Some(name("b")), holder: Some(they), withheld: false }]);
    let back = scene.sends(Action::Release, &["c"]);
    scene.confirms(&back);
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["b"]);
    scene.is_free(&look);
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&claim);
    let rest = scene.sends(Action::Acquire, &["c"]);
    scene.grants(&rest);
    assert!(matches!(scene.told()[..], [Event::Granted { id: of, .. }] if of == id));
    scene.release(id);
    let release = scene.sends(Action::Release, &["a", "b", "c"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

/// As a waiter for one lock is: of the next holder, and again after trouble.
#[test]
fn who_waits_for_several_is_told_what_a_waiter_for_one_is_told() {
    let mut scene = Scenario::new();
    let id = scene.acquire_all(&["a", "b", "c"], false);
    let [one, two] = ["one", "two"].map(|label| holder(label, Duration::from_secs(9)));
    let waiting = |of: &str, holder: &Holder| Event::Waiting {
        id,
        of: Some(name(of)),
        holder: Some(holder.clone()),
        withheld: false,
    };
    let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
    let busy = |holder: &Holder| Outcome::Busy(Some(holder.clone()));
    scene.answers(
        &claim,
        Ok(Reply::Outcomes(vec![Outcome::Granted(FENCE), busy(&one), busy(&one)])),
    );
    scene.tells([waiting("b", &one)]);
    for holder in [&one, &two] {
        scene.sleeps();
        let look = scene.sends(Action::Probe, &["b"]);
        scene.answers(&look, Ok(Reply::one(busy(holder))));
        assert_eq!(scene.told(), Vec::from_iter((*holder == two).then(|| waiting("b", &two))));
    }
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["b"]);
    scene.fails(&look, unknown());
    assert!(matches!(scene.told()[..], [Event::Trouble { .. }]));
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["b"]);
    scene.answers(&look, Ok(Reply::one(busy(&two))));
    scene.tells([waiting("b", &two)]);
    // And of the next lock that is not to be had.
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["b"]);
    scene.is_free(&look);
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&claim);
    let claim = scene.sends(Action::Acquire, &["c"]);
    scene.answers(&claim, Ok(Reply::one(busy(&one))));
    scene.tells([waiting("c", &one)]);
}

#[test]
fn who_does_not_wait_gets_all_or_none() {
    let mut scene = Scenario::new();
    let id = scene.acquire_all(&["a", "b"], true);
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    let outcomes = vec![Outcome::Granted(FENCE), Outcome::Busy(None)];
    scene.answers(&claim, Ok(Reply::Outcomes(outcomes)));
    let (of, why) = (Some(name("b")), NotAcquired::Busy(None));
    scene.tells([Event::NotAcquired { id, of, why }]);
    let back = scene.sends(Action::Release, &["a"]);
    scene.confirms(&back);
    scene.is_over();
}

#[test]
fn the_first_that_is_lost_loses_them_all() {
    let mut scene = Scenario::new();
    let id = scene.acquire_all(&["a", "b"], false);
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    scene.sleeps();
    let renewal = scene.sends(Action::Renew, &["a", "b"]);
    scene.sleep(TRIP);
    scene.answers(&renewal, Ok(Reply::Outcomes(vec![Outcome::NotOwner, Outcome::Done])));
    scene.tells([Event::Lost { id, reason: LostReason::Taken }]);
    assert_eq!(scene.engine.held_until(id), None);
    scene.release(id);
    let release = scene.sends(Action::Release, &["b"]);
    scene.confirms(&release);
    assert!(matches!(scene.told()[..], [Event::Released { id: of, .. }] if of == id));
    scene.is_over();
}

#[test]
fn a_renewal_of_all_is_told_once() {
    let mut scene = Scenario::new();
    let id = scene.acquire_all(&["a", "b"], false);
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.grants(&claim);
    assert_eq!(scene.told().len(), 1);
    scene.sleeps();
    let renewal = scene.sends(Action::Renew, &["a", "b"]);
    scene.confirms(&renewal);
    scene.tells([Event::Renewed { id, deadline: renewal.at.after(VALID) }]);
    scene.release(id);
    let release = scene.sends(Action::Release, &["a", "b"]);
    scene.fails(&release, unknown());
    for _ in 0..2 {
        scene.tells_nothing();
        scene.sleeps();
        let release = scene.sends_any();
        scene.disowns(&release);
    }
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn trouble_with_a_request_for_all_is_told_once() {
    let mut scene = Scenario::new();
    let id = scene.acquire_all(&["a", "b", "c"], false);
    let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
    scene.fails(&claim, unknown());
    scene.tells([Event::Trouble { id, failure: unknown() }]);
    scene.release(id);
    while let Some(sent) = scene.engine.poll_request(scene.now) {
        let done = Reply::Outcomes(vec![Outcome::NotOwner; sent.request.claims().len()]);
        scene.engine.handle_reply(scene.now, sent.id, Ok(done));
    }
    assert!(matches!(scene.told()[..], [Event::Released { id: of, .. }] if of == id));
    scene.is_over();
}
