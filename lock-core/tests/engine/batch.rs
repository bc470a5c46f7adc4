//! Many attempts, few requests.

use crate::scenario::*;
use lock_core::{
    Action, Code, Config, Dispatch, Engine, Event, Failure, Fence, Instant, LostReason,
    NotAcquired, Outcome, Release, Reply, table,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[test]
fn claims_leave_together_and_sorted_by_name() {
    let mut scene = Scenario::new();
    for text in ["c", "a", "B", "é", "b", "a "] {
        scene.acquire(text);
    }
    scene.sends(Action::Acquire, &["B", "a", "a ", "b", "c", "é"]);
}

#[test]
fn what_becomes_due_while_a_command_is_under_way_leaves_with_the_next() {
    let (mut scene, _, claim) = Scenario::claiming();
    scene.acquire("b");
    scene.acquire("c");
    scene.sends_nothing();
    scene.denies(&claim);
    scene.told();
    scene.sends(Action::Acquire, &["b", "c"]);
}

#[test]
fn each_claim_has_its_own_verdict() {
    let mut scene = Scenario::new();
    let [b, a, c] = ["b", "a", "c"].map(|text| scene.acquire(text));
    let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
    let grant = |fence| Outcome::Granted(Fence::new(fence));
    let somebody = holder("somebody", TTL);
    let verdicts = vec![grant(1), Outcome::Busy(Some(somebody.clone())), grant(3)];
    scene.answers(&claim, Ok(Reply::Outcomes(verdicts)));
    let deadline = START.after(VALID);
    scene.tells([
        Event::Granted { id: a, fence: Fence::new(1), deadline },
        Event::Waiting { id: b, of: None, holder: Some(somebody), withheld: false },
        Event::Granted { id: c, fence: Fence::new(3), deadline },
    ]);
    scene.release(b);
    scene.tells([freed(b)]);

    scene.sleep_until(START.after(RENEW));
    let renewal = scene.sends(Action::Renew, &["a", "c"]);
    scene.answers(&renewal, Ok(Reply::Outcomes(vec![Outcome::NotOwner, Outcome::Done])));
    scene.tells([
        Event::Lost { id: a, reason: LostReason::Taken },
        Event::Renewed { id: c, deadline: renewal.at.after(VALID) },
    ]);
}

#[test]
fn a_failure_concerns_every_claim_of_the_command() {
    let mut scene = Scenario::new();
    let [a, b] = ["a", "b"].map(|text| scene.acquire(text));
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.fails(&claim, not_sent());
    scene.tells([a, b].map(|id| Event::Trouble { id, failure: not_sent() }));
}

/// Answers all that is due, as a server does that refuses whatever is about "b" and does the rest. How many
/// requests it took.
fn serves_but_for_b(scene: &mut Scenario, refusal: &Failure) -> usize {
    let mut requests = 0;
    while let Some(Dispatch { id, request, deadline, .. }) = scene.engine.poll_request(scene.now) {
        requests += 1;
        let sent = Sent { id, at: scene.now, deadline, request };
        scene.sleep(TRIP);
        if sent.request.claims().iter().any(|claim| claim.name.as_str() == "b") {
            scene.fails(&sent, refusal.clone());
        } else if sent.request.action() == Action::Acquire {
            scene.grants(&sent);
        } else {
            scene.confirms(&sent);
        }
    }
    requests
}

#[test]
fn what_is_refused_for_one_is_done_for_the_others() {
    let mut scene = Scenario::new();
    let b = scene.acquire("b");
    let others: Vec<_> = (0..511).map(|n| scene.acquire(&format!("n{n}"))).collect();
    let requests = serves_but_for_b(&mut scene, &refused());
    assert!(requests <= 1 + 3 * 8, "{requests}");
    let told = scene.told();
    assert!(told.contains(&not_acquired(b, NotAcquired::Failed(refused()))), "it alone is told");
    let granted = told.iter().filter(|event| matches!(event, Event::Granted { .. })).count();
    assert_eq!((granted, told.len()), (511, 512));

    // Once one was done, it goes along with all others again.
    for id in others {
        scene.release(id);
    }
    assert_eq!(serves_but_for_b(&mut scene, &refused()), 1);
    assert_eq!(scene.told().len(), 511);
}

#[test]
fn what_is_refused_for_one_is_renewed_and_freed_for_the_others() {
    let row_is_locked = Failure::not_now("lock timeout".into());
    for refusal in [refused(), row_is_locked.with_code(Code::sql_state("55P03"))] {
        let mut scene = Scenario::new();
        let ids = ["a", "b", "c"].map(|text| scene.acquire(text));
        let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
        scene.grants(&claim);
        scene.told();
        scene.sleep_until(START.after(RENEW));
        serves_but_for_b(&mut scene, &refusal);
        let told = scene.told();
        // It is tried again by itself, and by now may have failed more than once.
        let (renewed, failed): (Vec<_>, Vec<_>) =
            told.iter().partition(|event| matches!(event, Event::Renewed { .. }));
        let about_b =
            |event: &&Event| matches!(event, Event::RenewalFailed { id, .. } if *id == ids[1]);
        assert_eq!((renewed.len(), failed.iter().all(about_b)), (2, true), "{told:?}");
        assert!(!failed.is_empty());
        for id in ids {
            scene.release(id);
        }
        serves_but_for_b(&mut scene, &refused());
        let told = scene.told();
        assert!(told.contains(&freed(ids[0])) && told.contains(&freed(ids[2])), "{told:?}");
        let unconfirmed = Release::Unconfirmed(refused());
        assert!(told.contains(&Event::Released { id: ids[1], release: unconfirmed }), "{told:?}");
        scene.is_over();
    }
}

#[test]
fn what_is_refused_for_all_is_told_to_all_soon() {
    let mut scene = Scenario::new();
    let ids: Vec<_> = (0..512).map(|n| scene.acquire(&format!("n{n}"))).collect();
    let mut requests = 0;
    while let Some(dispatch) = scene.engine.poll_request(scene.now) {
        requests += 1;
        scene.engine.handle_reply(scene.now, dispatch.id, Err(refused()));
    }
    // One of 512, one of 64, two of 8 and singles from these; then what is left, undivided.
    assert!(requests <= 40, "{requests}");
    assert_eq!(scene.told().len(), ids.len());
    scene.is_over();
}

#[test]
fn leases_of_which_many_are_refused_are_renewed_all_the_same() {
    let (mut engine, mut now) = (Engine::new(table::capabilities("me", false), config()), START);
    // So many in a row that the refusals seem to be about all, and one in each part of a batch.
    let is_bad = |n: &u32| *n < 24 || n % 8 == 7;
    for n in 0..512 {
        let text = if is_bad(&n) { format!("bad{n}") } else { format!("n{n}") };
        engine.acquire(now, name(&text), false, None);
    }
    let claim = engine.poll_request(now).expect("a claim");
    engine.handle_reply(now, claim.id, Ok(Reply::Outcomes(vec![Outcome::Granted(FENCE); 512])));
    let (mut renewed, mut refusals, mut most) = (BTreeSet::new(), 0, 0);
    while now < START.after(VALID) {
        while let Some(dispatch) = engine.poll_request(now) {
            let claims = dispatch.request.claims();
            let bad = claims.iter().any(|claim| claim.name.as_str().starts_with("bad"));
            refusals = if bad { refusals + 1 } else { 0 };
            most = most.max(refusals);
            let done = Ok(Reply::Outcomes(vec![Outcome::Done; claims.len()]));
            let reply =
                if bad { Err(deadlock().with_code(Code::sql_state("40P01"))) } else { done };
            engine.handle_reply(now, dispatch.id, reply);
        }
        renewed.extend(std::iter::from_fn(|| engine.poll_event()).filter_map(
            |event| match event {
                Event::Renewed { id, .. } => Some(id),
                _ => None,
            },
        ));
        now = engine.poll_timeout().expect("the refused ones are tried again").max(now);
        engine.handle_timeout(now);
    }
    assert!(most > 16, "{most}");
    assert_eq!(renewed.len(), 512 - (0..512).filter(is_bad).count());
}

#[test]
fn refusals_that_were_followed_by_a_success_are_forgotten() {
    let mut scene = Scenario::new();
    for _ in 0..20 {
        let [b, c] = ["b", "c"].map(|text| scene.acquire(text));
        serves_but_for_b(&mut scene, &refused());
        scene.release(c);
        serves_but_for_b(&mut scene, &refused());
        let told = scene.told();
        assert!(told.contains(&not_acquired(b, NotAcquired::Failed(refused()))), "{told:?}");
        assert!(told.contains(&freed(c)), "{told:?}");
    }
    scene.is_over();
}

#[test]
fn what_is_refused_for_the_table_is_told_to_all_at_once() {
    let states = ["42P01", "42703", "3F000"].map(Code::sql_state);
    let numbers = [1142, 1143, 1146].map(|number| Some(Code::Mysql(number)));
    for code in states.into_iter().chain(numbers) {
        let mut scene = Scenario::new();
        let ids = ["a", "b", "c"].map(|text| scene.acquire(text));
        let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
        let failure = refused().with_code(code);
        scene.fails(&claim, failure.clone());
        scene.tells(ids.map(|id| not_acquired(id, NotAcquired::Failed(failure.clone()))));
        scene.is_over();
    }
}

#[test]
fn a_reply_one_entry_short_grants_nothing_to_anyone() {
    let mut scene = Scenario::new();
    let [a, b] = ["a", "b"].map(|text| scene.acquire(text));
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.answers(&claim, Ok(Reply::Outcomes(vec![Outcome::Granted(FENCE)])));
    let told = scene.told();
    let [Event::Trouble { id: first, .. }, Event::Trouble { id: second, .. }] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((first, second), (a, b));
}

#[test]
fn a_command_has_no_more_claims_than_it_may() {
    let mut scene = Scenario::with(Config { batch: 3, ..config() });
    let texts: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
    let ids: Vec<_> = texts.iter().map(|text| scene.acquire(text)).collect();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let claim = scene.sends_any();
        sizes.push(claim.len());
        scene.grants(&claim);
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(scene.told().len(), 7);

    // The same goes for renewals, early ones included, and for releases.
    scene.sleep(RENEW);
    assert_eq!([(); 3].map(|()| scene.serves_one(Action::Renew)), [3, 3, 1]);
    for id in ids {
        scene.release(id);
    }
    assert_eq!([(); 3].map(|()| scene.serves_one(Action::Release)), [3, 3, 1]);
    assert_eq!(scene.told().len(), 14);
    scene.is_over();
}

#[test]
fn no_more_commands_are_under_way_than_may_be() {
    for limit in 1..4 {
        let mut scene = Scenario::with(Config { batch: 1, in_flight: limit, ..config() });
        for text in ["a", "b", "c", "d", "e"] {
            scene.acquire(text);
        }
        let mut sent: Vec<_> = (0..limit).map(|_| scene.sends_any()).collect();
        scene.sends_nothing();
        // Each answer makes room for one more; they may come in any order.
        for _ in limit..5 {
            let last = sent.pop().expect("one is under way");
            scene.grants(&last);
            sent.push(scene.sends_any());
            scene.sends_nothing();
        }
        assert_eq!(scene.told().len(), 5 - limit);
    }
}

#[test]
fn renewals_go_before_releases_before_claims() {
    let (mut scene, a) = Scenario::held();
    let b = scene.acquire("b");
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&claim);
    scene.told();
    scene.sleep_until(START.after(RENEW));
    scene.acquire("c");
    scene.release(b);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.confirms(&renewal);
    let release = scene.sends(Action::Release, &["b"]);
    scene.confirms(&release);
    scene.tells([Event::Renewed { id: a, deadline: renewal.at.after(VALID) }, freed(b)]);
    scene.sends(Action::Acquire, &["c"]);
    scene.told();
}

