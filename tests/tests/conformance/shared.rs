//! Locks that are shared: where the server has them, and nowhere else.

use lock_sync::{ClaimError, Error, Mode};
use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::Place;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

macro_rules! shared {
    ($($name:ident)*) => {
        mod blocking {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Driver::Blocking) })*
        }
        mod asynchronous {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Driver::Tokio) })*
        }
        mod mixed {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Driver::Mixed) })*
        }
    };
}

shared! {
    many_share_and_one_excludes
    who_waits_to_exclude_gets_it_when_all_have_left
    readers_and_writers_never_meet
}

fn many_share_and_one_excludes(driver: Driver) {
    let place = Driven::new(driver, Place::postgres_advisory());
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let first = ours.lock_shared("a").expect("shared");
    assert_eq!((first.mode(), first.is_held()), (Mode::Shared, true));
    let second = theirs.try_lock_shared("a").expect("asked").expect("with another connection");
    let third = ours.try_lock_shared("a").expect("asked").expect("with oneself");
    for locks in [&ours, &theirs] {
        assert!(locks.try_lock("a").expect("asked").is_none());
        assert!(locks.try_lock_for("a", Duration::from_millis(100)).expect("asked").is_none());
    }
    // One of two on a connection leaves; the other stays.
    third.release().expect("released");
    second.release().expect("released");
    assert!(theirs.try_lock("a").expect("asked").is_none(), "one is left");
    first.release().expect("released");
    let alone = theirs.try_lock("a").expect("asked").expect("free");
    assert_eq!(alone.mode(), Mode::Exclusive);
    assert!(ours.try_lock_shared("a").expect("asked").is_none());
    let limit = Duration::from_millis(100);
    assert!(theirs.try_lock_shared_for("a", limit).expect("asked").is_none(), "not oneself");
    alone.release().expect("released");
    let again = ours.acquire("a").shared().timeout(SOON).wait().expect("free");
    assert!(again.fence().get() > 0);
}

fn who_waits_to_exclude_gets_it_when_all_have_left(driver: Driver) {
    let place = Driven::new(driver, Place::postgres_advisory());
    let readers = [place.locks(TTL), place.locks(TTL)];
    let writer = place.locks(TTL);
    let guards = readers.each_ref().map(|locks| locks.lock_shared("a").expect("shared"));
    let left = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let guard = writer.try_lock_for("a", SOON).expect("asked").expect("free in the end");
            (guard, left.load(Ordering::SeqCst))
        });
        std::thread::sleep(Duration::from_millis(300));
        for guard in guards {
            assert!(!waits.is_finished());
            left.fetch_add(1, Ordering::SeqCst);
            guard.release().expect("released");
            std::thread::sleep(Duration::from_millis(50));
        }
        let (guard, left) = waits.join().expect("no panic");
        assert_eq!(left, 2);
        guard.release().expect("released");
    });
}

fn readers_and_writers_never_meet(driver: Driver) {
    let place = Driven::new(driver, Place::postgres_advisory());
    let (reading, writing) = (AtomicUsize::new(0), AtomicBool::new(false));
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let locks = place.locks(TTL);
            let (reading, writing, most) = (&reading, &writing, &most);
            scope.spawn(move || {
                for _ in 0..15 {
                    if thread % 4 == 0 {
                        let guard = locks.lock("a").expect("taken");
                        assert!(!writing.swap(true, Ordering::SeqCst), "two write");
                        assert_eq!(reading.load(Ordering::SeqCst), 0, "one reads");
                        std::thread::yield_now();
                        writing.store(false, Ordering::SeqCst);
                        guard.release().expect("released");
                    } else {
                        let guard = locks.lock_shared("a").expect("shared");
                        let now = reading.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        assert!(!writing.load(Ordering::SeqCst), "one writes");
                        std::thread::sleep(Duration::from_millis(1));
                        reading.fetch_sub(1, Ordering::SeqCst);
                        guard.release().expect("released");
                    }
                }
            });
        }
    });
    assert!(most.into_inner() > 1, "they do share");
}

fn is_refused(place: Place) {
    let place = Driven::new(Driver::Mixed, place);
    for locks in [place.locks(TTL), place.locks(TTL)] {
        let none = || Error::Claim(ClaimError::NoShared);
        assert_eq!(locks.lock_shared("a").map(drop), Err(none()));
        assert_eq!(locks.try_lock_shared("a").map(drop), Err(none()));
        assert_eq!(locks.try_lock_shared_for("a", SOON).map(drop), Err(none()));
        drop(locks.lock("a").expect("nobody has it"));
    }
}

#[test]
fn a_file_has_none() {
    is_refused(Place::sqlite());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_table_has_none() {
    is_refused(Place::postgres());
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn get_lock_has_none() {
    is_refused(Place::mysql_advisory());
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn consul_has_none() {
    is_refused(Place::consul());
}
