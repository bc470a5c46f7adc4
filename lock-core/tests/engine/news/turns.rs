//! The order of waiters that are told.

use super::*;
use crate::scenario::START;
use lock_core::Turn;

#[test]
fn who_frees_what_others_wait_for_draws_a_ticket_before_it_claims_again() {
    for (freed, next) in [(Outcome::Done, Action::Acquire), (Outcome::DoneContended, Action::Probe)]
    {
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
        // At once, for it is the server that lets the others go first.
        let asked = scene.sends(next, &["a"]);
        assert_eq!(asked.request.claims()[0].turn, Turn::Of(None));
    }
}

/// Denied with so many ahead of its ticket, the hundredth, and sure to be notified if it is near. It has been held for an hour.
fn in_line(ahead: u64) -> (Scenario, LockId, Sent) {
    in_line_for(ahead, Duration::from_secs(3_600))
}

/// The same of a lock that has been held for so long.
fn in_line_for(ahead: u64, held_for: Duration) -> (Scenario, LockId, Sent) {
    let (mut scene, id, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Subscribe, &[]);
    scene.sleep(TRIP);
    let place = Some(Place { ticket: 100, ahead });
    let held = but(holder("somebody", LEFT), |it| (it.place, it.held_for) = (place, held_for));
    scene.denies_for(&claim, held);
    scene.told();
    (scene, id, listen)
}

fn tells_the_turn(scene: &mut Scenario, listen: &Sent, ticket: u64) {
    let freed = vec![Notification::Freed { name: name("a"), ticket }];
    scene.answers(listen, Ok(Reply::News(News::Notified(freed))));
}

#[test]
fn the_one_whose_turn_it_is_claims_at_once_and_the_others_ask_nothing() {
    let (mut scene, _, mut listen) = in_line(3);
    for ticket in [97, 98, 99] {
        scene.sleep(TRIP);
        tells_the_turn(&mut scene, &listen, ticket);
        listen = scene.sends(Action::Subscribe, &[]);
        assert!(next(&mut scene) >= scene.now.after(TRIP * 2));
    }
    scene.sleep(TRIP);
    tells_the_turn(&mut scene, &listen, 100);
    let claim = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(claim.request.claims()[0].turn, Turn::Of(Some(100)));
    scene.sends(Action::Subscribe, &[]);
}

#[test]
fn who_was_passed_over_claims_at_once() {
    let (mut scene, _, listen) = in_line(3);
    tells_the_turn(&mut scene, &listen, 107);
    scene.sends(Action::Acquire, &["a"]);
    scene.sends(Action::Subscribe, &[]);
}

/// Those ahead may have died.
#[test]
fn who_is_behind_looks_once_those_ahead_have_had_the_time_to_claim() {
    let (mut scene, _, listen) = in_line(3);
    tells_the_turn(&mut scene, &listen, 98);
    scene.sends(Action::Subscribe, &[]);
    let told = scene.now;
    scene.sleeps();
    scene.sends(Action::Probe, &["a"]);
    assert!(scene.now.since(told) <= Duration::from_secs(1), "{:?}", scene.now.since(told));
}

/// It had been told before that it is that ticket's turn next.
#[test]
fn who_waits_for_one_that_has_died_looks_though_the_line_has_not_moved() {
    let (mut scene, _, listen) = in_line(3);
    tells_the_turn(&mut scene, &listen, 97);
    scene.sends(Action::Subscribe, &[]);
    let told = scene.now;
    scene.sleeps();
    scene.sends(Action::Probe, &["a"]);
    assert!(scene.now.since(told) <= Duration::from_secs(1), "{:?}", scene.now.since(told));
}

