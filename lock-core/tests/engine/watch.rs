//! What is watched at the server, until it is seen free.

use crate::records::{consul, locked};
use crate::scenario::{TTL, freed, name};
use crate::sessions::{FENCE, MS, Scene};
use lock_core::{ConnectionId, Dispatch, Event, LockId, Outcome, Reply, Request};
use std::time::Duration;

/// For how long a watch that sees no change lasts.
const QUIET: Duration = Duration::from_millis(7_500);

impl Scene {
    /// It was denied.
    fn denied() -> (Self, LockId) {
        let mut scene = consul();
        let id = scene.wants("a");
        let session = scene.creates("1");
        let lock = scene.in_session(&session);
        scene.answers(&lock, locked(Outcome::Busy(None)));
        scene.told();
        (scene, id)
    }

    /// The next watch, and since when; the session is kept meanwhile.
    fn watches(&mut self) -> (Dispatch, u64) {
        for _ in 0..10 {
            let dispatch = self.sends();
            match dispatch.request {
                Request::Wait { since, .. } => return (dispatch, since),
                Request::KeepAlive { .. } => self.answers(&dispatch, Reply::one(Outcome::Done)),
                other => panic!("{other:?}"),
            }
        }
        panic!("nothing is watched");
    }

    /// After so long, the key is still locked.
    fn unchanged(&mut self, watch: &Dispatch, lasting: Duration, index: u64) {
        self.now = self.now.after(lasting);
        self.answers(watch, Reply::one(Outcome::Unchanged { index }));
    }
}

/// How soon after the last of many answers the next watch leaves.
fn pause(lasting: Duration, index: impl Fn(u64) -> u64) -> Duration {
    let (mut scene, _) = Scene::denied();
    for turn in 0..20 {
        let (watch, _) = scene.watches();
        scene.unchanged(&watch, lasting, index(turn));
    }
    let answered = scene.now;
    scene.watches();
    scene.now.since(answered)
}

/// Not asked again and again.
fn at_leisure(pause: Duration) -> bool {
    pause >= MS * 100
}

#[test]
fn a_key_that_changes_hands_is_watched_without_a_pause() {
    let pause = |moves: u64| pause(Duration::ZERO, |turn| 5 + turn * moves);
    assert!(pause(1) <= MS, "{:?}", pause(1));
    assert!(at_leisure(pause(0)), "nothing changed: {:?}", pause(0));
}

#[test]
fn what_the_server_has_watched_for_long_is_watched_on_without_a_pause() {
    let pause = |lasting| pause(lasting, |_| 5);
    assert!(pause(QUIET) <= MS * 2, "{:?}", pause(QUIET));
    assert!(at_leisure(pause(QUIET / 4)), "{:?}", pause(QUIET / 4));
}

#[test]
fn a_history_that_goes_backwards_again_and_again_is_watched_at_leisure() {
    let pause = pause(Duration::ZERO, |turn| 9 - turn % 2);
    assert!(at_leisure(pause), "{pause:?}");
}

#[test]
fn who_is_too_late_for_a_free_key_watches_it_again_soon() {
    let mut scene = consul();
    scene.wants("a");
    let session = scene.creates("1");
    let mut answered = scene.now;
    for _ in 0..20 {
        let lock = scene.in_session(&session);
        scene.answers(&lock, locked(Outcome::Busy(None)));
        answered = scene.now;
        let watch = scene.sends();
        scene.answers(&watch, Reply::one(Outcome::Free { times_overtaken: None }));
    }
    assert!(scene.now.since(answered) <= MS * 2, "{:?}", scene.now.since(answered));
}

impl Scene {
    /// It waits for the key, which is then unlocked by somebody who was passed over this often.
    fn sees_it_free(&mut self, passed: Option<u32>) {
        let (first, _) = self.watches();
        self.unchanged(&first, Duration::ZERO, 5);
        let (watch, since) = self.watches();
        assert_eq!(since, 5);
        self.answers(&watch, Reply::one(Outcome::Free { times_overtaken: passed }));
    }

    /// It was told this many times that the lock was free, and was too late.
    fn passed_over(times: u32) -> Self {
        let (mut scene, _) = Self::denied();
        for _ in 0..times {
            scene.sees_it_free(None);
            let lock = scene.sends();
            assert!(matches!(lock.request, Request::Acquire { .. }));
            scene.answers(&lock, locked(Outcome::Busy(None)));
        }
        scene
    }
}

#[test]
fn who_was_passed_over_as_often_as_the_last_holder_claims_at_once() {
    for (times, last) in [(0, None), (0, Some(0)), (0, Some(1)), (3, Some(4)), (3, Some(0))] {
        let mut scene = Scene::passed_over(times);
        scene.sees_it_free(last);
        let before = scene.now;
        let next = scene.sends();
        assert!(matches!(next.request, Request::Acquire { .. }), "{times} {last:?}");
        assert_eq!(scene.now, before, "{times} {last:?}");
    }
}

