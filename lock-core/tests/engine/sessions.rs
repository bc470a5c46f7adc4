//! What becomes of attempts when sessions open, are kept, break and end.

use lock_core::advisory::{Advisory, Command, Reply, Tried};
use lock_core::{
    Config, Dispatch, Engine, Event, Failure, Fence, Instant, Lane, LockId, LockName, LostReason,
    Mode, NotAcquired, Protocol, Release, Timing,
};
use std::time::Duration;

pub(crate) const MS: Duration = Duration::from_millis(1);
const START: Instant = Instant::from_nanos(1_000_000_000_000);
pub(crate) const FENCE: Fence = Fence::new(7);

pub(crate) struct Scene<P: Protocol> {
    pub(crate) engine: Engine<P>,
    pub(crate) now: Instant,
}

pub(crate) fn advisory() -> Scene<Advisory> {
    Scene::new(Advisory::new(Timing::default().ttl()))
}

pub(crate) fn unknown() -> Failure {
    Failure::Unknown("gone quiet".into())
}

pub(crate) fn deadlock() -> Failure {
    Failure::not_now("deadlock".into())
}

pub(crate) fn granted() -> Reply {
    Reply::Tried([Tried::Granted(FENCE)].into())
}

pub(crate) fn busy() -> Reply {
    Reply::Tried([Tried::Busy(None)].into())
}

impl<P: Protocol> Scene<P> {
    pub(crate) fn new(protocol: P) -> Self {
        let engine = Engine::new(protocol, Config::new(Timing::default(), 42));
        Self { engine, now: START }
    }

    pub(crate) fn wants(&mut self, name: &str) -> LockId {
        self.wants_as(name, Mode::Exclusive)
    }

    fn wants_as(&mut self, name: &str, mode: Mode) -> LockId {
        let name = LockName::new(name).expect("a good name");
        self.engine.acquire_as(self.now, name, mode, false, None)
    }

    /// The next command, within the time it takes to back off.
    pub(crate) fn sends(&mut self) -> Dispatch<P::Command> {
        for _ in 0..10 {
            if let Some(dispatch) = self.engine.poll_command(self.now) {
                return dispatch;
            }
            self.now = self.engine.poll_timeout().expect("something is to be done");
        }
        panic!("nothing is sent");
    }

    pub(crate) fn sends_nothing(&mut self) {
        assert_eq!(self.engine.poll_command(self.now), None);
    }

    /// A millisecond later it is answered.
    pub(crate) fn answers(&mut self, dispatch: &Dispatch<P::Command>, reply: P::Reply) {
        self.now = self.now.after(MS);
        self.engine.handle_reply(self.now, dispatch.id, Ok(reply));
    }

    pub(crate) fn fails(&mut self, dispatch: &Dispatch<P::Command>, failure: Failure) {
        self.now = self.now.after(MS);
        self.engine.handle_reply(self.now, dispatch.id, Err(failure));
    }

    pub(crate) fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }
}

impl Scene<Advisory> {
    /// A connection is open and its first lock held.
    pub(crate) fn holding() -> (Self, LockId) {
        let mut scene = advisory();
        let id = scene.wants("a");
        scene.opens();
        let claim = scene.sends();
        scene.answers(&claim, granted());
        scene.told();
        (scene, id)
    }

    pub(crate) fn opens(&mut self) -> Lane {
        let open = self.sends();
        assert!(matches!(open.command, Command::Open { .. }), "{open:?}");
        self.answers(&open, Reply::Opened);
        open.lane
    }

    /// The home connection says no: the attempt waits on one of its own.
    pub(crate) fn waits(&mut self) -> Dispatch<Command> {
        let claim = self.sends();
        self.answers(&claim, busy());
        let lane = self.opens();
        let wait = self.sends();
        assert!(matches!(wait.command, Command::Wait { .. }), "{wait:?}");
        assert_eq!(wait.lane, lane);
        wait
    }
}

