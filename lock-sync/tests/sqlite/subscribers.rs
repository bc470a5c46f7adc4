//! A subscriber of events may block, panic, or take a lock itself: only its own events suffer from it.

use crate::{LONG, Place, SOON, soon};
use lock_sync::Guard;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What is done about a message about a lock.
type Reaction = Arc<dyn Fn() + Send + Sync>;

/// By the lock's name and the message. Each test has names of its own.
static REACTIONS: Mutex<BTreeMap<(&str, &str), Reaction>> = Mutex::new(BTreeMap::new());

struct Reacting;

#[derive(Default)]
struct Read {
    name: String,
    message: String,
}

impl Visit for Read {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "lock.name" => self.name = format!("{value:?}"),
            "message" => self.message = format!("{value:?}"),
            _ => {}
        }
    }
}

impl Subscriber for Reacting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lock_sync")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut read = Read::default();
        event.record(&mut read);
        let reactions = REACTIONS.lock().expect("unpoisoned");
        let reaction = reactions.get(&(&*read.name, &*read.message)).cloned();
        drop(reactions);
        if let Some(reaction) = reaction {
            reaction();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn on(name: &'static str, message: &'static str, reaction: impl Fn() + Send + Sync + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Reacting).expect("the only one"));
    let mut reactions = REACTIONS.lock().expect("unpoisoned");
    reactions.insert((name, message), Arc::new(reaction));
}

/// Does `work` on a thread of its own, for it may hang.
fn apart<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(SOON).unwrap_or_else(|_| panic!("{what} hangs"))
}

fn is_lost(guard: &Arc<Guard>) -> bool {
    let guard = guard.clone();
    apart("is_held", move || !guard.is_held())
}

fn called_on_loss(guard: &Guard) -> Receiver<()> {
    let (tell, told) = channel();
    guard.on_lost(move |_| {
        let _ = tell.send(());
    });
    told
}

#[test]
fn one_that_blocks_holds_up_nothing() {
    let place = Place::new();
    // Renewals every second.
    let locks = place.locks(Duration::from_secs(3));
    let (unblock, blocked) = channel::<()>();
    let (blocking, began) = channel();
    let blocked = Mutex::new(blocked);
    on("blocks", "lost", move || {
        let _ = blocking.send(());
        let _ = blocked.lock().expect("unpoisoned").recv();
    });
    let lost = Arc::new(locks.lock("blocks").expect("free"));
    let kept = locks.lock("kept").expect("free");
    let called = called_on_loss(&lost);
    // Dropped before the guards, whose releases would wait for it if this failed.
    let unblock = unblock;
    place.rob_of("blocks");
    began.recv_timeout(SOON).expect("the subscriber is told");

    assert!(is_lost(&lost));
    called.recv_timeout(SOON).expect("called, though the subscriber blocks");
    let other = locks.clone();
    let taken = apart("try_lock", move || other.try_lock("other").map(|got| got.is_some()));
    assert_eq!(taken, Ok(true));
    let before = place.expires("kept");
    assert!(soon(|| place.expires("kept") > before), "no renewal while the subscriber blocks");
    let kept = Arc::new(kept);
    assert!(!is_lost(&kept));
    drop(unblock);
}

/// As `is_held` finds out that the deadline has passed, and the file is locked, too.
#[test]
fn one_that_blocks_does_not_block_who_sees_the_deadline_pass() {
    let place = Place::new();
    let locks = place.locks(Duration::from_secs(1));
    let (unblock, blocked) = channel::<()>();
    let blocked = Mutex::new(blocked);
    on("deadline", "lost", move || {
        let _ = blocked.lock().expect("unpoisoned").recv();
    });
    on("deadline", "renewal failed", || std::thread::sleep(SOON));
    let guard = Arc::new(locks.lock("deadline").expect("free"));
    let called = called_on_loss(&guard);
    let blocker = place.raw();
    blocker.execute_batch("BEGIN IMMEDIATE").expect("blocked");
    assert!(soon(|| is_lost(&guard)));
    called.recv_timeout(SOON).expect("called, though the subscriber blocks");
    blocker.execute_batch("COMMIT").expect("unblocked");
    drop(unblock);
}

