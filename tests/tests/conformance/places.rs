//! One suite for every backend and both drivers: the same bodies, each on a table of its own.

use crate::behind::{
    all_that_wait_in_a_process_are_told_who_is_in_the_way,
    waiting_behind_ones_own_process_tells_who_is_in_the_way, waiting_tells_who_is_in_the_way,
};
use crate::kept::{
    a_lock_is_kept_after_its_release, keeping_is_refused_where_locks_end_with_their_session,
    permits_and_several_locks_are_kept_alike, what_is_kept_is_granted_at_its_end,
    what_needs_not_be_kept_is_freed, who_waits_is_told_that_it_is_kept,
};
use crate::metered::{
    attempts_and_holds_are_recorded, losses_are_recorded_with_their_reason,
    permits_and_several_locks_are_recorded_as_one, renewals_are_recorded,
};
use crate::own::{
    locks_of_one_connection_have_labels_of_their_own,
    locks_of_one_connection_have_ttls_of_their_own,
};
use crate::together::{
    a_campaign_goes_on_after_a_term_that_was_lost, a_semaphore_has_as_many_holders_as_permits,
    many_threads_share_the_permits, one_leads_at_a_time_and_its_terms_rise,
    sets_in_opposite_orders_do_not_wait_for_each_other, several_locks_are_acquired_all_or_none,
    who_waits_for_a_permit_gets_the_one_that_is_freed,
};
use crate::warned::{
    long_waits_and_holds_are_warned_of_once, long_waits_for_permits_and_several_locks_are_warned_of,
};
use lock_sync::{Error, LostReason, ReleaseError};
use lock_tests::drivers::{Driven, Driver, Guard};
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::eventually;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) const TTL: Duration = Duration::from_secs(30);
/// Of leases that are to end, or to be renewed: a busy machine stands still for a part of it.
pub(crate) const SHORT: Duration = Duration::from_secs(3);
/// For what happens soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

macro_rules! conformance {
    ($($bodies:tt)*) => {
        mod blocking {
            const DRIVER: crate::places::Driver = crate::places::Driver::Blocking;
            suites! { $($bodies)* }
        }
        mod asynchronous {
            const DRIVER: crate::places::Driver = crate::places::Driver::Tokio;
            suites! { $($bodies)* }
        }
        // One connection of each: the drivers exclude each other.
        mod mixed {
            const DRIVER: crate::places::Driver = crate::places::Driver::Mixed;
            suites! { $($bodies)* }
        }
        // lock-async over a pool of sqlx's.
        mod pooled {
            const DRIVER: crate::places::Driver = crate::places::Driver::Pooled;
            pools! { $($bodies)* }
        }
    };
}

macro_rules! pools {
    (all { $($name:ident)* } own { $($own:ident)* } tables { $($table:ident)* } sessions { $($session:ident)* }) => {
        suite! { postgres "needs a PostgreSQL server: tests/run starts one": $($name)* $($own)* $($table)* }
        suite! { mysql "needs a MySQL server: tests/run starts one": $($name)* $($own)* $($table)* }
        suite! { mariadb "needs a MariaDB server: tests/run starts one": $($name)* $($own)* $($table)* }
    };
}

macro_rules! suites {
    (all { $($name:ident)* } own { $($own:ident)* } tables { $($table:ident)* } sessions { $($session:ident)* }) => {
        suite! { mysql_sql_lock "needs a MySQL server: tests/run starts one": $($name)* $($session)* }
        suite! { mariadb_sql_lock "needs a MariaDB server: tests/run starts one": $($name)* $($session)* }
        suite! { sqlite: $($name)* $($own)* $($table)* }
        suite! { postgres "needs a PostgreSQL server: tests/run starts one": $($name)* $($own)* $($table)* }
        suite! { postgres_pooled "needs a PostgreSQL server: tests/run starts one": $($name)* $($own)* $($table)* }
        suite! { postgres_pooled_sessions "needs a PostgreSQL server: tests/run starts one": $($name)* $($own)* $($table)* }
        suite! { mysql "needs a MySQL server: tests/run starts one": $($name)* $($own)* $($table)* }
        suite! { mariadb "needs a MariaDB server: tests/run starts one": $($name)* $($own)* $($table)* }
        suite! { postgres_advisory "needs a PostgreSQL server: tests/run starts one": $($name)* $($own)* $($session)* }
        suite! { mysql_advisory "needs a MySQL server: tests/run starts one": $($name)* $($own)* $($session)* }
        suite! { mariadb_advisory "needs a MariaDB server: tests/run starts one": $($name)* $($own)* $($session)* }
        suite! { consul "needs a Consul server: tests/run starts one": $($name)* $($own)* $($session)* }
    };
}

