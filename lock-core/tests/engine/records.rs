//! What becomes of attempts when sessions are records at the server.

use crate::scenario::{NANO, OVER, freed};
use crate::sessions::{FENCE, MS, Scene, unknown};
use lock_core::consul::{self, Consul, Locked, Session};
use lock_core::{Dispatch, Event, Failure, Instant, LockId, LostReason, Release, Timing};
use std::time::Duration;

pub(crate) fn consul() -> Scene<Consul> {
    Scene::new(Consul::new(Timing::default().ttl(), "me"))
}

pub(crate) fn locked(locked: Locked) -> consul::Reply {
    consul::Reply::Locked(locked)
}

impl Scene<Consul> {
    pub(crate) fn creates(&mut self, name: &str) -> Session {
        let create = self.sends();
        assert!(matches!(create.command, consul::Command::Create { .. }), "{create:?}");
        let session = Session(name.into());
        self.answers(&create, consul::Reply::Created(session.clone()));
        session
    }

    pub(crate) fn in_session(&mut self, session: &Session) -> Dispatch<consul::Command> {
        let dispatch = self.sends();
        match &dispatch.command {
            consul::Command::Lock { session: of, .. }
            | consul::Command::Unlock { session: of, .. } => assert_eq!(of, session),
            other => panic!("{other:?}"),
        }
        dispatch
    }

    /// Two locks are held in a session. The first was claimed twice; until the time returned, the
    /// claim that was not answered may be carried out.
    fn claimed_twice() -> (Self, LockId, Session, Instant) {
        let mut scene = consul();
        let a = scene.wants("a");
        scene.wants("b");
        let session = scene.creates("1");
        let lock = scene.in_session(&session);
        scene.fails(&lock, unknown());
        let late = scene.now.after(OVER);
        for _ in 0..2 {
            let lock = scene.in_session(&session);
            scene.answers(&lock, locked(Locked::Granted(FENCE)));
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
            assert!(matches!(renew.command, consul::Command::Renew { .. }), "{renew:?}");
            self.answers(&renew, consul::Reply::Renewed(true));
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
    let consul::Command::Create { name, .. } = create.command else { panic!("{create:?}") };
    scene.answers(&create, consul::Reply::Created(Session("1".into())));
    assert_ne!(scene.sends().command.claims()[0].owner, name);
}

#[test]
fn a_session_that_is_unknown_to_the_server_is_lost_with_all_its_locks() {
    let mut scene = consul();
    let a = scene.wants("a");
    let session = scene.creates("1");
    let lock = scene.in_session(&session);
    scene.answers(&lock, locked(Locked::Granted(FENCE)));
    let b = scene.wants("b");
    let lock = scene.in_session(&session);
    scene.told();
    scene.answers(&lock, locked(Locked::NoSession));
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
    scene.answers(&lock, locked(Locked::Granted(FENCE)));
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
    scene.answers(&lock, locked(Locked::Granted(FENCE)));
    scene.wants("a");
    scene.engine.release(scene.now, a);
    let unlock = scene.in_session(&first);
    scene.fails(&unlock, unknown());
    let unlock = scene.in_session(&first);
    scene.answers(&unlock, consul::Reply::Unlocked(false));
    assert!(scene.told().contains(&Event::Released { id: a, release: Release::Freed }));
    // With nothing left in it, what may come late dies with the session.
    let destroy = scene.sends();
    assert_eq!(destroy.command, consul::Command::Destroy { session: first });
    scene.answers(&destroy, consul::Reply::Destroyed);
    let second = scene.creates("2");
    scene.in_session(&second);
}

/// It is freed at once, and again when the claim that was not answered has surely been carried out.
#[test]
fn what_was_claimed_twice_is_unlocked_twice() {
    let (mut scene, a, session, late) = Scene::claimed_twice();
    scene.engine.release(scene.now, a);
    let unlock = scene.in_session(&session);
    scene.answers(&unlock, consul::Reply::Unlocked(true));
    assert_eq!(scene.told(), [freed(a)]);
    scene.keeps_until(late);
    let again = scene.in_session(&session);
    assert_eq!((again.command.claims(), scene.now), (unlock.command.claims(), late));
    scene.answers(&again, consul::Reply::Unlocked(false));
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
        scene.answers(&unlock, consul::Reply::Unlocked(true));
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
    scene.answers(&lock, locked(Locked::Busy(None)));
    let late = scene.now.after(Timing::default().ttl() * 6 / 5);
    for index in 5.. {
        let dispatch = scene.sends();
        match dispatch.command {
            consul::Command::Destroy { session } => return assert_eq!(session, first),
            consul::Command::Watch { .. } => {
                scene.now = scene.now.after(Timing::default().ttl() / 4);
                scene.answers(
                    &dispatch,
                    consul::Reply::Watched { index, locked: true, passed: None },
                );
            }
            consul::Command::Renew { .. } => {
                scene.answers(&dispatch, consul::Reply::Renewed(true));
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
    scene.answers(&lock, locked(Locked::Delayed));
    scene.told();
    scene.engine.release(scene.now, a);
    let unlock = scene.in_session(&session);
    assert!(matches!(unlock.command, consul::Command::Unlock { .. }));
    scene.answers(&unlock, consul::Reply::Unlocked(true));
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
        scene.answers(&lock, locked(Locked::Granted(FENCE)));
    }
}
