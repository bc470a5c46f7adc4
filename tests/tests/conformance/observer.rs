//! Observers of an election, in every place whose locks have names at the server, with both drivers.

use crate::places::SOON;
use lock_core::config::ConfigError;
use lock_sync::{Error, Leader};
use lock_tests::drivers::{Admin, Driven, Driver, Observer};
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use std::sync::mpsc::channel;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Consul ends a session after up to twice its TTL, which is 10 s at least.
fn ttl(place: &Place) -> Duration {
    if place.keeps() == Keeps::Keys { SECOND * 10 } else { SECOND * 3 }
}

fn observer(place: &Driven, driver: Driver, interval: Duration) -> Observer {
    // Looking creates nothing.
    drop(place.locks(ttl(place)));
    Admin::connect(driver, &place.whole_url(), ttl(place)).observe("leader", interval)
}

/// A call that has waited long enough is given up, at any point of a look or a wait, and another follows.
#[track_caller]
fn change(observer: &mut Observer) -> Option<Leader> {
    let mut patience = Duration::from_millis(7);
    loop {
        match observer.changed_within(patience) {
            Some(change) => return change.expect("known"),
            None => assert!(patience < SOON, "no change"),
        }
        patience *= 2;
    }
}

/// The next leader. Between two, nobody may lead for a moment.
#[track_caller]
fn next(observer: &mut Observer) -> Leader {
    change(observer).or_else(|| change(observer)).expect("somebody leads")
}

/// Whoever looks in between something else does not wait at all.
#[test]
fn an_observer_can_be_asked_without_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("a.db").display());
    let locks = lock_sync::Locks::connect(&url).expect("connected");
    let guard = locks.lock("leader").expect("free");
    let admin = lock_sync::Admin::connect(&url).expect("connected");
    let mut observer = admin.observe("leader").expect("a name").interval(SECOND / 50);
    let mut change = || observer.changed_within(Duration::ZERO);
    let leader = change().expect("a look was due").expect("known").expect("somebody leads");
    assert_eq!(leader.term, guard.fence());
    guard.release().expect("released");
    let mut told = None;
    assert!(eventually(|| {
        told = change();
        told.is_some()
    }));
    assert_eq!(told, Some(Ok(None)));
}

fn each_leader_is_told(place: Place, driver: Driver) {
    let place = Driven::new(driver, place);
    let ttl = ttl(&place);
    let mut observer = observer(&place, driver, SECOND / 4);
    assert_eq!(change(&mut observer), None);

    let [first, second] = ["first", "second"].map(|label| place.labelled(ttl, label));
    let guard = first.lock("leader").expect("free");
    let leader = change(&mut observer).expect("the first");
    assert_eq!(leader.term, guard.fence());
    assert!(leader.label.ends_with(" (first)"), "{leader:?}");
    assert!(leader.held_for < Some(SOON), "{leader:?}");
    let other = second.lock("another").expect("free");
    let quiet = observer.changed_within(ttl.min(SECOND * 4));
    assert!(quiet.is_none(), "it is renewed: {quiet:?}");

    let next_term = std::thread::scope(|scope| {
        let standby = scope.spawn(|| second.lock("leader").expect("freed"));
        std::thread::sleep(SECOND / 4);
        guard.release().expect("released");
        let leader = next(&mut observer);
        let guard = standby.join().expect("no panic");
        assert_eq!(leader.term, guard.fence());
        assert!(leader.label.ends_with(" (second)"), "{leader:?}");
        guard.release().expect("released");
        leader.term
    });
    assert_eq!(change(&mut observer), None);
    other.release().expect("released");

    // In a file, nothing cuts a holder off: its row says that its lease has ended.
    let file = place.url().starts_with("sqlite");
    let (dead, _hold) = if file {
        let guard = first.lock("leader").expect("free");
        (guard.fence(), Ok(guard))
    } else {
        let (dead, network) = place.abandon("leader", ttl);
        (dead.fence(), Err((dead, network)))
    };
    let leader = change(&mut observer).expect("it led before it died");
    assert_eq!(leader.term, dead);
    assert!(leader.term > next_term, "terms rise");
    if file {
        place.tamper("UPDATE {table} SET expires_us = 1 WHERE name = 'leader'");
    }
    assert_eq!(change(&mut observer), None, "its lease has ended");
}

/// It would not look again for an hour.
fn a_hand_over_is_told_by_the_server(place: Place, driver: Driver) {
    let place = Driven::new(driver, place);
    let hour = SECOND * 3_600;
    let mut observer = observer(&place, driver, hour);
    let [ours, theirs] = [place.locks(hour), place.locks(hour)];
    let mut guard = ours.lock("leader").expect("free");
    assert_eq!(change(&mut observer).expect("somebody").term, guard.fence());
    for turn in 0..4 {
        let locks = if turn % 2 == 0 { &theirs } else { &ours };
        guard = std::thread::scope(|scope| {
            let standby = scope.spawn(|| locks.lock("leader").expect("freed"));
            // It begins to listen, if it does not yet.
            let quiet = observer.changed_within(SECOND);
            assert!(quiet.is_none(), "{quiet:?}");
            guard.release().expect("released");
            let leader = next(&mut observer);
            let guard = standby.join().expect("no panic");
            assert_eq!(leader.term, guard.fence());
            guard
        });
    }
}

