//! One question keeps a session and all its locks, until it is lost or not needed.

use super::*;
use lock_core::{Outcome, Reply, Request, SessionName};

#[test]
fn a_question_that_keeps_a_session_is_given_up_when_the_session_is_lost() {
    let (mut scene, _) = Scene::holding();
    assert_eq!(scene.engine.sessions(), 1);
    let lost = START.after(Timing::default().valid());
    let mut last = scene.now;
    while scene.now < lost {
        let keep = scene.sends();
        assert!(matches!(keep.request, Request::KeepAlive { .. }), "{keep:?}");
        assert!(keep.deadline <= lost, "{:?} is after {lost:?}", keep.deadline);
        last = keep.deadline;
        scene.engine.handle_reply(scene.now, keep.id, Err(deadlock()));
        scene.told();
        let Some(next) = scene.engine.poll_timeout() else { break };
        scene.now = next;
        scene.engine.handle_timeout(next);
        if !scene.engine.has_work() && scene.now >= lost {
            break;
        }
    }
    assert_eq!(last, lost, "the last one had less than a request's time");
    scene.told();
}

#[test]
fn an_answer_at_or_after_the_deadline_keeps_nothing() {
    let (mut kept, a) = Scene::holding();
    let keep = kept.sends();
    let deadline = START.after(Timing::default().valid());
    for late in [Duration::ZERO, MS, Timing::default().ttl()] {
        let mut scene = Scene { engine: kept.engine.clone(), now: deadline.before(MS).after(late) };
        scene.answers(&keep, Reply::one(Outcome::Done));
        let reason = LostReason::Deadline { last_failure: None };
        assert_eq!(scene.told(), [Event::Lost { id: a, reason }]);
        scene.closes(keep.connection);
    }
}

#[test]
fn one_question_keeps_all_locks() {
    let (mut scene, a) = Scene::holding();
    let b = scene.wants("b");
    let claim = scene.sends();
    scene.answers(&claim, granted());
    scene.told();
    let keep = scene.sends();
    assert_eq!(
        (keep.request.clone(), keep.connection),
        (Request::KeepAlive { session: SessionName::default() }, claim.connection)
    );
    let deadline = scene.now.after(Timing::default().valid());
    scene.answers(&keep, Reply::one(Outcome::Done));
    let renewed = |id| Event::Renewed { id, deadline };
    assert_eq!(scene.told(), [renewed(a), renewed(b)]);
}

#[test]
fn a_connection_is_lost_with_the_first_answer_that_fails_to_come() {
    let (mut scene, a) = Scene::holding();
    let b = scene.wants("b");
    let claim = scene.sends();
    scene.fails(&claim, unknown());
    let reason = LostReason::Disconnected { last_failure: Some(unknown()) };
    let lost = Event::Lost { id: a, reason };
    let told = scene.told();
    assert!(told.contains(&lost), "{told:?}");
    // It held nothing there, and is told why it has to ask again.
    assert_eq!(told[1], Event::Trouble { id: b, failure: unknown() });
    scene.closes(claim.connection);
    let next = scene.opens();
    assert_ne!(next, claim.connection, "never the old one again");
    scene.engine.release(scene.now, a);
    assert_eq!(scene.told(), [Event::Released { id: a, release: Release::NotOurs }]);
}

#[test]
fn another_connection_behind_ones_back_is_a_loss() {
    let (mut scene, a) = Scene::holding();
    let keep = scene.sends();
    scene.answers(&keep, Reply::one(Outcome::NoSession));
    assert_eq!(scene.told(), [Event::Lost { id: a, reason: LostReason::Taken }]);
    scene.closes(keep.connection);
}

#[test]
fn a_session_is_kept_for_claims_that_may_come_until_the_engine_is_closed() {
    let (mut scene, a) = Scene::holding();
    scene.engine.release(scene.now, a);
    let unlock = scene.sends();
    scene.answers(&unlock, Reply::Outcomes([Outcome::Done].into()));
    scene.told();
    let keep = scene.sends();
    scene.answers(&keep, Reply::one(Outcome::Done));
    scene.engine.close(scene.now);
    scene.closes(keep.connection);
    assert_eq!((scene.engine.attempts(), scene.engine.sessions()), (0, 0));
    assert_eq!(scene.engine.poll_timeout(), None);
}

/// Its last answer may never come.
#[test]
fn a_connection_that_nobody_needs_is_closed_although_it_does_not_answer() {
    let (mut scene, a) = Scene::holding();
    scene.engine.release(scene.now, a);
    let unlock = scene.sends();
    scene.answers(&unlock, Reply::Outcomes([Outcome::Done].into()));
    scene.told();
    let keep = scene.sends();
    scene.engine.close(scene.now);
    assert_eq!(scene.engine.poll_close(scene.now), None, "an answer is on its way");
    scene.now = keep.deadline;
    scene.fails(&keep, unknown());
    scene.closes(keep.connection);
    assert_eq!(scene.engine.sessions(), 0);
}
