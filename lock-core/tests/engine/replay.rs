//! An engine is a value: the same calls give the same engine, and looking changes nothing.

use crate::scenario::*;
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Connection, Server};
use lock_core::{
    Action, Claim, Config, ConnectionId, Engine, LockId, Owner, Request, SessionName, table,
};
use std::time::Duration;

/// All requests take the same way; a table does not care.
const LINE: Connection = Connection { client: 0, number: 0, id: ConnectionId::MAIN };

/// Somebody else takes `text` for a while.
fn stranger(text: &str) -> Request {
    let claims = vec![Claim::new(name(text), Owner::new(9))];
    Request::Acquire {
        session: SessionName::default(),
        claims,
        ttl: Duration::from_secs(2),
        min_uptime: Duration::ZERO,
        label: "stranger".into(),
    }
}

/// A few hundred turns of a fixed play against a server that now and then does not answer: all
/// that the engine said, and what became of it. Between turns it is ticked `ticks` times.
fn play(seed: u128, ticks: u32) -> (Vec<String>, Engine) {
    let mut engine = Engine::new(table::capabilities("me", false), Config { seed, ..config() });
    let mut server = FakeTable::new();
    let mut now = START;
    let mut trace = Vec::new();
    let mut attempts: Vec<LockId> = Vec::new();
    for turn in 0..600_u64 {
        let text = ["a", "b", "c"][(turn % 3) as usize];
        match turn % 11 {
            0 | 4 => attempts.push(engine.acquire(now, name(text), false, None)),
            2 => attempts.push(engine.acquire(now, name(text), true, Some(now.after(TTL)))),
            6 => attempts.push(engine.acquire(now, name(text), false, Some(now.after(TRIP)))),
            8 if !attempts.is_empty() => engine.release(now, attempts.remove(0)),
            5 => drop(server.apply(now, LINE, &stranger(text))),
            9 => engine.handle_hint(now, &name(text)),
            _ => {}
        }
        while let Some(dispatch) = engine.poll_request(now) {
            trace.push(format!("{now:?} {dispatch:?}"));
            now = now.after(TRIP);
            let reply = server.apply(now, LINE, &dispatch.request);
            let lost = turn % 7 == 3 || (200..260).contains(&turn);
            engine.handle_reply(now, dispatch.id, if lost { Err(unknown()) } else { Ok(reply) });
        }
        trace.extend(std::iter::from_fn(|| engine.poll_event()).map(|e| format!("{now:?} {e:?}")));
        assert!(engine.poll_timeout().is_none_or(|at| at > now), "due, but not polled");

        let until = match (turn % 5, engine.poll_timeout()) {
            (0, Some(at)) if at < now.after(TTL) => at,
            _ => now.after(Duration::from_millis(turn * 7 % 900)),
        };
        let pause = until.since(now);
        for tick in 1..=ticks {
            engine.handle_timeout(now.after(pause * tick / ticks));
        }
        now = until;
        let before = engine.clone();
        engine.handle_timeout(now);
        let once = engine.clone();
        engine.handle_timeout(now);
        assert_eq!(engine, once, "a second look changed something");
        assert!(ticks == 0 || before == engine, "a look at the time it was looked at");
    }
    (trace, engine)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_the_same_engine() {
    let (trace, engine) = play(1, 0);
    assert!(trace.len() > 400, "something happens: {}", trace.len());
    for what in ["Granted", "Waiting", "Trouble", "NotAcquired", "Renewed", "Lost", "Released"] {
        assert!(trace.iter().any(|line| line.contains(what)), "nothing was {what}");
    }
    assert!((trace.clone(), engine) == play(1, 0));
    assert!(trace != play(2, 0).0);
}

#[test]
fn ticking_too_often_changes_nothing() {
    let rare = play(1, 0);
    assert!(rare == play(1, 1));
    assert!(rare == play(1, 13));
}

#[test]
fn an_engine_goes_on_from_a_copy() {
    let (mut scene, _) = Scenario::held();
    scene.sleep(RENEW);
    let mut copy = scene.engine.clone();
    let renewal = scene.sends(Action::Renew, &["a"]);
    let copied = copy.poll_request(scene.now).expect("the same is due");
    assert_eq!((copied.id, copied.request), (renewal.id, renewal.request));
    assert_eq!(copy, scene.engine);
}
