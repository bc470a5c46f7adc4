//! A server that tells what was freed: who is sure to be told does not ask.

use crate::scenario::{NANO, Scenario, Sent, TRIP, deadlock, holder, name, unknown};
use lock_core::table::{Command, Freed, Reply, Table};
use lock_core::{Action, Engine, Event, Holder, Instant, Lane, LockId, News, Notification};
use std::time::Duration;

/// How long the lease in the way lasts.
const LEFT: Duration = Duration::from_secs(20);

/// After so long, a server that has nothing to tell says so.
const QUIET: Duration = Duration::from_millis(7_500);

/// An engine at a server that tells.
fn told() -> Scenario {
    let mut scene = Scenario::new();
    let table = Table::new(crate::scenario::TTL, "me").told();
    scene.engine = Engine::new(table, crate::scenario::config());
    scene
}

fn denied(scene: &mut Scenario, claim: &Sent) {
    scene.sleep(TRIP);
    scene.denies_for(claim, holder("somebody", LEFT));
    scene.told();
}

fn begins(scene: &mut Scenario, listen: &Sent) {
    scene.answers(listen, Ok(Reply::Told(News::Begun)));
}

fn tells_of(scene: &mut Scenario, listen: &Sent, names: &[&str]) {
    let freed = names.iter().map(|text| Notification::Freed(name(text))).collect();
    scene.answers(listen, Ok(Reply::Told(News::Notified(freed))));
}

fn number(probe: &Sent) -> u128 {
    let Command::Probe { number } = probe.command else { panic!("{:?}", probe.command) };
    number
}

fn tells_number(scene: &mut Scenario, listen: &Sent, number: u128) {
    let told = vec![Notification::Probe(number)];
    scene.answers(listen, Ok(Reply::Told(News::Notified(told))));
}

/// A probe leaves, and is heard on the connection that listens.
fn verified(scene: &mut Scenario, listen: &Sent) -> Sent {
    let probe = scene.sends(Action::Probe, &[]);
    scene.answers(&probe, Ok(Reply::Probed));
    tells_number(scene, listen, number(&probe));
    scene.sends(Action::Listen, &[])
}

/// The server tells, but nothing was heard yet: a probe is due.
fn begun() -> (Scenario, LockId) {
    let mut scene = told();
    let id = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sends_nothing(); // nobody waits yet
    denied(&mut scene, &claim);
    let first = scene.sends(Action::Listen, &[]);
    begins(&mut scene, &first);
    (scene, id)
}

/// It was denied once before the server told, and once since it is known to be heard; it listens.
fn listening() -> (Scenario, LockId, Sent) {
    let (mut scene, id) = begun();
    let probe = scene.sends(Action::Probe, &[]);
    scene.answers(&probe, Ok(Reply::Probed));
    let listen = scene.sends(Action::Listen, &[]);
    tells_number(&mut scene, &listen, number(&probe));
    let listen = scene.sends(Action::Listen, &[]);
    scene.sleeps();
    let again = scene.sends(Action::Acquire, &["a"]); // it may have been freed before
    denied(&mut scene, &again);
    (scene, id, listen)
}

/// The next claim, if nothing is told but probes; and what listens by then.
fn claims_next(scene: &mut Scenario, mut listen: Sent) -> (Sent, Sent) {
    loop {
        if !scene.engine.has_command() {
            scene.sleeps();
            continue;
        }
        let sent = scene.sends_any();
        if sent.command.action() != Action::Probe {
            assert_eq!(sent.command.action(), Action::Acquire);
            return (sent, listen);
        }
        scene.answers(&sent, Ok(Reply::Probed));
        tells_number(scene, &listen, number(&sent));
        listen = scene.sends(Action::Listen, &[]);
    }
}

/// When it will try again if nothing happens.
fn next(scene: &mut Scenario) -> Instant {
    scene.sends_nothing();
    scene.engine.poll_timeout().expect("something is due")
}

#[test]
fn who_is_sure_to_be_told_asks_again_when_the_lease_ends_and_not_before() {
    let (mut scene, _, listen) = listening();
    let ends = scene.now.after(LEFT);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]); // nothing happened for long
    let listen = scene.sends(Action::Listen, &[]);
    let (claim, listen) = claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends);
    denied(&mut scene, &claim); // it was renewed
    let ends = scene.now.after(LEFT);
    claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends);
}

