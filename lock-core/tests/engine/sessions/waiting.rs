//! Waiting in the server's queue, on connections of their own.

use super::*;
use lock_core::{Outcome, Reply, Request, SessionName, advisory};

/// A connection in the server's queue cannot be kept alive meanwhile.
#[test]
fn a_lock_that_was_waited_for_is_handed_on_with_its_due_left() {
    for kept in [true, false] {
        let mut scene = advisory();
        let id = scene.wants("a");
        scene.opens();
        let wait = scene.waits();
        scene.told();
        let timing = Timing::default();
        scene.now = START.after(timing.ttl() / 3).after(MS * 100);
        scene.answers(&wait, granted());
        assert_eq!(scene.told(), [], "there would be less time than after any renewal");
        let keep = loop {
            let keep = scene.sends();
            assert_eq!(keep.request, Request::KeepAlive { session: SessionName::default() });
            let lives = kept || keep.connection != wait.connection;
            let outcome = if lives { Outcome::Done } else { Outcome::NoSession };
            scene.answers(&keep, Reply::one(outcome));
            if keep.connection == wait.connection {
                break scene.now.before(MS);
            }
        };
        let told = scene.told();
        if kept {
            let deadline = keep.after(timing.valid());
            assert_eq!(told, [Event::Granted { id, fence: FENCE, deadline }]);
        } else {
            assert!(matches!(told[..], [Event::Trouble { .. }]), "{told:?}");
        }
    }
}

#[test]
fn whoever_is_denied_waits_on_a_connection_of_its_own() {
    let (mut scene, _) = Scene::holding();
    let b = scene.wants("b");
    let wait = scene.waits();
    scene.told();
    // The home connection goes on.
    scene.wants("c");
    let claim = scene.sends();
    assert_ne!(claim.connection, wait.connection);
    scene.answers(&claim, granted());
    scene.answers(&wait, granted());
    let told = scene.told();
    assert!(matches!(told[1], Event::Granted { id, .. } if id == b), "{told:?}");
    // It is freed on the same connection.
    scene.engine.release(scene.now, b);
    let unlock = scene.sends();
    assert_eq!(unlock.connection, wait.connection);
    scene.answers(&unlock, Reply::Outcomes([Outcome::Done].into()));
    assert_eq!(scene.told(), [Event::Released { id: b, release: Release::Freed }]);
}

#[test]
fn a_wait_that_nobody_wants_any_more_is_cut_off_at_once() {
    let (mut scene, _) = Scene::holding();
    let b = scene.wants("b");
    let wait = scene.waits();
    scene.told();
    scene.engine.release(scene.now, b);
    assert_eq!(scene.told(), [], "until its connection is closed it may yet be granted");
    scene.closes(wait.connection);
    assert_eq!(scene.told(), [Event::Released { id: b, release: Release::Freed }]);
    // The reply to the wait is of no interest any more.
    scene.answers(&wait, granted());
    assert_eq!(scene.told(), []);
}

#[test]
fn a_wait_that_fails_before_it_is_cut_off_leaves_a_connection_to_close() {
    let (mut scene, _) = Scene::holding();
    let b = scene.wants("b");
    let wait = scene.waits();
    scene.told();
    scene.engine.release(scene.now, b);
    scene.fails(&wait, unknown());
    scene.closes(wait.connection);
    assert_eq!(scene.told(), [Event::Released { id: b, release: Release::Freed }]);
    assert_eq!(scene.engine.sessions(), 1, "the home connection");
}

#[test]
fn only_a_connection_that_waits_may_be_slow_to_answer() {
    let (mut scene, _) = Scene::holding();
    scene.wants("b");
    let wait = scene.waits();
    assert!(scene.engine.waits_on(wait.connection));
    scene.wants("c");
    let home = scene.sends().connection;
    for connection in [home, ConnectionId::MAIN, ConnectionId::NOTIFICATIONS] {
        assert!(!scene.engine.waits_on(connection), "{connection:?}");
    }
}

#[test]
fn no_more_connections_wait_than_allowed() {
    let timing = Timing::default();
    let protocol = advisory::capabilities(1, None);
    let engine = Engine::new(protocol, Config::new(timing, 42));
    let mut scene = Scene { engine, now: START };
    scene.wants("a");
    scene.wants("b");
    scene.opens();
    let claim = scene.sends();
    scene.answers(&claim, Reply::Outcomes([Outcome::Busy(None), Outcome::Busy(None)].into()));
    scene.opens();
    let (one, other) = (scene.sends(), scene.sends());
    let (wait, again) =
        if one.connection == claim.connection { (other, one) } else { (one, other) };
    assert!(matches!(wait.request, Request::Wait { .. }), "{wait:?}");
    assert!(matches!(again.request, Request::Acquire { .. }), "{again:?}");
    assert_eq!(again.connection, claim.connection, "it asks again where it asked before");
}

#[test]
fn those_who_share_go_together_and_the_next_in_turn() {
    let mut scene = advisory();
    scene.wants_as("a", Mode::Shared);
    scene.wants_as("a", Mode::Shared);
    let excludes = scene.wants("a");
    let behind = scene.wants_as("a", Mode::Shared);
    scene.opens();
    for _ in 0..2 {
        let claim = scene.sends();
        assert_eq!(claim.request.claims()[0].mode, Mode::Shared);
        scene.answers(&claim, granted());
    }
    scene.sends_nothing();
    let told = scene.told();
    let granted = |event: &&Event| matches!(event, Event::Granted { .. });
    assert_eq!(told.iter().filter(granted).count(), 2);
    for id in [excludes, behind] {
        scene.engine.release(scene.now, id);
    }
}