#[test]
fn a_lost_hold_and_its_successor_are_released_one_after_the_other() {
    let (mut scene, old) = Scenario::lost();
    let new = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.told();
    scene.release(old);
    scene.release(new);
    let first = scene.sends(Action::Release, &["a"]);
    scene.disowns(&first);
    let second = scene.sends(Action::Release, &["a"]);
    assert_eq!(second.owner(), claim.owner());
    scene.confirms(&second);
    let told = scene.told();
    assert_eq!((told.len(), &told[1]), (2, &freed(new)));
    scene.is_over();
}

#[test]
fn a_renewal_takes_along_what_is_due_soon() {
    let (mut scene, a) = Scenario::held();
    let mut ids = vec![a];
    for (seconds, text) in [(4, "b"), (6, "c")] {
        scene.sleep_until(START.after(Duration::from_secs(seconds)));
        ids.push(scene.acquire(text));
        let claim = scene.sends(Action::Acquire, &[text]);
        scene.grants(&claim);
    }
    scene.told();
    scene.sleep_until(START.after(RENEW));
    // "b" is due in 4 s and goes along, "c" in 6 s and does not: that is over half a period.
    let renewal = scene.sends(Action::Renew, &["a", "b"]);
    scene.confirms(&renewal);
    let deadline = renewal.at.after(VALID);
    scene.tells([Event::Renewed { id: a, deadline }, Event::Renewed { id: ids[1], deadline }]);
    scene.sleeps();
    scene.sends(Action::Renew, &["a", "b", "c"]);
}

