//! What a guard shares with the driver, in many schedules.

use super::HoldState;
use crate::clock;
use crate::driver::Teller;
use lock_core::{Fence, Instant, LockName, LostReason};
use lock_shared::threads::{Mutex, clock_stands, in_schedules, sleep, spawn};
use std::sync::Arc;
use std::time::Duration;

const VALID: Duration = Duration::from_secs(25);

fn held() -> Arc<HoldState> {
    let name = LockName::new("a").expect("a good name");
    let deadline = clock::now().after(VALID);
    Arc::new(HoldState::new(name, Fence::new(1), deadline, VALID, Teller::default()))
}

/// The reasons for which callbacks were called.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<LostReason>>>);

impl Calls {
    fn register(&self, cell: &Arc<HoldState>) {
        let calls = self.clone();
        cell.on_lost(Box::new(move |reason| calls.0.lock().expect("no panic").push(reason)));
    }

    /// Those that are called have threads of their own, whose end nobody waits for but the run.
    fn wait_for(&self, many: usize) -> Vec<LostReason> {
        while self.0.lock().expect("no panic").len() < many {
            sleep(Duration::from_millis(1));
        }
        self.0.lock().expect("no panic").clone()
    }
}

#[test]
fn every_callback_is_called_once_with_the_one_reason() {
    in_schedules(25_000, || {
        let (cell, calls) = (held(), Calls::default());
        let loses = [LostReason::Taken, LostReason::Unattended].map(|reason| {
            let cell = cell.clone();
            spawn(move || cell.lose(reason))
        });
        let registers = [(); 2].map(|()| {
            let (cell, calls) = (cell.clone(), calls.clone());
            spawn(move || calls.register(&cell))
        });
        loses.into_iter().chain(registers).for_each(|thread| thread.join().expect("no panic"));
        let reason = cell.loss(clock::now()).expect("lost");
        assert_eq!(calls.wait_for(2), [reason.clone(), reason]);
    });
}

#[test]
fn who_waits_for_a_loss_is_woken_by_it() {
    in_schedules(25_000, || {
        clock_stands(true);
        let cell = held();
        let waiters = [(); 2].map(|()| {
            let cell = cell.clone();
            spawn(move || cell.wait(VALID))
        });
        cell.lose(LostReason::Taken);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), Some(LostReason::Taken));
        }
    });
}

#[test]
fn a_lock_that_was_seen_to_be_lost_stays_lost() {
    in_schedules(25_000, || {
        let cell = held();
        let renews = cell.clone();
        let renews = spawn(move || {
            sleep(VALID - Duration::from_secs(1));
            renews.renew(clock::now().after(VALID));
        });
        let looks = [(); 2].map(|()| {
            let cell = cell.clone();
            spawn(move || {
                sleep(VALID);
                let seen = cell.loss(clock::now());
                (seen, cell.loss(Instant::default()))
            })
        });
        let seen = looks.map(|look| look.join().expect("no panic"));
        renews.join().expect("no panic");
        let last = cell.loss(clock::now());
        for (first, second) in seen {
            assert!(first.is_none() || (first == second && first == last), "{first:?}, {last:?}");
        }
    });
}

#[test]
fn a_callback_is_called_or_dropped_when_the_guard_is_released_at_its_loss() {
    in_schedules(10_000, || {
        let (cell, calls) = (held(), Calls::default());
        calls.register(&cell);
        let loses = cell.clone();
        let loses = spawn(move || loses.lose(LostReason::Taken));
        cell.forget();
        loses.join().expect("no panic");
        sleep(Duration::from_secs(1));
        assert!(calls.0.lock().expect("no panic").len() <= 1);
        drop(cell);
        while Arc::strong_count(&calls.0) > 1 {
            sleep(Duration::from_millis(1));
        }
    });
}
