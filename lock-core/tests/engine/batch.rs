//! Many attempts, few commands.

use crate::scenario::*;
use lock_core::table::{Acquired, Reply};
use lock_core::{Action, Config, Event, Fence, LostReason};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn claims_leave_together_and_sorted_by_name() {
    let mut scene = Scenario::new();
    for text in ["c", "a", "B", "é", "b", "a "] {
        scene.acquire(text);
    }
    scene.sends(Action::Acquire, &["B", "a", "a ", "b", "c", "é"]);
}

#[test]
fn what_becomes_due_while_a_command_is_under_way_leaves_with_the_next() {
    let (mut scene, _, claim) = Scenario::claiming();
    scene.acquire("b");
    scene.acquire("c");
    scene.sends_nothing();
    scene.denies(&claim);
    scene.told();
    scene.sends(Action::Acquire, &["b", "c"]);
}

#[test]
fn each_claim_has_its_own_verdict() {
    let mut scene = Scenario::new();
    let [b, a, c] = ["b", "a", "c"].map(|text| scene.acquire(text));
    let claim = scene.sends(Action::Acquire, &["a", "b", "c"]);
    let grant = |fence| Acquired::Granted(Fence::new(fence));
    let somebody = holder("somebody", TTL);
    let verdicts = vec![grant(1), Acquired::Busy(Some(somebody.clone())), grant(3)];
    scene.answers(&claim, Ok(Reply::Acquired(verdicts)));
    let deadline = START.after(VALID);
    scene.tells([
        Event::Granted { id: a, fence: Fence::new(1), deadline },
        Event::Waiting { id: b, holder: Some(somebody) },
        Event::Granted { id: c, fence: Fence::new(3), deadline },
    ]);
    scene.release(b);
    scene.tells([freed(b)]);

    scene.sleep_until(START.after(RENEW));
    let renewal = scene.sends(Action::Renew, &["a", "c"]);
    scene.answers(&renewal, Ok(Reply::Changed(vec![false, true])));
    scene.tells([
        Event::Lost { id: a, reason: LostReason::Taken },
        Event::Renewed { id: c, deadline: renewal.at.after(VALID) },
    ]);
}

#[test]
fn a_failure_concerns_every_claim_of_the_command() {
    let mut scene = Scenario::new();
    let [a, b] = ["a", "b"].map(|text| scene.acquire(text));
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.fails(&claim, not_sent());
    scene.tells([a, b].map(|id| Event::Trouble { id, failure: not_sent() }));
}

#[test]
fn a_reply_one_entry_short_grants_nothing_to_anyone() {
    let mut scene = Scenario::new();
    let [a, b] = ["a", "b"].map(|text| scene.acquire(text));
    let claim = scene.sends(Action::Acquire, &["a", "b"]);
    scene.answers(&claim, Ok(Reply::Acquired(vec![Acquired::Granted(FENCE)])));
    let told = scene.told();
    let [Event::Trouble { id: first, .. }, Event::Trouble { id: second, .. }] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((first, second), (a, b));
}

#[test]
fn a_command_has_no_more_claims_than_it_may() {
    let mut scene = Scenario::with(Config { batch: 3, ..config() });
    let texts: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
    let ids: Vec<_> = texts.iter().map(|text| scene.acquire(text)).collect();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let claim = scene.sends_any();
        sizes.push(claim.len());
        scene.grants(&claim);
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(scene.told().len(), 7);

    // The same goes for renewals, early ones included, and for releases.
    scene.sleep(RENEW);
    let sizes = [scene.sends_any(), scene.confirm_next(), scene.confirm_next()].map(|s| s.len());
    assert_eq!(sizes, [3, 3, 1]);
    for id in ids {
        scene.release(id);
    }
    let mut released = 0;
    while scene.engine.attempts() > 0 {
        let release = scene.confirm_next();
        assert!(release.len() <= 3);
        released += release.len();
    }
    assert_eq!(released, 7 + 1, "one was a renewal's answer");
    scene.told();
}

#[test]
fn no_more_commands_are_under_way_than_may_be() {
    for limit in 1..4 {
        let mut scene =
            Scenario::with(Config { batch: 1, in_flight: limit, ..config() });
        for text in ["a", "b", "c", "d", "e"] {
            scene.acquire(text);
        }
        let sent: Vec<_> = (0..limit).map(|_| scene.sends_any()).collect();
        scene.sends_nothing();
        // An answer makes room for one more; answers may come in any order.
        for claim in sent.iter().rev() {
            scene.grants(claim);
            if scene.engine.poll_event().is_some() && sent.len() < 4 {
                scene.sends_any();
            }
            scene.sends_nothing();
        }
    }
}