#[test]
fn a_renewal_takes_along_no_more_than_fits() {
    let mut scene = Scenario::with(Config { batch: 5, ..config() });
    for texts in [&["a", "b"][..], &["c", "d", "e", "f"]] {
        for text in texts {
            scene.acquire(text);
        }
        assert_eq!(scene.serves_one(Action::Acquire), texts.len());
        scene.sleep(Duration::from_secs(1));
    }
    scene.told();
    scene.sleep_until(START.after(RENEW));
    scene.sends(Action::Renew, &["a", "b", "c", "d", "e"]);
}

#[test]
fn leases_taken_one_by_one_end_up_renewed_by_a_handful_of_commands() {
    let mut scene = Scenario::new();
    for n in 0..1000 {
        scene.acquire(&format!("name {n:04}"));
        scene.serves_all();
        scene.sleep(TRIP);
    }
    scene.told();
    // The first period brings them into step; then ten more are counted.
    scene.serves_until(scene.now.after(RENEW));
    scene.told();
    let requests = scene.serves_until(scene.now.after(RENEW * 10));
    assert!(requests <= 40, "{requests} requests in ten periods");
    let mut renewals = BTreeMap::new();
    for event in scene.told() {
        let Event::Renewed { id, .. } = event else { panic!("{event:?}") };
        *renewals.entry(id).or_insert(0) += 1;
    }
    assert_eq!(renewals.len(), 1000);
    assert!(renewals.values().all(|count| (9..=15).contains(count)), "{renewals:?}");
}