/// A release tells nobody if no ticket was drawn.
#[test]
fn who_has_no_ticket_does_not_rely_on_being_told() {
    let mut scene = told();
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.denies_for(&claim, holder("somebody", LEFT));
    scene.told();
    let first = scene.sends(Action::Subscribe, &[]);
    begins(&mut scene, &first);
    let (mut looks, mut listen) = (0, None);
    while looks < 12 {
        if !scene.engine.has_work() {
            scene.sleeps();
            continue;
        }
        let sent = scene.sends_any();
        match sent.request.action() {
            Action::Ping => {
                scene.answers(&sent, Ok(Reply::one(Outcome::Done)));
                let listens: Sent =
                    listen.take().unwrap_or_else(|| scene.sends(Action::Subscribe, &[]));
                tells_number(&mut scene, &listens, number(&sent));
            }
            Action::Subscribe => listen = Some(sent),
            _ => {
                scene.sleep(TRIP);
                scene.denies_for(&sent, holder("somebody", LEFT));
                scene.told();
                looks += 1;
            }
        }
    }
    assert!(scene.now <= START.after(Duration::from_secs(13)));
}

/// Notifications of nothing new put off nobody.
#[test]
fn a_line_that_does_not_move_puts_off_nobody() {
    let (mut scene, _, mut listen) = in_line(3);
    tells_the_turn(&mut scene, &listen, 98);
    listen = scene.sends(Action::Subscribe, &[]);
    let at = next(&mut scene);
    while scene.now.after(TRIP) < at {
        scene.sleep(TRIP);
        tells_the_turn(&mut scene, &listen, 98);
        listen = scene.sends(Action::Subscribe, &[]);
        assert_eq!(next(&mut scene), at);
    }
}

/// A notification wakes all that listen.
#[test]
fn who_is_far_behind_is_not_notified_until_it_is_near() {
    let (mut scene, _, listen) = in_line_for(40, NANO);
    tells_of(&mut scene, &listen, &["another"]);
    let quiet = scene.sends(Action::Unsubscribe, &[]);
    scene.answers(&quiet, Ok(Reply::one(Outcome::Done)));
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["a"]);
    let held = |ahead| {
        let place = Some(Place { ticket: 100, ahead });
        but(holder("somebody", LEFT), |it| (it.place, it.held_for) = (place, TRIP))
    };
    scene.denies_for(&look, held(12));
    scene.told();
    scene.sleeps();
    let look = scene.sends(Action::Probe, &["a"]);
    scene.denies_for(&look, held(7));
    scene.told();
    // The connection is the same, and was heard on a moment ago.
    let listen = scene.sends(Action::Subscribe, &[]);
    begins(&mut scene, &listen);
    let listen = scene.sends(Action::Subscribe, &[]);
    tells_the_turn(&mut scene, &listen, 100);
    scene.sends(Action::Acquire, &["a"]);
    scene.sends(Action::Subscribe, &[]);
}

/// Notifications are rare then.
#[test]
fn whoever_waits_for_a_lock_that_is_held_for_long_is_notified_however_far_behind() {
    let (mut scene, _, listen) = in_line(40);
    tells_the_turn(&mut scene, &listen, 61);
    scene.sends(Action::Subscribe, &[]);
    let told = scene.now;
    scene.sleeps();
    scene.sends(Action::Probe, &["a"]);
    assert!(scene.now.since(told) <= Duration::from_secs(2), "{:?}", scene.now.since(told));
}

#[test]
fn who_is_a_little_further_behind_stays_notified() {
    let (mut scene, _, listen) = in_line_for(15, NANO);
    tells_of(&mut scene, &listen, &["another"]);
    scene.sends(Action::Subscribe, &[]);
}

#[test]
fn a_connection_that_is_quiet_is_closed_once_nobody_waits() {
    let (mut scene, id, listen) = in_line_for(40, NANO);
    tells_of(&mut scene, &listen, &["another"]);
    let quiet = scene.sends(Action::Unsubscribe, &[]);
    scene.answers(&quiet, Ok(Reply::one(Outcome::Done)));
    scene.release(id);
    scene.told();
    scene.sleep(QUIET);
    scene.stops_listening();
    scene.sends_nothing();
}
