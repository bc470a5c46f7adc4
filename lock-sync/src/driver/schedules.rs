//! The driver's threads in many schedules, over a table that a coroutine is never alone with: what it is asked may take any
//! time, and its answer may be lost.

use super::Driver;
use crate::backend::{Backend, Backends};
use crate::locks::Locks;
use crate::{Cancel, Error, Guard, clock};
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Connection, Server};
use lock_core::sql::ConnectError;
use lock_core::{Config, ConnectionId, Failure, Instant, Reached, Reply, Request, Timing, table};
use lock_shared::check::Check;
use lock_shared::engine::Engine;
use lock_shared::threads::{
    Mutex, Rng, clock_stands, in_schedules, sleep, spawn, thread_rng, yield_now,
};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A server on the way to which a message may take its time, or be lost.
#[derive(Clone, Default)]
struct Table {
    it: Arc<std::sync::Mutex<FakeTable>>,
    /// An answer in so many is lost, if any is.
    loses: Option<u32>,
    are_many: bool,
    asked: Arc<Mutex<usize>>,
}

impl Table {
    fn losing_answers() -> Self {
        Self { loses: Some(4), ..Self::default() }
    }

    /// A process that uses the table.
    fn locks(&self, process: u128) -> Locks {
        let timing = Timing::default();
        let engine =
            Engine::new(table::capabilities("me", false), Config::new(timing, process << 64));
        let driver = Driver::start(engine, Box::new(self.clone()), timing.ttl()).expect("threads");
        Locks::with(Arc::new(driver), Check::default())
    }

    fn is_free(&self) -> bool {
        let table = self.it.lock().unwrap_or_else(PoisonError::into_inner);
        table.leases().iter().all(|lease| lease.holder(clock::now()).is_none())
    }
}

impl Backends for Table {
    fn are_many(&self) -> bool {
        self.are_many
    }

    fn connect(&mut self) -> Result<Reached, ConnectError> {
        unreachable!("it was connected to before")
    }

    fn backend(&mut self, _waits: bool) -> Option<Box<dyn Backend>> {
        Some(Box::new(self.clone()))
    }
}

impl Backend for Table {
    fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        *self.asked.lock().expect("nobody panics") += 1;
        yield_now();
        let now = clock::now();
        let connection = Connection { client: 0, number: 0, id: ConnectionId::MAIN };
        let mut table = self.it.lock().unwrap_or_else(PoisonError::into_inner);
        table.tick(now);
        let reply = table.apply(now, connection, &request);
        drop(table);
        if self.loses.is_some_and(|many| thread_rng().gen_ratio(1, many)) {
            sleep(budget);
            *self.asked.lock().expect("nobody panics") -= 1;
            return Err(Failure::Unknown("no answer in time".to_string()));
        }
        yield_now();
        *self.asked.lock().expect("nobody panics") -= 1;
        Ok(reply)
    }
}

/// Those who have the lock, or had it until they noticed a loss.
#[derive(Clone, Default)]
struct Holders(Arc<Mutex<Vec<Arc<Guard>>>>);

impl Holders {
    /// Holds the lock for a while, and sees that nobody else does.
    fn hold(&self, guard: Guard) {
        let mine = Arc::new(guard);
        let mut all = self.0.lock().expect("nobody panics");
        let others: Vec<_> = all.iter().filter(|other| other.is_held()).cloned().collect();
        // Whoever holds it now held it when the others did.
        let rises = all.iter().all(|other| other.fence() < mine.fence());
        // A thread may come so late with its guard that somebody else has had the lock since.
        let is_held = mine.is_held();
        assert!(!is_held || others.is_empty(), "two hold the lock");
        assert!(!is_held || rises, "a fence falls");
        all.push(mine.clone());
        drop(all);
        yield_now();
        self.0.lock().expect("nobody panics").retain(|other| !Arc::ptr_eq(other, &mine));
        drop(mine);
    }
}

/// Whatever nobody wants any more is free in the end: at once, or when its lease has ended. A lock that was forgotten would be renewed
/// for ever.
fn nothing_is_left(table: &Table) {
    let began = clock::now();
    while !table.is_free() {
        let waited = clock::now().since(began);
        assert!(waited < 4 * Timing::default().ttl(), "it is still taken after {waited:?}");
        sleep(Duration::from_secs(1));
    }
}

/// Whether no request since `began` can have taken too long. By their clock, threads may be as slow as they like.
fn in_time(began: Instant) -> bool {
    clock::now().since(began) < Timing::default().request()
}

/// A process in which a thread has the lock "a".
fn one_has_it() -> (Table, Locks, Guard) {
    let table = Table::default();
    let locks = table.locks(1);
    let guard = locks.lock("a").expect("free");
    (table, locks, guard)
}

