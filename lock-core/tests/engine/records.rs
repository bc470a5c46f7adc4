//! What becomes of attempts when sessions are records at the server.

use crate::scenario::{NANO, OVER, freed};
use crate::sessions::{FENCE, MS, Scene, unknown};
use lock_core::{
    Dispatch, Event, Failure, Instant, LockId, LostReason, Outcome, Place, Release, Reply, Request,
    SessionName, Timing, consul,
};
use std::time::Duration;

pub(crate) fn consul() -> Scene {
    Scene::new(consul::capabilities("me"))
}

pub(crate) fn locked(locked: Outcome) -> Reply {
    Reply::one(locked)
}

impl Scene {
    pub(crate) fn creates(&mut self, name: &str) -> SessionName {
        let create = self.sends();
        assert!(matches!(create.request, Request::Open { .. }), "{create:?}");
        let session = SessionName::from(name);
        self.answers(&create, Reply::Opened(session.clone()));
        session
    }

    pub(crate) fn in_session(&mut self, session: &SessionName) -> Dispatch {
        let dispatch = self.sends();
        match &dispatch.request {
            Request::Acquire { session: of, .. } | Request::Release { session: of, .. } => {
                assert_eq!(of, session)
            }
            other => panic!("{other:?}"),
        }
        dispatch
    }

    /// Two locks are held in a session. The first was claimed twice; until the time returned, the
    /// claim that was not answered may be carried out.
    fn claimed_twice() -> (Self, LockId, SessionName, Instant) {
        let mut scene = consul();
        let a = scene.wants("a");
        scene.wants("b");
        let session = scene.creates("1");
        let lock = scene.in_session(&session);
        scene.fails(&lock, unknown());
        let late = scene.now.after(OVER);
        for _ in 0..2 {
            let lock = scene.in_session(&session);
            scene.answers(&lock, locked(Outcome::Granted(FENCE)));
        }
        scene.told();
        (scene, a, session, late)
    }

    /// Until then the session is kept, and nothing else happens.
    fn keeps_until(&mut self, at: Instant) {
        while let Some(next) = self.engine.poll_timeout()
            && next < at
        {
            self.now = next;
            let renew = self.sends();
            assert!(matches!(renew.request, Request::KeepAlive { .. }), "{renew:?}");
            self.answers(&renew, Reply::one(Outcome::Done));
            assert!(self.told().iter().all(|event| matches!(event, Event::Renewed { .. })));
        }
        self.now = at;
    }
}

#[test]
fn no_session_is_opened_for_claims_to_come() {
    let mut scene = consul();
    scene.engine.open(scene.now);
    scene.sends_nothing();
    assert_eq!(scene.engine.sessions(), 0);
}

#[test]
fn a_session_has_an_owner_of_its_own() {
    let mut scene = consul();
    scene.wants("a");
    let create = scene.sends();
    let Request::Open { owner: name, .. } = create.request else { panic!("{create:?}") };
    scene.answers(&create, Reply::Opened(SessionName::from("1")));
    assert_ne!(scene.sends().request.claims()[0].owner, name);
}

#[test]
fn a_session_that_is_unknown_to_the_server_is_lost_with_all_its_locks() {
    let mut scene = consul();
    let a = scene.wants("a");
    let session = scene.creates("1");
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Outcome::Granted(FENCE)));
    let b = scene.wants("b");
    let lock = scene.in_session(&session);
    scene.told();
    scene.answers(&lock, locked(Outcome::NoSession));
    let told = scene.told();
    assert_eq!(told[0], Event::Lost { id: a, reason: LostReason::Taken });
    assert!(matches!(told[1], Event::Trouble { id, .. } if id == b), "{told:?}");
    let session = scene.creates("2");
    scene.in_session(&session);
}

#[test]
fn locks_lost_with_their_session_say_why_it_could_not_be_kept() {
    let mut scene = consul();
    let a = scene.wants("a");
    let session = scene.creates("1");
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Outcome::Granted(FENCE)));
    scene.told();
    let no_leader = Failure::not_now("No cluster leader".into());
    let lost = loop {
        scene.now = scene.engine.poll_timeout().expect("it is to be kept");
        scene.engine.handle_timeout(scene.now);
        match scene.told()[..] {
            [] => {}
            [ref lost] => break lost.clone(),
            ref told => panic!("{told:?}"),
        }
        let keep = scene.sends();
        scene.fails(&keep, no_leader.clone());
        assert!(matches!(scene.told()[..], [Event::RenewalFailed { .. }]));
    };
    let reason = LostReason::Deadline { last_failure: Some(no_leader) };
    assert_eq!(lost, Event::Lost { id: a, reason });
    scene.engine.release(scene.now, a);
    scene.told();
}

/// Carried out late, an unlock would free the successor's lock, if that were in the same session.
#[test]
fn after_a_release_without_an_answer_the_successor_is_in_another_session() {
    let mut scene = consul();
    let a = scene.wants("a");
    let first = scene.creates("1");
    let lock = scene.in_session(&first);
    scene.answers(&lock, locked(Outcome::Granted(FENCE)));
    scene.wants("a");
    scene.engine.release(scene.now, a);
    let unlock = scene.in_session(&first);
    scene.fails(&unlock, unknown());
    let unlock = scene.in_session(&first);
    scene.answers(&unlock, Reply::one(Outcome::NotOwner));
    assert!(scene.told().contains(&Event::Released { id: a, release: Release::Freed }));
    // With nothing left in it, what may come late dies with the session.
    let destroy = scene.sends();
    assert_eq!(destroy.request, Request::Close { session: first });
    scene.answers(&destroy, Reply::one(Outcome::Done));
    let second = scene.creates("2");
    scene.in_session(&second);
}

