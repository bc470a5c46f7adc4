//! Probes: whether what the server tells is heard.

use super::*;
use lock_core::{Outcome, Reply};

/// Requests that leave within `time`, each denied or answered as far as it can be; nothing is told. And when
/// the connection that listens is closed.
fn deaf_for(
    scene: &mut Scenario,
    mut listens: bool,
    time: Duration,
) -> (Vec<(Duration, Action)>, Vec<Duration>) {
    let (began, mut sent, mut closed) = (scene.now, Vec::new(), Vec::new());
    while scene.engine.has_work() || scene.now <= began.after(time) {
        if !scene.engine.has_work() {
            scene.sleeps();
            continue;
        }
        if let Some(connection) = scene.engine.poll_close(scene.now) {
            assert_eq!(connection, ConnectionId::NOTIFICATIONS);
            closed.push(scene.now.since(began));
            listens = false;
            continue;
        }
        let request = scene.sends_any();
        let action = request.request.action();
        sent.push((scene.now.since(began), action));
        match action {
            Action::Acquire | Action::Probe => denied(scene, &request),
            Action::Ping => scene.answers(&request, Ok(Reply::one(Outcome::Done))),
            // The server says that it tells, but not what.
            _ if listens => {}
            _ => {
                begins(scene, &request);
                listens = true;
            }
        }
    }
    (sent, closed)
}

fn times(sent: &[(Duration, Action)], of: Action) -> Vec<Duration> {
    sent.iter().filter(|(_, action)| *action == of).map(|(at, _)| *at).collect()
}

#[test]
fn until_a_probe_was_heard_a_waiter_asks_again_and_again() {
    let (mut scene, _) = begun();
    let (sent, closed) = deaf_for(&mut scene, true, Duration::from_secs(60));
    let asked = times(&sent, Action::Probe);
    let gaps = asked.windows(2).map(|two| two[1] - two[0]);
    assert!(gaps.max() <= Some(Duration::from_millis(1_010)), "{asked:?}");
    let probed = times(&sent, Action::Ping);
    assert!((3..=8).contains(&probed.len()), "{probed:?}");
    assert!(!closed.is_empty(), "the connection is no good");
}

#[test]
fn where_no_probe_was_ever_heard_it_is_not_tried_again_at_once() {
    let (mut scene, _) = begun();
    let (sent, closed) = deaf_for(&mut scene, true, Duration::from_secs(60));
    for gone in closed {
        let again = times(&sent, Action::Subscribe).into_iter().find(|at| *at > gone);
        assert!(again.is_none_or(|again| again - gone >= QUIET), "{sent:?}");
    }
}

#[test]
fn a_probe_that_is_overdue_wakes_everybody_and_ends_the_connection() {
    let (mut scene, _, listen) = listening();
    while !scene.engine.has_work() {
        scene.sleeps();
    }
    let probe = scene.sends(Action::Ping, &[]);
    assert!(probe.at <= listen.at.after(QUIET * 9 / 8).after(TRIP * 3), "a quarter of a TTL");
    scene.answers(&probe, Ok(Reply::one(Outcome::Done)));
    assert_eq!(next(&mut scene), probe.at.after(Duration::from_secs(5)), "it has a request's time");
    scene.sleeps();
    scene.stops_listening();
    let claim = scene.sends(Action::Acquire, &["a"]);
    tells_number(&mut scene, &listen, number(&probe)); // too late: on a connection that is gone
    denied(&mut scene, &claim);
    let (sent, _) = deaf_for(&mut scene, false, Duration::from_secs(2));
    assert!(times(&sent, Action::Subscribe)[0] <= Duration::from_secs(1), "{sent:?}");
    assert!(times(&sent, Action::Probe).len() >= 2, "{sent:?}");
}