#[test]
fn who_is_told_tries_at_once() {
    let (mut scene, id, listen) = listening();
    tells_of(&mut scene, &listen, &["b", "a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    scene.sleep(TRIP);
    scene.grants(&claim);
    assert!(matches!(scene.told()[..], [Event::Granted { id: granted, .. }] if granted == id));
    scene.release(id);
    let release = scene.sends(Action::Release, &["a"]);
    scene.answers(&release, Ok(Reply::Freed(vec![Freed::Free])));
    scene.told();
    // Nobody waits any more: when nobody has for long, the connection goes.
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]);
    let listen = scene.sends(Action::Listen, &[]);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &[]);
    let unlisten = scene.sends(Action::Unlisten, &[]);
    scene.answers(&unlisten, Ok(Reply::Silent));
    scene.sends_nothing();
}

#[test]
fn what_is_freed_while_the_claim_is_under_way_is_not_missed() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    // Denied at the server; freed by the next holder; and that is heard before the denial.
    tells_of(&mut scene, &listen, &["a"]);
    scene.sends(Action::Listen, &[]);
    denied(&mut scene, &claim);
    assert!(next(&mut scene) <= scene.now.after(TRIP));
    scene.sleeps();
    scene.sends(Action::Acquire, &["a"]);
}

#[test]
fn a_claim_sent_before_the_server_told_is_not_sure_to_be_told_of() {
    let mut scene = told();
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    let first = scene.sends(Action::Listen, &[]);
    scene.sleeps();
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(NANO);
    begins(&mut scene, &first);
    let listen = scene.sends(Action::Listen, &[]);
    denied(&mut scene, &claim);
    let denied = scene.now;
    verified(&mut scene, &listen);
    assert!(next(&mut scene) <= denied.after(Duration::from_secs(1)), "it asks again");
}

#[test]
fn a_denial_that_names_no_holder_is_not_told_of() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sends(Action::Listen, &[]);
    scene.sleep(TRIP);
    scene.denies(&claim);
    scene.told();
    assert!(next(&mut scene) <= scene.now.after(TRIP));
}

#[test]
fn when_the_server_stops_telling_everybody_asks_again() {
    let (mut scene, _, listen) = listening();
    scene.fails(&listen, unknown());
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    // And goes on asking, until the server tells again.
    let mut failures = 0;
    while failures < 12 {
        if !scene.engine.has_command() {
            assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "within a second");
            scene.sleeps();
        }
        let sent = scene.sends_any();
        if sent.command.action() == Action::Listen {
            scene.fails(&sent, deadlock());
            failures += 1;
        } else {
            denied(&mut scene, &sent);
        }
    }
}

#[test]
fn who_frees_what_others_wait_for_lets_them_go_first() {
    for (freed, wait) in [(Freed::Free, Duration::ZERO), (Freed::Wanted, TRIP * 2)] {
        let mut scene = told();
        let first = scene.acquire("a");
        let claim = scene.sends(Action::Acquire, &["a"]);
        scene.sleep(TRIP);
        scene.grants(&claim);
        scene.acquire("a"); // a local rival
        scene.release(first);
        let release = scene.sends(Action::Release, &["a"]);
        scene.sleep(TRIP);
        scene.answers(&release, Ok(Reply::Freed(vec![freed])));
        scene.told();
        let at = scene.now;
        if !scene.engine.has_command() {
            scene.sleeps();
        }
        scene.sends(Action::Acquire, &["a"]);
        assert_eq!(scene.now.since(at), wait);
    }
}

#[test]
fn a_server_that_tells_nothing_at_once_is_not_listened_to_at_once_again() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &[]);
    scene.sends(Action::Acquire, &["a"]); // as if it told no more
    assert!(next(&mut scene) > scene.now);
}

#[test]
fn a_server_that_has_nothing_to_tell_for_half_the_time_is_listened_to_at_once_again() {
    let (mut scene, _, listen) = listening();
    scene.sleep_until(listen.at.after(QUIET / 2));
    tells_of(&mut scene, &listen, &[]);
    scene.sends(Action::Listen, &[]);
}

#[test]
fn nobody_listens_when_nobody_waits() {
    let mut scene = told();
    let id = scene.acquire_once("a", TRIP);
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.sleep(TRIP);
    scene.denies_for(&claim, holder("somebody", LEFT));
    assert!(matches!(scene.told()[..], [Event::NotAcquired { id: ended, .. }] if ended == id));
    scene.sends_nothing();
}

#[test]
fn who_waits_again_listens_again() {
    let (mut scene, id, listen) = listening();
    scene.release(id);
    scene.told();
    scene.sends_nothing(); // what is under way goes on
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    scene.sleep(QUIET);
    tells_of(&mut scene, &listen, &["a"]); // others' business does not keep it
    let unlisten = scene.sends(Action::Unlisten, &[]);
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    scene.answers(&unlisten, Ok(Reply::Silent));
    scene.sends(Action::Listen, &[]);
    assert!(next(&mut scene) <= scene.now.after(Duration::from_secs(1)), "it is not told yet");
}

