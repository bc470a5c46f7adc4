//! What is watched at the server, until it is seen free.

use crate::records::{consul, locked};
use crate::scenario::{TTL, freed, name};
use crate::sessions::{FENCE, MS, Scene, unknown};
use lock_core::{
    ConnectionId, Dispatch, Event, LockId, Outcome, Place, Reply, Request, SessionName, Turn,
};
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
    let (mut scene, _) = Scene::first();
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
        scene.joins(0, None);
        let watch = scene.sends();
        scene.answers(&watch, Reply::one(Outcome::Free));
    }
    assert!(scene.now.since(answered) <= MS * 4, "{:?}", scene.now.since(answered));
}

const TICKET: u64 = 40;

impl Scene {
    /// It joins the line; this many are ahead, and this entry is the last of them.
    fn joins(&mut self, ahead: u64, last: Option<(&str, u64)>) {
        let join = self.sends();
        assert!(matches!(join.request, Request::Join { .. }), "{join:?}");
        let (place, last) = (Place { ticket: TICKET, ahead }, last.map(|(s, at)| (s.into(), at)));
        self.answers(&join, Reply::one(Outcome::InLine { place, ahead: last }));
    }

    /// It was denied, and nobody is ahead of it.
    fn first() -> (Self, LockId) {
        let (mut scene, id) = Self::denied();
        scene.joins(0, None);
        (scene, id)
    }

    /// It was denied, and stands behind two.
    fn third() -> (Self, LockId) {
        let (mut scene, id) = Self::denied();
        scene.joins(2, Some(("7", 30)));
        (scene, id)
    }

    /// The next wait: for whose end, and since when.
    fn waits_for(&mut self) -> (Dispatch, Option<SessionName>, u64) {
        let (wait, since) = self.watches();
        let Request::Wait { behind, .. } = &wait.request else { panic!("{wait:?}") };
        let behind = behind.clone();
        (wait, behind, since)
    }

    /// Its wait ends, for what it was for is no more.
    fn ends(&mut self, wait: &Dispatch) {
        self.answers(wait, Reply::one(Outcome::Free));
    }

    /// The lock is granted, and freed.
    fn has_it_once(&mut self, freed: Outcome) -> Request {
        let lock = self.sends();
        assert!(matches!(lock.request, Request::Acquire { .. }), "{lock:?}");
        self.answers(&lock, locked(Outcome::Granted(FENCE)));
        let granted = self.told().into_iter().find_map(|event| match event {
            Event::Granted { id, .. } => Some(id),
            _ => None,
        });
        self.engine.release(self.now, granted.expect("it was granted"));
        let unlock = self.sends();
        assert!(matches!(unlock.request, Request::Release { .. }), "{unlock:?}");
        self.answers(&unlock, Reply::one(freed));
        self.told();
        unlock.request
    }
}

#[test]
fn a_waiter_waits_for_the_end_of_the_one_ahead_and_claims_what_it_then_sees_free() {
    let (mut scene, _) = Scene::third();
    let before = scene.now;
    let (wait, behind, since) = scene.waits_for();
    assert_eq!((behind, since, scene.now), (Some("7".into()), 30, before));
    assert_ne!(wait.connection, ConnectionId::MAIN, "nothing waits for it");
    scene.ends(&wait);
    let before = scene.now;
    let (look, behind, since) = scene.waits_for();
    assert_eq!((behind, since, scene.now), (None, 0, before), "the lock, answered at once");
    scene.ends(&look);
    let before = scene.now;
    let freed = scene.has_it_once(Outcome::Done);
    assert_eq!(scene.now.since(before), MS * 2, "a claim and a release, and nothing between");
    assert_eq!(freed.claims()[0].turn, Turn::Of(Some(TICKET)), "its entry goes with the lock");
}

#[test]
fn a_waiter_behind_one_that_only_left_is_told_who_is_ahead_now() {
    let (mut scene, _) = Scene::third();
    let (wait, ..) = scene.waits_for();
    scene.ends(&wait);
    let (look, ..) = scene.waits_for();
    scene.unchanged(&look, Duration::ZERO, 50);
    scene.joins(1, Some(("6", 20)));
    let (_, behind, since) = scene.waits_for();
    assert_eq!((behind, since), (Some("6".into()), 20));
}

#[test]
fn a_waiter_that_sees_the_lock_free_for_long_gives_those_ahead_a_moment_and_claims() {
    let (mut scene, _) = Scene::third();
    for _ in 0..3 {
        let (wait, behind, since) = scene.waits_for();
        assert_eq!((behind, since), (Some("7".into()), 30));
        scene.unchanged(&wait, QUIET, 30);
        let (look, behind, since) = scene.waits_for();
        assert_eq!((behind, since), (None, 0), "the lock, answered at once");
        scene.unchanged(&look, Duration::ZERO, 50);
    }
    let (wait, ..) = scene.waits_for();
    scene.unchanged(&wait, QUIET, 30);
    let (look, ..) = scene.waits_for();
    scene.ends(&look);
    let before = scene.now;
    let freed = scene.has_it_once(Outcome::Done);
    assert_eq!(
        scene.now.since(before),
        MS * 42,
        "20 ms each for one and for two, and two requests"
    );
    // The next waiter behind that entry is not to wait as long.
    let Request::Release { passed_over, .. } = freed else { panic!("{freed:?}") };
    assert_eq!(passed_over, Some("7".into()));
}

