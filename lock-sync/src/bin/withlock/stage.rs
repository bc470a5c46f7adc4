//! The stage of a run, which decides what a signal does.

use crate::asking::News;
use crate::report::missing;
use crate::signals::{self, Came, StopKey};
use lock_sync::Locks;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A stage.
pub(crate) enum Stage {
    Connecting,
    Waiting(Locks, Sender<News>),
    /// The wait is over, and signals go to the command.
    Over,
}

impl Stage {
    /// Ends the wait by a signal, if this is one. What the server grants meanwhile is released.
    fn end_wait(&self, ended_by: &AtomicI32, signal: i32) {
        if let Stage::Waiting(locks, news) = self {
            ended_by.store(signal, Ordering::SeqCst);
            let _ = news.send(News::Signal);
            locks.close();
        }
    }
}

/// The stage now.
#[derive(Clone)]
pub(crate) struct Now(Arc<RwLock<Stage>>);

impl Now {
    /// Signals that come after this meet the next stage.
    pub(crate) fn set(&self, next: Stage) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Ends the wait, if it lasts. What the server grants meanwhile is released.
    pub(crate) fn end_wait(&self) {
        if let Stage::Waiting(locks, _) = &*self.get() {
            locks.close();
        }
    }

    fn get(&self) -> RwLockReadGuard<'_, Stage> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals to withlock, by the stage of the run.
pub(crate) struct Signalled {
    pub(crate) stage: Now,
    /// The signal that ended a wait, or 0.
    ended_by: Arc<AtomicI32>,
    /// Signals for the command. [`Came::LOOK`] also comes when the lock is lost.
    pub(crate) sender: Sender<Came>,
    pub(crate) events: Receiver<Came>,
    pub(crate) stop_key: StopKey,
}

impl Signalled {
    /// Starts a thread that receives signals.
    pub(crate) fn watch() -> Result<Self, String> {
        Self::watching().map_err(|error| {
            format!("the system does not let withlock receive signals: {}", missing(&error))
        })
    }

    fn watching() -> io::Result<Self> {
        let (sender, events) = channel();
        let ended_by = Arc::new(AtomicI32::new(0));
        let stage = Now(Arc::new(RwLock::new(Stage::Connecting)));
        let stop_key = StopKey::watch()?;
        signals::watch(&[], {
            let (sender, ended_by, stage) = (sender.clone(), ended_by.clone(), stage.clone());
            let stop_key = stop_key.clone();
            move |came| {
                let stage = stage.get();
                let Came { signal, .. } = came;
                match &*stage {
                    // No request has reached the server, and the guardian ends the command's process.
                    Stage::Connecting if came.ends() => std::process::exit(128 + signal),
                    Stage::Connecting if came.stops() => stop_key.heed(),
                    Stage::Waiting(..) if came.ends() => stage.end_wait(&ended_by, signal),
                    Stage::Waiting(locks, _) if came.stops() => {
                        locks.between_requests(|| stop_key.heed());
                    }
                    Stage::Waiting(_, news) if came.is_a_look() => {
                        let _ = news.send(News::Child);
                    }
                    Stage::Connecting | Stage::Waiting(..) => {}
                    Stage::Over => drop(sender.send(came)),
                }
            }
        })?;
        // The thread is not told of a key that was pressed before it began.
        stop_key.heed();
        Ok(Self { stage, ended_by, sender, events, stop_key })
    }

    /// The exit code, if a signal has ended the wait.
    pub(crate) fn interrupted(&self) -> Option<u8> {
        match self.ended_by.load(Ordering::SeqCst) {
            0 => None,
            signal => u8::try_from(128 + signal).ok(),
        }
    }

    /// Takes the signals that came between a leader's command and its next wait, which has begun. One of them may end it,
    /// and the stop key stops it.
    pub(crate) fn catch_up(&self) {
        let ends = self.events.try_iter().find(|came| came.ends());
        let stage = self.stage.get();
        match (ends, &*stage) {
            (Some(came), _) => stage.end_wait(&self.ended_by, came.signal),
            (None, Stage::Waiting(locks, _)) if self.stop_key.is_pressed() => {
                locks.between_requests(|| self.stop_key.heed());
            }
            (None, _) => {}
        }
    }
}