impl Scenario {
    /// The next request leaves and succeeds; how many claims it has.
    fn serves_one(&mut self, action: Action) -> usize {
        let sent = self.sends_any();
        assert_eq!(sent.request.action(), action);
        self.serves(&sent);
        sent.len()
    }

    fn serves_all(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(Dispatch { id, request, deadline, .. }) = self.engine.poll_request(self.now)
        {
            let sent = Sent { id, at: self.now, deadline, request };
            self.serves(&sent);
            all.push(sent);
        }
        all
    }

    /// Answers all well up to a time; how many requests it took.
    fn serves_until(&mut self, end: Instant) -> usize {
        let mut requests = self.serves_all().len();
        while self.engine.poll_timeout().is_some_and(|at| at <= end) {
            self.sleeps();
            requests += self.serves_all().len();
        }
        self.sleep_until(end);
        requests
    }

    fn serves(&mut self, sent: &Sent) {
        match sent.request.action() {
            Action::Acquire => self.grants(sent),
            _ => self.confirms(sent),
        }
    }
}

/// A row that is pinned keeps its statement waiting, and with it all that are in the same one.
#[test]
fn a_claim_that_was_delayed_is_tried_again_by_itself() {
    let mut scene = Scenario::new();
    scene.acquire("a");
    let first = scene.sends(Action::Acquire, &["a"]);
    scene.answers(&first, Ok(Reply::one(Outcome::Delayed)));
    scene.acquire("b");
    let second = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&second);
    scene.sleep_until(START.after(Duration::from_secs(1)));
    scene.acquire("c");
    let again = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&again);
    scene.sends(Action::Acquire, &["c"]);
    scene.told();
}
