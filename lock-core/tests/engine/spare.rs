//! The connection on which somebody has waited, and who waits there next.

use crate::sessions::{MS, Scene, busy, deadlock, granted, unknown};
use lock_core::{
    ConnectionId, Dispatch, Failure, LockId, Outcome, Reply, Request, SessionName, Timing,
};

/// A lock is held on the home connection; another is waited for.
fn waiting() -> (Scene, LockId, Dispatch) {
    let (mut scene, _) = Scene::holding();
    let id = scene.wants("b");
    let wait = scene.waits();
    (scene, id, wait)
}

/// A lock is freed, on this connection.
fn frees(scene: &mut Scene, id: LockId) -> ConnectionId {
    scene.engine.release(scene.now, id);
    let unlock = scene.sends();
    scene.answers(&unlock, Reply::Outcomes([Outcome::Done].into()));
    scene.told();
    unlock.connection
}

/// What was waited for was granted, and is free again.
fn waited() -> (Scene, ConnectionId) {
    let (mut scene, id, wait) = waiting();
    scene.answers(&wait, granted());
    assert_eq!(frees(&mut scene, id), wait.connection);
    (scene, wait.connection)
}

#[test]
fn who_waits_again_soon_waits_on_the_same_connection() {
    let (mut scene, connection) = waited();
    scene.sends_nothing();
    // What need not wait does not go there.
    scene.wants("c");
    let claim = scene.sends();
    assert_ne!(claim.connection, connection);
    scene.answers(&claim, busy());
    let wait = scene.sends();
    assert!(matches!(wait.request, Request::Wait { .. }), "{wait:?}");
    assert_eq!(wait.connection, connection);
    // It is one attempt's at a time.
    scene.wants("d");
    assert_ne!(scene.waits().connection, connection);
}

#[test]
fn only_one_connection_stays_for_who_waits_next() {
    let (mut scene, _) = Scene::holding();
    let ids = ["b", "c"].map(|name| scene.wants(name));
    let claim = scene.sends();
    scene.answers(&claim, Reply::Outcomes([Outcome::Busy(None), Outcome::Busy(None)].into()));
    for _ in ids {
        scene.opens();
        let wait = scene.sends();
        scene.answers(&wait, granted());
    }
    let [_, other] = ids.map(|id| frees(&mut scene, id));
    scene.closes(other);
    scene.sends_nothing();
}

#[test]
fn a_connection_on_which_nobody_waits_goes_when_it_would_have_to_be_kept() {
    let (mut scene, connection) = waited();
    let opened = scene.now;
    let keep = scene.sends();
    assert!(matches!(keep.request, Request::KeepAlive { .. }), "the home connection: {keep:?}");
    scene.answers(&keep, Reply::one(Outcome::Done));
    scene.now = scene.engine.poll_timeout().expect("the other would have to be kept");
    scene.engine.handle_timeout(scene.now);
    scene.closes(connection);
    assert!(scene.now.since(opened) <= Timing::default().ttl() / 3 + MS);
    assert_eq!(scene.engine.sessions(), 1);
    // The next one waits on another.
    scene.wants("c");
    assert_ne!(scene.waits().connection, connection);
}

#[test]
fn a_connection_on_which_nobody_waits_goes_when_the_engine_closes() {
    let (mut scene, connection) = waited();
    scene.engine.close(scene.now);
    scene.closes(connection);
}

/// The search found it: whoever waited there next had the lock twice.
#[test]
fn nobody_waits_on_a_connection_that_may_not_have_freed_what_it_had() {
    let (mut scene, id, wait) = waiting();
    scene.answers(&wait, granted());
    scene.engine.release(scene.now, id);
    let unlock = scene.sends();
    scene.fails(&unlock, Failure::refused("refused".into()));
    scene.told();
    scene.closes(wait.connection);
}

/// A wait may be refused in the moment in which it is granted.
#[test]
fn nobody_waits_on_a_connection_that_refused_anything_to_another() {
    let (mut scene, id, wait) = waiting();
    scene.fails(&wait, deadlock());
    let again = scene.sends();
    assert_eq!(again.connection, wait.connection, "the same one does");
    scene.answers(&again, granted());
    frees(&mut scene, id);
    scene.closes(wait.connection);
}

#[test]
fn nobody_waits_on_a_connection_that_was_lost_meanwhile() {
    let (mut scene, connection) = waited();
    scene.now = scene.now.after(Timing::default().valid());
    scene.engine.handle_timeout(scene.now);
    scene.told();
    scene.wants("c");
    for _ in 0..20 {
        while scene.engine.poll_close(scene.now).is_some() {}
        let dispatch = scene.sends();
        match dispatch.request {
            Request::Open { .. } => scene.answers(&dispatch, Reply::Opened(SessionName::default())),
            Request::Acquire { .. } => scene.answers(&dispatch, busy()),
            Request::KeepAlive { .. } => scene.fails(&dispatch, unknown()),
            Request::Wait { .. } => return assert_ne!(dispatch.connection, connection),
            other => panic!("{other:?}"),
        }
    }
    panic!("it does not wait");
}