#[test]
fn who_would_share_waits_behind_one_that_excludes() {
    let mut scene = advisory();
    let excludes = scene.wants("a");
    scene.wants_as("a", Mode::Shared);
    scene.opens();
    let claim = scene.sends();
    assert_eq!(claim.request.claims()[0].mode, Mode::Exclusive);
    scene.answers(&claim, granted());
    scene.sends_nothing();
    let told = scene.told();
    assert!(
        matches!(told[..], [Event::Granted { id, .. }, Event::Waiting { .. }] if id == excludes)
    );
}

/// Has waited for "b" for so long, and frees it.
fn frees_after_a_wait(scene: &mut Scene, waited: Duration) {
    let id = scene.wants("b");
    let wait = scene.waits();
    scene.now = scene.now.after(waited);
    scene.answers(&wait, granted());
    scene.engine.release(scene.now, id);
    let unlock = scene.sends();
    scene.answers(&unlock, Reply::Outcomes([Outcome::Done].into()));
    scene.told();
}

/// The request for "b", which is sent at once.
fn wants_again(scene: &mut Scene, once: bool) -> lock_core::Dispatch {
    let (name, at) = (LockName::new("b").expect("a good name"), scene.now);
    scene.engine.acquire_as(at, name, Mode::Exclusive, once, None);
    let request = scene.sends();
    assert_eq!(scene.now, at);
    request
}

#[test]
fn a_process_that_was_made_to_wait_joins_the_queue_again_without_trying() {
    let (mut scene, _) = Scene::holding();
    frees_after_a_wait(&mut scene, MS * 10);
    let wait = wants_again(&mut scene, false);
    assert!(matches!(wait.request, Request::Wait { .. }), "{wait:?}");
    assert!(scene.engine.waits_on(wait.connection), "on the connection that has waited before");
    // Its caller learns that it waits, once it has not been granted at once.
    assert_eq!(scene.told(), []);
    scene.now = scene.engine.poll_timeout().expect("a time to tell");
    scene.engine.handle_timeout(scene.now);
    assert!(matches!(scene.told()[..], [Event::Waiting { holder: None, .. }]));
    scene.answers(&wait, granted());
    assert!(matches!(scene.told()[..], [Event::Granted { .. }]));
}

#[test]
fn a_process_that_was_granted_at_once_in_the_queue_soon_tries_first_again() {
    let (mut scene, _) = Scene::holding();
    frees_after_a_wait(&mut scene, MS * 10);
    let freed = scene.now;
    let wait = wants_again(&mut scene, false);
    scene.answers(&wait, granted());
    let told = scene.told();
    let Some(Event::Granted { id, .. }) = told.last() else { panic!("{told:?}") };
    scene.engine.release(scene.now, *id);
    let unlock = scene.sends();
    scene.answers(&unlock, Reply::Outcomes([Outcome::Done].into()));
    scene.now = freed.after(Duration::from_secs(1));
    scene.wants("b");
    let claim = scene.sends();
    assert!(matches!(claim.request, Request::Acquire { .. }), "nobody was in its way: {claim:?}");
}

#[test]
fn an_attempt_behind_a_release_joins_the_queue_as_well() {
    let (mut scene, _) = Scene::holding();
    frees_after_a_wait(&mut scene, MS * 10);
    let wait = wants_again(&mut scene, false);
    scene.now = scene.now.after(MS * 10);
    scene.answers(&wait, granted());
    let told = scene.told();
    let Some(Event::Granted { id, .. }) = told.last() else { panic!("{told:?}") };
    scene.engine.release(scene.now, *id);
    scene.wants("b");
    let unlock = scene.sends();
    assert!(matches!(unlock.request, Request::Release { .. }), "{unlock:?}");
    scene.answers(&unlock, Reply::Outcomes([Outcome::Done].into()));
    let wait = scene.sends();
    assert!(matches!(wait.request, Request::Wait { .. }), "{wait:?}");
}

#[test]
fn an_attempt_that_does_not_wait_does_not_join_the_queue() {
    let (mut scene, _) = Scene::holding();
    frees_after_a_wait(&mut scene, MS * 10);
    let claim = wants_again(&mut scene, true);
    assert!(matches!(claim.request, Request::Acquire { .. }), "{claim:?}");
}

/// An attempt behind one that waits learns that somebody else has the lock.
#[test]
fn a_local_rival_of_a_wait_without_a_denial_is_told_that_it_waits() {
    let (mut scene, _) = Scene::holding();
    frees_after_a_wait(&mut scene, MS * 10);
    wants_again(&mut scene, false);
    let behind = scene.wants("b");
    assert_eq!(scene.told(), []);
    scene.now = scene.now.after(MS * 100);
    scene.engine.handle_timeout(scene.now);
    let told = scene.told();
    assert!(
        told.contains(&Event::Waiting { id: behind, of: None, holder: None, withheld: false }),
        "{told:?}"
    );
}

/// Only one part of a semaphore claims at a time: one that waited would keep the others from it.
#[test]
fn a_part_of_a_semaphore_does_not_join_the_queue() {
    let (mut scene, _) = Scene::holding();
    frees_after_a_wait(&mut scene, MS * 10);
    let names = ["b", "b"].map(|name| LockName::new(name).expect("a good name")).into();
    scene.engine.acquire_any(scene.now, names, false, None);
    let claim = scene.sends();
    assert!(matches!(claim.request, Request::Acquire { .. }), "{claim:?}");
}