macro_rules! suite {
    ($place:ident: $($name:ident)*) => {
        mod $place {
            $(#[test]
            fn $name() {
                let place = crate::places::Driven::new(super::DRIVER, crate::places::Place::$place());
                crate::places::$name(&place);
                lock_tests::traces::check(&place);
            })*
        }
    };
    ($place:ident $needs:literal: $($name:ident)*) => {
        mod $place {
            $(#[test]
            #[ignore = $needs]
            fn $name() {
                let place = crate::places::Driven::new(super::DRIVER, crate::places::Place::$place());
                crate::places::$name(&place);
                lock_tests::traces::check(&place);
            })*
        }
    };
}

conformance! {
    all {
        a_free_lock_is_taken_and_released
        a_taken_lock_is_not_taken_again
        a_wait_ends_with_the_lock_or_in_time
        fences_rise_over_holders_and_connections
        many_threads_on_many_connections_exclude_each_other
        a_lease_is_renewed_beyond_its_ttl
        a_lease_that_is_not_renewed_is_taken_over
        a_foreign_owner_means_lost_at_once
        a_lost_guard_frees_nobody_elses_lock
        closing_ends_waits_and_leaks_nothing
        names_that_are_none_are_refused
        waiting_tells_who_is_in_the_way
        waiting_behind_ones_own_process_tells_who_is_in_the_way
        all_that_wait_in_a_process_are_told_who_is_in_the_way
        a_panic_while_waiting_leaks_nothing
        many_connect_at_once
        with_lock_hands_the_result_through
        a_semaphore_has_as_many_holders_as_permits
        who_waits_for_a_permit_gets_the_one_that_is_freed
        many_threads_share_the_permits
        several_locks_are_acquired_all_or_none
        one_leads_at_a_time_and_its_terms_rise
        sets_in_opposite_orders_do_not_wait_for_each_other
        locks_of_one_connection_have_ttls_of_their_own
        locks_of_one_connection_have_labels_of_their_own
        attempts_and_holds_are_recorded
        permits_and_several_locks_are_recorded_as_one
        losses_are_recorded_with_their_reason
        renewals_are_recorded
        long_waits_and_holds_are_warned_of_once
        long_waits_for_permits_and_several_locks_are_warned_of
    }
    // Not where names are compared by a collation, and each lock has a connection of its own.
    own {
        names_are_bytes
        a_thousand_locks_on_one_connection
    }
    tables {
        an_expired_row_is_taken_over
        a_deleted_row_means_lost_at_once
        a_lock_is_kept_after_its_release
        what_is_kept_is_granted_at_its_end
        what_needs_not_be_kept_is_freed
        who_waits_is_told_that_it_is_kept
        permits_and_several_locks_are_kept_alike
        a_campaign_goes_on_after_a_term_that_was_lost
    }
    sessions {
        keeping_is_refused_where_locks_end_with_their_session
    }
}

fn a_free_lock_is_taken_and_released(place: &Driven) {
    let locks = place.locks(TTL);
    let guard = locks.lock("a").expect("taken");
    assert!(guard.is_held());
    assert_eq!(guard.lost_reason(), None);
    // A session, if that is what it is held by, was kept alive a third of it ago at the most.
    let remaining = guard.remaining();
    assert!(remaining > TTL / 3 && remaining <= TTL * 5 / 6, "{remaining:?}");
    guard.release().expect("released");
    drop(locks.try_lock("a").expect("asked").expect("free after a release"));
    assert!(locks.try_lock("a").expect("asked").is_some(), "free after a drop");
}

fn a_taken_lock_is_not_taken_again(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let guard = ours.lock("a").expect("taken");
    assert!(theirs.try_lock("a").expect("asked").is_none(), "by another connection");
    assert!(ours.try_lock("a").expect("asked").is_none(), "by the same one: nothing is re-entrant");
    assert!(ours.clone().try_lock("a").expect("asked").is_none(), "by a clone");
    assert!(theirs.try_lock("b").expect("asked").is_some(), "another name is another lock");
    assert!(guard.is_held());
}

fn a_wait_ends_with_the_lock_or_in_time(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let guard = ours.lock("a").expect("taken");
    let began = Instant::now();
    assert!(theirs.try_lock_for("a", Duration::from_millis(300)).expect("asked").is_none());
    assert!(ours.try_lock_for("a", Duration::from_millis(300)).expect("asked").is_none());
    assert!(began.elapsed() >= Duration::from_millis(600));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| theirs.try_lock_for("a", SOON).expect("asked"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waiter.is_finished());
        guard.release().expect("released");
        assert!(waiter.join().expect("no panic").is_some());
    });
}

