//! The checker finds each bug that is written into a history.

use super::*;

const BOUNDS: Bounds =
    Bounds { told: Duration::from_millis(50), grant: Duration::from_millis(900) };

/// A history whose times are in milliseconds.
fn found(text: &str) -> Vec<Violation> {
    judged(text).1
}

fn judged(text: &str) -> (Summary, Vec<Violation>) {
    let event = |line: &str| {
        let mut event: Event = line.trim().parse().expect("a line");
        event.at *= 1_000_000;
        if let What::Grant(hold) | What::Held(hold) = &mut event.what {
            hold.until = hold.until.map(|until| until * 1_000_000);
        }
        event
    };
    let events: Vec<Event> = text.trim().lines().map(event).collect();
    check(&events, &BOUNDS)
}

/// A good history, in which `old` is replaced by `new`.
fn but(old: &str, new: &str) -> Vec<Violation> {
    assert_eq!(GOOD.matches(old).count(), 1, "{old}");
    found(&GOOD.replace(old, new))
}

const GOOD: &str = "
    0 trial began place=nowhere
    1 sync0 up
    2 async1 up
    3 withlock2 up
    10 sync0 invoke a
    12 async1 invoke a
    20 sync0 grant a 5 120
    40 sync0 held a 5 160
    60 sync0 stopped
    61 trial fault Stop for 200 ms; 0
    200 async1 grant a 6 300
    220 async1 held a 6 320
    230 async1 release a 6
    231 async1 released
    240 withlock2 invoke a
    260 sync0 continued
    261 trial healed
    270 sync0 lost a 5
    280 withlock2 grant a 7
    300 withlock2 held a 7
    310 sync0 invoke s
    320 sync0 grant s#2/2 1 420
    330 async1 invoke s
    340 async1 grant s#1/2 1 440
    350 withlock2 release a 7
    355 withlock2 released
    360 sync0 release s#2/2 1
    361 sync0 released
    370 async1 killed
    380 withlock2 invoke s
    390 withlock2 grant s#1/2 2
    400 withlock2 release s#1/2 2
    401 withlock2 released
    402 trial end";

fn overlap(first: &str, second: &str, ms: u64) -> Violation {
    let (first, second) = (first.to_string(), second.to_string());
    Violation::Overlap { name: "a".into(), first, second, for_ns: ms * 1_000_000 }
}

#[test]
fn a_good_history_passes() {
    let (summary, found) = judged(GOOD);
    assert_eq!(found, []);
    assert_eq!(summary.grants.values().sum::<usize>(), 6);
    assert_eq!((summary.losses, summary.overlaps), (1, 0));
    assert_eq!(summary.latest_word, Duration::from_millis(10), "from when it goes on");
    assert_eq!(summary.next, [Duration::from_millis(19)]);
    assert_eq!(summary.every, [Duration::from_millis(79)]);
    let mut turned: Vec<&str> = GOOD.trim().lines().rev().collect();
    turned.sort_by_key(|line| line.len());
    assert_eq!(judged(&turned.join("\n")), (summary, vec![]), "in any order of the lines");
}

#[test]
fn an_overlap_is_found() {
    let until = but("40 sync0 held a 5 160", "40 sync0 held a 5 210");
    assert_eq!(until, [overlap("sync0 (5)", "async1 (6)", 10)], "by a deadline");
    let said = but("260 sync0 continued", "265 sync0 held a 5 265");
    assert_eq!(said[0], overlap("sync0 (5)", "async1 (6)", 30), "by its own word");
    let late = but("300 withlock2 held a 7", "190 withlock2 grant a 4\n205 withlock2 held a 4");
    assert!(late.contains(&overlap("withlock2 (4)", "async1 (6)", 5)), "{late:?}");
    let inside = but("230 async1 release a 6", "300 async1 release a 6");
    assert_eq!(inside, [overlap("async1 (6)", "withlock2 (7)", 20)]);
    let dead = but("60 sync0 stopped", "59 sync0 held a 5 260\n60 sync0 killed\n62 sync0 up");
    assert_eq!(dead, [], "a dead client holds nothing");
    let dying = but("60 sync0 stopped", "58 sync0 killed\n59 sync0 grant a 5 260\n62 sync0 up");
    assert_eq!(dying, [], "nor does one that is being killed");
}

#[test]
fn an_overlap_with_any_earlier_hold_is_found() {
    let text = GOOD.replace("40 sync0 held a 5 160", "40 sync0 held a 5 300");
    let found = found(&text.replace("270 sync0 lost", "290 sync0 lost"));
    let both = [overlap("sync0 (5)", "async1 (6)", 30), overlap("sync0 (5)", "withlock2 (7)", 10)];
    assert_eq!(found, both);
}

