//! The order of waiters that are told.

use super::*;
use crate::scenario::but;
use lock_core::{Outcome, Reply};

#[test]
fn who_frees_what_others_wait_for_lets_them_go_first() {
    for (freed, wait) in [(Outcome::Done, Duration::ZERO), (Outcome::DoneContended, TRIP * 2)] {
        let mut scene = told();
        let first = scene.acquire("a");
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.sleep(TRIP);
        scene.grants(&claim);
        scene.acquire("a"); // a local rival
        scene.release(first);
        let release = scene.sends(Action::Release, &["a"]);
        scene.sleep(TRIP);
        scene.answers(&release, Ok(Reply::Outcomes(vec![freed])));
        scene.told();
        let at = scene.now;
        if !scene.engine.has_work() {
            scene.sleeps();
        }
        scene.sends(Action::Acquire, &["a"]);
        assert_eq!(scene.now.since(at), wait);
    }
}

fn denied_behind(scene: &mut Scenario, claim: &Sent) {
    scene.sleep(TRIP);
    let just =
        but(holder("somebody", LEFT), |it| (it.held_for, it.wanted) = (Duration::ZERO, true));
    scene.denies_for(claim, just);
    scene.told();
}

#[test]
fn who_was_denied_behind_others_is_held_back_the_less_the_more_often_it_was_passed_over() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let mut claim = scene.sends(Action::Acquire, &["a"]); // nobody was before it
    let mut listen = scene.sends(Action::Subscribe, &[]);
    let mut backs = Vec::new();
    while backs.last() != Some(&Duration::ZERO) {
        denied_behind(&mut scene, &claim);
        let told = scene.now;
        tells_of(&mut scene, &listen, &["a"]);
        let mut sent = scene.sends_any();
        if sent.request.action() == Action::Subscribe {
            scene.sleeps();
            (listen, sent) = (sent, scene.sends_any());
        } else {
            listen = scene.sends(Action::Subscribe, &[]);
        }
        backs.push(scene.now.since(told));
        claim = sent;
    }
    assert!(backs[0] >= TRIP * 8, "{backs:?}");
    assert!(backs.is_sorted_by(|a, b| a > b), "{backs:?}");
    assert_eq!(backs.len(), 11, "{backs:?}");
}

#[test]
fn further_news_do_not_put_off_who_is_held_back() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    denied_behind(&mut scene, &claim);
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    let at = next(&mut scene);
    scene.sleep(at.since(scene.now) - TRIP);
    tells_of(&mut scene, &listen, &["a"]);
    scene.sends(Action::Subscribe, &[]);
    assert_eq!(next(&mut scene), at);
}
