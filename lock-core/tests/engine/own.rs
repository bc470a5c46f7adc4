//! Locks with a TTL or a label of their own.

use crate::scenario::*;
use lock_core::{
    Action, Event, Instant, LockId, LostReason, Outcome, Reply, Timing, Wanted, Which,
};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(60);

fn lasting(ttl: Duration) -> Wanted {
    let timing = Timing::default().lasting(ttl).expect("good");
    Wanted { timing: Some(timing), ..Wanted::default() }
}

fn valid(ttl: Duration) -> Duration {
    Timing::new(ttl).expect("good").valid()
}

impl Scenario {
    fn want(&mut self, text: &str, wanted: Wanted) -> LockId {
        self.engine.want(self.now, Which::One(name(text)), wanted)
    }

    /// The TTLs that a request asks for, of those that ask for another than the engine's.
    fn own_ttls(sent: &Sent) -> Vec<Option<Duration>> {
        sent.request.claims().iter().map(|claim| claim.ttl).collect()
    }

    fn grants_until<const N: usize>(&mut self, sent: &Sent, until: [(LockId, Instant); N]) {
        self.grants(sent);
        let granted = |(id, deadline)| Event::Granted { id, fence: FENCE, deadline };
        self.tells(until.map(granted));
    }
}

#[test]
fn one_statement_carries_claims_of_different_ttls_and_each_lives_by_its_own() {
    let mut scene = Scenario::new();
    let [a, b, c] = ["a", "b", "c"].map(|text| match text {
        "a" => scene.want(text, lasting(SHORT)),
        "b" => scene.acquire(text),
        _ => scene.want(text, lasting(LONG)),
    });
    let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
    assert_eq!(Scenario::own_ttls(&claim), [Some(SHORT), None, Some(LONG)]);
    let until = |ttl| START.after(valid(ttl));
    scene.grants_until(&claim, [(a, until(SHORT)), (b, until(TTL)), (c, until(LONG))]);
    for (id, ttl) in [(a, SHORT), (b, TTL), (c, LONG)] {
        assert_eq!(scene.engine.own_timing(id).unwrap_or_default().valid(), valid(ttl));
    }
    // The first to be renewed is the shortest, after a third of its own TTL.
    scene.sleeps();
    assert_eq!(scene.now, START.after(SHORT / 3));
    let renewal = scene.sends(Action::Renew, &["a"]);
    assert_eq!(Scenario::own_ttls(&renewal), [Some(SHORT)]);
    scene.fails(&renewal, not_sent());
    scene.sleep_until(until(SHORT));
    let told = scene.told();
    let lost = |event: &Event| matches!(event, Event::Lost { id, .. } if *id == a);
    assert!(told.last().is_some_and(lost) && told.iter().filter(|one| lost(one)).count() == 1);
    assert_eq!(scene.engine.held_until(b), Some(until(TTL)));
    assert_eq!(scene.engine.held_until(c), Some(until(LONG)));
    [a, b, c].into_iter().for_each(|id| scene.release(id));
    let release = scene.sends(Action::Release, &["a", "b", "c"]);
    scene.confirms(&release);
    scene.told();
    scene.is_over();
}

#[test]
fn a_renewal_of_a_longer_lease_keeps_it_for_its_own_ttl() {
    let mut scene = Scenario::new();
    let id = scene.want("a", lasting(LONG));
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants_until(&claim, [(id, START.after(valid(LONG)))]);
    scene.sleeps();
    assert_eq!(scene.now, START.after(LONG / 3));
    let renewal = scene.sends(Action::Renew, &["a"]);
    assert_eq!(Scenario::own_ttls(&renewal), [Some(LONG)]);
    scene.confirms(&renewal);
    scene.tells([Event::Renewed { id, deadline: renewal.at.after(valid(LONG)) }]);
    scene.release(id);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}