#[test]
fn one_may_take_locks_and_ask_guards() {
    let place = Place::new();
    let locks = place.locks(Duration::from_secs(3));
    let theirs = place.locks(LONG);
    let guard = Arc::new(locks.lock("enters").expect("free"));
    let (told, heard) = channel();
    for message in ["renewed", "lost"] {
        let (locks, guard, told) = (locks.clone(), guard.clone(), told.clone());
        on("enters", message, move || {
            let taken = locks.try_lock("inner").expect("asked").is_some();
            let _ = told.send((message, taken, guard.is_held()));
        });
    }
    assert_eq!(heard.recv_timeout(SOON), Ok(("renewed", true, true)));
    place.rob_of("enters");
    let lost = std::iter::from_fn(|| heard.recv_timeout(SOON).ok()).find(|told| told.0 == "lost");
    assert_eq!(lost, Some(("lost", true, false)));

    // On the caller's thread, while it waits.
    let held = theirs.lock("entered").expect("free");
    let (other, told) = (locks.clone(), told.clone());
    on("entered", "waiting", move || {
        let taken = other.try_lock("inner").expect("asked").is_some();
        let _ = told.send(("waiting", taken, false));
    });
    let waits = std::thread::spawn(move || locks.lock("entered").map(drop));
    assert_eq!(heard.recv_timeout(SOON), Ok(("waiting", true, false)));
    drop(held);
    assert_eq!(apart("lock", move || waits.join().expect("no panic")), Ok(()));
}

#[test]
fn one_that_panics_ends_no_renewal_and_no_wait() {
    let place = Place::new();
    let locks = place.locks(Duration::from_secs(3));
    let (told, heard) = channel();
    on("panics", "renewed", move || {
        let _ = told.send(());
        panic!("on purpose");
    });
    let guard = locks.lock("panics").expect("free");
    heard.recv_timeout(SOON).expect("renewed once");
    heard.recv_timeout(SOON).expect("and again");
    // A waiter in the same process sleeps until this one is released.
    let other = locks.clone();
    let waiter = std::thread::spawn(move || other.lock("panics").map(drop));
    guard.release().expect("still ours");
    assert_eq!(apart("lock", move || waiter.join().expect("no panic")), Ok(()));
}

/// Such a panic is its caller's, but the lock does not stay behind.
#[test]
fn one_that_panics_at_the_grant_leaks_no_lock() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG), place.locks(LONG));
    on("grant", "acquired", || panic!("on purpose"));
    let taken = catch_unwind(AssertUnwindSafe(|| ours.lock("grant").map(drop)));
    assert!(taken.is_err(), "{taken:?}");
    on("grant", "acquired", || {});
    assert!(theirs.try_lock("grant").expect("asked").is_some(), "free again");
}

#[test]
fn one_that_panics_while_waiting_leaks_no_lock() {
    let place = Place::new();
    let (ours, theirs) = (place.locks(LONG), place.locks(LONG));
    let held = theirs.lock("wait").expect("free");
    on("wait", "waiting", || panic!("on purpose"));
    let taken = catch_unwind(AssertUnwindSafe(|| ours.lock("wait").map(drop)));
    assert!(taken.is_err(), "{taken:?}");
    held.release().expect("ours");
    on("wait", "waiting", || {});
    // If it still waited, it would be ahead of this one.
    let taken = ours.try_lock_for("wait", Duration::from_secs(5)).expect("asked");
    assert!(taken.is_some(), "nobody else waits for it, or has it");
}

/// A second panic while the caller's first one unwinds would end the process.
#[test]
fn one_that_panics_while_a_guard_is_dropped_ends_nothing() {
    let place = Place::new();
    let locks = place.locks(LONG);
    on("unwinds", "released", || panic!("on purpose"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = locks.lock("unwinds").expect("free");
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(locks.try_lock("unwinds").expect("asked").is_some());
}
