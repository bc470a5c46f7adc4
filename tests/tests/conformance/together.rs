//! Permits of a semaphore, and several locks at once.

use crate::places::{SOON, TTL};
use lock_sync::{ClaimError, Error, Fence, Progress};
use lock_tests::drivers::{Admin, Driven, Driver, Guard};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn permit(guard: &Guard) -> u32 {
    guard.permit().expect("a permit")
}

pub(crate) fn a_semaphore_has_as_many_holders_as_permits(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let take = |locks: &lock_tests::drivers::Locks| locks.acquire("a").permits(3).no_wait().wait();
    let mut held =
        vec![take(&ours).expect("one"), take(&theirs).expect("two"), take(&ours).expect("three")];
    let mut numbers: Vec<u32> = held.iter().map(permit).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);
    for locks in [&ours, &theirs] {
        let busy = take(locks).err().expect("all are taken");
        assert!(matches!(busy, Error::Busy(_)), "{busy}");
    }
    assert!(theirs.try_lock("a").expect("asked").is_some(), "the lock of the same name is another");
    // More permits count at once.
    let fourth = theirs.acquire("a").permits(4).no_wait().wait().expect("the fourth");
    assert_eq!(permit(&fourth), 4);
    // A holder beyond fewer permits keeps its own.
    assert!(matches!(ours.acquire("a").permits(3).no_wait().wait(), Err(Error::Busy(_))));
    let (freed, fence) = (permit(&held[1]), held[1].fence());
    held.remove(1).release().expect("released");
    let again = ours.acquire("a").permits(3).timeout(SOON).wait().expect("free");
    assert_eq!(permit(&again), freed);
    assert!(again.fence() > fence, "a permit's fences rise");
    assert_eq!(again.name().as_str(), "a");
}

pub(crate) fn who_waits_for_a_permit_gets_the_one_that_is_freed(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    // They wait for a server that has just started.
    let mut held: Vec<Guard> =
        (0..3).map(|_| ours.acquire("a").permits(3).wait().expect("free")).collect();
    for turn in 0..3 {
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(|| theirs.acquire("a").permits(3).timeout(SOON).wait().expect("freed"));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!waiter.is_finished(), "turn {turn}");
            let back = held.remove(turn % 2);
            let number = permit(&back);
            back.release().expect("released");
            let got = waiter.join().expect("no panic");
            assert_eq!(permit(&got), number);
            got.release().expect("released");
            held.push(ours.acquire("a").permits(3).timeout(SOON).wait().expect("free again"));
        });
    }
}

pub(crate) fn many_threads_share_the_permits(place: &Driven) {
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fences: Mutex<BTreeMap<u32, Vec<Fence>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let locks = place.locks(TTL);
            for _ in 0..2 {
                let (locks, inside, most, fences) = (locks.clone(), &inside, &most, &fences);
                scope.spawn(move || {
                    for _ in 0..8 {
                        let guard = locks.acquire("a").permits(2).wait().expect("granted");
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        fences
                            .lock()
                            .expect("unpoisoned")
                            .entry(permit(&guard))
                            .or_default()
                            .push(guard.fence());
                        let since = Instant::now();
                        std::thread::sleep(Duration::from_millis(2));
                        // Until two have met, each stays for another.
                        while most.load(Ordering::SeqCst) < 2 && since.elapsed() < TTL / 2 {
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        inside.fetch_sub(1, Ordering::SeqCst);
                        guard.release().expect("released");
                    }
                });
            }
        }
    });
    assert_eq!(
        most.into_inner(),
        2,
        "at most as many as there are permits, and as many now and then"
    );
    let fences = fences.into_inner().expect("unpoisoned");
    assert_eq!(fences.values().map(Vec::len).sum::<usize>(), 48);
    for (number, fences) in fences {
        assert!(
            fences.is_sorted_by(|a, b| a < b),
            "permit {number}: fences rise in the order of the holds"
        );
    }
}

fn is_about(busy: &Error, name: &str) {
    let Error::Busy(busy) = busy else { panic!("{busy}") };
    assert_eq!(busy.name.as_str(), name, "{busy}");
}