#[test]
fn a_probe_that_could_not_be_sent_is_overdue_as_well() {
    let (mut scene, ..) = listening();
    while !scene.engine.has_work() {
        scene.sleeps();
    }
    let probe = scene.sends(Action::Ping, &[]);
    scene.fails(&probe, deadlock());
    scene.sleeps();
    scene.stops_listening();
    scene.sends(Action::Acquire, &["a"]); // it may have been freed meanwhile
}

#[test]
fn a_strangers_probe_or_an_earlier_one_proves_nothing_at_first() {
    for other in [7, 41] {
        let (mut scene, _) = begun();
        let probe = scene.sends(Action::Ping, &[]);
        let listen = scene.sends(Action::Subscribe, &[]);
        scene.answers(&probe, Ok(Reply::one(Outcome::Done)));
        tells_number(&mut scene, &listen, other);
        let listen = scene.sends(Action::Subscribe, &[]);
        tells_of(&mut scene, &listen, &["b"]);
        scene.sends(Action::Subscribe, &[]);
        scene.sleeps();
        let claim = scene.sends(Action::Probe, &["a"]);
        denied(&mut scene, &claim);
        assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "it asks again");
    }
}

#[test]
fn whatever_is_heard_puts_off_the_next_probe() {
    let (mut scene, _, mut listen) = listening();
    for other in 0..40 {
        let before = scene.now;
        scene.sleep(QUIET / 4);
        match other % 2 {
            0 => tells_number(&mut scene, &listen, other),
            _ => tells_of(&mut scene, &listen, &["b"]),
        }
        assert!(scene.now > before);
        let sent = scene.sends_any();
        listen = match sent.request.action() {
            Action::Subscribe => sent,
            action => {
                assert_eq!(action, Action::Acquire, "when the lease ends");
                denied(&mut scene, &sent);
                scene.sends(Action::Subscribe, &[])
            }
        };
    }
}

#[test]
fn a_process_sends_one_probe_however_many_wait() {
    let (mut scene, _, listen) = listening();
    for text in ["b", "c", "d", "a"] {
        scene.acquire(text);
    }
    let claim = scene.sends(Action::Acquire, &["b", "c", "d"]);
    denied(&mut scene, &claim);
    let (mut probes, mut listen) = (0, listen);
    loop {
        if !scene.engine.has_work() {
            scene.sleeps();
            continue;
        }
        let sent = scene.sends_any();
        if sent.request.action() == Action::Acquire {
            break;
        }
        assert_eq!(sent.request.action(), Action::Ping);
        probes += 1;
        scene.answers(&sent, Ok(Reply::one(Outcome::Done)));
        tells_number(&mut scene, &listen, number(&sent));
        listen = scene.sends(Action::Subscribe, &[]);
    }
    assert_eq!(probes, 2, "one a quarter of a TTL, in two thirds of it");
}

#[test]
fn nobody_who_does_not_wait_sends_probes_and_who_waits_again_sends_one_first() {
    let (mut scene, id, listen) = listening();
    scene.release(id);
    scene.told();
    scene.sleep(QUIET * 2);
    scene.sends_nothing();
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    let listen = verified(&mut scene, &listen);
    scene.sleeps();
    let claim = scene.sends(Action::Probe, &["a"]); // nobody relied on it meanwhile
    denied(&mut scene, &claim);
    let ends = scene.now.after(LEFT);
    claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends);
}

#[test]
fn a_probe_goes_over_the_home_connection_before_claims() {
    let (mut scene, _) = begun();
    for text in ["b", "c"] {
        scene.acquire(text);
    }
    let probe = scene.engine.poll_request(scene.now).expect("a probe");
    assert_eq!((probe.connection, probe.request.action()), (ConnectionId::MAIN, Action::Ping));
    let listen = scene.engine.poll_request(scene.now).expect("it listens");
    assert_eq!(listen.connection, ConnectionId::NOTIFICATIONS);
    scene.sends_nothing();
    scene.engine.handle_reply(scene.now, probe.id, Ok(Reply::one(Outcome::Done)));
    scene.sends(Action::Acquire, &["b", "c"]);
}
