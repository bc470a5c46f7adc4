//! Who can no longer be sure is told in time.

use crate::{LONG, Place, SHORT, SOON, VALID};
use lock_async::{Config, Error, Guard, Locks, LostReason, PinError, ReleaseError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Timers are late, and this machine is shared.
const LATE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_lease_is_renewed_beyond_its_ttl() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(SHORT).await, place.locks(SHORT).await);
    let guard = ours.lock("a").await.expect("taken");
    let began = Instant::now();
    while began.elapsed() < SHORT * 2 {
        assert!(guard.is_held());
        assert!(guard.remaining() > Duration::ZERO && guard.remaining() <= guard.valid_for());
        assert!(theirs.try_lock("a").await.expect("asked").is_none());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    guard.release().await.expect("still ours");
}

#[tokio::test]
async fn a_blocked_file_means_lost_by_the_deadline() {
    let place = Place::new();
    let locks = place.locks(SHORT).await;
    let guard = locks.lock("a").await.expect("taken");
    let blocker = place.raw();
    blocker.execute_batch("BEGIN IMMEDIATE").expect("blocked");
    let blocked = Instant::now();
    let reason = tokio::select! {
        reason = guard.lost() => reason,
        () = tokio::time::sleep(SOON) => panic!("not told"),
    };
    assert!(matches!(reason, LostReason::Deadline { .. }), "{reason:?}");
    assert!(reason.to_string().ends_with("database is locked)"), "{reason}");
    assert!(blocked.elapsed() <= VALID + LATE, "told after {:?}", blocked.elapsed());
    assert!(!guard.is_held());
    assert_eq!(guard.remaining(), Duration::ZERO);
    // The loss is final, though the file can be written again.
    blocker.execute_batch("COMMIT").expect("unblocked");
    tokio::time::sleep(SHORT).await;
    assert!(!guard.is_held());
    assert_eq!(guard.lost().await, reason, "as often as it is asked");
    assert_eq!(guard.release().await, Err(ReleaseError::Lost(reason)));
    assert!(locks.try_lock_for("a", SOON).await.expect("asked").is_some());
}

#[tokio::test]
async fn hundreds_of_guards_are_told_in_time() {
    let place = Place::new();
    let locks = place.locks(SHORT).await;
    let mut guards = Vec::new();
    for n in 0..200 {
        guards.push(locks.lock(&format!("n{n}")).await.expect("taken"));
    }
    let blocker = place.raw();
    blocker.execute_batch("BEGIN IMMEDIATE").expect("blocked");
    // A renewal that is under way has failed by then, and no other can succeed.
    tokio::time::sleep(VALID / 4).await;
    let mut told = tokio::task::JoinSet::new();
    for guard in guards {
        told.spawn(async move {
            let (began, remaining) = (Instant::now(), guard.remaining());
            assert!(remaining > Duration::ZERO, "not yet");
            assert!(matches!(guard.lost().await, LostReason::Deadline { .. }));
            began.elapsed().saturating_sub(remaining)
        });
    }
    let late = told.join_all().await.into_iter().max().expect("some");
    assert!(late <= LATE, "{late:?}");
    println!("told {late:?} after the deadline at most");
}

/// Holds up every update that a connection makes while it is shut: a request that hangs, and that no
/// time limit of the database ends.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn set_shut(&self, shut: bool) {
        *self.0.0.lock().expect("unpoisoned") = shut;
        self.0.1.notify_all();
    }

    /// A connection with the gate in it, to a file that has the table.
    fn connection(&self, place: &Place) -> rusqlite::Connection {
        let (connection, gate) = (place.raw(), self.0.clone());
        let pass = move |_: &rusqlite::functions::Context<'_>| {
            let shut = gate.0.lock().expect("unpoisoned");
            drop(gate.1.wait_while(shut, |shut| *shut).expect("unpoisoned"));
            Ok(0)
        };
        let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8;
        connection.create_scalar_function("gate", 0, flags, pass).expect("made");
        let trigger =
            "CREATE TEMP TRIGGER gate BEFORE UPDATE ON main.locks BEGIN SELECT gate(); END";
        connection.execute_batch(trigger).expect("made");
        connection
    }
}

