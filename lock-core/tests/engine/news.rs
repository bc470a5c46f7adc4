//! A server that tells what was freed: who is sure to be told does not ask.

use crate::scenario::{NANO, Scenario, Sent, TRIP, deadlock, holder, name, unknown};
use lock_core::table::{Command, Freed, Reply, Table};
use lock_core::{Action, Engine, Event, Holder, Instant, Lane, LockId, News};
use std::time::Duration;

/// How long the lease in the way lasts.
const LEFT: Duration = Duration::from_secs(20);

/// After so long, a server that has nothing to tell says so.
const QUIET: Duration = Duration::from_millis(7_500);

/// An engine at a server that tells.
fn told() -> Scenario {
    let mut scene = Scenario::new();
    let table = Table::new(crate::scenario::TTL, "me").told();
    scene.engine = Engine::new(table, crate::scenario::config());
    scene
}

fn denied(scene: &mut Scenario, claim: &Sent) {
    scene.sleep(TRIP);
    scene.denies_for(claim, holder("somebody", LEFT));
    scene.told();
}

fn begins(scene: &mut Scenario, listen: &Sent) {
    scene.answers(listen, Ok(Reply::Told(News::Begun)));
}

fn tells_of(scene: &mut Scenario, listen: &Sent, names: &[&str]) {
    let freed = names.iter().map(|text| name(text)).collect();
    scene.answers(listen, Ok(Reply::Told(News::Freed(freed))));
}

/// It was denied once before the server told, and once since; it listens.
fn listening() -> (Scenario, LockId, Sent) {
    let mut scene = told();
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sends_nothing(); // nobody waits yet
    denied(&mut scene, &claim);
    let first = scene.sends(Action::Listen, &[]);
    begins(&mut scene, &first);
    let again = scene.sends(Action::Acquire, &["a"]); // it may have been freed before
    let listen = scene.sends(Action::Listen, &[]);
    denied(&mut scene, &again);
    (scene, id, listen)
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
    assert_eq!(next(&mut scene), ends);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]); // nothing happened for long
    let listen = scene.sends(Action::Listen, &[]);
    assert_eq!(next(&mut scene), ends);
    scene.sleep_until(ends);
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim); // it was renewed
    assert_eq!(next(&mut scene), scene.now.after(LEFT));
    drop(listen);
}

#[test]
fn who_is_told_tries_at_once() {
    let (mut scene, id, listen) = listening();
    tells_of(&mut scene, &listen, &["b", "a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    scene.sleep(TRIP);
    scene.grants(&claim);
    assert!(matches!(scene.told()[..], [Event::Granted { id: granted, .. }] if granted == id));
    scene.release(id);
    let release = scene.sends(Action::Release, &["a"]);
    scene.answers(&release, Ok(Reply::Freed(vec![Freed::Free])));
    scene.told();
    // Nobody waits any more: when nobody has for long, the connection goes.
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]);
    let listen = scene.sends(Action::Listen, &[]);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]);
    let unlisten = scene.sends(Action::Unlisten, &[]);
    scene.answers(&unlisten, Ok(Reply::Silent));
    scene.sends_nothing();
}

#[test]
fn what_is_freed_while_the_claim_is_under_way_is_not_missed() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    // Denied at the server; freed by the next holder; and that is heard before the denial.
    tells_of(&mut scene, &listen, &["a"]);
    scene.sends(Action::Listen, &[]);
    denied(&mut scene, &claim);
    assert!(next(&mut scene) <= scene.now.after(TRIP));
    scene.sleeps();
    scene.sends(Action::Acquire, &["a"]);
}

#[test]
fn a_claim_sent_before_the_server_told_is_not_sure_to_be_told_of() {
    let mut scene = told();
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    let first = scene.sends(Action::Listen, &[]);
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(NANO);
    begins(&mut scene, &first);
    scene.sends(Action::Listen, &[]);
    denied(&mut scene, &claim);
    assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "it asks again");
}

#[test]
fn a_denial_that_names_no_holder_is_not_told_of() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sends(Action::Listen, &[]);
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
        if !scene.engine.has_command() {
            assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "within a second");
            scene.sleeps();
        }
        let sent = scene.sends_any();
        if sent.command.action() == Action::Listen {
            scene.fails(&sent, deadlock());
            failures += 1;
        } else {
            denied(&mut scene, &sent);
        }
    }
}

