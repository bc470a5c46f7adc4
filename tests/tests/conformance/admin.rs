//! Looking at locks and freeing them by hand, on every database, with either driver.

use lock_core::admin::SHORTEST;
use lock_sync::{Error, Fence, LostReason, ShutdownError};
use lock_tests::drivers::{Admin, Driven, Driver};
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3);
const DAY: Duration = Duration::from_secs(86_400);

fn admin(place: &Place, driver: Driver) -> Admin {
    // Looking creates nothing.
    drop(place.locks(TTL));
    Admin::connect(driver, &place.whole_url(), TTL)
}

fn names(admin: &mut Admin) -> Vec<String> {
    admin.list().expect("listed").into_iter().map(|lock| lock.name).collect()
}

/// Has every row look as if it had been granted so long ago.
fn age(place: &Place, by: Duration) {
    place.tamper(&format!("UPDATE {{table}} SET fence = fence - {}", by.as_micros()));
}

fn looking(place: &Place, driver: Driver) {
    let mut admin = admin(place, driver);
    assert_eq!(admin.list().expect("listed"), []);
    assert_eq!(admin.status("n").expect("asked"), None);

    let locks =
        lock_sync::Locks::open(place.config(TTL).label("it's \"nightly\" 🔒")).expect("connected");
    // In the order of their bytes, not of some language.
    let all = ["B", "a", "n", "ä", "🔒"];
    let guards: Vec<_> = all.iter().rev().map(|name| locks.lock(name).expect("got")).collect();
    locks.lock("free again").expect("got").release().expect("freed");
    let listed = admin.list().expect("listed");
    assert_eq!(listed.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>(), all);
    for (lock, guard) in listed.iter().zip(guards.iter().rev()) {
        assert_eq!(lock.fence, guard.fence());
        let holder = lock.hold.as_ref().expect("held");
        let who = format!(" pid {} (it's \"nightly\" 🔒)", std::process::id());
        assert!(holder.label.ends_with(&who), "{holder:?}");
        assert!(holder.held_for < Some(Duration::from_secs(30)), "{holder:?}");
        assert!(holder.expires_in > Some(Duration::ZERO), "{holder:?}");
        assert!(holder.expires_in <= Some(TTL), "{holder:?}");
    }
    let status = admin.status("n").expect("asked").expect("a row");
    assert_eq!((status.fence, status.hold.is_some()), (listed[2].fence, true));
    let free = admin.status("free again").expect("asked").expect("a row");
    assert!(free.hold.is_none() && free.fence > Fence::default(), "{free:?}");
    assert!(admin.status("two\nlines").is_err());
    drop(guards);
    assert_eq!(admin.list().expect("listed"), []);

    // Who has died holds nothing after its lease.
    let place = lock_sync::Locks::open(place.config(Duration::from_secs(1))).expect("connected");
    std::mem::forget(place.lock("dead").expect("got"));
    assert_eq!(names(&mut admin), ["dead"]);
}

fn many(place: &Place, driver: Driver) {
    let locks = place.locks(Duration::from_secs(60));
    let name = |n: i32| format!("lock {n:04}");
    let guards: Vec<_> = (0..1_203).map(|n| locks.lock(name(n)).expect("got")).collect();
    let expected: Vec<_> = (0..1_203).map(name).collect();
    assert_eq!(names(&mut admin(place, driver)), expected);
    drop(guards);
}

fn breaking(place: &Place, driver: Driver) {
    let mut admin = admin(place, driver);
    assert_eq!(admin.break_hold("n", Fence::new(1)).expect("asked"), None, "there is no row");
    let guard = place.locks(TTL).lock("n").expect("got");
    let fence = guard.fence();
    for wrong in [Fence::new(fence.get() - 1), Fence::new(fence.get() + 1), Fence::new(0)] {
        assert_eq!(admin.break_hold("n", wrong).expect("asked"), None, "another hold");
    }
    assert!(guard.is_held());
    let raised = admin.break_hold("n", fence).expect("asked").expect("broken");
    assert!(raised > fence);
    let state = admin.status("n").expect("asked").expect("a row");
    assert_eq!((state.fence, state.hold), (raised, None));
    assert_eq!(admin.break_hold("n", fence).expect("asked"), None, "once");

    let next = place.locks(TTL).try_lock("n").expect("asked").expect("it is free at once");
    assert!(next.fence() > raised);
    // At the next renewal, and not by the deadline.
    assert_eq!(guard.wait_lost(TTL), Some(LostReason::Taken));
    // And who lost it cannot free it for the next one.
    drop(guard);
    assert!(next.is_held());
    assert_eq!(admin.break_hold("n", fence).expect("asked"), None, "that one is over");
    assert!(next.is_held());
    next.release().expect("ours");
}

