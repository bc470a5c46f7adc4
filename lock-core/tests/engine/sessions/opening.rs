//! How a session begins, and what it proves.

use super::*;
use lock_core::{Outcome, Reply, Request, SessionName};

#[test]
fn a_session_is_opened_once_and_counts_from_its_own_request() {
    let mut scene = advisory();
    let (a, b) = (scene.wants("a"), scene.wants("b"));
    scene.opens();
    let claim = scene.sends();
    assert_eq!(claim.request.claims().len(), 2, "what waited for the session leaves together");
    scene.answers(
        &claim,
        Reply::Outcomes([Outcome::Granted(FENCE), Outcome::Granted(FENCE)].into()),
    );
    let deadline = START.after(Timing::default().valid());
    let held = |id| Event::Granted { id, fence: FENCE, deadline };
    assert_eq!(scene.told(), [held(a), held(b)]);
    scene.sends_nothing();
}

/// By the server's clock, which may have been set back since, it may have started in the future.
#[test]
fn a_connection_that_was_open_for_a_ttl_proves_that_the_server_has_run_for_one() {
    let own = Timing::default();
    // That of others, if it is longer.
    for (others, longest) in [(1, 30), (30, 30), (60, 60)] {
        let timing = own.with_longest_ttl(Duration::from_secs(others)).expect("good");
        let longest = Duration::from_secs(longest);
        assert_eq!((timing.ttl(), timing.longest_ttl()), (own.ttl(), longest));
        proves_that_the_server_has_run(timing, longest);
    }
}

fn proves_that_the_server_has_run(timing: Timing, longest: Duration) {
    let capabilities = advisory::capabilities(advisory::WAITING, None);
    let mut scene = Scene::timed(capabilities, timing);
    scene.engine.open(scene.now);
    scene.opens();
    let proven = scene.now.after(longest * 6 / 5);
    scene.wants("a");
    loop {
        let sent = scene.sends();
        match &sent.request {
            Request::KeepAlive { .. } => scene.answers(&sent, Reply::one(Outcome::Done)),
            Request::Acquire { min_uptime: grace, .. } if grace.is_zero() => {
                assert!(proven <= scene.now && scene.now < proven.after(Duration::from_secs(2)));
                scene.answers(&sent, granted());
                break;
            }
            Request::Acquire { min_uptime: grace, .. } => {
                assert_eq!((*grace, scene.now < proven), (longest, true));
                scene.answers(&sent, Reply::Outcomes([Outcome::Delayed].into()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(scene.told()[..], [Event::Waiting { .. }, Event::Granted { .. }]));
    // Another connection proves nothing: the server may have started anew.
    scene.wants("b");
    let claim = scene.sends();
    assert!(matches!(claim.request, Request::Acquire { min_uptime: Duration::ZERO, .. }));
    scene.fails(&claim, unknown());
    scene.closes(claim.connection);
    scene.opens();
    let claim = scene.sends();
    assert!(
        matches!(claim.request, Request::Acquire { min_uptime: grace, .. } if grace == longest),
        "{claim:?}"
    );
}

#[test]
fn a_session_that_is_wanted_for_claims_to_come_is_opened_and_kept() {
    let mut scene = advisory();
    scene.engine.open(scene.now);
    scene.engine.open(scene.now);
    let connection = scene.opens();
    scene.sends_nothing();
    let keep = scene.sends();
    assert_eq!(
        (&keep.request, keep.connection),
        (&Request::KeepAlive { session: SessionName::default() }, connection)
    );
    scene.answers(&keep, Reply::one(Outcome::Done));
    scene.wants("a");
    let claim = scene.sends();
    assert_eq!(claim.connection, connection);
    scene.answers(&claim, granted());
    assert_eq!(scene.engine.sessions(), 1);
    scene.told();
}

#[test]
fn a_session_that_cannot_be_opened_is_told_and_tried_again() {
    let mut scene = advisory();
    let id = scene.wants("a");
    let open = scene.sends();
    let failure = Failure::NotSent("no route".into());
    scene.fails(&open, failure.clone());
    assert_eq!(scene.told(), [Event::Trouble { id, failure }]);
    assert!(matches!(scene.sends().request, Request::Open { .. }));
}

#[test]
fn a_session_that_is_refused_ends_its_attempts() {
    let mut scene = advisory();
    let id = scene.wants("a");
    let open = scene.sends();
    let failure = Failure::refused("wrong password".into());
    scene.fails(&open, failure.clone());
    assert_eq!(
        scene.told(),
        [Event::NotAcquired { id, of: None, why: NotAcquired::Failed(failure) }]
    );
    assert_eq!(scene.engine.attempts(), 0);
    scene.closes(open.connection);
    assert_eq!(scene.engine.sessions(), 0);
    scene.sends_nothing();
}