fn fences_rise_over_holders_and_connections(place: &Driven) {
    let connections = [place.locks(TTL), place.locks(TTL)];
    let mut last = 0;
    for turn in 0..10 {
        let guard = connections[turn % 2].lock("a").expect("taken");
        assert!(guard.fence().get() > last);
        last = guard.fence().get();
    }
}

pub(crate) fn many_threads_on_many_connections_exclude_each_other(place: &Driven) {
    let inside = AtomicUsize::new(0);
    let fences = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let locks = place.locks(TTL);
            for _ in 0..3 {
                let (locks, inside, fences) = (locks.clone(), &inside, &fences);
                scope.spawn(move || {
                    for _ in 0..10 {
                        let guard = locks.lock("a").expect("taken");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                        fences.lock().expect("unpoisoned").push(guard.fence());
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        guard.release().expect("released");
                    }
                });
            }
        }
    });
    let fences = fences.into_inner().expect("unpoisoned");
    assert_eq!(fences.len(), 120);
    assert!(fences.is_sorted_by(|a, b| a < b), "fences rise in the order of the holds");
}

fn a_lease_is_renewed_beyond_its_ttl(place: &Driven) {
    let (ours, theirs) = (place.locks(SHORT), place.locks(TTL));
    let guard = ours.lock("a").expect("taken");
    let (fence, began) = (guard.fence(), Instant::now());
    while began.elapsed() < SHORT * 2 {
        assert!(guard.is_held());
        assert!(theirs.try_lock("a").expect("asked").is_none());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(guard.fence(), fence);
    guard.release().expect("still ours");
}

fn a_lease_that_is_not_renewed_is_taken_over(place: &Driven) {
    if place.url().starts_with("sqlite:") {
        return an_expired_row_is_taken_over(place); // There is no network that could be cut.
    }
    let locks = place.locks(SHORT);
    let began = Instant::now();
    let (dead, _proxy) = place.abandon("a", SHORT);
    assert!(locks.try_lock("a").expect("asked").is_none(), "not before it expired");
    let guard = locks.try_lock_for("a", SOON).expect("asked").expect("taken over");
    assert!(!dead.is_held(), "two guards of one name");
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    assert!(guard.fence() > dead.fence());
    let told = dead.lost_reason();
    assert!(
        matches!(told, Some(LostReason::Deadline { .. } | LostReason::Disconnected { .. })),
        "{told:?}"
    );
}

fn an_expired_row_is_taken_over(place: &Driven) {
    // A holder that died: its row stays, nobody renews it.
    let locks = place.locks(SHORT);
    let fence = locks.lock("a").expect("taken").fence();
    let began = Instant::now();
    match place.url().split(':').next() {
        Some("sqlite") => {
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            let soon = (now.tv_sec + 3) * 1_000_000 + now.tv_nsec / 1000;
            place.tamper(&format!("UPDATE {{table}} SET owner = 'dead', boot = '{}', expires_us = {soon}", boot.trim()));
        }
        Some("postgres") => place.tamper("UPDATE {table} SET owner = 'dead', expires_at = clock_timestamp() + interval '3 seconds'"),
        _ => place.tamper("UPDATE {table} SET owner = 'dead', expires_us = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) + 3000000"),
    }
    assert!(locks.try_lock("a").expect("asked").is_none(), "not before it expired");
    let guard = locks.try_lock_for("a", SOON).expect("asked").expect("taken over");
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    assert!(guard.fence() > fence);
}

fn a_foreign_owner_means_lost_at_once(place: &Driven) {
    let locks = place.locks(SHORT);
    let guard = locks.lock("a").expect("taken");
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    let list = told.clone();
    guard.on_lost(move |reason| list.lock().expect("unpoisoned").push(reason));
    let why = std::mem::discriminant(&place.rob("a"));
    let lost = guard.wait_lost(SOON).expect("lost");
    assert_eq!(std::mem::discriminant(&lost), why, "{lost}");
    assert!(!guard.is_held());
    assert_eq!(guard.remaining(), Duration::ZERO);
    assert!(eventually(|| told.lock().expect("unpoisoned").len() == 1));
    assert_eq!(guard.release(), Err(ReleaseError::Lost(lost.clone())));
    assert_eq!(*told.lock().expect("unpoisoned"), [lost], "told once");
}

fn a_deleted_row_means_lost_at_once(place: &Driven) {
    let locks = place.locks(SHORT);
    let guard = locks.lock("a").expect("taken");
    let fence = guard.fence();
    place.tamper("DELETE FROM {table}");
    assert_eq!(guard.wait_lost(SOON), Some(LostReason::Taken));
    drop(guard);
    let guard = locks.lock("a").expect("taken anew");
    assert!(guard.fence() > fence, "the clock sees to that");
}

fn a_lost_guard_frees_nobody_elses_lock(place: &Driven) {
    let (ours, theirs) = (place.locks(SHORT), place.locks(TTL));
    let lost = ours.lock("a").expect("taken");
    match place.keeps() {
        Keeps::Rows => place.tamper("UPDATE {table} SET owner = NULL"),
        _ => drop(place.rob("a")),
    }
    let guard = theirs.lock("a").expect("free for them");
    assert!(lost.wait_lost(SOON).is_some());
    assert!(lost.release().is_err());
    assert!(ours.try_lock("a").expect("asked").is_none(), "still theirs");
    assert!(guard.is_held());
    guard.release().expect("still theirs");
}

fn closing_ends_waits_and_leaks_nothing(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let guard = ours.lock("a").expect("taken");
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| theirs.lock("a").map(drop))).collect();
        std::thread::sleep(Duration::from_millis(200));
        theirs.close();
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), Err(Error::Closed));
        }
    });
    assert_eq!(theirs.try_lock("b").map(drop), Err(Error::Closed));
    assert!(guard.is_held());
    guard.release().expect("released");
    // A wait that was cut at the server may just have been granted, and ends with its connection.
    let after = place.locks(TTL).try_lock_for("a", TTL / 3).expect("asked");
    assert!(after.is_some(), "no waiter left anything behind");
}

