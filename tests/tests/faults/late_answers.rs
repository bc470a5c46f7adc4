//! Answers that come late, and answers that never come, over connections that nobody cuts.

use lock_tests::drivers::{Driven, Driver, Guard};
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::{Mode, Proxy, server_of};
use std::time::{Duration, Instant};

/// Consul takes no shorter one.
const TTL: Duration = Duration::from_secs(10);
/// Longer than any test here takes: nothing is free because it has run out.
const LONG: Duration = Duration::from_secs(120);
/// Time limit of a request.
const REQUEST: Duration = Duration::from_secs(1);
/// Much longer than a request, and much shorter than `LONG`.
const SOON: Duration = Duration::from_secs(30);

macro_rules! late {
    ($($name:ident)*) => {
        mod blocking {
            const DRIVER: crate::late_answers::Driver = crate::late_answers::Driver::Blocking;
            everywhere! { $($name)* }
        }
        mod asynchronous {
            const DRIVER: crate::late_answers::Driver = crate::late_answers::Driver::Tokio;
            everywhere! { $($name)* }
        }
    };
}

macro_rules! everywhere {
    ($($name:ident)*) => {
        at! { postgres, "needs a PostgreSQL server: tests/run starts one": $($name)* }
        at! { postgres_advisory, "needs a PostgreSQL server: tests/run starts one": $($name)* }
        at! { mysql, "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mysql_advisory, "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mysql_sql_lock, "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mariadb, "needs a MariaDB server: tests/run starts one": $($name)* }
        at! { mariadb_advisory, "needs a MariaDB server: tests/run starts one": $($name)* }
        at! { mariadb_sql_lock, "needs a MariaDB server: tests/run starts one": $($name)* }
        at! { consul, "needs a Consul server: tests/run starts one": $($name)* }
    };
}

macro_rules! at {
    ($place:ident, $needs:literal: $($name:ident)*) => {
        mod $place {
            $(#[test]
            #[ignore = $needs]
            fn $name() { crate::late_answers::$name(super::DRIVER, crate::late_answers::Place::$place()) })*
        }
    };
}

/// lock-async over a pool of sqlx's, which keeps connections of unknown fate by rules of its own.
mod pooled {
    const DRIVER: crate::late_answers::Driver = crate::late_answers::Driver::Pooled;
    at! { postgres, "needs a PostgreSQL server: tests/run starts one":
    a_lease_counts_from_its_request an_answer_that_comes_too_late_leaks_nothing }
    at! { mysql, "needs a MySQL server: tests/run starts one":
    a_lease_counts_from_its_request an_answer_that_comes_too_late_leaks_nothing }
    at! { mariadb, "needs a MariaDB server: tests/run starts one":
    a_lease_counts_from_its_request an_answer_that_comes_too_late_leaks_nothing }
}

late! {
    a_lease_counts_from_its_request
    an_answer_that_comes_too_late_leaks_nothing
    a_request_that_vanished_is_given_up
}

/// The place, the same behind a proxy, and the proxy.
fn behind(driver: Driver, direct: Place) -> (Driven, Driven, Proxy) {
    let proxy = Proxy::start(&server_of(direct.url()));
    let through = direct.through(&proxy.url(direct.url()));
    (Driven::new(driver, direct), Driven::new(driver, through), proxy)
}

/// The longest time that a guard claims to be held, until it was renewed so often.
fn longest(guard: &Guard, renewals: u32) -> Duration {
    let (mut longest, mut left, mut renewed) = (Duration::ZERO, guard.remaining(), 0);
    while renewed < renewals {
        assert!(guard.is_held(), "{:?}", guard.lost_reason());
        let now = guard.remaining();
        renewed += u32::from(now > left);
        longest = longest.max(now);
        left = now;
        std::thread::sleep(Duration::from_millis(1));
    }
    longest
}

/// The answer comes 250 ms after the request, which is when the server's lease began at the earliest.
fn a_lease_counts_from_its_request(driver: Driver, place: Place) {
    const LATE: Duration = Duration::from_millis(250);
    let (_direct, through, proxy) = behind(driver, place);
    let locks = through.locks(TTL);
    locks.lock("a").expect("taken").release().expect("released");
    proxy.delay(LATE / 2);
    let guard = locks.lock("a").expect("taken");
    let (granted, most) = (guard.remaining(), guard.valid_for() - LATE);
    assert!(granted <= most, "granted: {granted:?} and not {most:?}");
    let renewed = longest(&guard, 2);
    assert!(renewed <= most, "renewed: {renewed:?} and not {most:?}");
}

/// The server grants the lock, and its answer comes when nobody waits for it any more.
fn an_answer_that_comes_too_late_leaks_nothing(driver: Driver, place: Place) {
    let (direct, through, proxy) = behind(driver, place);
    let locks = through.set(LONG, |config| config.request_timeout(REQUEST));
    for _ in 0..3 {
        locks.lock("a").expect("taken").release().expect("released");
    }
    // A pool asks first whether its connection is still there.
    let pooled = driver == Driver::Pooled;
    proxy.delay(if pooled { REQUEST * 3 / 10 } else { REQUEST * 3 / 4 });
    let given_up = locks.acquire("a").no_wait().wait();
    proxy.delay(Duration::ZERO);
    if let Ok(guard) = given_up {
        guard.release().expect("released");
    }
    let began = Instant::now();
    assert!(direct.locks(LONG).try_lock_for("a", SOON).expect("asked").is_some(), "it leaked");
    assert!(began.elapsed() < SOON);
}

/// Its connection stays open, and nothing comes over it any more. The next request gets another.
fn a_request_that_vanished_is_given_up(driver: Driver, place: Place) {
    let keeps = place.keeps();
    let (_direct, through, proxy) = behind(driver, place);
    let locks = through.set(LONG, |config| config.request_timeout(REQUEST));
    let guard = locks.lock("held").expect("taken");
    proxy.set(Mode::Hole);
    let began = Instant::now();
    let given_up = locks.acquire("a").no_wait().wait();
    assert!(given_up.is_err(), "nobody has answered");
    assert!(began.elapsed() < SOON);
    // The request has had its time by then.
    std::thread::sleep(REQUEST * 2);
    proxy.mute();
    proxy.set(Mode::Pass);
    assert!(locks.try_lock_for("b", SOON).expect("asked").is_some(), "a new connection");
    match keeps {
        Keeps::Rows | Keeps::Keys => guard.release().expect("it outlives a connection"),
        Keeps::Advisory | Keeps::Locked => drop(guard),
    }
}