#[tokio::test]
async fn a_hung_request_delays_no_loss_and_hangs_nobody() {
    let (place, gate) = (Place::new(), Gate::default());
    drop(place.locks(SHORT).await);
    let opening = Locks::with_sqlite(gate.connection(&place), Config::new().ttl(SHORT));
    let locks = opening.await.expect("connected");
    let guard = locks.lock("a").await.expect("taken");
    let began = Instant::now();
    gate.set_shut(true);
    tokio::time::sleep(VALID / 2).await;
    // By now the renewal hangs. Others are told so in time.
    let (tried, asked) = (locks.try_lock("b").await, began.elapsed());
    assert!(matches!(tried, Err(Error::Unavailable(_))), "{tried:?}");
    assert!(matches!(guard.lost().await, LostReason::Deadline { .. }));
    assert!(began.elapsed() <= (VALID + LATE).max(asked + LATE), "{:?}", began.elapsed());
    drop(guard);
    gate.set_shut(false);
    // The connection is in step: what hung has ended, what comes next is answered.
    let guard = locks.try_lock_for("a", SOON).await.expect("asked").expect("free");
    guard.release().await.expect("released");
}

#[tokio::test]
async fn a_foreign_owner_means_lost_at_the_next_renewal() {
    let place = Place::new();
    let locks = place.locks(SHORT).await;
    let guard = locks.lock("a").await.expect("taken");
    let soon = Duration::from_millis(10);
    assert!(tokio::time::timeout(soon, guard.lost()).await.is_err(), "not lost yet");
    let mut early = Box::pin(guard.lost());
    assert!(tokio::time::timeout(soon, &mut early).await.is_err(), "nor now");
    place.raw().execute_batch("UPDATE locks SET owner = 'thief'").expect("stolen");
    // Awaited by many; those that were dropped and those that come late change nothing.
    let (first, second) = tokio::join!(early, guard.lost());
    assert_eq!([first, second, guard.lost().await], [const { LostReason::Taken }; 3]);
    assert!(!guard.is_held());
    assert_eq!(guard.release().await, Err(ReleaseError::Lost(LostReason::Taken)));
}

/// The locks of this place are stolen from here on.
fn steal_all(place: &Place) {
    place.raw().execute_batch("UPDATE locks SET owner = 'thief'").expect("stolen");
}

#[tokio::test]
async fn a_task_of_its_own_awaits_the_loss() {
    let place = Place::new();
    let locks = place.locks(SHORT).await;
    let (guard, other) = (locks.lock("a").await.expect("taken"), locks.lock("b").await);
    let (lost, released) = (guard.lost(), other.expect("taken"));
    let tasks = [lost.clone(), lost, guard.lost()].map(tokio::spawn);
    let never = tokio::spawn(released.lost());
    released.release().await.expect("released");
    steal_all(&place);
    // The guard may go meanwhile, and need not be asked.
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), LostReason::Taken);
    }
    tokio::time::sleep(SHORT).await;
    assert!(!never.is_finished(), "what was released is not lost");
    never.abort();
    drop(guard);
}

#[tokio::test]
async fn all_callbacks_run_once_and_none_after_a_release() {
    let place = Place::new();
    let locks = place.locks(SHORT).await;
    let (guard, released) = (locks.lock("a").await, locks.lock("b").await);
    let (guard, released) = (guard.expect("taken"), released.expect("taken"));
    let dropped = locks.lock("c").await.expect("taken");
    let (tell, told) = std::sync::mpsc::channel();
    let register = |guard: &Guard, number: u32| {
        let tell = tell.clone();
        guard.on_lost(move |_| tell.send(number).expect("heard"));
    };
    // One that blocks and one that panics are no hindrance.
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    guard.on_lost(move |_| {
        let _ = blocked.recv();
    });
    guard.on_lost(|_| panic!("on purpose"));
    (0..3).for_each(|number| register(&guard, number));
    register(&released, 7);
    register(&dropped, 8);
    released.release().await.expect("released");
    drop(dropped);
    // Nobody asks the guard or awaits its loss, and the runtime is held up: its deadline passes all the same.
    std::thread::sleep(SHORT);
    let mut ran: Vec<u32> = (0..3).map(|_| told.recv_timeout(SOON).expect("called")).collect();
    ran.sort_unstable();
    assert_eq!(ran, [0, 1, 2]);
    register(&guard, 3);
    assert_eq!(told.recv_timeout(SOON), Ok(3), "at once after the loss");
    assert!(told.recv_timeout(SHORT).is_err(), "once, and not of others");
    drop(unblock);
}

