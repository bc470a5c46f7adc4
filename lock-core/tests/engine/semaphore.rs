//! Attempts for any one of several locks.

use super::scenario::{
    FENCE, START, Scenario, VALID, config, freed, holder, not_acquired, refused, unknown,
};
use lock_core::{Action, Config, Event, LockId, LockName, NotAcquired, Outcome, Reply, Request};
use std::time::Duration;

fn permits(count: u32) -> Vec<LockName> {
    LockName::new("a").and_then(|name| name.permits(count)).expect("good")
}

/// The only claim's permit.
fn permit(request: &Request) -> u32 {
    let [claim] = request.claims() else { panic!("{request:?}") };
    claim.name.as_permit().expect("a permit").1
}

impl Scenario {
    fn acquire_any(&mut self, count: u32, once: bool) -> LockId {
        self.engine.acquire_any(self.now, permits(count), once, None)
    }
}

#[test]
fn one_statement_takes_a_free_permit_and_one_frees_it() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(3, false);
    let claim = scene.sends_any();
    let taken = permit(&claim.request);
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    assert_eq!(scene.engine.name(id).and_then(|name| name.as_permit()), Some(("a", taken)));
    assert_eq!(scene.engine.held_until(id), Some(START.after(VALID)));
    scene.release(id);
    let release = scene.sends_any();
    assert_eq!((release.request.action(), permit(&release.request)), (Action::Release, taken));
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn after_a_denial_all_others_are_looked_at_in_one_request_and_one_is_claimed() {
    let mut scene = Scenario::with(Config { in_flight: 2, ..config() });
    let id = scene.acquire_any(5, true);
    let claim = scene.sends_any();
    scene.denies(&claim);
    scene.tells_nothing();
    let look = scene.sends_any();
    assert_eq!((look.request.action(), look.len()), (Action::Probe, 4));
    scene.is_free(&look);
    let claim = scene.sends_any();
    let taken = permit(&claim.request);
    scene.sends_nothing();
    scene.grants(&claim);
    scene.tells([Event::Granted { id, fence: FENCE, deadline: START.after(VALID) }]);
    assert_eq!(scene.engine.name(id).and_then(|name| name.as_permit()), Some(("a", taken)));
    assert_eq!(scene.engine.attempts(), 1, "the others were given up");
    scene.release(id);
    let release = scene.sends_any();
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn who_does_not_wait_is_told_busy_once_with_a_holder() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(3, true);
    let they = holder("they", Duration::from_secs(9));
    let claim = scene.sends_any();
    scene.denies_for(&claim, they.clone());
    let look = scene.sends_any();
    scene.denies_for(&look, they.clone());
    scene.tells([not_acquired(id, NotAcquired::Busy(Some(they)))]);
    scene.is_over();
}

#[test]
fn who_waits_is_told_once_that_all_are_taken() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(3, false);
    let they = holder("they", Duration::from_secs(9));
    let claim = scene.sends_any();
    scene.denies_for(&claim, they.clone());
    scene.tells_nothing();
    let look = scene.sends_any();
    scene.denies_for(&look, they.clone());
    scene.tells([Event::Waiting { id, of: None, holder: Some(they), withheld: false }]);
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_over();
}

/// Consul and advisory locks never say who it is.
#[test]
fn who_waits_is_told_that_all_are_taken_by_who_knows_whom() {
    for (count, requests, outcome) in [(3, 2, Outcome::Busy(None)), (1, 1, Outcome::Delayed)] {
        let mut scene = Scenario::new();
        let id = scene.acquire_any(count, false);
        for _ in 0..requests {
            scene.tells_nothing();
            let sent = scene.sends_any();
            scene.answers(&sent, Ok(Reply::Outcomes(vec![outcome.clone(); sent.len()])));
        }
        let withheld = outcome == Outcome::Delayed;
        scene.tells([Event::Waiting { id, of: None, holder: None, withheld }]);
    }
}

/// Of whom a waiter was told may have gone, and after an outage nothing is known any more.
#[test]
fn who_waits_for_a_permit_is_told_of_the_next_holder_and_again_after_trouble() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(1, false);
    let [one, two] = ["one", "two"].map(|label| holder(label, Duration::from_secs(9)));
    let waiting = |holder| Event::Waiting { id, of: None, holder: Some(holder), withheld: false };
    let claim = scene.sends_any();
    scene.denies_for(&claim, one.clone());
    scene.tells([waiting(one.clone())]);
    for (is_new, holder) in [(false, one), (true, two.clone())] {
        scene.sleeps();
        let look = scene.sends_any();
        scene.denies_for(&look, holder.clone());
        assert_eq!(scene.told(), Vec::from_iter(is_new.then(|| waiting(holder))));
    }
    scene.sleeps();
    let look = scene.sends_any();
    scene.fails(&look, unknown());
    assert!(matches!(scene.told()[..], [Event::Trouble { .. }]));
    scene.sleeps();
    let look = scene.sends_any();
    scene.denies_for(&look, two.clone());
    scene.tells([waiting(two)]);
}