#[test]
fn who_frees_what_others_wait_for_lets_them_go_first() {
    for (freed, wait) in [(Freed::Free, Duration::ZERO), (Freed::Wanted, TRIP * 2)] {
        let mut scene = told();
        let first = scene.acquire("a");
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.sleep(TRIP);
        scene.grants(&claim);
        scene.acquire("a"); // a local rival
        scene.release(first);
        let release = scene.sends(Action::Release, &["a"]);
        scene.sleep(TRIP);
        scene.answers(&release, Ok(Reply::Freed(vec![freed])));
        scene.told();
        let at = scene.now;
        if !scene.engine.has_command() {
            scene.sleeps();
        }
        scene.sends(Action::Acquire, &["a"]);
        assert_eq!(scene.now.since(at), wait);
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
    scene.sends(Action::Listen, &[]);
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
    let listen = scene.sends(Action::Listen, &[]);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &["a"]); // others' business does not keep it
    let unlisten = scene.sends(Action::Unlisten, &[]);
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    scene.answers(&unlisten, Ok(Reply::Silent));
    scene.sends(Action::Listen, &[]);
    assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "it is not told yet");
}

#[test]
fn who_waits_again_soon_is_told_from_the_start() {
    let (mut scene, id, listen) = listening();
    scene.release(id);
    scene.told();
    scene.sleep(QUIET / 2);
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    assert_eq!(next(&mut scene), scene.now.after(LEFT), "it need not ask again");
    // It was needed meanwhile: the time without begins anew.
    scene.sleep(QUIET / 2);
    tells_of(&mut scene, &listen, &["b"]);
    scene.sends(Action::Listen, &[]);
}

fn denied_behind(scene: &mut Scenario, claim: &Sent) {
    scene.sleep(TRIP);
    let just = Holder { held_for: Duration::ZERO, wanted: true, ..holder("somebody", LEFT) };
    scene.denies_for(claim, just);
    scene.told();
}

#[test]
fn who_was_denied_behind_others_is_held_back_the_less_the_more_often_it_was_passed_over() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let mut claim = scene.sends(Action::Acquire, &["a"]); // nobody was before it
    let mut listen = scene.sends(Action::Listen, &[]);
    let mut backs = Vec::new();
    while backs.last() != Some(&Duration::ZERO) {
        denied_behind(&mut scene, &claim);
        let told = scene.now;
        tells_of(&mut scene, &listen, &["a"]);
        let mut sent = scene.sends_any();
        if sent.command.action() == Action::Listen {
            scene.sleeps();
            (listen, sent) = (sent, scene.sends_any());
        } else {
            listen = scene.sends(Action::Listen, &[]);
        }
        backs.push(scene.now.since(told));
        claim = sent;
    }
    assert!(backs[0] >= TRIP * 8, "{backs:?}");
    assert!(backs.is_sorted_by(|a, b| a > b), "{backs:?}");
    assert_eq!(backs.len(), 10, "{backs:?}");
}

#[test]
fn further_news_do_not_put_off_who_is_held_back() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    denied_behind(&mut scene, &claim);
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    let at = next(&mut scene);
    scene.sleep(at.since(scene.now) - TRIP);
    tells_of(&mut scene, &listen, &["a"]);
    scene.sends(Action::Listen, &[]);
    assert_eq!(next(&mut scene), at);
}

#[test]
fn news_have_a_lane_of_their_own() {
    let mut scene = told();
    scene.acquire("a");
    let claim = scene.engine.poll_command(scene.now).expect("a claim");
    assert_eq!(claim.lane, Lane::HOME);
    let sent =
        Sent { id: claim.id, at: scene.now, deadline: claim.deadline, command: claim.command };
    denied(&mut scene, &sent);
    scene.acquire("b");
    let claim = scene.engine.poll_command(scene.now).expect("a claim");
    assert_eq!(claim.lane, Lane::HOME);
    let listen = scene.engine.poll_command(scene.now).expect("it listens");
    assert_eq!(listen.lane, Lane::NEWS);
    let Command::Listen { up_to } = listen.command else { panic!("{listen:?}") };
    assert!(scene.now.after(up_to) < listen.deadline, "there is time for the answer");
}