/// A guard that is kept after its loss, as by a `select!` on it.
fn lost_at_a_shutdown(place: &Place, driver: Driver) {
    let mut admin = admin(place, driver);
    let ours = Driven::new(driver, place.through(place.url())).locks(2 * TTL);
    let guard = ours.lock("n").expect("got");
    assert!(admin.break_hold("n", guard.fence()).expect("asked").is_some());
    assert!(guard.wait_lost(2 * TTL).is_some());
    assert_eq!(ours.shutdown(), Ok(()));
    assert!(guard.lost_reason().is_some());
    // Of several, those that are not lost are held.
    let ours = Driven::new(driver, place.through(place.url())).locks(2 * TTL);
    let both = ours.acquire("n").and("other").wait().expect("got");
    assert!(admin.break_hold("n", both.fence()).expect("asked").is_some());
    assert!(both.wait_lost(2 * TTL).is_some());
    assert_eq!(ours.shutdown(), Err(ShutdownError::Held { guards: 1 }));
    // A guard that was lost and is gone is not counted for another.
    let ours = Driven::new(driver, place.through(place.url())).locks(2 * TTL);
    let lost = ours.lock("third").expect("got");
    assert!(admin.break_hold("third", lost.fence()).expect("asked").is_some());
    assert!(lost.wait_lost(2 * TTL).is_some());
    assert!(lost.release().is_err());
    let _held = ours.lock("fourth").expect("got");
    assert_eq!(ours.shutdown(), Err(ShutdownError::Held { guards: 1 }));
}

/// As it is listed, under a name that no lock of a caller has.
fn breaking_a_permit(place: &Place, driver: Driver) {
    let mut admin = admin(place, driver);
    let locks = Driven::new(driver, place.through(place.url())).locks(TTL);
    let permit = locks.acquire("n").permits(1).wait().expect("got");
    let listed = admin.list().expect("listed");
    let [one] = &listed[..] else { panic!("{listed:?}") };
    let name = lock_sync::LockName::try_from(one).expect("a permit's");
    assert_eq!(name.as_permit(), Some(("n", 1)));
    assert!(admin.break_hold(name.as_str(), one.fence).is_err(), "not as a caller's name");
    assert!(admin.break_hold(one, one.fence).expect("asked").is_some());
    assert!(permit.wait_lost(2 * TTL).is_some());
}

fn purging(place: &Place, driver: Driver) {
    let mut admin = admin(place, driver);
    let locks = place.locks(Duration::from_secs(60));
    let old: Vec<_> = ["a", "b"].map(|name| locks.lock(name).expect("got").fence()).into();
    for short in [Duration::ZERO, SHORTEST - Duration::from_nanos(1)] {
        assert!(matches!(admin.purge(short), Err(Error::Purge(_))), "it is not taken for an hour");
    }
    assert_eq!(admin.purge(SHORTEST).expect("purged"), 0, "used just now");
    age(place, Duration::from_secs(3_000));
    assert_eq!(admin.purge(SHORTEST).expect("purged"), 0, "less than an hour ago");
    age(place, 30 * DAY);
    let held = locks.lock("held").expect("got");
    age(place, 2 * DAY);
    let fresh = locks.lock("fresh").expect("got");
    let fence = fresh.fence();
    fresh.release().expect("freed");
    assert_eq!(admin.purge(40 * DAY).expect("purged"), 0);
    assert_eq!(admin.purge(30 * DAY).expect("purged"), 2);
    assert_eq!(admin.status("a").expect("asked"), None);
    // What is held stays, however long, and what was used.
    assert_eq!(admin.purge(DAY).expect("purged"), 0);
    assert!(admin.status("held").expect("asked").expect("a row").hold.is_some());
    assert_eq!(admin.status("fresh").expect("asked").expect("a row").fence, fence);
    // A fence does not fall because its row was purged.
    let again = locks.lock("a").expect("got").fence();
    assert!(again > old[0], "{again} after {old:?}");
    drop(held);

    let guards: Vec<_> = (0..612).map(|n| locks.lock(n.to_string()).expect("got")).collect();
    drop(guards);
    age(place, 60 * DAY);
    assert!(admin.purge(30 * DAY).expect("purged") >= 612, "in more than one page");
    assert_eq!(admin.purge(30 * DAY).expect("purged"), 0);
}