/// A request has two seconds, and the change comes later than that.
fn what_is_waited_for_may_take_longer_than_a_request(place: Place, driver: Driver) {
    let place = Driven::new(driver, place);
    let hour = SECOND * 3_600;
    let guard = place.locks(hour).lock("leader").expect("free");
    let url = place.whole_url();
    let mark = if url.contains('?') { '&' } else { '?' };
    let admin = Admin::connect(driver, &format!("{url}{mark}request_timeout=2s"), SECOND * 30);
    let mut observer = admin.observe("leader", hour);
    assert_eq!(change(&mut observer).expect("somebody").term, guard.fence());
    let (waits, waiting) = channel();
    std::thread::scope(|scope| {
        let standby = scope.spawn(|| {
            let locks = place.locks(hour);
            let standby = locks.acquire("leader").on_waiting(|_| {
                let _ = waits.send(());
            });
            standby.wait().expect("freed")
        });
        scope.spawn(move || {
            waiting.recv_timeout(SOON).expect("it waits");
            std::thread::sleep(SECOND * 3);
            guard.release().expect("released");
        });
        let told = observer.changed_within(SOON).expect("told").expect("known");
        let leader = told.or_else(|| change(&mut observer)).expect("the next");
        assert_eq!(leader.term, standby.join().expect("no panic").fence());
    });
}

fn an_outage_is_told_and_survived(place: Place, driver: Driver) {
    let place = Driven::new(driver, place);
    let guard = place.locks(SECOND * 600).lock("leader").expect("free");
    let (proxy, through) = if place.url().starts_with("sqlite") {
        (None, place.through(place.url()))
    } else {
        let proxy = Proxy::start(&server_of(place.url()));
        let through = place.through(&proxy.url(place.url()));
        (Some(proxy), through)
    };
    let set = |mode: Mode, sql: &str| match &proxy {
        Some(proxy) => proxy.set(mode),
        None => place.tamper(sql),
    };
    let mark = if through.whole_url().contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}request_timeout=2s", through.whole_url());
    let admin = Admin::connect(driver, &url, SECOND * 30);
    let mut observer = admin.observe("leader", SECOND / 4);
    assert_eq!(change(&mut observer).expect("somebody").term, guard.fence());
    // A connection that ends is no outage.
    if let Some(proxy) = &proxy {
        proxy.cut(false);
    }
    assert!(observer.changed_within(SECOND).is_none());
    for _ in 0..2 {
        set(Mode::Hole, "ALTER TABLE {table} RENAME TO gone");
        let unknown = observer.changed_within(SOON * 2).expect("told");
        assert!(unknown.is_err(), "{unknown:?}");
        assert!(observer.changed_within(SECOND).is_none(), "it is told once");
        set(Mode::Pass, "ALTER TABLE gone RENAME TO {table}");
        assert_eq!(change(&mut observer).expect("the same").term, guard.fence());
    }
    assert!(guard.is_held());
}

/// Where the server tells nothing. The least of several times, for a busy machine delays some.
#[test]
fn an_observer_looks_at_the_interval_that_was_chosen() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let place = Driven::new(driver, Place::sqlite());
        let mut observer = observer(&place, driver, SECOND / 50);
        let locks = place.locks(SECOND * 60);
        let mut told_after = |_| {
            let guard = locks.lock("leader").expect("free");
            assert!(next(&mut observer).term == guard.fence());
            std::thread::sleep(SECOND / 20);
            guard.release().expect("released");
            let freed = std::time::Instant::now();
            assert_eq!(change(&mut observer), None);
            freed.elapsed()
        };
        let least = (0..5).map(&mut told_after).min();
        assert!(least < Some(SECOND / 2), "{driver:?}: {least:?}");
    }
}

macro_rules! on {
    ($driver:ident: $($place:ident $(, $server:literal)? $(told by $told:ident, $needs:literal)?;)*) => {$(
        mod $place {
            use super::*;

            #[test]
            $(#[ignore = $server])?
            fn each_leader_is_told() {
                super::super::each_leader_is_told(Place::$place(), Driver::$driver);
            }

            #[test]
            $(#[ignore = $server])?
            fn an_outage_is_told_and_survived() {
                super::super::an_outage_is_told_and_survived(Place::$place(), Driver::$driver);
            }

            $(#[test]
            #[ignore = $needs]
            fn a_hand_over_is_told_by_the_server() {
                let driver = Driver::$driver;
                super::super::a_hand_over_is_told_by_the_server(Place::$told(), driver);
            }

            #[test]
            #[ignore = $needs]
            fn what_is_waited_for_may_take_longer_than_a_request() {
                let (place, driver) = (Place::$told(), Driver::$driver);
                super::super::what_is_waited_for_may_take_longer_than_a_request(place, driver);
            })?
        }
    )*};
}

macro_rules! drivers {
    ($($name:ident $driver:ident;)*) => {$(
        mod $name {
            use super::*;

            on! {
                $driver:
                sqlite;
                postgres, "needs a PostgreSQL server: tests/run starts one" told by postgres,
                    "needs a PostgreSQL server: tests/run starts one";
                postgres_pooled, "needs a PostgreSQL server: tests/run starts one";
                mysql, "needs a MySQL server: tests/run starts one";
                mariadb, "needs a MariaDB server: tests/run starts one";
                consul, "needs a Consul server: tests/run starts one" told by consul,
                    "needs a Consul server: tests/run starts one";
            }
        }
    )*};
}

drivers! {
    blocking Blocking;
    asynchronous Tokio;
}

#[test]
fn advisory_locks_cannot_be_observed() {
    for url in ["postgres://h/db?protocol=advisory", "mysql://h/db?protocol=advisory"] {
        let refused = lock_sync::Admin::connect(url).expect_err("they have no names there");
        assert!(matches!(refused, Error::Config(ConfigError::NotShown(_))), "{refused}");
    }
}
