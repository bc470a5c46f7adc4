//! Many locks, callers and threads in one process. The cost of one does not depend on their number.

use super::*;
use rustix::time::{ClockId, clock_gettime};

/// Number of threads.
const SOME: usize = 500;
/// Number of names.
const MANY: usize = 100_000;
/// Limit of a thread's processor time. It needs seconds, unless some loop walks all locks.
const TOO_LONG: Duration = Duration::from_secs(60);

fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("since the thread began")
}

/// Runs `call` on many threads at once. Returns the number of wake-ups of the driver's and the callers'
/// threads.
fn wake_ups(driver: &Driver, call: impl Fn(usize) + Sync, meanwhile: impl FnOnce()) -> usize {
    let before = driver.shared.lock().expect("alive").woken;
    std::thread::scope(|scope| {
        for n in 0..SOME {
            let call = &call;
            scope.spawn(move || call(n));
        }
        meanwhile();
    });
    driver.shared.lock().expect("alive").woken - before
}

fn all_sleep(driver: &Driver) {
    let asleep = || {
        let state = driver.shared.lock().expect("alive");
        state.callers.values().filter(|caller| caller.asleep.is_some()).count()
    };
    while asleep() < SOME {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn waiters_of_one_name_wake_one_another_one_by_one() {
    let (driver, locks, _script) = start::<false>();
    let first = locks.lock("a").expect("free");
    let call = |_| locks.lock("a").expect("free").release().expect("ours");
    let woken = wake_ups(&driver, call, || {
        all_sleep(&driver);
        first.release().expect("ours");
    });
    assert!(woken <= 20 * SOME, "{woken}");
}

#[test]
fn waiters_of_many_names_are_woken_as_often_as_they_are_told_something() {
    let (driver, locks, script) = start::<false>();
    script.busy.store(true, SeqCst);
    let call = |n: usize| assert_eq!(locks.lock(n.to_string()).map(drop), Err(Error::Closed));
    let woken = wake_ups(&driver, call, || {
        all_sleep(&driver);
        locks.close();
    });
    assert!(woken <= 100 * SOME, "{woken}");
}

#[test]
fn names_are_taken_and_freed() {
    let (_driver, locks, _script) = start::<false>();
    let began = own_time();
    let in_time = || {
        let took = own_time() - began;
        assert!(took < TOO_LONG, "{took:?}");
    };
    let taken = (0..MANY).map(|n| {
        in_time();
        locks.lock(n.to_string()).expect("free")
    });
    for guard in taken.collect::<Vec<_>>() {
        in_time();
        guard.release().expect("ours");
    }
}