macro_rules! on {
    ($($place:ident $(, $server:literal)?;)*) => {$(
        mod $place {
            use super::*;

            #[test]
            $(#[ignore = $server])?
            fn a_list_tells_who_holds_what() {
                looking(&Place::$place(), DRIVER);
            }

            #[test]
            $(#[ignore = $server])?
            fn a_long_list_comes_in_pages() {
                many(&Place::$place(), DRIVER);
            }

            #[test]
            $(#[ignore = $server])?
            fn a_broken_hold_is_told_and_the_fence_rises() {
                breaking(&Place::$place(), DRIVER);
            }

            #[test]
            $(#[ignore = $server])?
            fn a_guard_of_a_lost_lock_holds_no_shutdown_up() {
                lost_at_a_shutdown(&Place::$place(), DRIVER);
            }

            #[test]
            $(#[ignore = $server])?
            fn a_permit_is_taken_from_its_holder_as_it_is_listed() {
                breaking_a_permit(&Place::$place(), DRIVER);
            }

            #[test]
            $(#[ignore = $server])?
            fn a_purge_takes_what_is_long_free_and_no_fence_falls() {
                purging(&Place::$place(), DRIVER);
            }
        }
    )*};
}

mod blocking {
    use super::*;
    const DRIVER: Driver = Driver::Blocking;
    on! {
        sqlite;
        postgres, "needs a PostgreSQL server: tests/run starts one";
        mysql, "needs a MySQL server: tests/run starts one";
        mariadb, "needs a MariaDB server: tests/run starts one";
    }
}

mod asynchronous {
    use super::*;
    const DRIVER: Driver = Driver::Tokio;
    on! {
        sqlite;
        postgres, "needs a PostgreSQL server: tests/run starts one";
        mysql, "needs a MySQL server: tests/run starts one";
        mariadb, "needs a MariaDB server: tests/run starts one";
    }
}

/// Consul's answers tell less, and there is nothing to purge.
fn locks_in_consul_are_listed_and_broken(driver: Driver) {
    const TTL: Duration = Duration::from_secs(10);
    let url = std::env::var("CONSUL_URL").expect("tests/run starts a server and sets it");
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let url =
        format!("consul://{host}/admin-{driver:?}-{}?label=the \u{1f512}", std::process::id());
    let config = || url.parse::<lock_sync::Config>().expect("a good URL").ttl(TTL);
    let mut admin = Admin::connect(driver, &url, TTL);
    assert_eq!(admin.list().expect("listed"), []);
    assert_eq!(admin.status("n").expect("asked"), None);

    let locks = lock_sync::Locks::open(config()).expect("connected");
    // Also names that a key has in another form.
    let all = ["/a//b", "B", "a=b", "n", "ä"];
    let guards: Vec<_> = all.iter().rev().map(|name| locks.lock(name).expect("got")).collect();
    let listed = admin.list().expect("listed");
    assert_eq!(listed.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>(), all);
    for (lock, guard) in listed.iter().zip(guards.iter().rev()) {
        assert_eq!(lock.fence, guard.fence());
        let hold = lock.hold.as_ref().expect("held");
        assert!(hold.label.ends_with(&format!(" pid {} (the 🔒)", std::process::id())), "{hold:?}");
    }
    let [_, guard, ..] = &guards[..] else { panic!("five") };
    assert_eq!(guard.name().as_str(), "n");
    let state = admin.status("n").expect("asked").expect("a key");
    assert_eq!((state.fence, state.hold.is_some()), (guard.fence(), true));
    let wrong = Fence::new(guard.fence().get() + 1);
    assert_eq!(admin.break_hold("n", wrong).expect("asked"), None, "another hold");
    assert!(guard.is_held());
    let raised = admin.break_hold("n", guard.fence()).expect("asked").expect("broken");
    assert!(guard.wait_lost(TTL).is_some());
    assert_eq!(admin.break_hold("n", guard.fence()).expect("asked"), None, "once");
    let next = lock_sync::Locks::open(config()).expect("connected").lock("n").expect("got");
    assert!(next.fence() > raised, "{} after {raised}", next.fence());
    // It was the session that was ended.
    assert!(guards.iter().all(|guard| guard.wait_lost(TTL).is_some()));
    let free = admin.status("free").expect("asked");
    assert_eq!(free, None);
    let refused = admin.purge(DAY).expect_err("there is nothing to purge");
    assert!(matches!(refused, lock_sync::Error::Purge(_)), "{refused}");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn locks_in_consul_are_listed_and_broken_by_the_blocking_driver() {
    locks_in_consul_are_listed_and_broken(Driver::Blocking);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn locks_in_consul_are_listed_and_broken_by_the_tokio_driver() {
    locks_in_consul_are_listed_and_broken(Driver::Tokio);
}

/// Whether it was done, nobody knows.
#[test]
#[ignore = "needs all servers: tests/run starts them"]
fn a_server_that_does_not_answer_has_neither_done_it_nor_not() {
    std::thread::scope(|scope| {
        for at in [Place::postgres, Place::mysql, Place::mariadb, Place::consul] {
            for driver in [Driver::Blocking, Driver::Tokio] {
                scope.spawn(move || asking_in_vain(&at(), driver));
            }
        }
    });
}

/// A program may look now and then, for as long as it runs.
#[test]
#[ignore = "needs all servers: tests/run starts them"]
fn who_looks_no_more_has_no_connection() {
    for at in [Place::postgres, Place::mysql, Place::mariadb, Place::consul] {
        for driver in [Driver::Blocking, Driver::Tokio] {
            let place = at();
            drop(place.locks(TTL));
            let proxy = Proxy::start(&server_of(place.url()));
            let through = place.through(&proxy.url(place.url())).whole_url();
            let mut admin = Admin::connect(driver, &through, TTL);
            assert_eq!(admin.list().expect("listed"), []);
            drop(admin);
            let all = || (0..proxy.connections()).all(|one| proxy.has_ended(one));
            assert!(proxy.connections() > 0 && eventually(all), "{driver:?}, {through}");
        }
    }
}

fn asking_in_vain(place: &Place, driver: Driver) {
    let guard = place.locks(Duration::from_secs(60)).lock("n").expect("got");
    let proxy = Proxy::start(&server_of(place.url()));
    let through = place.through(&proxy.url(place.url())).whole_url();
    let admin = || Admin::connect(driver, &through, TTL);
    let mut admins = [(); 4].map(|()| admin());
    proxy.set(Mode::Hole);
    let [list, status, breaks, purge] = &mut admins;
    // The answer to a second time would be another. An agent of Consul's is connected to for the first.
    let connections = proxy.connections();
    let broken = breaks.break_hold("n", guard.fence()).err();
    assert!(proxy.connections() <= connections + 1, "{driver:?}: it was asked for again");
    let told = [list.list().err(), status.status("n").err(), broken, purge.purge(DAY).err()];
    let is_unknown = |error: &Option<Error>| matches!(error, Some(Error::Unavailable(_)));
    assert!(told[..3].iter().all(is_unknown), "{driver:?}: {told:?}");
    let has_nothing_to_purge = place.keeps() == Keeps::Keys;
    assert!(has_nothing_to_purge || is_unknown(&told[3]), "{driver:?}: {told:?}");
    proxy.set(Mode::Pass);
    assert!(list.status("n").expect("asked").expect("a row").hold.is_some());
    assert!(guard.is_held());
}
