//! Threads, and what they share. `--cfg lock_shuttle` puts a scheduler in their place that tries out in which order their steps
//! may come.

#[cfg(lock_shuttle)]
mod scheduled;

#[cfg(lock_shuttle)]
pub use scheduled::*;
use std::io;
use std::sync::{Arc, PoisonError};
#[cfg(not(lock_shuttle))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(lock_shuttle))]
pub use std::thread::{Builder, ThreadId, current, sleep};

/// Runs `call` on a thread of its own. If the system cannot start a thread, gives `call` back.
pub fn apart<C>(name: &str, call: C) -> Result<(), (io::Error, C)>
where
    C: FnOnce() + Send + 'static,
{
    let call = Arc::new(Mutex::new(Some(call)));
    let taken = call.clone();
    let take = |call: &Mutex<Option<C>>| call.lock().unwrap_or_else(PoisonError::into_inner).take();
    let life = move || {
        if let Some(call) = take(&taken) {
            call();
        }
    };
    let spawned = Builder::new().name(name.to_string()).spawn(life);
    match (spawned, call) {
        (Err(error), call) => match take(&call) {
            Some(call) => Err((error, call)),
            None => Ok(()),
        },
        (Ok(_), _) => Ok(()),
    }
}