#[test]
fn a_short_lease_outlives_a_request_about_another_that_hangs() {
    let mut scene = Scenario::new();
    let short = scene.want("a", lasting(SHORT));
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants_until(&claim, [(short, START.after(valid(SHORT)))]);
    scene.sleep(SHORT / 3 - NANO);
    let other = scene.acquire("b");
    let hangs = scene.sends(Action::Acquire, &["b"]);
    assert_eq!(hangs.deadline, hangs.at.after(valid(SHORT) / 4));
    scene.sleep_until(hangs.deadline);
    scene.fails(&hangs, unknown());
    let renewal = scene.sends(Action::Renew, &["a"]);
    assert!(renewal.at < START.after(valid(SHORT)), "in time");
    scene.confirms(&renewal);
    let [Event::Trouble { .. }, Event::Renewed { .. }] = scene.told()[..] else { panic!() };
    scene.release(short);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(short)]);
    // Without it, a request has the engine's time again.
    scene.sleep(TTL);
    let again = scene.sends(Action::Acquire, &["b"]);
    assert_eq!(again.deadline, again.at.after(Timing::default().request()));
    scene.grants(&again);
    let [Event::Granted { id, .. }] = scene.told()[..] else { panic!("not granted") };
    assert_eq!(id, other);
    scene.release(other);
    let release = scene.sends(Action::Release, &["b"]);
    scene.confirms(&release);
    scene.tells([freed(other)]);
    scene.is_over();
}

#[test]
fn permits_and_several_locks_have_the_ttl_and_the_label_that_was_wished() {
    let wanted = || Wanted { label: Some("job 7".into()), ..lasting(SHORT) };
    let permits = name("s").permits(2).expect("good");
    for which in [Which::Any(permits), Which::All(vec![name("a"), name("b")])] {
        let mut scene = Scenario::new();
        let any = matches!(which, Which::Any(_));
        let id = scene.engine.want(scene.now, which, wanted());
        let mut claim = scene.sends_any();
        if any {
            // The first permit is somebody else's.
            scene.denies(&claim);
            let look = scene.sends_any();
            let free = Outcome::Free;
            scene.answers(&look, Ok(Reply::one(free)));
            claim = scene.sends_any();
        }
        let own = |claim: &lock_core::Claim| {
            (claim.ttl, claim.label.as_deref()) == (Some(SHORT), Some("job 7"))
        };
        assert!(claim.request.claims().iter().all(own), "{:?}", claim.request);
        scene.grants(&claim);
        let until = scene.now.after(valid(SHORT));
        scene.tells([Event::Granted { id, fence: FENCE, deadline: until }]);
        assert_eq!(scene.engine.own_timing(id).map(|one| one.valid()), Some(valid(SHORT)));
        scene.sleeps();
        let renewal = scene.sends_any();
        assert!(renewal.request.claims().iter().all(own));
        scene.disowns(&renewal);
        scene.tells([Event::Lost { id, reason: LostReason::Taken }]);
        scene.release(id);
        let left = scene.told();
        if left.is_empty() {
            let release = scene.sends_any();
            scene.confirms(&release);
            scene.told();
        }
        scene.is_over();
    }
}

#[test]
fn local_rivals_are_told_the_label_of_the_lock() {
    let mut scene = Scenario::new();
    let id = scene.want("a", Wanted { label: Some("job 7".into()), ..Wanted::default() });
    let claim = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(claim.request.claims()[0].label.as_deref(), Some("job 7"));
    scene.grants_until(&claim, [(id, START.after(VALID))]);
    let rival = scene.acquire_for("a", TRIP);
    let told = scene.told();
    let [Event::Waiting { id: told, of: None, holder: Some(holder), withheld: false }] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((*told, &*holder.label), (rival, "job 7"));
    scene.sleep(TRIP);
    scene.told();
    scene.release(id);
    let release = scene.sends(Action::Release, &["a"]);
    scene.confirms(&release);
    scene.tells([freed(id)]);
    scene.is_over();
}