#[test]
fn who_was_passed_over_by_fewer_lets_others_go_first_and_then_looks() {
    let held_back = |times, last| {
        let mut scene = Scene::passed_over(times);
        scene.sees_it_free(Some(last));
        let before = scene.now;
        let (look, since) = scene.watches();
        assert_eq!(since, 0, "it is answered at once");
        (scene.now.since(before), scene, look)
    };
    let (one, two, most) = (held_back(0, 2).0, held_back(0, 4).0, held_back(0, u32::MAX).0);
    assert!(MS <= one && one < two && two < most && most <= MS * 30, "{one:?} {two:?} {most:?}");
    assert!(held_back(3, 5).0 < two, "what counts is by how many fewer");

    let (_, mut scene, look) = held_back(0, 7);
    scene.answers(&look, Reply::one(Outcome::Free { times_overtaken: Some(7) }));
    let next = scene.sends();
    assert!(matches!(next.request, Request::Acquire { .. }), "nobody wanted it: {next:?}");

    let (_, mut scene, look) = held_back(0, 7);
    scene.answers(&look, Reply::one(Outcome::Unchanged { index: 7 }));
    assert_eq!(scene.watches().1, 7, "it waits for the next time");
}

impl Scene {
    /// The lock is granted, and freed by one who was passed over this often.
    fn has_it_once(&mut self, times: u32) {
        let lock = self.sends();
        self.answers(&lock, locked(Outcome::Granted(FENCE)));
        let granted = self.told().into_iter().find_map(|event| match event {
            Event::Granted { id, .. } => Some(id),
            _ => None,
        });
        self.engine.release(self.now, granted.expect("it was granted"));
        let unlock = self.sends();
        assert!(
            matches!(unlock.request, Request::Release { times_overtaken: passed, .. } if passed == times)
        );
        self.answers(&unlock, Reply::one(Outcome::Done));
        self.told();
    }
}

#[test]
fn who_unlocks_leaves_word_of_how_often_it_was_passed_over() {
    for times in [0, 3] {
        let mut scene = Scene::passed_over(times);
        scene.sees_it_free(None);
        scene.has_it_once(times + 1);
    }
}

#[test]
fn who_frees_what_it_waited_for_comes_behind_others_and_looks_first() {
    let mut scene = Scene::passed_over(3);
    scene.sees_it_free(None);
    scene.has_it_once(4);
    let freed = scene.now;
    scene.wants("a");
    let (look, since) = scene.watches();
    assert_eq!((scene.now.since(freed), since), (MS * 2, 0));
    // Nobody else wanted it, and so nobody is left to come behind.
    scene.answers(&look, Reply::one(Outcome::Free { times_overtaken: Some(0) }));
    scene.has_it_once(1);
    let freed = scene.now;
    scene.wants("a");
    let next = scene.sends();
    assert!(matches!(next.request, Request::Acquire { .. }), "{next:?}");
    assert_eq!(scene.now, freed);
}

#[test]
fn after_a_denial_it_asks_again_only_when_the_key_was_seen_free() {
    let mut scene = consul();
    scene.wants("a");
    let session = scene.creates("1");
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Outcome::Busy(None)));
    for (since, index) in [(0, 5), (5, 9), (9, 3), (0, 4), (4, 4), (4, 4)] {
        let (watch, from) = scene.watches();
        assert_eq!(from, since, "only an index that goes backwards starts over");
        assert_ne!(watch.connection, ConnectionId::MAIN, "nothing waits for it");
        scene.unchanged(&watch, Duration::ZERO, index);
    }
    let (watch, _) = scene.watches();
    scene.answers(&watch, Reply::one(Outcome::Free { times_overtaken: None }));
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Outcome::Granted(FENCE)));
    assert!(matches!(scene.told()[..], [Event::Waiting { .. }, Event::Granted { .. }]));
}

#[test]
fn a_watch_that_nobody_wants_any_more_is_forgotten_at_once() {
    let (mut scene, id) = Scene::denied();
    let (watch, _) = scene.watches();
    scene.engine.release(scene.now, id);
    assert_eq!((scene.told(), scene.engine.attempts()), (vec![freed(id)], 0));
    scene.answers(&watch, Reply::one(Outcome::Free { times_overtaken: None }));
    assert_eq!(scene.told(), []);
}

#[test]
fn a_watch_lasts_no_longer_than_its_waiter_waits_and_leaves_time_for_the_answer() {
    let second = Duration::from_secs(1);
    for (wait, most) in [(None, QUIET), (Some(TTL), QUIET), (Some(second), second)] {
        let mut scene = consul();
        let give_up = wait.map(|wait| scene.now.after(wait));
        scene.engine.acquire(scene.now, name("a"), false, give_up);
        let session = scene.creates("1");
        let lock = scene.in_session(&session);
        scene.answers(&lock, locked(Outcome::Busy(None)));
        let (watch, _) = scene.watches();
        let Request::Wait { up_to, .. } = watch.request else { panic!("{watch:?}") };
        let left = give_up.map_or(most, |give_up| give_up.since(scene.now));
        assert_eq!(up_to, most.min(left));
        let ends = scene.now.after(up_to);
        assert_eq!(watch.deadline, ends.after(scene.engine.timing().request()));
    }
}
