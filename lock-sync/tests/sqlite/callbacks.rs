//! Callbacks for a loss.

use crate::{Place, SOON};
use std::sync::mpsc::channel;
use std::time::Duration;

#[test]
fn all_callbacks_run_once() {
    let place = Place::new();
    let locks = place.locks(Duration::from_secs(3));
    let guard = locks.lock("a").expect("free");
    let (tell, told) = channel();
    let register = |number| {
        let tell = tell.clone();
        guard.on_lost(move |_| tell.send(number).expect("heard"));
    };
    // One that blocks and one that panics are no hindrance.
    let (unblock, blocked) = channel::<()>();
    guard.on_lost(move |_| {
        let _ = blocked.recv();
    });
    guard.on_lost(|_| panic!("on purpose"));
    (0..3).for_each(register);
    place.rob();
    let mut ran: Vec<u32> =
        (0..3).map(|_| told.recv_timeout(SOON).expect("all are called")).collect();
    ran.sort_unstable();
    assert_eq!(ran, [0, 1, 2]);
    register(3);
    assert_eq!(told.recv_timeout(SOON), Ok(3), "at once after the loss");
    assert!(told.try_recv().is_err(), "once");
    drop(unblock);
}

#[test]
fn guards_and_locks_go_to_other_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<(lock_sync::Guard, lock_sync::Locks)>();
}
