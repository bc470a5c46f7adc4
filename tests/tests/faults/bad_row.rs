//! A row that the server does not let be written: its own lock is refused, and no other that shares a
//! statement with it.

use lock_sync::{Error, ReleaseError};
use lock_tests::drivers::{Driven, Driver, Guard};
use lock_tests::place::Place;
use lock_tests::proxy::eventually;
use std::sync::Barrier;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Renewals are due every 5 s: a busy machine stands still for less than what a lease counts for.
const TTL: Duration = Duration::from_secs(15);
/// So many other locks, each wanted by a thread of its own.
const OTHERS: usize = 24;
const BAD: &str = "other 12 is bad";

fn name(n: usize) -> String {
    if n == OTHERS / 2 { BAD.to_string() } else { format!("other {n:02}") }
}

/// All at once: while one statement is under way, the others gather for the next.
fn together<T: Send, A: Send>(
    all: impl IntoIterator<Item = A>,
    does: impl Fn(A) -> T + Sync,
) -> Vec<T> {
    let all: Vec<A> = all.into_iter().collect();
    let (barrier, does) = (Barrier::new(all.len()), &does);
    std::thread::scope(|scope| {
        let threads: Vec<_> = all
            .into_iter()
            .map(|one| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    does(one)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Has the server refuse to write the row, by a trigger. Not on MySQL and MariaDB, where a trigger takes from
/// each statement what it says of itself: no lease would be renewed.
fn trigger(place: &Place, when: &str) {
    let sql = if place.url().starts_with("sqlite") {
        format!(
            "CREATE TRIGGER no_{when} BEFORE {when} ON {{table}}
               WHEN NEW.name = '{BAD}' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    } else {
        format!(
            "CREATE OR REPLACE FUNCTION {{table}}_no() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE 'no'; END $$;
             CREATE TRIGGER no_{when} BEFORE {when} ON {{table}} FOR EACH ROW
               WHEN (NEW.name = '{BAD}') EXECUTE FUNCTION {{table}}_no()"
        )
    };
    place.tamper(&sql);
}

/// Has the server refuse to extend the row's lease, and to free it.
fn keep_as_it_is(place: &Place) {
    if !place.url().starts_with('m') {
        return trigger(place, "UPDATE");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("since 1970");
    let latest = (now + TTL + TTL / 15).as_micros();
    place.tamper(&format!(
        "ALTER TABLE {{table}} ADD CHECK
           (name <> '{BAD}' OR owner IS NOT NULL AND expires_us <= {latest})"
    ));
}

/// Takes all at once, time and again; all but the bad one are granted.
fn grants_the_others(place: &Driven) {
    let locks = place.locks(TTL);
    for _ in 0..8 {
        let taken = together((0..OTHERS).map(name), |name| (locks.lock(&name), name));
        for (guard, name) in taken {
            match guard {
                Ok(guard) if name != BAD => guard.release().expect("released"),
                Err(Error::Refused(_)) if name == BAD => {}
                other => panic!("{name}: {:?}", other.map(|guard| guard.is_held())),
            }
        }
    }
}

fn a_trigger(place: &Driven) {
    drop(place.locks(TTL));
    trigger(place, "INSERT");
    trigger(place, "UPDATE");
    grants_the_others(place);
}

fn a_check(place: &Driven) {
    drop(place.locks(TTL));
    let check = format!("CHECK (name <> '{BAD}')");
    // A file's table takes no constraint but with a column.
    place.tamper(&if place.url().starts_with("sqlite") {
        format!("ALTER TABLE {{table}} ADD COLUMN note TEXT {check}")
    } else {
        format!("ALTER TABLE {{table}} ADD {check}")
    });
    grants_the_others(place);
}

fn a_fence_at_its_limit(place: &Driven) {
    let locks = place.locks(TTL);
    locks.lock(BAD).expect("taken").release().expect("released");
    let limit = i64::MAX;
    place.tamper(&format!("UPDATE {{table}} SET fence = {limit} WHERE name = '{BAD}'"));
    grants_the_others(place);
}

/// Until when it is held, as far as is known.
fn until(guard: &Guard) -> Instant {
    Instant::now() + guard.remaining()
}

fn renewals_and_releases(place: &Driven) {
    let locks = place.locks(TTL);
    let guards = together((0..OTHERS).map(name), |name| locks.lock(&name).expect("taken"));
    keep_as_it_is(place);
    let known: Vec<_> = guards.iter().map(until).collect();
    let is_bad = |guard: &Guard| guard.name().as_str() == BAD;
    // A renewal adds some seconds.
    let renewed = |(guard, known): (&Guard, &Instant)| until(guard) > *known + TTL / 15;
    let mut all = guards.iter().zip(&known);
    let others = || guards.iter().zip(&known).filter(|(guard, _)| !is_bad(guard));
    assert!(eventually(|| others().all(renewed)), "renewed");
    assert!(!all.any(|one| is_bad(one.0) && renewed(one)), "not renewed");
    let freed = together(guards, |guard| (is_bad(&guard), guard.release()));
    for (is_bad, freed) in freed {
        match freed {
            Ok(()) if !is_bad => {}
            Err(ReleaseError::Unconfirmed { .. } | ReleaseError::Lost(_)) if is_bad => {}
            other => panic!("bad: {is_bad}, {other:?}"),
        }
    }
}

macro_rules! suite {
    ($($place:ident $(, $server:literal)?;)*) => {$(
        mod $place {
            use super::*;

            #[test]
            $(#[ignore = $server])?
            fn a_check() {
                everywhere(Place::$place, super::a_check);
            }

            #[test]
            $(#[ignore = $server])?
            fn a_fence_at_its_limit() {
                everywhere(Place::$place, super::a_fence_at_its_limit);
            }

            #[test]
            $(#[ignore = $server])?
            fn renewals_and_releases() {
                everywhere(Place::$place, super::renewals_and_releases);
            }
        }
    )*};
}

fn everywhere(place: fn() -> Place, test: fn(&Driven)) {
    for driver in [Driver::Blocking, Driver::Tokio] {
        test(&Driven::new(driver, place()));
    }
}

suite! {
    sqlite;
    postgres, "needs a PostgreSQL server: tests/run starts one";
    mysql, "needs a MySQL server: tests/run starts one";
    mariadb, "needs a MariaDB server: tests/run starts one";
}

#[test]
fn a_trigger_in_a_file() {
    everywhere(Place::sqlite, a_trigger);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_trigger_on_postgres() {
    everywhere(Place::postgres, a_trigger);
}