fn all_take_turns(table: &Table, processes: u128, callers: usize) {
    let holders = Holders::default();
    let processes: Vec<_> = (1..=processes).map(|process| table.locks(process)).collect();
    let callers = processes.iter().flat_map(|locks| std::iter::repeat_n(locks.clone(), callers));
    let takes_turns = |locks: Locks| {
        let holders = holders.clone();
        spawn(move || (0..2).for_each(|_| holders.hold(locks.lock("a").expect("in the end"))))
    };
    let threads: Vec<_> = callers.map(takes_turns).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn threads_of_one_process_exclude_each_other() {
    in_schedules(2_000, || {
        let table = Table::default();
        all_take_turns(&table, 1, 2);
        nothing_is_left(&table);
    });
}

#[test]
fn threads_of_a_process_with_many_connections_exclude_each_other() {
    in_schedules(2_000, || {
        let table = Table { are_many: true, ..Table::default() };
        all_take_turns(&table, 1, 2);
        nothing_is_left(&table);
    });
}

#[test]
fn processes_exclude_each_other() {
    in_schedules(1_000, || all_take_turns(&Table::default(), 2, 1));
}

#[test]
fn processes_whose_answers_are_lost_exclude_each_other() {
    in_schedules(500, || {
        all_take_turns(&Table::losing_answers(), 2, 1);
        // The last release of a process may still be under way when the process has waited long enough for it. The clock by
        // which its thread gives it up ends with this run.
        sleep(2 * Timing::default().request());
    });
}

#[test]
fn a_wait_that_is_cancelled_ends_at_once_and_leaves_nothing() {
    in_schedules(2_000, || {
        let (table, locks, guard) = one_has_it();
        let (cancel, waiter) = (Cancel::new(), locks.clone());
        let token = cancel.clone();
        clock_stands(true);
        let waiter = spawn(move || waiter.acquire("a").cancelled_by(&token).wait().map(drop));
        let cancels = spawn(move || cancel.cancel());
        cancels.join().expect("no panic");
        let ended = waiter.join().expect("no panic");
        clock_stands(false);
        assert_eq!(ended, Err(Error::Cancelled));
        drop(guard);
        nothing_is_left(&table);
    });
}

#[test]
fn who_is_cancelled_at_a_hand_off_leaves_nothing() {
    in_schedules(2_000, || {
        let (table, locks, guard) = one_has_it();
        let (cancel, waiter) = (Cancel::new(), locks.clone());
        let token = cancel.clone();
        let waiter = spawn(move || waiter.acquire("a").cancelled_by(&token).wait().map(drop));
        let cancels = spawn(move || cancel.cancel());
        guard.release().expect("ours");
        cancels.join().expect("no panic");
        let ended = waiter.join().expect("no panic");
        assert!(matches!(ended, Ok(()) | Err(Error::Cancelled)), "{ended:?}");
        nothing_is_left(&table);
    });
}

#[test]
fn a_close_ends_waits_at_once() {
    in_schedules(2_000, || {
        let (table, locks, guard) = one_has_it();
        let waiter = locks.clone();
        clock_stands(true);
        let waiter = spawn(move || waiter.lock("a").map(drop));
        locks.close();
        let ended = waiter.join().expect("no panic");
        clock_stands(false);
        assert_eq!(ended, Err(Error::Closed));
        drop(guard);
        nothing_is_left(&table);
    });
}

#[test]
fn a_shutdown_at_a_hand_off_leaves_nothing() {
    in_schedules(2_000, || {
        let (table, locks, guard) = one_has_it();
        let (waiter, shuts) = (locks.clone(), locks.clone());
        let waiter = spawn(move || waiter.lock("a").map(drop));
        let shuts = spawn(move || shuts.shutdown());
        guard.release().expect("ours");
        let _ = shuts.join().expect("no panic");
        let ended = waiter.join().expect("no panic");
        assert!(matches!(ended, Ok(()) | Err(Error::Closed)), "{ended:?}");
        nothing_is_left(&table);
    });
}

#[test]
fn a_release_hands_the_lock_to_who_waits_in_the_process_at_once() {
    in_schedules(2_000, || {
        let table = Table::default();
        let locks = table.locks(1);
        clock_stands(true);
        let others = [(); 2].map(|()| {
            let locks = locks.clone();
            spawn(move || locks.lock("a").map(drop))
        });
        for other in others {
            assert_eq!(other.join().expect("no panic"), Ok(()));
        }
        clock_stands(false);
    });
}

#[test]
fn what_is_released_in_the_background_is_free_in_the_end() {
    in_schedules(2_000, || {
        let table = Table::default();
        let locks = table.locks(1);
        let (one, other) = (locks.lock("a").expect("free"), locks.lock("b").expect("free"));
        let releases = spawn(move || one.release_in_background());
        other.release_in_background();
        releases.join().expect("no panic");
        let began = clock::now();
        drop(locks);
        assert!(table.is_free() || !in_time(began), "it is still taken");
    });
}

#[test]
fn between_requests_nothing_is_asked() {
    in_schedules(2_000, || {
        let table = Table::default();
        let locks = table.locks(1);
        let other = locks.clone();
        let other = spawn(move || other.lock("a").map(drop));
        let began = clock::now();
        locks.between_requests(|| {
            let asked = *table.asked.lock().expect("nobody panics");
            assert!(asked == 0 || !in_time(began), "a request is under way");
        });
        assert_eq!(other.join().expect("no panic"), Ok(()));
    });
}
