//! Threads for calls that nobody waits for.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

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
    let spawned = std::thread::Builder::new().name(name.to_string()).spawn(life);
    match (spawned, call) {
        (Err(error), call) => match take(&call) {
            Some(call) => Err((error, call)),
            None => Ok(()),
        },
        (Ok(_), _) => Ok(()),
    }
}