#[test]
fn what_was_freed_for_others_is_wanted_behind_them() {
    for (freed, once, joins) in [
        (Outcome::DoneContended, false, true),
        (Outcome::DoneContended, true, false),
        (Outcome::Done, false, false),
    ] {
        let mut scene = consul();
        scene.wants("a");
        scene.creates("1");
        scene.has_it_once(freed);
        let before = scene.now;
        scene.engine.acquire(scene.now, name("a"), once, None);
        let next = scene.sends();
        assert_eq!(matches!(next.request, Request::Join { .. }), joins, "{next:?}");
        assert_eq!(scene.now, before);
        if joins {
            let place = Place { ticket: TICKET, ahead: 0 };
            scene.answers(&next, Reply::one(Outcome::InLine { place, ahead: None }));
            let (look, behind, since) = scene.waits_for();
            assert_eq!((behind, since), (None, 0), "nobody waits after all: it is asked at once");
            scene.ends(&look);
            scene.has_it_once(Outcome::Done);
        }
    }
}

#[test]
fn a_waiter_that_gives_up_leaves_the_line() {
    let (mut scene, id) = Scene::third();
    let (wait, ..) = scene.waits_for();
    scene.engine.release(scene.now, id);
    let leave = scene.sends();
    assert!(matches!(leave.request, Request::Leave { .. }), "{leave:?}");
    // Those behind it would wait for nothing.
    scene.fails(&leave, unknown());
    let again = scene.sends();
    assert_eq!(again.request, leave.request);
    scene.answers(&again, Reply::one(Outcome::Done));
    assert_eq!((scene.told(), scene.engine.attempts()), (vec![freed(id)], 0));
    scene.ends(&wait);
    assert_eq!(scene.told(), []);
}

/// What was sent and not answered may have been carried out.
#[test]
fn a_waiter_that_gives_up_while_it_joins_leaves_the_line() {
    let (mut scene, id) = Scene::denied();
    let join = scene.sends();
    scene.fails(&join, unknown());
    scene.engine.release(scene.now, id);
    let leave = scene.sends();
    assert!(matches!(leave.request, Request::Leave { .. }), "{leave:?}");
}

/// Nothing is changed by the release of a lock that is not ours.
#[test]
fn a_waiter_whose_claim_was_not_answered_frees_the_lock_and_leaves_the_line() {
    for (outcome, leaves) in [(Outcome::Done, false), (Outcome::NotOwner, true)] {
        let (mut scene, id) = Scene::first();
        let (wait, ..) = scene.waits_for();
        scene.ends(&wait);
        let lock = scene.sends();
        scene.fails(&lock, unknown());
        scene.engine.release(scene.now, id);
        let unlock = scene.sends();
        assert!(matches!(unlock.request, Request::Release { .. }), "{unlock:?}");
        scene.answers(&unlock, Reply::one(outcome));
        let next = scene.sends();
        assert_eq!(matches!(next.request, Request::Leave { .. }), leaves, "{next:?}");
    }
}

#[test]
fn after_a_denial_it_asks_again_only_when_the_key_was_seen_free() {
    let mut scene = consul();
    scene.wants("a");
    let session = scene.creates("1");
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Outcome::Busy(None)));
    scene.joins(0, None);
    for (since, index) in [(0, 5), (5, 9), (9, 3), (0, 4), (4, 4), (4, 4)] {
        let (watch, from) = scene.watches();
        assert_eq!(from, since, "only an index that goes backwards starts over");
        assert_ne!(watch.connection, ConnectionId::MAIN, "nothing waits for it");
        scene.unchanged(&watch, Duration::ZERO, index);
    }
    let (watch, _) = scene.watches();
    scene.answers(&watch, Reply::one(Outcome::Free));
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Outcome::Granted(FENCE)));
    assert!(matches!(scene.told()[..], [Event::Waiting { .. }, Event::Granted { .. }]));
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
        scene.joins(0, None);
        let (watch, _) = scene.watches();
        let Request::Wait { up_to, .. } = watch.request else { panic!("{watch:?}") };
        let left = give_up.map_or(most, |give_up| give_up.since(scene.now));
        assert_eq!(up_to, most.min(left));
        let ends = scene.now.after(up_to);
        assert_eq!(watch.deadline, ends.after(scene.engine.timing().request()));
    }
}