#[test]
fn who_waits_again_soon_is_told_from_the_start() {
    let (mut scene, id, listen) = listening();
    scene.release(id);
    scene.told();
    scene.sleep(QUIET / 2);
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    denied(&mut scene, &claim);
    let ends = scene.now.after(LEFT);
    // It was needed meanwhile: the time without begins anew.
    scene.sleep(QUIET / 2);
    tells_of(&mut scene, &listen, &["b"]);
    let listen = scene.sends(Action::Listen, &[]);
    claims_next(&mut scene, listen);
    assert_eq!(scene.now, ends, "it need not ask again");
}

fn denied_behind(scene: &mut Scenario, claim: &Sent) {
    scene.sleep(TRIP);
    let just = Holder { held_for: Duration::ZERO, wanted: true, ..holder("somebody", LEFT) };
    scene.denies_for(claim, just);
    scene.told();
}

#[test]
fn who_was_denied_behind_others_is_held_back_the_less_the_more_often_it_was_passed_over() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let mut claim = scene.sends(Action::Acquire, &["a"]); // nobody was before it
    let mut listen = scene.sends(Action::Listen, &[]);
    let mut backs = Vec::new();
    while backs.last() != Some(&Duration::ZERO) {
        denied_behind(&mut scene, &claim);
        let told = scene.now;
        tells_of(&mut scene, &listen, &["a"]);
        let mut sent = scene.sends_any();
        if sent.command.action() == Action::Listen {
            scene.sleeps();
            (listen, sent) = (sent, scene.sends_any());
        } else {
            listen = scene.sends(Action::Listen, &[]);
        }
        backs.push(scene.now.since(told));
        claim = sent;
    }
    assert!(backs[0] >= TRIP * 8, "{backs:?}");
    assert!(backs.is_sorted_by(|a, b| a > b), "{backs:?}");
    assert_eq!(backs.len(), 11, "{backs:?}");
}

