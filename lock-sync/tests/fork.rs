//! What a child process has of its parent's locks: nothing.
#![cfg(feature = "sqlite")]

use fork::{Fork, fork};
use lock_shared::lookup::look_up;
use lock_shared::lookup::stand_in::{Silent, known};
use lock_sync::{Config, Error, Locks, LostReason};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Counts what this process tells of locks. It has no mutex that a fork could find locked.
struct Counter;

static TOLD: AtomicUsize = AtomicUsize::new(0);

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lock_sync")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, _: &Event<'_>) {
        TOLD.fetch_add(1, Ordering::SeqCst);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Whether this name has an address that is told soon.
fn is_found(name: &str) -> bool {
    let mut lookup = pin!(look_up(name, 7));
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        match lookup.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => return answer.is_ok(),
            Poll::Pending => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    false
}

/// The only test of its program: a fork has no other test's threads to miss.
#[test]
fn a_forked_child_holds_nothing_and_frees_nothing() {
    tracing::subscriber::set_global_default(Counter).expect("the only test here");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("locks.db");
    let url = format!("sqlite:{}", file.display());
    let locks = Locks::connect(&url).expect("connected");
    let guard = locks.lock("a").expect("free");
    assert!(TOLD.load(Ordering::SeqCst) > 0, "the grant was told");
    // Its thread is not in the child, which would wait for it for ever.
    let silent = Silent::new("silent.invalid");
    let lookup = look_up(silent.name, 7);
    while silent.asked() == 0 {
        std::thread::yield_now();
    }
    match fork().expect("forked") {
        Fork::Child => {
            let told = guard.lost_reason() == Some(LostReason::Forked) && !guard.is_held();
            let refused = matches!(locks.try_lock("b"), Err(Error::Forked));
            // SQLite in this process relies on the locks of the parent.
            let opens = Locks::connect(&url).is_ok();
            let own = rusqlite::Connection::open(&file).expect("opened");
            let hands_over = Locks::with_sqlite(own, Config::new()).is_ok();
            known(silent.name, &["127.0.0.1"]);
            let asks = is_found(silent.name);
            TOLD.store(0, Ordering::SeqCst);
            drop((guard, locks));
            let tells = TOLD.load(Ordering::SeqCst) > 0;
            let wrong = [!told, !refused, opens, hands_over, !asks, tells];
            std::process::exit(wrong.iter().rev().fold(0, |code, one| 2 * code + i32::from(*one)));
        }
        Fork::Parent(child) => {
            let child = rustix::process::Pid::from_raw(child).expect("a pid");
            let ended =
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
            let (_, status) = ended.expect("waited for").expect("ended");
            assert_eq!(
                status.exit_status(),
                Some(0),
                "1: it thinks it holds; 2: its call is sent; 4: it opens the file; 8: it hands a connection over; \
                 16: it waits for a lookup of its parent's; 32: it tells of its parent's lock"
            );
        }
    }
    drop(lookup);
    assert!(guard.is_held());
    let others = Locks::connect(&url).expect("connected");
    assert!(others.try_lock("a").expect("asked").is_none(), "the child's drop freed nothing");
    guard.release().expect("still ours");
}