#[test]
fn a_session_is_opened_once_and_counts_from_its_own_request() {
    let mut scene = advisory();
    let (a, b) = (scene.wants("a"), scene.wants("b"));
    scene.opens();
    let claim = scene.sends();
    assert_eq!(claim.command.claims().len(), 2, "what waited for the session leaves together");
    scene.answers(&claim, Reply::Tried([Tried::Granted(FENCE), Tried::Granted(FENCE)].into()));
    let deadline = START.after(Timing::default().valid());
    let held = |id| Event::Granted { id, fence: FENCE, deadline };
    assert_eq!(scene.told(), [held(a), held(b)]);
    scene.sends_nothing();
}

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
            assert_eq!(keep.command, Command::Keep);
            scene.answers(&keep, Reply::Kept(kept || keep.lane != wait.lane));
            if keep.lane == wait.lane {
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

/// By the server's clock, which may have been set back since, it may have started in the future.
#[test]
fn a_connection_that_was_open_for_a_ttl_proves_that_the_server_has_run_for_one() {
    let mut scene = advisory();
    let ttl = Timing::default().ttl();
    scene.engine.open(scene.now);
    scene.opens();
    let proven = scene.now.after(ttl * 6 / 5);
    scene.wants("a");
    loop {
        let sent = scene.sends();
        match &sent.command {
            Command::Keep => scene.answers(&sent, Reply::Kept(true)),
            Command::Try { grace, .. } if grace.is_zero() => {
                assert!(proven <= scene.now && scene.now < proven.after(Duration::from_secs(2)));
                scene.answers(&sent, granted());
                break;
            }
            Command::Try { grace, .. } => {
                assert_eq!((*grace, scene.now < proven), (ttl, true));
                scene.answers(&sent, Reply::Tried([Tried::Starting].into()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(scene.told()[..], [Event::Waiting { .. }, Event::Granted { .. }]));
    // Another connection proves nothing: the server may have started anew.
    scene.wants("b");
    let claim = scene.sends();
    assert!(matches!(claim.command, Command::Try { grace: Duration::ZERO, .. }));
    scene.fails(&claim, unknown());
    let close = scene.sends();
    assert_eq!(close.command, Command::Close);
    scene.answers(&close, Reply::Closed);
    scene.opens();
    let claim = scene.sends();
    assert!(matches!(claim.command, Command::Try { grace, .. } if grace == ttl), "{claim:?}");
}

#[test]
fn a_session_that_is_wanted_for_claims_to_come_is_opened_and_kept() {
    let mut scene = advisory();
    scene.engine.open(scene.now);
    scene.engine.open(scene.now);
    let lane = scene.opens();
    scene.sends_nothing();
    let keep = scene.sends();
    assert_eq!((&keep.command, keep.lane), (&Command::Keep, lane));
    scene.answers(&keep, Reply::Kept(true));
    scene.wants("a");
    let claim = scene.sends();
    assert_eq!(claim.lane, lane);
    scene.answers(&claim, granted());
    assert_eq!(scene.engine.sessions(), 1);
    scene.told();
}

#[test]
fn a_question_that_keeps_a_session_is_given_up_when_the_session_is_lost() {
    let (mut scene, _) = Scene::holding();
    assert_eq!(scene.engine.sessions(), 1);
    let lost = START.after(Timing::default().valid());
    let mut last = scene.now;
    while scene.now < lost {
        let keep = scene.sends();
        assert!(matches!(keep.command, Command::Keep), "{keep:?}");
        assert!(keep.deadline <= lost, "{:?} is after {lost:?}", keep.deadline);
        last = keep.deadline;
        scene.engine.handle_reply(scene.now, keep.id, Err(deadlock()));
        scene.told();
        let Some(next) = scene.engine.poll_timeout() else { break };
        scene.now = next;
        scene.engine.handle_timeout(next);
        if !scene.engine.has_command() && scene.now >= lost {
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
        scene.answers(&keep, Reply::Kept(true));
        let reason = LostReason::Deadline { last_failure: None };
        assert_eq!(scene.told(), [Event::Lost { id: a, reason }]);
        assert_eq!(scene.sends().command, Command::Close);
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
    assert_eq!((keep.command.clone(), keep.lane), (Command::Keep, claim.lane));
    let deadline = scene.now.after(Timing::default().valid());
    scene.answers(&keep, Reply::Kept(true));
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
    assert!(matches!(told[1], Event::Trouble { id, .. } if id == b), "{told:?}");
    let close = scene.sends();
    assert_eq!((close.command.clone(), close.lane), (Command::Close, claim.lane));
    scene.answers(&close, Reply::Closed);
    let next = scene.opens();
    assert_ne!(next, claim.lane, "never the old one again");
    scene.engine.release(scene.now, a);
    assert_eq!(scene.told(), [Event::Released { id: a, release: Release::NotOurs }]);
}

#[test]
fn another_connection_behind_ones_back_is_a_loss() {
    let (mut scene, a) = Scene::holding();
    let keep = scene.sends();
    scene.answers(&keep, Reply::Kept(false));
    assert_eq!(scene.told(), [Event::Lost { id: a, reason: LostReason::Taken }]);
    assert_eq!(scene.sends().command, Command::Close);
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
    assert_ne!(claim.lane, wait.lane);
    scene.answers(&claim, granted());
    scene.answers(&wait, granted());
    let told = scene.told();
    assert!(matches!(told[1], Event::Granted { id, .. } if id == b), "{told:?}");
    // It is freed on the same connection.
    scene.engine.release(scene.now, b);
    let unlock = scene.sends();
    assert_eq!(unlock.lane, wait.lane);
    scene.answers(&unlock, Reply::Unlocked([true].into()));
    assert_eq!(scene.told(), [Event::Released { id: b, release: Release::Freed }]);
}

#[test]
fn a_wait_that_nobody_wants_any_more_is_cut_off_at_once() {
    let (mut scene, _) = Scene::holding();
    let b = scene.wants("b");
    let wait = scene.waits();
    scene.told();
    scene.engine.release(scene.now, b);
    let close = scene.sends();
    assert_eq!((&close.command, close.lane), (&Command::Close, wait.lane));
    assert_eq!(scene.told(), [], "until then it may yet be granted");
    scene.answers(&close, Reply::Closed);
    assert_eq!(scene.told(), [Event::Released { id: b, release: Release::Freed }]);
    // What comes of the wait is of no interest any more.
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
    let close = scene.sends();
    assert_eq!((&close.command, close.lane), (&Command::Close, wait.lane));
    scene.answers(&close, Reply::Closed);
    assert_eq!(scene.told(), [Event::Released { id: b, release: Release::Freed }]);
    assert_eq!(scene.engine.sessions(), 1, "the home connection");
}

#[test]
fn only_a_connection_that_waits_may_be_slow_to_answer() {
    let (mut scene, _) = Scene::holding();
    scene.wants("b");
    let wait = scene.waits();
    assert!(scene.engine.waits_on(wait.lane));
    scene.wants("c");
    let home = scene.sends().lane;
    for lane in [home, Lane::HOME, Lane::NEWS] {
        assert!(!scene.engine.waits_on(lane), "{lane:?}");
    }
}

#[test]
fn no_more_connections_wait_than_allowed() {
    let timing = Timing::default();
    let protocol = Advisory::new(timing.ttl()).with_waiting(1);
    let engine = Engine::new(protocol, Config::new(timing, 42));
    let mut scene = Scene { engine, now: START };
    scene.wants("a");
    scene.wants("b");
    scene.opens();
    let claim = scene.sends();
    scene.answers(&claim, Reply::Tried([Tried::Busy(None), Tried::Busy(None)].into()));
    scene.opens();
    let (one, other) = (scene.sends(), scene.sends());
    let (wait, again) = if one.lane == claim.lane { (other, one) } else { (one, other) };
    assert!(matches!(wait.command, Command::Wait { .. }), "{wait:?}");
    assert!(matches!(again.command, Command::Try { .. }), "{again:?}");
    assert_eq!(again.lane, claim.lane, "it asks again where it asked before");
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
        assert_eq!(claim.command.claims()[0].mode, Mode::Shared);
        scene.answers(&claim, granted());
    }
    scene.sends_nothing();
    assert_eq!(scene.told().len(), 2);
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
    assert_eq!(claim.command.claims()[0].mode, Mode::Exclusive);
    scene.answers(&claim, granted());
    scene.sends_nothing();
    assert!(matches!(scene.told()[..], [Event::Granted { id, .. }] if id == excludes));
}

#[test]
fn a_session_that_cannot_be_opened_is_told_and_tried_again() {
    let mut scene = advisory();
    let id = scene.wants("a");
    let open = scene.sends();
    let failure = Failure::NotSent("no route".into());
    scene.fails(&open, failure.clone());
    assert_eq!(scene.told(), [Event::Trouble { id, failure }]);
    assert!(matches!(scene.sends().command, Command::Open { .. }));
}

#[test]
fn a_session_that_is_refused_ends_its_attempts() {
    let mut scene = advisory();
    let id = scene.wants("a");
    let open = scene.sends();
    let failure = Failure::refused("wrong password".into());
    scene.fails(&open, failure.clone());
    assert_eq!(scene.told(), [Event::NotAcquired { id, why: NotAcquired::Failed(failure) }]);
    assert_eq!(scene.engine.attempts(), 0);
    let close = scene.sends();
    scene.answers(&close, Reply::Closed);
    assert_eq!(scene.engine.sessions(), 0);
    scene.sends_nothing();
}

#[test]
fn a_session_is_kept_for_claims_that_may_come_until_the_engine_is_closed() {
    let (mut scene, a) = Scene::holding();
    scene.engine.release(scene.now, a);
    let unlock = scene.sends();
    scene.answers(&unlock, Reply::Unlocked([true].into()));
    scene.told();
    let keep = scene.sends();
    scene.answers(&keep, Reply::Kept(true));
    scene.engine.close(scene.now);
    let close = scene.sends();
    assert_eq!(close.command, Command::Close);
    scene.answers(&close, Reply::Closed);
    assert_eq!((scene.engine.attempts(), scene.engine.sessions()), (0, 0));
    assert_eq!(scene.engine.poll_timeout(), None);
}

#[test]
fn where_the_server_has_a_queue_nobody_needs_to_be_let_go_first() {
    let mut scene = advisory();
    let first = scene.wants("a");
    scene.opens();
    let wait = scene.waits();
    scene.answers(&wait, granted());
    scene.wants("a"); // a local rival
    scene.engine.release(scene.now, first);
    let unlock = scene.sends();
    scene.answers(&unlock, Reply::Unlocked([true].into()));
    let at = scene.now;
    let claim = scene.sends();
    assert!(matches!(claim.command, Command::Try { .. }), "{claim:?}");
    assert_eq!(scene.now, at);
}