#[test]
fn further_news_do_not_put_off_who_is_held_back() {
    let (mut scene, _, listen) = listening();
    tells_of(&mut scene, &listen, &["a"]);
    let claim = scene.sends(Action::Acquire, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    denied_behind(&mut scene, &claim);
    tells_of(&mut scene, &listen, &["a"]);
    let listen = scene.sends(Action::Listen, &[]);
    let at = next(&mut scene);
    scene.sleep(at.since(scene.now) - TRIP);
    tells_of(&mut scene, &listen, &["a"]);
    scene.sends(Action::Listen, &[]);
    assert_eq!(next(&mut scene), at);
}

#[test]
fn news_have_a_lane_of_their_own() {
    let mut scene = told();
    scene.acquire("a");
    let claim = scene.engine.poll_command(scene.now).expect("a claim");
    assert_eq!(claim.lane, Lane::HOME);
    let sent =
        Sent { id: claim.id, at: scene.now, deadline: claim.deadline, command: claim.command };
    denied(&mut scene, &sent);
    scene.acquire("b");
    let claim = scene.engine.poll_command(scene.now).expect("a claim");
    assert_eq!(claim.lane, Lane::HOME);
    let listen = scene.engine.poll_command(scene.now).expect("it listens");
    assert_eq!(listen.lane, Lane::NEWS);
    let Command::Listen { up_to } = listen.command else { panic!("{listen:?}") };
    assert!(scene.now.after(up_to) < listen.deadline, "there is time for the answer");
}

/// Commands that leave within `time`, each denied or answered as far as it can be; nothing is told.
fn deaf_for(scene: &mut Scenario, mut listens: bool, time: Duration) -> Vec<(Duration, Action)> {
    let (began, mut sent) = (scene.now, Vec::new());
    while scene.engine.has_command() || scene.now <= began.after(time) {
        if !scene.engine.has_command() {
            scene.sleeps();
            continue;
        }
        let command = scene.sends_any();
        let action = command.command.action();
        sent.push((scene.now.since(began), action));
        match action {
            Action::Acquire => denied(scene, &command),
            Action::Probe => scene.answers(&command, Ok(Reply::Probed)),
            Action::Unlisten => {
                scene.answers(&command, Ok(Reply::Silent));
                listens = false;
            }
            // The server says that it tells, but not what.
            _ if listens => {}
            _ => {
                begins(scene, &command);
                listens = true;
            }
        }
    }
    sent
}

fn times(sent: &[(Duration, Action)], of: Action) -> Vec<Duration> {
    sent.iter().filter(|(_, action)| *action == of).map(|(at, _)| *at).collect()
}

#[test]
fn until_a_probe_was_heard_a_waiter_asks_again_and_again() {
    let (mut scene, _) = begun();
    let sent = deaf_for(&mut scene, true, Duration::from_secs(60));
    let asked = times(&sent, Action::Acquire);
    let gaps = asked.windows(2).map(|two| two[1] - two[0]);
    assert!(gaps.max() <= Some(Duration::from_millis(1_010)), "{asked:?}");
    let probed = times(&sent, Action::Probe);
    assert!((3..=8).contains(&probed.len()), "{probed:?}");
    assert!(!times(&sent, Action::Unlisten).is_empty(), "the connection is no good");
}

#[test]
fn where_no_probe_was_ever_heard_it_is_not_tried_again_at_once() {
    let (mut scene, _) = begun();
    let sent = deaf_for(&mut scene, true, Duration::from_secs(60));
    for gone in times(&sent, Action::Unlisten) {
        let again = times(&sent, Action::Listen).into_iter().find(|at| *at > gone);
        assert!(again.is_none_or(|again| again - gone >= QUIET), "{sent:?}");
    }
}

#[test]
fn a_probe_that_is_overdue_wakes_everybody_and_ends_the_connection() {
    let (mut scene, _, listen) = listening();
    while !scene.engine.has_command() {
        scene.sleeps();
    }
    let probe = scene.sends(Action::Probe, &[]);
    assert!(probe.at <= listen.at.after(QUIET * 9 / 8).after(TRIP * 3), "a quarter of a TTL");
    scene.answers(&probe, Ok(Reply::Probed));
    assert_eq!(next(&mut scene), probe.at.after(Duration::from_secs(5)), "it has a request's time");
    scene.sleeps();
    let unlisten = scene.sends(Action::Unlisten, &[]);
    scene.answers(&unlisten, Ok(Reply::Silent));
    let claim = scene.sends(Action::Acquire, &["a"]);
    tells_number(&mut scene, &listen, number(&probe)); // too late: on a connection that is gone
    denied(&mut scene, &claim);
    let sent = deaf_for(&mut scene, false, Duration::from_secs(2));
    assert!(times(&sent, Action::Listen)[0] <= Duration::from_secs(1), "{sent:?}");
    assert!(times(&sent, Action::Acquire).len() >= 2, "{sent:?}");
}

#[test]
fn a_probe_that_could_not_be_sent_is_overdue_as_well() {
    let (mut scene, ..) = listening();
    while !scene.engine.has_command() {
        scene.sleeps();
    }
    let probe = scene.sends(Action::Probe, &[]);
    scene.fails(&probe, deadlock());
    scene.sleeps();
    scene.sends(Action::Unlisten, &[]);
}

#[test]
fn a_strangers_probe_or_an_earlier_one_proves_nothing_at_first() {
    for other in [7, 41] {
        let (mut scene, _) = begun();
        let probe = scene.sends(Action::Probe, &[]);
        let listen = scene.sends(Action::Listen, &[]);
        scene.answers(&probe, Ok(Reply::Probed));
        tells_number(&mut scene, &listen, other);
        let listen = scene.sends(Action::Listen, &[]);
        tells_of(&mut scene, &listen, &["b"]);
        scene.sends(Action::Listen, &[]);
        scene.sleeps();
        let claim = scene.sends(Action::Acquire, &["a"]);
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
        listen = match sent.command.action() {
            Action::Listen => sent,
            action => {
                assert_eq!(action, Action::Acquire, "when the lease ends");
                denied(&mut scene, &sent);
                scene.sends(Action::Listen, &[])
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
    scene.sleep(TRIP);
    scene.denies_for(&claim, holder("somebody", LEFT));
    scene.told();
    let (mut probes, mut listen) = (0, listen);
    loop {
        if !scene.engine.has_command() {
            scene.sleeps();
            continue;
        }
        let sent = scene.sends_any();
        if sent.command.action() == Action::Acquire {
            break;
        }
        assert_eq!(sent.command.action(), Action::Probe);
        probes += 1;
        scene.answers(&sent, Ok(Reply::Probed));
        tells_number(&mut scene, &listen, number(&sent));
        listen = scene.sends(Action::Listen, &[]);
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
    let claim = scene.sends(Action::Acquire, &["a"]); // nobody relied on it meanwhile
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
    let probe = scene.engine.poll_command(scene.now).expect("a probe");
    assert_eq!((probe.lane, probe.command.action()), (Lane::HOME, Action::Probe));
    let listen = scene.engine.poll_command(scene.now).expect("it listens");
    assert_eq!(listen.lane, Lane::NEWS);
    scene.sends_nothing();
    scene.engine.handle_reply(scene.now, probe.id, Ok(Reply::Probed));
    scene.sends(Action::Acquire, &["b", "c"]);
}
