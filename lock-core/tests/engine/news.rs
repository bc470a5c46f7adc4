//! A server that tells what was freed: who is sure to be told does not ask.

mod kept;
mod probes;
mod turns;

use crate::scenario::{NANO, Scenario, Sent, TRIP, but, deadlock, holder, name, unknown};
use lock_core::{
    Action, Config, ConnectionId, Engine, Event, Instant, LockId, News, Notification, Outcome,
    Place, Reply, Request, table,
};
use std::time::Duration;

/// How long the lease in the way lasts.
const LEFT: Duration = Duration::from_secs(20);

/// After so long, a server that has nothing to tell says so.
const QUIET: Duration = Duration::from_millis(7_500);

/// An engine at a server that tells.
fn told() -> Scenario {
    let mut scene = Scenario::new();
    let table = table::capabilities("me", true);
    scene.engine = Engine::new(table, crate::scenario::config());
    scene
}

/// Somebody has the lock, and whoever waits is the next.
fn denied(scene: &mut Scenario, claim: &Sent) {
    scene.sleep(TRIP);
    let place = Some(Place { ticket: 1, ahead: 0 });
    scene.denies_for(claim, but(holder("somebody", LEFT), |it| it.place = place));
    scene.told();
}

/// What listens has a connection of its own.
#[test]
fn less_than_one_claim_or_request_counts_as_one_of_a_connection() {
    let config = Config { batch: 0, in_flight: 0, ..crate::scenario::config() };
    let mut scene = Scenario::of(Engine::new(table::capabilities("me", true), config));
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sends_nothing();
    denied(&mut scene, &claim);
    scene.sends(Action::Subscribe, &[]);
    for text in ["b", "c"] {
        scene.acquire(text);
    }
    scene.sends(Action::Acquire, &["b"]);
    scene.sends_nothing();
}

fn begins(scene: &mut Scenario, listen: &Sent) {
    scene.answers(listen, Ok(Reply::News(News::Begun)));
}

fn tells_of(scene: &mut Scenario, listen: &Sent, names: &[&str]) {
    let freed =
        names.iter().map(|text| Notification::Freed { name: name(text), ticket: 1 }).collect();
    scene.answers(listen, Ok(Reply::News(News::Notified(freed))));
}

fn number(probe: &Sent) -> u128 {
    let Request::Ping { number } = probe.request else { panic!("{:?}", probe.request) };
    number
}

fn tells_number(scene: &mut Scenario, listen: &Sent, number: u128) {
    let told = vec![Notification::Ping(number)];
    scene.answers(listen, Ok(Reply::News(News::Notified(told))));
}

/// A probe leaves, and is heard on the connection that listens.
fn verified(scene: &mut Scenario, listen: &Sent) -> Sent {
    let probe = scene.sends(Action::Ping, &[]);
    scene.answers(&probe, Ok(Reply::one(Outcome::Done)));
    tells_number(scene, listen, number(&probe));
    scene.sends(Action::Subscribe, &[])
}

/// The server tells, but nothing was heard yet: a probe is due.
fn begun() -> (Scenario, LockId) {
    let mut scene = told();
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sends_nothing(); // nobody waits yet
    denied(&mut scene, &claim);
    let first = scene.sends(Action::Subscribe, &[]);
    begins(&mut scene, &first);
    (scene, id)
}

/// It was denied once before the server told, and once since it is known to be heard; it listens.
fn listening() -> (Scenario, LockId, Sent) {
    let (mut scene, id) = begun();
    let probe = scene.sends(Action::Ping, &[]);
    scene.answers(&probe, Ok(Reply::one(Outcome::Done)));
    let listen = scene.sends(Action::Subscribe, &[]);
    tells_number(&mut scene, &listen, number(&probe));
    let listen = scene.sends(Action::Subscribe, &[]);
    scene.sleeps();
    let again = scene.sends(Action::Probe, &["a"]); // it may have been freed before
    denied(&mut scene, &again);
    (scene, id, listen)
}

/// The next claim, if nothing is told but probes; and what listens by then.
fn claims_next(scene: &mut Scenario, mut listen: Sent) -> (Sent, Sent) {
    loop {
        if !scene.engine.has_work() {
            scene.sleeps();
            continue;
        }
        let sent = scene.sends_any();
        if sent.request.action() != Action::Ping {
            assert_eq!(sent.request.action(), Action::Acquire);
            return (sent, listen);
        }
        scene.answers(&sent, Ok(Reply::one(Outcome::Done)));
        tells_number(scene, &listen, number(&sent));
        listen = scene.sends(Action::Subscribe, &[]);
    }
}

/// When it will try again if nothing happens.
fn next(scene: &mut Scenario) -> Instant {
    scene.sends_nothing();
    scene.engine.poll_timeout().expect("something is due")
}

#[test]
fn who_is_sure_to_be_told_asks_again_when_the_lease_ends_and_not_before() {
    let (mut scene, _, listen) = listening();
    let ends = scene.now.after(LEFT);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]); // nothing happened for long
    let listen = scene.sends(Action::Subscribe, &[]);
    let (claim, listen) = claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends);
    denied(&mut scene, &claim); // it was renewed
    let ends = scene.now.after(LEFT);
    claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends);
}

