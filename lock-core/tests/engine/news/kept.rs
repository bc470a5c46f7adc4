//! Word of locks that were released, and are kept for a while.

use super::{LEFT, claims_next, listening};
use crate::scenario::{Scenario, Sent, name};
use lock_core::{Action, Event, News, Notification, Reply};
use std::time::Duration;

fn tells_of_kept(scene: &mut Scenario, listen: &Sent, left: Duration) -> Sent {
    let kept = vec![Notification::Kept { name: name("a"), ticket: 1, left }];
    scene.answers(listen, Ok(Reply::News(News::Notified(kept))));
    let told = scene.told();
    let [Event::Waiting { holder: Some(holder), .. }] = &told[..] else { panic!("{told:?}") };
    assert!(holder.kept && holder.expires_in <= left);
    scene.sends(Action::Subscribe, &[])
}

#[test]
fn who_is_told_that_a_lock_is_kept_tries_at_its_end_and_not_before() {
    let (mut scene, _, listen) = listening();
    let ends = scene.now.after(LEFT / 4);
    let listen = tells_of_kept(&mut scene, &listen, LEFT / 4);
    claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends);
}

/// A notification makes nobody sleep for longer: safety and liveness never rest on one.
#[test]
fn a_longer_time_delays_nobody() {
    let (mut scene, _, listen) = listening();
    let ends = scene.now.after(LEFT);
    let listen = tells_of_kept(&mut scene, &listen, Duration::MAX);
    claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends);
}