#[test]
fn renewals_go_before_releases_before_claims() {
    let (mut scene, a) = Scenario::held();
    let b = scene.acquire("b");
    let claim = scene.sends(Action::Acquire, &["b"]);
    scene.grants(&claim);
    scene.told();
    scene.sleep_until(START.after(RENEW));
    scene.acquire("c");
    scene.release(b);
    let renewal = scene.sends(Action::Renew, &["a"]);
    scene.confirms(&renewal);
    let release = scene.sends(Action::Release, &["b"]);
    scene.confirms(&release);
    scene.tells([Event::Renewed { id: a, deadline: renewal.at.after(VALID) }, freed(b)]);
    scene.sends(Action::Acquire, &["c"]);
}

#[test]
fn a_lost_hold_and_its_successor_are_released_one_after_the_other() {
    let (mut scene, old) = Scenario::lost();
    let new = scene.acquire("a");
    let claim = scene.sends(Action::Acquire, &["a"]);
    scene.grants(&claim);
    scene.told();
    scene.release(old);
    scene.release(new);
    let first = scene.sends(Action::Release, &["a"]);
    scene.disowns(&first);
    let second = scene.sends(Action::Release, &["a"]);
    assert_eq!(second.owner(), claim.owner());
    scene.confirms(&second);
    let told = scene.told();
    assert_eq!((told.len(), &told[1]), (2, &freed(new)));
    scene.is_over();
}

#[test]
fn a_renewal_takes_along_what_is_due_soon() {
    let (mut scene, a) = Scenario::held();
    let mut ids = vec![a];
    for (seconds, text) in [(4, "b"), (6, "c")] {
        scene.sleep_until(START.after(Duration::from_secs(seconds)));
        ids.push(scene.acquire(text));
        let claim = scene.sends(Action::Acquire, &[text]);
        scene.grants(&claim);
    }
    scene.told();
    scene.sleep_until(START.after(RENEW));
    // "b" is due in 4 s and goes along, "c" in 6 s and does not: that is over half a period.
    let renewal = scene.sends(Action::Renew, &["a", "b"]);
    scene.confirms(&renewal);
    let deadline = renewal.at.after(VALID);
    scene.tells([Event::Renewed { id: a, deadline }, Event::Renewed { id: ids[1], deadline }]);
    scene.sleeps();
    scene.sends(Action::Renew, &["a", "b", "c"].as_slice()[2..].as_ref());
}

#[test]
fn leases_taken_one_by_one_end_up_renewed_by_a_handful_of_commands() {
    let mut scene = Scenario::new();
    for n in 0..1000 {
        scene.acquire(&format!("name {n:04}"));
        loop {
            let sent = scene.sends_any();
            scene.answer_well(&sent);
            if sent.command.action() == Action::Acquire {
                break;
            }
        }
        scene.sleep(TRIP);
    }
    scene.told();
    for period in 0..5 {
        let end = scene.now.after(RENEW);
        let mut commands = 0;
        let mut renewed = BTreeSet::new();
        while scene.engine.poll_timeout().is_some_and(|at| at < end) {
            scene.sleeps();
            while let Some(dispatch) = scene.engine.poll_command(scene.now) {
                let claims = dispatch.command.claims();
                renewed.extend(claims.iter().map(|claim| claim.name.clone()));
                let reply = Reply::Changed(vec![true; claims.len()]);
                scene.engine.handle_reply(scene.now, dispatch.id, Ok(reply));
                commands += 1;
            }
        }
        scene.sleep_until(end);
        assert!(period == 0 || commands <= 6, "period {period}: {commands} commands");
        assert!(period == 0 || renewed.len() == 1000, "period {period}: {}", renewed.len());
        assert!(scene.told().iter().all(|event| matches!(event, Event::Renewed { .. })));
    }
    while scene.engine.poll_command(scene.now).is_some() {}
}

impl Scenario {
    fn answer_well(&mut self, sent: &Sent) {
        match sent.command.action() {
            Action::Acquire => self.grants(sent),
            Action::Renew | Action::Release => self.confirms(sent),
        }
    }
}