#[test]
fn who_is_told_tries_at_once() {
    let (mut scene, id, listen) = listening();
    tells_of(&mut scene, &listen, &["b", "a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    scene.sleep(TRIP);
    scene.grants(&claim);
    assert!(matches!(scene.told()[..], [Event::Granted { id: granted, .. }] if granted == id));
    scene.release(id);
    let release = scene.sends(Action::Release, &["a"]);
    scene.answers(&release, Ok(Reply::Outcomes(vec![Outcome::Done])));
    scene.told();
    // Nobody waits any more: when nobody has for long, the connection goes.
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]);
    let listen = scene.sends(Action::Subscribe, &[]);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]);
    scene.stops_listening();
    scene.sends_nothing();
}

#[test]
fn what_is_freed_while_the_claim_is_under_way_is_not_missed() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    // Denied at the server; freed by the next holder; and that is heard before the denial.
    tells_of(&mut scene, &listen, &["a"]);
    scene.sends(Action::Subscribe, &[]);
    denied(&mut scene, &claim);
    assert!(next(&mut scene) <= scene.now.after(TRIP));
    scene.sleeps();
    scene.sends(Action::Probe, &["a"]);
}

#[test]
fn a_claim_sent_before_the_server_told_is_not_sure_to_be_told_of() {
    let mut scene = told();
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    let first = scene.sends(Action::Subscribe, &[]);
    scene.sleeps();
    let claim = scene.sends(Action::Probe, &["a"]);
    scene.sleep(NANO);
    begins(&mut scene, &first);
    let listen = scene.sends(Action::Subscribe, &[]);
    denied(&mut scene, &claim);
    let denied = scene.now;
    verified(&mut scene, &listen);
    assert!(next(&mut scene) <= denied.after(Duration::from_secs(1)), "it asks again");
}

#[test]
fn a_denial_that_names_no_holder_is_not_told_of() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sends(Action::Subscribe, &[]);
    scene.sleep(TRIP);
    scene.denies(&claim);
    scene.told();
    assert!(next(&mut scene) <= scene.now.after(TRIP));
}

#[test]
fn when_the_server_stops_telling_everybody_asks_again() {
    let (mut scene, _, listen) = listening();
    scene.fails(&listen, unknown());
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    // And goes on asking, until the server tells again.
    let mut failures = 0;
    while failures < 12 {
        if !scene.engine.has_work() {
            assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "within a second");
            scene.sleeps();
        }
        let sent = scene.sends_any();
        if sent.request.action() == Action::Subscribe {
            scene.fails(&sent, deadlock());
            failures += 1;
        } else {
            denied(&mut scene, &sent);
        }
    }
}

#[test]
fn a_server_that_tells_nothing_at_once_is_not_listened_to_at_once_again() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &[]);
    scene.sends(Action::Acquire, &["a"]); // as if it told no more
    assert!(next(&mut scene) > scene.now);
}

#[test]
fn a_server_that_has_nothing_to_tell_for_half_the_time_is_listened_to_at_once_again() {
    let (mut scene, _, listen) = listening();
    scene.sleep_until(listen.at.after(QUIET / 2));
    tells_of(&mut scene, &listen, &[]);
    scene.sends(Action::Subscribe, &[]);
}

#[test]
fn nobody_listens_when_nobody_waits() {
    let mut scene = told();
    let id = scene.acquire_once("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.denies_for(&claim, holder("somebody", LEFT));
    assert!(matches!(scene.told()[..], [Event::NotAcquired { id: ended, .. }] if ended == id));
    scene.sends_nothing();
}

#[test]
fn who_waits_again_listens_again() {
    let (mut scene, id, listen) = listening();
    scene.release(id);
    scene.told();
    scene.sends_nothing(); // what is under way goes on
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &["a"]); // others' business does not keep it
    scene.stops_listening();
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    scene.sends(Action::Subscribe, &[]);
    assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "it is not told yet");
}

#[test]
fn who_waits_again_soon_is_told_from_the_start() {
    let (mut scene, id, listen) = listening();
    scene.release(id);
    scene.told();
    scene.sleep(QUIET / 2);
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    let ends = scene.now.after(LEFT);
    // It was needed meanwhile: the time without begins anew.
    scene.sleep(QUIET / 2);
    tells_of(&mut scene, &listen, &["b"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends, "it need not ask again");
}

#[test]
fn notifications_have_a_connection_of_their_own() {
    let mut scene = told();
    scene.acquire("a");
    let claim = scene.engine.poll_request(scene.now).expect("a claim");
    assert_eq!(claim.connection, ConnectionId::MAIN);
    let sent =
        Sent { id: claim.id, at: scene.now, deadline: claim.deadline, request: claim.request };
    denied(&mut scene, &sent);
    scene.acquire("b");
    let claim = scene.engine.poll_request(scene.now).expect("a claim");
    assert_eq!(claim.connection, ConnectionId::MAIN);
    let listen = scene.engine.poll_request(scene.now).expect("it listens");
    assert_eq!(listen.connection, ConnectionId::NOTIFICATIONS);
    assert!(listen.request.waits() && !claim.request.waits());
    let Request::Subscribe { up_to } = listen.request else { panic!("{listen:?}") };
    assert!(scene.now.after(up_to) < listen.deadline, "there is time for the answer");
}
