//! How long a connection lives, and what does not survive the server.

use crate::advisory::facts;
use lock_core::Failure;
use lock_core::sql::Refusal;
use lock_core::{Outcome, Reply, Request, SessionName};
use lock_tests::advisory::{LONG, Line, claims, codec, connect, fresh, open};
use lock_tests::servers::Kind;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

facts! {
    an_idle_connection_is_ended_after_its_time_and_not_before
    a_connection_that_is_kept_lives
    a_connection_that_waits_is_not_idle
    a_connection_is_marked_once
    a_restart_forgets_every_lock_and_is_seen
}

const TTL: Duration = Duration::from_secs(2);

fn an_idle_connection_is_ended_after_its_time_and_not_before(kind: Kind) {
    let name = fresh("idle");
    let (mut a, mut b) = (Line::new(kind, TTL), Line::new(kind, LONG));
    let before = Instant::now();
    assert!(a.take(&name).is_some());
    while b.take(&name).is_none() {
        assert!(before.elapsed() < TTL * 10, "it is still there");
        sleep(Duration::from_millis(5));
    }
    let lived = before.elapsed();
    println!("{kind:?}: ended {lived:?} after its last request");
    assert!(lived >= TTL, "{lived:?}");
    let answer = a.keep();
    assert!(matches!(answer, Err(Failure::Unknown(_))), "{answer:?}");
}

fn a_connection_that_is_kept_lives(kind: Kind) {
    let name = fresh("kept");
    let (mut a, mut b) = (Line::new(kind, TTL), Line::new(kind, LONG));
    assert!(a.take(&name).is_some());
    for _ in 0..8 {
        sleep(TTL / 3);
        assert_eq!(a.keep(), Ok(true));
        assert_eq!(b.take(&name), None);
    }
}

fn a_connection_that_waits_is_not_idle(kind: Kind) {
    let name = fresh("patient");
    let ttl = Duration::from_secs(3);
    let (mut a, mut b) = (Line::new(kind, LONG), Line::new(kind, ttl));
    if kind == Kind::Postgres {
        // It would end a statement that takes longer than the TTL.
        b.run("SET statement_timeout = 0");
    }
    assert!(a.take(&name).is_some());
    scope(|scope| {
        let waiting = scope.spawn(|| b.wait(&name, ttl * 10).is_some());
        sleep(ttl * 5 / 2);
        assert!(a.free(&name));
        assert!(waiting.join().expect("no panic"));
    });
    // It is idle from then on.
    sleep(ttl / 2);
    assert_eq!(a.take(&name), None);
    sleep(ttl);
    assert!(a.take(&name).is_some());
}

/// As another client of a pooler finds it, or the same one with another connection behind it.
fn a_connection_is_marked_once(kind: Kind) {
    let codec = codec(kind);
    let mut client = connect(kind.place().url());
    let first = open(&mut *client, &codec, LONG, None).expect("new");
    assert_eq!(open(&mut *client, &codec, LONG, None), Err(Refusal::Pooled));
    client.reset();
    let second = open(&mut *client, &codec, LONG, None).expect("as good as new");
    assert!(first.id() == second.id() && first != second, "by another mark");
    let id = u32::try_from(second.id()).expect("it fits");
    client.reset();
    assert_eq!(open(&mut *client, &codec, LONG, Some(id + 1)), Err(Refusal::Pooled));
    client.reset();
    assert!(open(&mut *client, &codec, LONG, Some(id)).is_ok());
}

fn a_restart_forgets_every_lock_and_is_seen(kind: Kind) {
    let server = kind.server();
    let name = fresh("restart");
    let mut a = Line::at(server.url(), kind, codec(kind), LONG);
    assert!(a.take(&name).is_some());
    server.kill();
    server.start();
    let mut b = Line::at(server.url(), kind, codec(kind), LONG);
    let starting = Request::Acquire {
        session: SessionName::default(),
        claims: claims(&[&name]),
        ttl: Duration::from_secs(30),
        min_uptime: LONG,
        label: "".into(),
    };
    assert_eq!(b.ask(&starting), Ok(Reply::Outcomes(vec![Outcome::Delayed])));
    assert!(b.take(&name).is_some(), "it is free, though its holder may not know yet");
    let passed = Request::Acquire {
        session: SessionName::default(),
        claims: claims(&[&name]),
        ttl: Duration::from_secs(30),
        min_uptime: Duration::from_secs(2),
        label: "".into(),
    };
    assert!(b.free(&name));
    sleep(Duration::from_millis(3_100));
    let mut c = Line::at(server.url(), kind, codec(kind), LONG);
    let entries = c.ask(&passed);
    assert!(
        matches!(entries, Ok(Reply::Outcomes(ref entries)) if matches!(entries[..], [Outcome::Granted(_)])),
        "{entries:?}"
    );
}