pub(crate) fn several_locks_are_acquired_all_or_none(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let all = ours.acquire("b").and("a").and("c").no_wait().wait().expect("all are free");
    let names: Vec<String> = all.fences().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(all.fences()[0].1, all.fence());
    for name in ["a", "b", "c"] {
        assert!(theirs.try_lock(name).expect("asked").is_none(), "{name} is held");
    }
    assert!(all.is_held());
    all.release().expect("released");
    let guard = theirs.lock("b").expect("free");
    let busy = ours.acquire("a").and("b").and("c").no_wait().wait().err().expect("one is taken");
    is_about(&busy, "b");
    let back = theirs.acquire("a").timeout(SOON).wait().expect("it is given back");
    back.release().expect("released");
    let mut told = Vec::new();
    let late = ours.acquire("a").and("b").timeout(Duration::from_millis(300));
    let late = late.on_waiting(|news| told.push(news.clone())).wait();
    is_about(&late.err().expect("one is taken"), "b");
    for news in told {
        let Progress::Busy(busy) = news else { panic!("{news:?}") };
        is_about(&busy.into(), "b");
    }
    for name in ["a", "c"] {
        let free = theirs.acquire(name).timeout(SOON).wait().expect("none is kept");
        free.release().expect("released");
    }
    std::thread::scope(|scope| {
        let waiter =
            scope.spawn(|| ours.acquire("c").and("b").and("a").timeout(SOON).wait().expect("all"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiter.is_finished());
        assert!(
            theirs.acquire("c").timeout(SOON).wait().is_ok(),
            "nothing after what is waited for is kept"
        );
        guard.release().expect("released");
        waiter.join().expect("no panic").release().expect("released");
    });
    let refused = ours.acquire("a").and("b").permits(2).wait().err().expect("a permit of several");
    assert_eq!(refused, Error::Claim(ClaimError::Combined));
}

/// Sets of locks in opposite orders. `LOCK_SETS=10000` makes so many rounds.
pub(crate) fn sets_in_opposite_orders_do_not_wait_for_each_other(place: &Driven) {
    let rounds =
        std::env::var("LOCK_SETS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let inside = [0; 3].map(|_| AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (at, names) in
            [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "b"]].into_iter().enumerate()
        {
            let (locks, inside) = (place.locks(TTL), &inside);
            scope.spawn(move || {
                for round in 0..rounds {
                    let [first, second, third] = names;
                    let guard = locks.acquire(first).and(second).and(third).timeout(TTL).wait();
                    let guard =
                        guard.unwrap_or_else(|error| panic!("{at}, round {round}: {error}"));
                    let held =
                        ["a", "b", "c"].iter().zip(inside).filter(|(name, _)| names.contains(name));
                    for (name, inside) in held.clone() {
                        assert_eq!(
                            inside.fetch_add(1, Ordering::SeqCst),
                            0,
                            "{name} is held twice"
                        );
                    }
                    std::thread::yield_now();
                    for (_, inside) in held {
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                    guard.release().expect("released");
                }
            });
        }
    });
}

/// Its release says that it was lost, which is no reason to campaign no more.
pub(crate) fn a_campaign_goes_on_after_a_term_that_was_lost(place: &Driven) {
    let locks = place.locks(TTL);
    let mut admin = Admin::connect(Driver::Blocking, &place.whole_url(), TTL);
    let mut terms = Vec::new();
    place.leave_to_others();
    let led = locks.campaign("leader", |term, _| {
        terms.push(term);
        if terms.len() > 1 {
            return ControlFlow::Break(());
        }
        admin.break_hold("leader", term).expect("asked").expect("it was held");
        ControlFlow::Continue(())
    });
    assert_eq!(led, Ok(()));
    assert!(terms.is_sorted_by(|a, b| a < b), "terms rise: {terms:?}");
}

/// Three campaign, and each leads for some terms.
pub(crate) fn one_leads_at_a_time_and_its_terms_rise(place: &Driven) {
    let (leading, terms) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (locks, leading, terms) = (place.locks(TTL), &leading, &terms);
            scope.spawn(move || {
                let mut left = 4;
                let led = locks.campaign("leader", |term, is_held| {
                    assert!(is_held());
                    assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two lead");
                    terms.lock().expect("unpoisoned").push(term);
                    std::thread::sleep(Duration::from_millis(2));
                    leading.fetch_sub(1, Ordering::SeqCst);
                    left -= 1;
                    if left == 0 { ControlFlow::Break(term) } else { ControlFlow::Continue(()) }
                });
                let last = led.expect("led");
                assert!(terms.lock().expect("unpoisoned").contains(&last));
            });
        }
    });
    let terms = terms.into_inner().expect("unpoisoned");
    assert_eq!(terms.len(), 12);
    assert!(terms.is_sorted_by(|a, b| a < b), "terms rise: {terms:?}");
}
