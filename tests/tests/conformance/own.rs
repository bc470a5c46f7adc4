//! Locks with a TTL and a label of their own, over one connection.

use crate::places::{SHORT, TTL};
use lock_sync::{ClaimError, Error, Holder, TimingError};
use lock_tests::drivers::{Driven, Guard, Locks};
use lock_tests::place::Keeps;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3_600);

fn holder(locks: &Locks, name: &str) -> Option<Holder> {
    match locks.acquire(name).no_wait().wait() {
        Err(Error::Busy(busy)) => busy.holder,
        other => panic!("{:?}", other.map(drop)),
    }
}

pub(crate) fn locks_of_one_connection_have_ttls_of_their_own(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let refused = |ttl| ours.acquire("a").ttl(ttl).no_wait().wait().err();
    if place.keeps() != Keeps::Rows {
        let none = Some(Error::Claim(ClaimError::NoOwnTtl));
        assert_eq!(refused(LONG), none, "the TTL is that of the connection, or of the session");
        assert_eq!(refused(TTL), none);
        return;
    }
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(86_401)] {
        assert_eq!(refused(ttl), Some(Error::Claim(ClaimError::Timing(TimingError::Ttl))));
    }
    // All at once, so that one statement carries several of them.
    let ttls =
        [("a", Some(SHORT)), ("b", None), ("c", Some(LONG)), ("d", Some(SHORT)), ("e", None)];
    let mut held: Vec<(Guard, Duration)> = std::thread::scope(|scope| {
        let take = |(name, ttl): (&'static str, Option<Duration>)| {
            let ours = ours.clone();
            scope.spawn(move || {
                let acquire = ours.acquire(name).no_wait();
                let guard = match ttl {
                    Some(ttl) => acquire.ttl(ttl).wait(),
                    None => acquire.wait(),
                };
                (guard.expect("free"), ttl.unwrap_or(TTL))
            })
        };
        let all: Vec<_> = ttls.into_iter().map(take).collect();
        all.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let all = ours.acquire("f").and("g").ttl(LONG).no_wait().wait().expect("free");
    held.push((all, LONG));
    let permit = ours.acquire("p").permits(2).ttl(LONG).no_wait().wait().expect("free");
    held.push((permit, LONG));
    let check = |held: &[(Guard, Duration)]| {
        for (guard, ttl) in held {
            let name = guard.name();
            assert!(guard.is_held(), "{name}: {:?}", guard.lost_reason());
            let counts = *ttl * 5 / 6 - Duration::from_millis(1);
            assert_eq!(guard.valid_for(), counts, "{name}");
            assert!(guard.remaining() <= counts, "{name}");
            if guard.permit().is_none() {
                let seen = holder(&theirs, name.as_str()).expect("seen").expires_in;
                assert!(seen <= *ttl, "{name}: {seen:?}");
                assert!(*ttl < LONG || seen > LONG / 2, "{name}: {seen:?}");
            }
        }
    };
    check(&held);
    // The short ones are renewed beyond their TTL, each for its own, and the others in between.
    std::thread::sleep(SHORT * 3 / 2);
    check(&held);
    for (guard, _) in held {
        guard.release().expect("released");
    }
}

pub(crate) fn locks_of_one_connection_have_labels_of_their_own(place: &Driven) {
    let (ours, theirs) = (place.labelled(TTL, "usual"), place.locks(TTL));
    let _a = ours.acquire("a").label("job\n7").wait().expect("free");
    let _b = ours.lock("b").expect("free");
    // Those that wait in the same process are told, wherever the lock is.
    for (name, label) in [("a", "(job 7)"), ("b", "(usual)")] {
        let told = holder(&ours, name).expect("known here").label;
        assert!(told.ends_with(label) && told.contains(" pid "), "{told}");
        assert_eq!(told.matches('(').count(), 1, "it has no other: {told}");
        let others = holder(&theirs, name);
        assert_eq!(others.is_some(), place.keeps() == Keeps::Rows);
        assert!(others.is_none_or(|holder| holder.label == told));
    }
}