/// It is freed at once, and again when the claim that was not answered has surely been carried out.
#[test]
fn what_was_claimed_twice_is_unlocked_twice() {
    let (mut scene, a, session, late) = Scene::claimed_twice();
    scene.engine.release(scene.now, a);
    let unlock = scene.in_session(&session);
    scene.answers(&unlock, Reply::one(Outcome::Done));
    assert_eq!(scene.told(), [freed(a)]);
    scene.keeps_until(late);
    let again = scene.in_session(&session);
    assert_eq!((again.request.claims(), scene.now), (unlock.request.claims(), late));
    scene.answers(&again, Reply::one(Outcome::NotOwner));
    assert_eq!((scene.told(), scene.engine.attempts()), (vec![], 1));
}

#[test]
fn what_was_claimed_twice_long_ago_is_unlocked_once() {
    for after in [Duration::ZERO, NANO, OVER] {
        let (mut scene, a, session, late) = Scene::claimed_twice();
        let answered = late.after(after);
        scene.keeps_until(answered.before(MS));
        scene.engine.release(scene.now, a);
        let unlock = scene.in_session(&session);
        scene.answers(&unlock, Reply::one(Outcome::Done));
        assert_eq!(scene.now, answered);
        assert_eq!((scene.told(), scene.engine.attempts()), (vec![freed(a)], 1));
        scene.sends_nothing();
    }
}

/// The claim may have been carried out late, in a session that takes no more claims. Were that
/// kept, its attempt would wait for itself.
#[test]
fn a_session_that_its_last_attempt_has_left_is_closed() {
    let mut scene = consul();
    scene.wants("a");
    let first = scene.creates("1");
    let lock = scene.in_session(&first);
    scene.fails(&lock, unknown());
    let lock = scene.in_session(&first);
    scene.answers(&lock, locked(Outcome::Busy(None)));
    let late = scene.now.after(Timing::default().ttl() * 6 / 5);
    for index in 5.. {
        let dispatch = scene.sends();
        match dispatch.request {
            Request::Close { session } => return assert_eq!(session, first),
            Request::Join { .. } => {
                let place = Place { ticket: 3, ahead: 0 };
                scene.answers(&dispatch, Reply::one(Outcome::InLine { place, ahead: None }));
            }
            Request::Wait { .. } => {
                scene.now = scene.now.after(Timing::default().ttl() / 4);
                scene.answers(&dispatch, Reply::one(Outcome::Unchanged { index }));
            }
            Request::KeepAlive { .. } => {
                scene.answers(&dispatch, Reply::one(Outcome::Done));
            }
            other => assert!(scene.now >= late, "{other:?}"),
        }
        assert!(scene.now < late.after(Timing::default().ttl()), "it has the lock, perhaps");
    }
}

/// When the server has just started, it says so even of a lock that is ours.
#[test]
fn a_delay_does_not_say_that_an_unanswered_claim_failed() {
    let mut scene = consul();
    let a = scene.wants("a");
    let session = scene.creates("1");
    let lock = scene.in_session(&session);
    scene.fails(&lock, unknown());
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Outcome::Delayed));
    scene.told();
    scene.engine.release(scene.now, a);
    let unlock = scene.in_session(&session);
    assert!(matches!(unlock.request, Request::Release { .. }));
    scene.answers(&unlock, Reply::one(Outcome::Done));
    assert_eq!(scene.told(), [Event::Released { id: a, release: Release::Freed }]);
}

#[test]
fn what_was_not_carried_out_changes_nothing_about_the_session() {
    let mut scene = consul();
    scene.wants("a");
    let session = scene.creates("1");
    let rejected = Failure::not_now("not now".into());
    for failure in [Failure::NotSent("no route".into()), rejected] {
        let lock = scene.in_session(&session);
        scene.fails(&lock, failure);
    }
    scene.wants("b");
    for _ in 0..2 {
        let lock = scene.in_session(&session);
        scene.answers(&lock, locked(Outcome::Granted(FENCE)));
    }
}

/// Two answers are under way then. As long as its place in the line is not known to be free, those behind it wait for nothing.
#[test]
fn the_answer_to_a_wait_is_not_that_of_the_request_that_leaves_the_line() {
    let place = Outcome::InLine { place: Place { ticket: 3, ahead: 0 }, ahead: None };
    for waited in [Ok(Reply::one(Outcome::Busy(None))), Err(unknown())] {
        let mut scene = consul();
        let a = scene.wants("a");
        let session = scene.creates("1");
        let lock = scene.in_session(&session);
        scene.answers(&lock, locked(Outcome::Busy(None)));
        let joins = scene.sends();
        scene.answers(&joins, Reply::one(place.clone()));
        let wait = scene.sends();
        assert!(matches!(wait.request, Request::Wait { .. }), "{wait:?}");
        scene.told();
        scene.engine.release(scene.now, a);
        let leaves = scene.sends();
        assert!(matches!(leaves.request, Request::Leave { .. }), "{leaves:?}");
        scene.engine.handle_reply(scene.now, wait.id, waited);
        assert_eq!(scene.told(), [], "it has not left yet");
        scene.now = scene.now.after(MS * 500);
        scene.fails(&leaves, unknown());
        assert_eq!(scene.engine.poll_request(scene.now), None, "it was told to go only now");
        let leaves = scene.sends();
        assert!(matches!(leaves.request, Request::Leave { .. }), "{leaves:?}");
        scene.answers(&leaves, Reply::one(Outcome::Done));
        assert_eq!(scene.told(), [Event::Released { id: a, release: Release::Freed }]);
    }
}