fn names_are_bytes(place: &Driven) {
    let locks = place.locks(TTL);
    let long = "x".repeat(255);
    let names = [
        "Foo",
        "foo",
        "foo ",
        " foo",
        "fo\u{f3}",
        "foo\u{301}",
        "🔒",
        "it's",
        "\"quoted\"",
        "back\\slash",
        "%",
        "$1",
        "?1",
        "; drop table locks --",
        "{table}",
        "ß",
        "ss",
        &long,
    ];
    let guards: Vec<_> = names
        .iter()
        .map(|name| {
            locks
                .try_lock(name)
                .expect("asked")
                .unwrap_or_else(|| panic!("{name:?} is another's name too"))
        })
        .collect();
    for (name, guard) in names.iter().zip(&guards) {
        assert_eq!(guard.name().as_str(), *name);
        assert!(place.locks(TTL).try_lock(name).expect("asked").is_none());
    }
}

fn names_that_are_none_are_refused(place: &Driven) {
    let locks = place.locks(TTL);
    for name in ["", "a\0b", "a\nb", "\u{7f}", &"x".repeat(256), &"x".repeat(10_000)] {
        assert!(matches!(locks.try_lock(name), Err(Error::Name(_))), "{name:?}");
    }
}

fn a_thousand_locks_on_one_connection(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let guards: Vec<_> = (0..1000).map(|n| ours.lock(&format!("n{n}")).expect("taken")).collect();
    assert!(guards.iter().all(Guard::is_held));
    for n in (0..1000).step_by(97) {
        assert!(theirs.try_lock(&format!("n{n}")).expect("asked").is_none());
    }
    for guard in guards {
        guard.release().expect("released");
    }
    assert!(theirs.try_lock("n500").expect("asked").is_some());
}

fn a_panic_while_waiting_leaks_nothing(place: &Driven) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let guard = ours.lock("a").expect("taken");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        theirs.acquire("a").on_waiting(|_| panic!("on purpose")).wait().map(drop)
    }));
    assert!(panicked.is_err());
    guard.release().expect("released");
    std::thread::sleep(Duration::from_millis(1500));
    let after = ours.try_lock_for("a", TTL / 3).expect("asked");
    assert!(after.is_some(), "the abandoned wait took it");
}

/// A table is made once, and found again.
fn many_connect_at_once(place: &Driven) {
    std::thread::scope(|scope| {
        let made: Vec<_> = (0..8).map(|_| scope.spawn(|| place.locks(TTL))).collect();
        for locks in made {
            assert!(locks.join().expect("eight at once").try_lock("a").is_ok());
        }
    });
}

fn with_lock_hands_the_result_through(place: &Driven) {
    let locks = place.locks(TTL);
    let inner = locks.clone();
    let seen = locks
        .with_lock("a", |is_held| (is_held(), inner.try_with_lock("a", |_| ()).expect("asked")));
    assert_eq!(seen, Ok((true, None)));
    assert_eq!(locks.try_with_lock("a", |_| 7), Ok(Some(7)));
}
