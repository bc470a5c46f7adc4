//! An engine that begins before its server can be reached: attempts are kept, and the first connect may refuse for good.

use crate::scenario::*;
use lock_core::sql::{ConnectError, Refusal};
use lock_core::{
    Action, Capabilities, Engine, Event, Judgment, LockId, NotAcquired, Pace, Reached, Reply,
    SessionName, Timing, Wanted, Which, advisory, table,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn unconnected(capabilities: Capabilities) -> Scenario {
    Scenario::of(Engine::unconnected(capabilities, config()))
}

fn on_table() -> Scenario {
    unconnected(table::capabilities("me", false))
}

fn trouble(id: LockId) -> Event {
    Event::Trouble { id, failure: not_sent() }
}

fn reached() -> Reached {
    Reached::new(Timing::default(), false)
}

impl Scenario {
    /// The first connect is due, and begins.
    fn connects(&mut self) {
        assert!(self.engine.has_work());
        assert!(self.engine.poll_connect(self.now));
        assert!(!self.engine.poll_connect(self.now), "once");
        self.sends_nothing();
    }

    fn is_reached(&mut self) {
        self.engine.handle_connect(self.now, Ok(reached()));
    }

    fn is_not_reached(&mut self, why: ConnectError) {
        self.engine.handle_connect(self.now, Err(why));
    }

    /// The pause before the next connect.
    fn pauses(&mut self) -> Duration {
        let since = self.now;
        while !self.engine.has_work() {
            self.sleeps();
        }
        self.now.since(since)
    }
}

#[test]
fn nothing_is_sent_before_the_server_was_reached_and_then_everything() {
    let mut scene = on_table();
    assert!(!scene.engine.poll_connect(scene.now), "nobody wants anything");
    scene.sends_nothing();
    let id = scene.acquire("a");
    scene.connects();
    scene.acquire("b");
    scene.sends_nothing();
    scene.sleep(SECOND);
    scene.is_reached();
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    assert_eq!(claim.at, scene.now, "the lease counts from here");
    scene.grants(&claim);
    let told = scene.told();
    assert!(matches!(told[0], Event::Granted { id: granted, .. } if granted == id), "{told:?}");
}

#[test]
fn failures_are_told_and_the_connect_is_tried_again_ever_later() {
    let mut scene = on_table();
    let id = scene.acquire("a");
    let mut longest = Duration::ZERO;
    for _ in 0..16 {
        scene.connects();
        scene.is_not_reached(not_sent().into());
        scene.tells([trouble(id)]);
        longest = longest.max(scene.pauses());
    }
    assert!(longest > SECOND / 4 && longest <= SECOND, "{longest:?}");
    scene.connects();
    scene.is_reached();
    scene.sends(Action::Acquire, &["a"]);
}

#[test]
fn waits_end_at_their_limits_while_the_server_cannot_be_reached() {
    let mut scene = on_table();
    let short = scene.acquire_for("a", SECOND);
    let long = scene.acquire_for("b", SECOND * 2);
    scene.connects();
    scene.is_not_reached(not_sent().into());
    scene.tells([trouble(short), trouble(long)]);
    for (id, limit) in [(short, SECOND), (long, SECOND * 2)] {
        scene.sleep_until(START.after(limit + PATIENCE));
        scene.tells([not_acquired(id, NotAcquired::Failed(not_sent()))]);
    }
    // Nobody is left, so nobody connects.
    assert!(!scene.engine.poll_connect(scene.now));
    scene.sends_nothing();
    assert_eq!(scene.engine.attempts(), 0);
}

#[test]
fn a_connect_without_an_end_delays_no_limit_and_counts_for_later_attempts() {
    let mut scene = on_table();
    let id = scene.acquire_once("a", Duration::ZERO);
    scene.connects();
    scene.sleep_until(START.after(PATIENCE));
    scene.tells_unanswered(id);
    scene.acquire("b");
    scene.sends_nothing();
    scene.is_reached();
    scene.sends(Action::Acquire, &["b"]);
}

#[test]
fn a_refusal_ends_all_waits_with_its_reason_and_the_next_attempt_tries_again() {
    let refused = || ConnectError::UnsafeServer(Refusal::Standby);
    for capabilities in [table::capabilities("me", false), advisory::capabilities(4, Some("me"))] {
        let mut scene = unconnected(capabilities);
        let [a, behind, b] = ["a", "a", "b"].map(|text| scene.acquire(text));
        let names = ["c", "d"].map(name).to_vec();
        let both = scene.engine.want(scene.now, Which::All(names), Default::default());
        scene.connects();
        scene.is_not_reached(refused());
        let mut ends: Vec<_> = scene.told();
        ends.sort_by_key(|end| match end {
            Event::NotAcquired { id, .. } => *id,
            other => panic!("{other:?}"),
        });
        let end = |of, id| Event::NotAcquired { id, of, why: NotAcquired::Refused(refused()) };
        let ended = [a, behind, b].map(|id| end(None, id));
        assert_eq!(ends, [&ended[..], &[end(Some(name("c")), both)]].concat());
        assert_eq!(scene.engine.attempts(), 0);
        assert!(!scene.engine.poll_connect(scene.now), "not for nobody");
        scene.engine.close(scene.now);
        while scene.engine.poll_close(scene.now).is_some() {}
        scene.sends_nothing();
        let id = scene.acquire("a");
        scene.connects();
        scene.is_not_reached(not_sent().into());
        scene.tells([trouble(id)]);
    }
}

#[test]
fn only_what_stays_is_a_refusal() {
    let finals = [
        ConnectError::Failed(refused()),
        ConnectError::UnsafeServer(Refusal::Pooled),
        ConnectError::NoWay("it has ended".into()),
        ConnectError::TooSlow(lock_core::TimingError::NoTime),
    ];
    assert!(finals.iter().all(ConnectError::is_final));
    let passing = [not_sent(), unknown(), deadlock()].map(ConnectError::Failed);
    assert!(!passing.iter().any(ConnectError::is_final));
}

#[test]
fn an_attempt_that_is_given_up_meanwhile_leaves_nothing_behind() {
    let mut scene = on_table();
    let id = scene.acquire("a");
    scene.connects();
    scene.release(id);
    scene.tells([freed(id)]);
    scene.is_reached();
    scene.sends_nothing();
    assert_eq!(scene.engine.attempts(), 0);
}

#[test]
fn a_session_is_opened_once_the_server_was_reached() {
    let mut scene = unconnected(advisory::capabilities(4, Some("me")));
    scene.acquire("a");
    scene.connects();
    scene.is_reached();
    let open = scene.sends(Action::Open, &[]);
    scene.answers(&open, Ok(Reply::Opened(SessionName::default())));
    scene.sends(Action::Acquire, &["a"]);
}

#[test]
fn a_ttl_of_its_own_is_judged_once_the_pace_of_the_way_is_known() {
    let mut scene = on_table();
    let want = |scene: &mut Scenario, text, ttl| {
        let timing = Some(Timing::default().lasting(ttl).expect("good"));
        scene.engine.want(scene.now, Which::One(name(text)), Wanted { timing, ..Wanted::default() })
    };
    let short = want(&mut scene, "a", SECOND);
    let long = want(&mut scene, "b", SECOND * 60);
    scene.connects();
    // Each answer takes 300 ms, which a lease of a second does not allow.
    let mut pace = Pace::default();
    pace.requested(&[SECOND * 3 / 10; 4]);
    let Judgment::Fits(slow) = pace.judge(Timing::default()) else { panic!("it fits") };
    scene.engine.handle_connect(scene.now, Ok(Reached::new(slow, false)));
    let told = scene.told();
    let why = |event: &Event| match event {
        Event::NotAcquired { id, why: NotAcquired::Refused(ConnectError::TooSlow(_)), .. } => {
            Some(*id)
        }
        _ => None,
    };
    assert_eq!(told.iter().map(why).collect::<Vec<_>>(), [Some(short)], "{told:?}");
    scene.sends(Action::Acquire, &["b"]);
    assert_eq!(scene.engine.own_timing(long), slow.lasting(SECOND * 60).ok());
}

#[test]
fn the_pace_of_the_way_counts_from_then_on() {
    let mut scene = on_table();
    let chosen = Timing::default().with_request(SECOND * 7).expect("good");
    scene.acquire("a");
    scene.connects();
    scene.engine.handle_connect(scene.now, Ok(Reached::new(chosen, true)));
    let claim = scene.sends(Action::Acquire, &["a"]);
    assert_eq!(claim.deadline, claim.at.after(SECOND * 7));
    assert_eq!(*scene.engine.timing(), chosen);
    // And waiters are notified.
    scene.denies(&claim);
    scene.told();
    scene.sends(Action::Subscribe, &[]);
}
