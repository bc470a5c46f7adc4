//! With lock-sync.

use super::{HELD, Tally, held, shared};
use lock_sync::{Admin, Locks};
use std::time::Duration;

/// Acquires all, and calls `watch` with what counts lost locks.
pub(crate) fn run(url: &str, prefix: &str, tally: &Tally, watch: impl FnOnce(&dyn Fn() -> usize)) {
    // Two, as contenders of one would hand their locks on among themselves.
    let both = [(); 2].map(|()| Locks::connect(url).expect("connected"));
    let guards: Vec<_> =
        (0..HELD).map(|at| both[0].lock(held(prefix, at)).expect("free")).collect();
    std::thread::scope(|scope| {
        for contender in 0..tally.contending() {
            let locks = &both[contender % 2];
            scope
                .spawn(move || contend(locks, &shared(prefix, contender, tally), contender, tally));
        }
        if tally.fault == "loss" {
            let (name, fence) = (guards[1].name().clone(), guards[1].fence());
            Admin::connect(url).expect("connected").break_hold(name, fence).expect("broken");
        }
        watch(&|| guards.iter().filter(|guard| !guard.is_held()).count());
        if tally.contending() > 0 {
            // The scope would wait for them.
            std::process::exit(1);
        }
    });
    for guard in guards {
        guard.release().unwrap_or_else(|error| tally.lost(&error));
    }
}

fn contend(locks: &Locks, name: &str, contender: usize, tally: &Tally) {
    while tally.waits(contender) {
        match locks.lock(name) {
            Ok(guard) => {
                std::thread::sleep(tally.granted(contender));
                guard.release().unwrap_or_else(|error| tally.lost(&error));
                std::thread::sleep(tally.rest());
            }
            Err(error) => {
                tally.lost(&error);
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}
