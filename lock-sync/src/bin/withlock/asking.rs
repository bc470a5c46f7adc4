//! The wait for the lock, from the first connect to the grant.
//!
//! A silent server, resolver or network must not delay the end of the wait. So a thread of its own asks the
//! server and sends its news to the main thread. When the time is over, the main thread leaves that thread
//! alone.

use crate::connect::{Patience, connect, silent};
use crate::waiting::Waiting;
use lock_sync::{Config, Error, Guard, Locks, Mode, Progress};
use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A first connect that takes longer is reported.
const SLOW: Duration = Duration::from_secs(2);

/// The request.
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) permits: Option<u32>,
    pub(crate) and: Vec<String>,
    /// The lock is to be kept for so long, by the server if it can.
    pub(crate) keep: Option<Duration>,
    pub(crate) patience: Patience,
}

/// The way to the server.
pub(crate) enum Way {
    /// It is still to be found.
    To(Box<Config>),
    /// A leader that stands by again has a connection.
    Known(Locks),
}

/// Messages from the asking thread and the signal handler to the main thread.
pub(crate) enum News {
    Connected(Locks),
    Progress(Progress),
    /// A signal ends the wait.
    Signal,
    Ended(Result<Option<Guard>, End>),
}

/// The ends of a wait without an answer from the server.
pub(crate) enum End {
    /// A signal ended the wait.
    Closed,
    Failed(String),
}

/// The wait, while it lasts.
pub(crate) struct Asking {
    patience: Patience,
    news: Receiver<News>,
    thread: JoinHandle<()>,
}

impl Asking {
    /// Starts the asking thread. Once there is a connection, `reached` is called before the lock is asked for. If there is
    /// one already, it is called before this returns.
    pub(crate) fn begin(
        wish: Wish,
        way: Way,
        reached: impl Fn(Locks, Sender<News>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, news) = channel();
        let patience = wish.patience;
        if let Way::Known(locks) = &way {
            reached(locks.clone(), sender.clone());
        }
        let ask = move || {
            // The main thread may have stopped listening.
            let tell = |news| drop(sender.send(news));
            let trouble = |error| tell(News::Progress(Progress::Trouble(error)));
            let locks = match way {
                Way::Known(locks) => locks,
                Way::To(config) => match connect(&config, patience, trouble) {
                    Ok(locks) => {
                        reached(locks.clone(), sender.clone());
                        locks
                    }
                    Err(error) => return tell(News::Ended(Err(End::Failed(error)))),
                },
            };
            tell(News::Connected(locks.clone()));
            let ask = |keep: Option<Duration>| {
                let mut acquire = locks.acquire(&wish.name);
                if let Some(count) = wish.permits {
                    acquire = acquire.permits(count);
                }
                for name in &wish.and {
                    acquire = acquire.and(name.as_str());
                }
                if let Some(time) = keep {
                    acquire = acquire.keep_for(time);
                }
                acquire
                    .wait_limit(patience.wait())
                    .mode(wish.mode)
                    .on_waiting(|progress| tell(News::Progress(progress.clone())))
                    .wait()
            };
            let guard = match ask(wish.keep) {
                // The server cannot keep it, so this process will.
                Err(Error::Claim(why)) if wish.keep.is_some() && why.is_about_keeping() => {
                    ask(None)
                }
                other => other,
            };
            tell(News::Ended(match guard {
                Ok(guard) => Ok(Some(guard)),
                Err(Error::Busy(busy)) => {
                    tell(News::Progress(Progress::Busy(busy.holder)));
                    Ok(None)
                }
                Err(Error::Closed) => Err(End::Closed),
                Err(error) => Err(End::Failed(error.to_string())),
            }));
        };
        let thread = std::thread::Builder::new().name("asking".to_string()).spawn(ask)?;
        Ok(Self { patience, news, thread })
    }

    /// Reports the wait until it ends. Returns the guard, `None` if someone else holds the lock, or an error.
    /// Calls `connected` once there is a connection.
    pub(crate) fn end(
        self,
        waiting: &mut Waiting,
        mut connected: impl FnMut(Locks, &mut Waiting),
    ) -> Result<Option<Guard>, End> {
        let mut until = self.patience.to_connect();
        let mut slow = Instant::now().checked_add(SLOW);
        let mut ending = false;
        loop {
            let next = until.into_iter().chain(slow).min();
            let nap = next.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            match self.news.recv_timeout(nap) {
                Ok(News::Connected(locks)) => {
                    slow = None;
                    connected(locks, waiting);
                    until = if ending { until } else { self.patience.to_answer() };
                }
                Ok(News::Progress(progress)) => {
                    slow = None;
                    waiting.tell(&progress);
                }
                Ok(News::Signal) => (ending, until) = (true, Patience::to_end()),
                Ok(News::Ended(end)) => return end,
                Err(RecvTimeoutError::Timeout) if slow.is_some_and(is_over) => {
                    slow = None;
                    waiting.silence();
                }
                Err(RecvTimeoutError::Timeout) if !until.is_some_and(is_over) => {}
                Err(RecvTimeoutError::Timeout) if ending => return Err(End::Closed),
                // The last answer said that the lock is held.
                Err(RecvTimeoutError::Timeout) if waiting.is_busy() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    let last = waiting.last_trouble();
                    return Err(End::Failed(last.map_or_else(silent, str::to_string)));
                }
                Err(RecvTimeoutError::Disconnected) => match self.thread.join() {
                    Err(panic) => resume_unwind(panic),
                    Ok(()) => return Err(End::Failed(silent())),
                },
            }
        }
    }
}

fn is_over(at: Instant) -> bool {
    at <= Instant::now()
}