#[test]
fn guards_and_what_comes_of_them_go_to_other_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send>() {}
    shared::<(Guard, Locks, lock_async::Lost)>();
    sent::<(lock_async::Acquire<'_>, lock_async::Acquiring<'_>, lock_async::Admin)>();
}

#[tokio::test]
async fn a_lock_taken_meanwhile_is_not_released() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG).await, place.locks(LONG).await);
    let lost = ours.lock("a").await.expect("taken");
    place.raw().execute_batch("UPDATE locks SET owner = NULL").expect("freed");
    let guard = theirs.lock("a").await.expect("free for them");
    assert_eq!(lost.release().await, Err(ReleaseError::Lost(LostReason::Taken)));
    assert!(ours.try_lock("a").await.expect("asked").is_none(), "still theirs");
    guard.release().await.expect("still theirs");
}

#[tokio::test]
async fn a_release_that_cannot_be_confirmed_says_so_in_time() {
    let place = Place::new();
    let ttl = Duration::from_secs(4);
    let locks = place.locks(ttl).await;
    let guard = locks.lock("a").await.expect("taken");
    let blocker = place.raw();
    blocker.execute_batch("BEGIN IMMEDIATE").expect("blocked");
    let (began, patience) = (Instant::now(), guard.valid_for() / 2);
    let released = guard.release().await;
    assert!(matches!(released, Err(ReleaseError::Unconfirmed { .. })), "{released:?}");
    assert!(began.elapsed() <= patience + LATE, "{:?}", began.elapsed());
    // As if the lease had an hour to go.
    let longer = "UPDATE locks SET expires_us = expires_us + 3600000000";
    blocker.execute_batch(longer).expect("written");
    blocker.execute_batch("COMMIT").expect("unblocked");
    // It is tried again in the background.
    let freed = locks.try_lock_for("a", SOON).await.expect("asked");
    assert!(freed.expect("freed, not run out").is_held());
}

/// A task that blocks the runtime's only thread holds up the driver's too.
#[tokio::test]
async fn is_held_needs_no_task() {
    let place = Place::new();
    let locks = place.locks(SHORT).await;
    let guard = locks.lock("a").await.expect("taken");
    assert!(guard.is_held());
    std::thread::sleep(VALID + LATE);
    assert!(!guard.is_held(), "the clock says so");
    assert!(matches!(guard.lost().await, LostReason::Deadline { .. }));
    tokio::time::sleep(VALID).await;
    assert!(!guard.is_held(), "what a late renewal came to does not matter");
}

/// Its row may be as it was: nobody else has come.
#[tokio::test]
async fn a_lock_that_is_overdue_cannot_be_pinned() {
    let place = Place::new();
    let locks = place.locks(Duration::from_secs(1)).await;
    let guard = locks.lock("a").await.expect("taken");
    // The task cannot renew it meanwhile.
    std::thread::sleep(guard.remaining() + Duration::from_millis(1));
    let mut file = place.raw();
    let mut transaction = file.transaction().expect("begun");
    let pinned = guard.pin(&mut transaction).await;
    let is_told = matches!(pinned, Err(PinError::Lost(LostReason::Deadline { .. })));
    assert!(is_told, "{pinned:?}");
}

/// The task's thread stands still, and the one that waits has no timer either.
#[test]
fn lost_is_told_by_the_deadline_though_the_task_stands_still() {
    let place = Place::new();
    let blocked = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let blocked = blocked.expect("a runtime");
    let guard =
        blocked.block_on(async { place.locks(SHORT).await.lock("a").await.expect("taken") });
    // Nobody runs the first runtime any more.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let other = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        tell.send(other.block_on(async { (guard.lost().await, guard.is_held()) }))
    });
    let lost = told.recv_timeout(SOON);
    assert!(matches!(lost, Ok((LostReason::Deadline { .. }, false))), "{lost:?}");
    drop(blocked);
}
