//! Locks that stay taken for a while after their release.

use crate::places::{SOON, TTL};
use lock_sync::{Busy, ClaimError, Error, Progress};
use lock_tests::drivers::{Admin, Driven, Driver, Guard};
use lock_tests::proxy::eventually;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);

fn kept(refused: Option<Error>) -> Duration {
    match refused.expect("it is kept") {
        Error::Busy(busy) => {
            let holder = busy.holder.expect("the table says who had it");
            assert!(holder.kept, "{holder:?}");
            holder.expires_in
        }
        other => panic!("{other}"),
    }
}

/// The ways to end a hold.
pub(crate) const ENDS: [fn(Guard); 3] = [
    |guard| guard.release().expect("released"),
    drop,
    |guard| match guard {
        Guard::Blocking(guard) => guard.release_in_background(),
        Guard::Tokio(guard) => drop(guard),
    },
];

/// Neither to another process nor to the same, whichever way the hold ends.
pub(crate) fn a_lock_is_kept_after_its_release(place: &Driven) {
    for (number, end) in ENDS.into_iter().enumerate() {
        let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
        let name = format!("a {number}");
        let guard = ours.acquire(&name).keep_for(HOUR).wait().expect("free");
        let fence = guard.fence();
        end(guard);
        let mut admin = Admin::connect(Driver::Blocking, &place.whole_url(), TTL);
        let shown = |admin: &mut Admin| admin.status(&name).expect("asked").and_then(|it| it.hold);
        // A drop may release in the background.
        assert!(eventually(|| shown(&mut admin).is_some_and(|hold| hold.kept)));
        for locks in [&ours, &theirs] {
            let left = kept(locks.acquire(&name).no_wait().wait().err());
            assert!(left > TTL * 2 && left <= HOUR, "{left:?}");
            let left = kept(locks.acquire(&name).timeout(TTL / 100).wait().err());
            assert!(left > TTL * 2 && left <= HOUR, "{left:?}");
        }
        let listed = admin.list().expect("asked");
        let [listed] = &listed[..] else { panic!("{listed:?}") };
        assert!(listed.fence == fence && listed.hold.as_ref().is_some_and(|hold| hold.kept));
        assert_eq!(admin.purge(HOUR).expect("asked"), 0);
        place.leave_to_others();
        let next = admin.break_hold(&name, fence).expect("asked").expect("it was kept");
        assert!(next > fence);
        let guard = theirs.acquire(&name).no_wait().wait().expect("free");
        assert!(guard.fence() > next);
        guard.release().expect("released");
    }
}

/// For shorter than a TTL, and for longer: whoever waits is granted it once that is over, and no sooner.
pub(crate) fn what_is_kept_is_granted_at_its_end(place: &Driven) {
    let seconds = Duration::from_secs;
    for (ttl, keep) in [(TTL, seconds(2)), (seconds(2), seconds(4))] {
        let (ours, theirs) = (place.locks(ttl), place.locks(ttl));
        let began = Instant::now();
        let guard = ours.acquire("a").keep_for(keep).wait().expect("free");
        let fence = guard.fence();
        std::thread::scope(|scope| {
            // The same process waits like any other.
            let waiters = [&ours, &theirs].map(|locks| {
                scope.spawn(|| {
                    let next = locks.acquire("a").timeout(SOON).wait().expect("in the end");
                    // However the clocks are slewed.
                    assert!(began.elapsed() >= keep * 9 / 10, "{:?}", began.elapsed());
                    assert!(next.fence() > fence);
                    next.release().expect("released");
                })
            });
            std::thread::sleep(Duration::from_millis(300));
            guard.release().expect("released");
            waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
        });
    }
}

/// And who waits is told when it is freed before.
pub(crate) fn who_waits_is_told_that_it_is_kept(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let guard = ours.acquire("a").keep_for(HOUR).wait().expect("free");
    let fence = guard.fence();
    let (waits, kept) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let heard = |news: &Progress| {
                waits.store(true, Ordering::SeqCst);
                let is_kept = matches!(news, Progress::Busy(Busy { holder: Some(holder), .. }) if holder.kept);
                kept.fetch_or(is_kept, Ordering::SeqCst);
            };
            theirs.acquire("a").on_waiting(heard).wait().expect("in the end")
        });
        assert!(eventually(|| waits.load(Ordering::SeqCst)));
        guard.release().expect("released");
        assert!(eventually(|| kept.load(Ordering::SeqCst)));
        let mut admin = Admin::connect(Driver::Tokio, &place.whole_url(), TTL);
        place.leave_to_others();
        admin.break_hold("a", fence).expect("asked").expect("it was kept");
        waiter.join().expect("no panic").release().expect("released");
    });
}

/// What was held for longer is freed at once, and so is what is to be kept no more.
pub(crate) fn what_needs_not_be_kept_is_freed(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let guard = ours.acquire("a").keep_for(Duration::from_millis(1)).wait().expect("free");
    std::thread::sleep(Duration::from_millis(20));
    guard.release().expect("released");
    assert!(theirs.try_lock("a").expect("asked").is_some());
    // Its own TTL does not matter for that.
    for own_first in [false, true] {
        let acquire = ours.acquire("a");
        let acquire = match own_first {
            true => acquire.ttl(TTL).keep_for(HOUR),
            false => acquire.keep_for(HOUR).ttl(TTL),
        };
        let mut guard = acquire.wait().expect("free");
        assert_eq!(guard.kept_for(), Some(HOUR));
        guard.cancel_keep();
        guard.release().expect("released");
        assert!(theirs.try_lock("a").expect("asked").is_some());
    }
    // One that was never granted keeps nothing.
    let held = theirs.lock("a").expect("free");
    assert!(ours.acquire("a").keep_for(HOUR).timeout(TTL / 100).wait().is_err());
    held.release().expect("released");
    assert!(theirs.try_lock("a").expect("asked").is_some());
}

pub(crate) fn permits_and_several_locks_are_kept_alike(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    ours.acquire("a").and("b").keep_for(HOUR).wait().expect("free").release().expect("released");
    for name in ["a", "b"] {
        kept(theirs.acquire(name).no_wait().wait().err());
    }
    let take = |keep: bool| {
        let acquire = theirs.acquire("s").permits(2).no_wait();
        if keep { acquire.keep_for(HOUR).wait() } else { acquire.wait() }
    };
    let (one, two) = (take(true).expect("free"), take(false).expect("free"));
    one.release().expect("released");
    assert!(matches!(take(false), Err(Error::Busy(_))), "one is kept and one is held");
    two.release().expect("released");
    assert!(take(false).is_ok());
}

/// Nothing is sent, so the lock is not acquired either.
pub(crate) fn keeping_is_refused_where_locks_end_with_their_session(place: &Driven) {
    let locks = place.locks(TTL);
    let refused = locks.acquire("7").keep_for(HOUR).wait().err();
    assert!(matches!(refused, Some(Error::Claim(ClaimError::NoKeep))), "{refused:?}");
    assert!(locks.try_lock("7").expect("asked").is_some());
}
