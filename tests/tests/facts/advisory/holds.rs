//! Who has a lock, how often, and with which fence.

use crate::advisory::facts;
use lock_core::{Failure, Fence, Outcome, Reply, Request, SessionName};
use lock_tests::advisory::{LONG, Line, claims, fresh};
use lock_tests::servers::Kind;
use std::time::Duration;

facts! {
    a_connection_takes_its_own_lock_again_and_must_free_it_as_often
    what_is_not_ours_is_not_freed
    a_dropped_connection_frees_what_it_had
    a_statement_takes_a_lock_once
    a_batch_takes_what_is_free
    fences_rise_from_holder_to_holder
    nothing_is_granted_before_the_server_has_run_for_long_enough
    a_connection_that_was_reset_has_nothing_and_gets_nothing
}

fn pair(kind: Kind) -> (Line, Line, String) {
    (Line::new(kind, LONG), Line::new(kind, LONG), fresh("lock"))
}

fn a_connection_takes_its_own_lock_again_and_must_free_it_as_often(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    let first = a.take(&name).expect("free");
    assert!(a.take(&name).expect("its own") > first);
    assert!(a.wait(&name, LONG).is_some(), "without waiting");
    for _ in 0..3 {
        assert_eq!(b.take(&name), None);
        assert!(a.free(&name));
    }
    assert!(!a.free(&name));
    assert!(b.take(&name).is_some());
}

fn what_is_not_ours_is_not_freed(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    assert!(!a.free(&name), "nobody's");
    assert!(a.take(&name).is_some());
    assert!(!b.free(&name), "another's");
    assert_eq!(b.take(&name), None, "and still is");
    assert!(a.free(&name));
}

fn a_dropped_connection_frees_what_it_had(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    assert!(a.take(&name).is_some() && a.take(&name).is_some());
    drop(a);
    assert!(b.wait(&name, Duration::from_secs(5)).is_some());
}

/// However often an expression is written, evaluated or folded.
fn a_statement_takes_a_lock_once(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    for round in 0..4 {
        let granted =
            if round % 2 == 0 { a.take(&name) } else { a.wait(&name, Duration::from_secs(1)) };
        assert!(granted.is_some());
        assert!(a.free(&name));
        assert!(b.take(&name).is_some(), "round {round}");
        assert!(b.free(&name) && !b.free(&name));
    }
}

fn a_batch_takes_what_is_free(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    let names: Vec<String> = (0..512).map(|n| format!("{name}-{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(b.take(names[1]).is_some());
    let before = a.time();
    let entries = a.try_all(claims(&names));
    let after = a.time();
    for (at, entry) in entries.iter().enumerate() {
        match entry {
            Outcome::Busy(None) => assert_eq!(at, 1),
            Outcome::Granted(fence) => assert!(at != 1 && before < *fence && *fence < after),
            other => panic!("{other:?}"),
        }
    }
    let freed = a.ask(&Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: claims(&names),
    });
    let entry = |at| if at == 1 { Outcome::NotOwner } else { Outcome::Done };
    assert_eq!(freed, Ok(Reply::Outcomes((0..512).map(entry).collect())));
    assert!(b.free(names[1]));
}

fn fences_rise_from_holder_to_holder(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    let mut last = Fence::new(0);
    for round in 0..100 {
        let line = if round % 2 == 0 { &mut a } else { &mut b };
        let fence = line.take(&name).expect("free");
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        assert!(line.free(&name));
    }
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    let away = clock.as_micros().abs_diff(u128::from(last.get()));
    assert!(away < 10_000_000, "µs since 1970: {last}");
}

fn nothing_is_granted_before_the_server_has_run_for_long_enough(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    let grace = Duration::from_secs(365 * 86_400);
    let names = claims(&[&name]);
    let commands = [
        Request::Acquire {
            session: SessionName::default(),
            claims: names.clone(),
            ttl: Duration::from_secs(30),
            min_uptime: grace,
            label: "".into(),
        },
        Request::Wait {
            behind: None,
            session: SessionName::default(),
            claim: names[0].clone(),
            since: 0,
            up_to: LONG,
            min_uptime: grace,
        },
    ];
    for command in commands {
        assert_eq!(a.ask(&command), Ok(Reply::Outcomes(vec![Outcome::Delayed])));
    }
    assert!(b.take(&name).is_some());
}

fn a_connection_that_was_reset_has_nothing_and_gets_nothing(kind: Kind) {
    let (mut a, mut b, name) = pair(kind);
    assert!(a.take(&name).is_some());
    assert_eq!(a.keep(), Ok(true));
    a.client.reset();
    assert!(b.take(&name).is_some(), "it is free");
    assert_eq!(a.keep(), Ok(false));
    let other = fresh("other");
    let names = claims(&[&other]);
    let commands = [
        Request::Acquire {
            session: SessionName::default(),
            claims: names.clone(),
            ttl: Duration::from_secs(30),
            min_uptime: Duration::ZERO,
            label: "".into(),
        },
        Request::Wait {
            behind: None,
            session: SessionName::default(),
            claim: names[0].clone(),
            since: 0,
            up_to: LONG,
            min_uptime: Duration::ZERO,
        },
        Request::Release { passed_over: None, session: SessionName::default(), claims: names },
    ];
    for command in commands {
        let answer = a.ask(&command);
        assert!(matches!(answer, Err(Failure::Unknown(_))), "{answer:?}");
    }
    assert!(b.take(&other).is_some());
}