/// The claim of one that was free fails, and then somebody has it again. The one of which the caller was told has had no
/// trouble, and says nothing anew.
#[test]
fn trouble_of_one_permit_is_over_when_another_has_none() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(2, false);
    let they = holder("they", Duration::from_secs(9));
    let waiting = Event::Waiting { id, of: None, holder: Some(they.clone()), withheld: false };
    let claim = scene.sends_any();
    let first = claim.request.claims()[0].name.clone();
    scene.denies_for(&claim, they.clone());
    let look = scene.sends_any();
    scene.denies_for(&look, they.clone());
    scene.tells([waiting.clone()]);
    let (mut failed, mut looks, mut told) = (false, 0, Vec::new());
    while looks < 4 {
        let Some(sent) = scene.engine.poll_request(scene.now) else {
            scene.sleeps();
            continue;
        };
        let busy = || Outcome::Busy(Some(they.clone()));
        let is_free = |name: &LockName| *name == first && !failed;
        let outcomes = sent.request.claims().iter().map(|claim| match is_free(&claim.name) {
            true => Outcome::Free,
            false => busy(),
        });
        let reply = match sent.request.action() {
            Action::Acquire if !failed => Err(unknown()),
            _ => Ok(Reply::Outcomes(outcomes.collect())),
        };
        looks += usize::from(failed && sent.request.action() == Action::Probe);
        failed |= reply.is_err();
        scene.engine.handle_reply(scene.now, sent.id, reply);
        told.extend(scene.told());
    }
    let trouble = told.iter().position(|event| matches!(event, Event::Trouble { .. }));
    assert!(told[trouble.expect("the claim failed")..].contains(&waiting), "{told:?}");
}

#[test]
fn rivals_in_one_process_claim_different_permits_at_once() {
    let mut scene = Scenario::new();
    let ids = [0; 3].map(|_| scene.acquire_any(3, true));
    let claim = scene.sends_any();
    assert_eq!((claim.request.action(), claim.len()), (Action::Acquire, 3));
    scene.grants(&claim);
    let deadline = START.after(VALID);
    let mut told = scene.told();
    told.sort_by_key(|event| {
        ids.iter().position(|of| matches!(event, Event::Granted { id, .. } if id == of))
    });
    assert_eq!(told, ids.map(|id| Event::Granted { id, fence: FENCE, deadline }));
    // The fourth is told by the engine itself.
    let fourth = scene.acquire_any(3, true);
    let [Event::NotAcquired { id, of: None, why: NotAcquired::Busy(_) }] = scene.told()[..] else {
        panic!()
    };
    assert_eq!(id, fourth);
    // And the fifth waits until one of them is back.
    let fifth = scene.acquire_any(3, false);
    assert!(matches!(scene.told()[..], [Event::Waiting { id, .. }] if id == fifth));
    scene.release(ids[1]);
    let release = scene.sends_any();
    scene.confirms(&release);
    scene.tells([freed(ids[1])]);
    let look = scene.sends_any();
    assert_eq!((look.request.action(), look.len()), (Action::Probe, 1));
    scene.is_free(&look);
    let claim = scene.sends_any();
    assert_eq!(permit(&claim.request), permit(&release.request));
    scene.grants(&claim);
    scene.tells([Event::Granted { id: fifth, fence: FENCE, deadline }]);
    for id in [ids[0], ids[2], fifth] {
        scene.release(id);
    }
    let release = scene.sends_any();
    scene.confirms(&release);
    let told = scene.told();
    assert!([ids[0], ids[2], fifth].iter().all(|id| told.contains(&freed(*id))) && told.len() == 3);
    scene.is_over();
}

#[test]
fn a_permit_whose_grant_was_not_heard_of_goes_back_when_another_is_granted() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(2, false);
    let first = scene.sends_any();
    scene.fails(&first, unknown());
    scene.decides_trouble(id);
    scene.sleeps();
    let again = scene.sends_any();
    assert_eq!(
        permit(&again.request),
        permit(&first.request),
        "what is not known is settled first"
    );
    scene.grants(&again);
    assert!(matches!(scene.told()[..], [Event::Granted { .. }]));
    scene.release(id);
    let release = scene.sends_any();
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_refusal_ends_it() {
    let mut scene = Scenario::new();
    let id = scene.acquire_any(2, false);
    let claim = scene.sends_any();
    scene.fails(&claim, refused());
    scene.tells([not_acquired(id, NotAcquired::Failed(refused()))]);
    scene.is_over();
    let none = scene.engine.acquire_any(scene.now, vec![], false, None);
    assert!(matches!(scene.told()[..], [Event::NotAcquired { id, .. }] if id == none));
}

impl Scenario {
    fn decides_trouble(&mut self, id: LockId) {
        assert!(matches!(self.told()[..], [Event::Trouble { id: of, .. }] if of == id));
    }
}

#[test]
fn a_name_that_leaves_no_room_for_the_number_is_no_semaphore() {
    let name = LockName::new(&"x".repeat(250)).expect("good");
    assert_eq!(name.permits(3).expect("room").len(), 3);
    let name = LockName::new(&"x".repeat(251)).expect("good");
    assert_eq!(
        name.permits(3).unwrap_err().to_string(),
        "the name of a semaphore has at most 250 bytes, for its permits' names are longer"
    );
    let name = LockName::new("x").expect("good");
    assert_eq!(name.permits(0).expect("one").len(), 1);
    assert!(name.permits(1_001).is_err() && name.permits(1_000).is_ok());
    assert_eq!(name.as_permit(), None);
}
