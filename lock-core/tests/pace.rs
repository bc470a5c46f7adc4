//! Which leases can be kept at which pace.

use lock_core::{Judgment, Pace, Timing, TimingError};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn timing(ttl: Duration) -> Timing {
    Timing::new(ttl).expect("a good TTL")
}

/// A first connect in `trips` round trips of a link, with so many statements in the checks.
fn link(round_trip: Duration, trips: u32, statements: u32) -> Pace {
    let mut pace = Pace::default();
    pace.connected(round_trip * trips);
    (0..statements).for_each(|_| pace.answered(round_trip));
    pace
}

/// The TTL that is named.
fn named(judge: &Judgment) -> Duration {
    match judge {
        Judgment::TooSlow(TimingError::TooSlow { ttl, .. }) => *ttl,
        other => panic!("{other:?}"),
    }
}

/// The time of a request that the leases leave.
fn fits(judge: &Judgment) -> Option<Duration> {
    match judge {
        Judgment::Fits(timing) => Some(timing.request()),
        _ => None,
    }
}

#[test]
fn a_fast_server_changes_nothing() {
    for ttl in [SECOND, SECOND * 6, SECOND * 30, SECOND * 3_600] {
        let timing = timing(ttl);
        assert_eq!(fits(&link(MS, 7, 3).judge(timing)), Some(timing.request()));
        assert_eq!(
            fits(&Pace::default().judge(timing)),
            Some(timing.request()),
            "nothing was measured"
        );
    }
}

#[test]
fn a_slow_link_is_refused_with_the_ttl_that_it_takes() {
    let Judgment::TooSlow(error) = link(MS * 600, 5, 3).judge(timing(SECOND * 6)) else {
        panic!("it fits")
    };
    assert_eq!(
        error.to_string(),
        "the way to the server is too slow: to connect and renew a lock takes 6s, and the TTL leaves 1.249s for that; use a TTL of 35s or more"
    );
    let chosen = timing(SECOND * 60).with_request(SECOND * 5).expect("a good budget");
    let Judgment::TooSlow(error) = link(MS * 600, 5, 3).judge(chosen) else { panic!("it fits") };
    assert_eq!(
        error.to_string(),
        "the way to the server is too slow: to connect and renew a lock takes 6s, and the request timeout allows 5s for that; use a TTL of 35s or more without a request timeout"
    );
}

#[test]
fn the_ttl_that_is_named_is_enough_and_not_much_more_than_enough() {
    for round_trip in [21, 50, 100, 250, 600, 1_500, 9_000] {
        let pace = link(MS * round_trip, 5, 3);
        let named = named(&pace.judge(timing(SECOND)));
        let Judgment::Fits(fit) = pace.judge(timing(named)) else { panic!("{named:?}") };
        let needs = MS * round_trip * 10;
        assert!(fit.request() >= needs, "{named:?} {fit:?}");
        // The hung request, the pause, and the one that connects.
        let worst = named / 3 + fit.request() + named / 12 + needs;
        assert!(worst <= fit.valid(), "{named:?}: {worst:?}");
        assert!(named <= needs * 6 + SECOND * 5, "{named:?}");
        let less = (needs * 24 / 5).max(SECOND);
        assert!(matches!(pace.judge(timing(less)), Judgment::TooSlow(_)), "{less:?}");
    }
}

#[test]
fn a_request_gets_the_time_to_connect_with_something_to_spare() {
    let room = |ttl: Duration, pace: &Pace| match pace.judge(timing(ttl)) {
        Judgment::Fits(timing) => timing.request(),
        other => panic!("{other:?}"),
    };
    let pace = link(MS * 600, 5, 3);
    assert_eq!(room(SECOND * 120, &pace), SECOND * 12);
    assert_eq!(room(SECOND * 30, &pace), timing(SECOND * 30).valid() / 4, "no more than a quarter");
    assert_eq!(room(SECOND * 120, &link(MS * 100, 5, 3)), SECOND * 5, "as ever");
}

#[test]
fn a_request_timeout_that_was_chosen_is_kept() {
    let chosen = timing(SECOND * 60).with_request(SECOND * 8).expect("a good budget");
    assert_eq!(fits(&link(MS * 600, 5, 3).judge(chosen)), Some(chosen.request()));
    assert_eq!(chosen.connect(), SECOND * 8, "the first one, too");
}

#[test]
fn the_first_connect_has_time_for_a_slow_handshake() {
    for ttl in [SECOND, SECOND * 30, SECOND * 3_600] {
        assert_eq!(timing(ttl).connect(), SECOND * 10);
    }
}

#[test]
fn one_slow_answer_is_no_slow_link() {
    let mut pace = link(SECOND, 0, 1);
    let timing = timing(SECOND * 6);
    assert_eq!(pace.judge(timing), Judgment::CheckAgain);
    pace.checks();
    pace.answered(SECOND);
    assert_eq!(pace.judge(timing), Judgment::CheckAgain);
    let mut slow = pace.clone();
    slow.checks();
    slow.answered(SECOND);
    assert_eq!(named(&slow.judge(timing)), SECOND * 20);
    pace.checks();
    pace.answered(MS);
    assert_eq!(fits(&pace.judge(timing)), Some(timing.request()));
}

#[test]
fn a_busy_machine_is_no_slow_link() {
    let timing = timing(SECOND);
    let mut pace = Pace::default();
    pace.connected(MS * 900);
    (0..3).for_each(|_| pace.answered(MS));
    assert_eq!(fits(&pace.judge(timing)), Some(timing.request()), "its round trips are not");
}

#[test]
fn a_slow_login_is_seen_three_times_before_it_is_refused() {
    let timing = timing(SECOND * 6);
    let connect = |pace: &mut Pace, took: Duration| {
        pace.connected(took);
        (0..3).for_each(|_| pace.answered(MS));
    };
    let mut pace = Pace::default();
    for _ in 0..2 {
        connect(&mut pace, SECOND * 2);
        assert_eq!(pace.judge(timing), Judgment::ConnectAgain);
    }
    let mut slow = pace.clone();
    connect(&mut slow, SECOND * 2);
    assert_eq!(named(&slow.judge(timing)), SECOND * 15);
    connect(&mut pace, MS * 20);
    assert_eq!(fits(&pace.judge(timing)), Some(timing.request()));
}

#[test]
fn requests_that_are_made_once_do_not_count_with_each_connect() {
    let mut pace = Pace::default();
    pace.requested(&[SECOND, MS * 250, MS * 250]);
    // Connecting takes three round trips, and the request two more at most.
    assert_eq!(named(&pace.judge(timing(SECOND * 2))), SECOND * 7);
}
