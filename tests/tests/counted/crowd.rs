//! How many statements those that wait in line send.

use lock_tests::drivers::{Driven, Driver, Locks};
use lock_tests::observer::Observer;
use lock_tests::place::Place;
use lock_tests::servers::Kind;
use std::time::{Duration, Instant};

const CONTENDERS: i64 = 8;
const EACH: i64 = 40;

/// All want one lock so many times, as soon as they have freed it. The statements that this takes, and the time.
pub(crate) fn contest(
    all: &[Locks],
    times: i64,
    observer: &mut Observer,
) -> (Vec<(String, i64)>, Duration) {
    observer.reset();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for locks in all {
            scope.spawn(move || {
                for _ in 0..times {
                    locks.lock("a").expect("granted").release().expect("freed");
                }
            });
        }
    });
    (observer.counted(), began.elapsed())
}

/// One draws a ticket, claims and frees; the others are told that it is not their turn, and ask nothing. On a busy machine,
/// whoever hears nothing for too long looks: each at most once in 20 ms.
fn a_hand_off_takes_three_statements_however_many_wait(driver: Driver) {
    let server = Kind::Postgres.server();
    let mut observer = Observer::new(&server);
    let place = Driven::new(driver, Place::at(server.url()));
    let all: Vec<_> = (0..CONTENDERS).map(|_| place.locks(Duration::from_secs(12))).collect();
    // Each begins to listen.
    contest(&all, EACH, &mut observer);
    let (counted, took) = contest(&all, EACH, &mut observer);
    let statements: i64 = counted.iter().map(|(_, calls)| *calls).sum();
    let (handoffs, looks) = (CONTENDERS * EACH, CONTENDERS * (took.as_millis() as i64 / 20 + 2));
    println!("{statements} statements for {handoffs} hand-offs in {took:?}: {counted:?}");
    assert!(statements <= 4 * handoffs + looks, "{statements} in {took:?}: {counted:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_hand_off_takes_three_statements_however_many_wait_blocking() {
    a_hand_off_takes_three_statements_however_many_wait(Driver::Blocking);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_hand_off_takes_three_statements_however_many_wait_with_tokio() {
    a_hand_off_takes_three_statements_however_many_wait(Driver::Tokio);
}
