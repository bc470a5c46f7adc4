//! The release. A server that does not answer keeps it waiting, and a signal ends that.

use crate::signals::Came;
use crate::stage::Signalled;
use lock_sync::{Guard, Locks, ReleaseError};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The server has this long to answer, whatever signals come: without an answer, the lock stays taken until its lease ends.
const AT_LEAST: Duration = Duration::from_secs(1);

/// The end of a release.
pub(crate) enum Released {
    /// With the server's answer, or without one in time.
    Ended(Result<(), ReleaseError>),
    /// By a signal. The request may be under way.
    Cut,
}

/// Releases the lock. A signal that cuts it short is left for whoever looks at the signals next.
pub(crate) fn release(guard: Guard, locks: &Locks, signalled: &Signalled) -> Released {
    let enough = Instant::now() + AT_LEAST;
    let (tells, told) = channel();
    let guard = Arc::new(Mutex::new(Some(guard)));
    let releasing = Builder::new().name("release".to_string()).spawn({
        let (guard, sender) = (guard.clone(), signalled.sender.clone());
        move || {
            let _ = tells.send(release_one(&guard));
            let _ = sender.send(Came::LOOK);
        }
    });
    if releasing.is_err() {
        return Released::Ended(release_one(&guard));
    }
    let mut ended_by = None;
    let released = loop {
        let wait = match ended_by {
            Some(_) => enough.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        let event = signalled.events.recv_timeout(wait);
        if event.is_ok_and(Came::stops) {
            locks.between_requests(|| signalled.stop_key.heed());
        }
        ended_by = event.ok().filter(|came| came.ends()).or(ended_by);
        match (told.try_recv(), event) {
            (Ok(result), _) => break Released::Ended(result),
            (_, Err(RecvTimeoutError::Disconnected)) => break Released::Cut,
            _ if ended_by.is_some() && enough <= Instant::now() => break Released::Cut,
            _ => {}
        }
    };
    if let Some(came) = ended_by {
        let _ = signalled.sender.send(came);
    }
    released
}

fn release_one(guard: &Mutex<Option<Guard>>) -> Result<(), ReleaseError> {
    let guard = guard.lock().unwrap_or_else(PoisonError::into_inner).take();
    guard.map_or(Ok(()), Guard::release)
}
