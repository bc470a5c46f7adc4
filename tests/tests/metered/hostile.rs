//! A recorder that blocks, panics, or acquires locks.

use crate::{Alone, SHORT, TTL};
use lock_tests::proxy::eventually;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;

fn expires(alone: &Alone, name: &str) -> i64 {
    let query = "SELECT expires_us FROM locks WHERE name = ?1";
    alone.raw().query_row(query, [name], |row| row.get(0)).expect("there is a row")
}

pub(crate) fn one_that_blocks_delays_no_renewal_and_no_answer(alone: &Alone) {
    let locks = alone.locks(SHORT);
    let (kept, robbed) = (locks.lock("kept").expect("free"), locks.lock("robbed").expect("free"));
    let (unblock, blocked) = channel::<()>();
    let blocked = Mutex::new(blocked);
    let (tell, told) = channel();
    alone.recorder.on("lock_lost_total{reason=\"taken\"}", move || {
        let _ = tell.send(());
        let _ = blocked.lock().expect("unpoisoned").recv();
    });
    let rob = "UPDATE locks SET owner = 'thief' WHERE name = 'robbed'";
    alone.raw().execute(rob, []).expect("robbed");
    told.recv_timeout(TTL).expect("the recorder blocks");
    assert!(!robbed.is_held());
    drop(robbed);
    let before = expires(alone, "kept");
    assert!(eventually(|| expires(alone, "kept") > before), "no renewal while it blocks");
    assert!(kept.is_held());
    assert!(locks.try_lock("other").expect("asked").is_some());

    // On the thread of a caller, that caller alone is held up.
    let (unblock_caller, blocked) = channel::<()>();
    let blocked = Mutex::new(blocked);
    let (tell, told) = channel();
    alone.recorder.on("lock_acquires_total{outcome=\"granted\"}", move || {
        let _ = tell.send(());
        let _ = blocked.lock().expect("unpoisoned").recv();
    });
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| locks.lock("caller").map(drop));
        told.recv_timeout(TTL).expect("the caller is held up");
        let before = expires(alone, "kept");
        let its = expires(alone, "caller");
        let renewed = || expires(alone, "kept") > before && expires(alone, "caller") > its;
        let renewed = eventually(renewed);
        drop(unblock_caller);
        assert!(renewed && kept.is_held());
        assert_eq!(caller.join().expect("no panic"), Ok(()));
    });
    drop(unblock);
}

pub(crate) fn one_that_panics_costs_nothing_but_its_records(alone: &Alone) {
    for id in [
        "lock_acquires_total{outcome=\"granted\"}",
        "lock_renewals_total{outcome=\"renewed\"}",
        "lock_held",
    ] {
        alone.recorder.on(id, || panic!("on purpose"));
    }
    let locks = alone.locks(SHORT);
    let guard = locks.lock("a").expect("free");
    // Each renewal is tried to be recorded, and none is.
    let before = expires(alone, "a");
    assert!(eventually(|| expires(alone, "a") > before));
    assert!(guard.is_held());
    // A second panic while the first one unwinds would end the process.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = guard;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(eventually(|| locks.try_lock("a").expect("asked").is_some()), "it was released");
    alone.recorder.clear();
    let _guard = locks.lock("b").expect("free");
    let renewed = "lock_renewals_total{outcome=\"renewed\"}";
    assert!(eventually(|| alone.recorder.counter(renewed) > 0), "the thread lives on");
}

pub(crate) fn one_may_acquire_locks(alone: &Alone) {
    let locks = alone.locks(SHORT);
    let (tell, told) = channel();
    for id in ["lock_renewals_total{outcome=\"renewed\"}", "lock_lost_total{reason=\"taken\"}"] {
        let (locks, tell) = (locks.clone(), tell.clone());
        alone.recorder.on(id, move || {
            let taken = locks.try_lock("inner").expect("asked").is_some();
            let _ = tell.send((id, taken));
        });
    }
    let guard = locks.lock("a").expect("free");
    let first = told.recv_timeout(TTL).expect("in time");
    assert_eq!(first, ("lock_renewals_total{outcome=\"renewed\"}", true));
    alone.raw().execute("UPDATE locks SET owner = 'thief' WHERE name = 'a'", []).expect("robbed");
    let lost = || told.recv_timeout(TTL).expect("in time").0.starts_with("lock_lost");
    assert!((0..100).any(|_| lost()));
    assert!(!guard.is_held());
}