#[test]
fn a_fence_that_does_not_rise_is_found() {
    for (fence, before) in [(6, 6), (3, 6)] {
        let text = GOOD.replace("withlock2 grant a 7", &format!("withlock2 grant a {fence}"));
        let (name, who) = ("a".to_string(), "withlock2".to_string());
        assert_eq!(found(&text), [Violation::Fence { name, who, fence, before }]);
    }
}

#[test]
fn a_permit_beyond_the_number_is_found() {
    let (name, who) = ("s#3/2".to_string(), "withlock2".to_string());
    assert_eq!(
        but("withlock2 grant s#1/2 2", "withlock2 grant s#3/2 2"),
        [Violation::Permit { name, who }]
    );
    let taken =
        but("360 sync0 release s#2/2 1", "345 withlock2 grant s#2/2 2\n360 sync0 release s#2/2 1");
    assert!(
        matches!(&taken[..], [Violation::Overlap { name, .. }] if name == "s#2/2"),
        "{taken:?}"
    );
}

#[test]
fn a_loss_that_is_told_late_or_never_is_found() {
    let late = |late_ns| {
        let (name, who) = ("a".to_string(), "sync0".to_string());
        vec![Violation::ToldLate { name, who, fence: 5, late_ns }]
    };
    assert_eq!(but("270 sync0 lost a 5", "315 sync0 lost a 5"), late(Some(55_000_000)));
    assert_eq!(
        but("260 sync0 continued", "60 sync0 continued"),
        late(Some(110_000_000)),
        "not stopped"
    );
    assert_eq!(but("    270 sync0 lost a 5\n", ""), late(None));
    let (name, who) = ("a".to_string(), "sync0".to_string());
    let revived = but("300 withlock2 held a 7", "275 sync0 held a 5 275");
    assert!(revived.contains(&Violation::Revived { name, who, fence: 5 }), "{revived:?}");
}

#[test]
fn starvation_is_found() {
    let starved = but("402 trial end", "500 trial healed\n2000 trial end");
    for who in ["async1", "sync0", "withlock2"] {
        let who = who.to_string();
        assert!(
            starved.contains(&Violation::Starved { who, healed_at: 500_000_000 }),
            "{starved:?}"
        );
    }
    let one = but(
        "402 trial end",
        "410 async1 up\n500 trial healed\n600 async1 grant a 8 700\n600 withlock2 grant b 8\n620 async1 killed\n1500 sync0 grant a 9 1600\n1600 trial end",
    );
    assert_eq!(one, [Violation::Starved { who: "sync0".into(), healed_at: 500_000_000 }]);
}

#[test]
fn a_call_that_hangs_is_found() {
    let hung = but("402 trial end", "410 sync0 invoke a\n1311 trial end");
    assert_eq!(hung, [Violation::Hung { who: "sync0".into(), since: 410_000_000 }]);
    let late = but("402 trial end", "410 sync0 invoke a\n1311 sync0 denied\n1312 trial end");
    assert_eq!(late, hung);
    assert_eq!(but("402 trial end", "410 sync0 invoke a\n500 sync0 killed\n1311 trial end"), []);
}

#[test]
fn a_client_that_ends_by_itself_is_found() {
    let exited = but("370 async1 killed", "370 async1 exited");
    assert_eq!(exited, [Violation::Exited { who: "async1".into() }]);
}

#[test]
fn a_history_that_shows_nothing_is_found() {
    let empty =
        |all: &[&'static str]| all.iter().map(|it| Violation::Empty(it)).collect::<Vec<_>>();
    assert_eq!(check(&[], &BOUNDS).1, empty(&["faults", "clients", "grants", "end"]));
    assert_eq!(found("0 trial began\n1 trial end"), empty(&["faults", "clients", "grants"]));
    assert_eq!(but("    402 trial end", ""), empty(&["end"]));
}

#[test]
fn lines_are_read_as_they_were_written() {
    for line in GOOD.trim().lines() {
        let event: Event = line.trim().parse().expect("a line");
        assert_eq!(event.to_string(), line.trim());
    }
    for torn in ["", "5", "5 a", "5 a grant", "5 a grant b", "5 a grant b c", "x a up", "5 a up up"]
    {
        assert!(torn == "5 a up up" || torn.parse::<Event>().is_err(), "{torn}");
    }
}
