//! The wait for the lock, from the first connect to the grant.
//!
//! A server, a resolver or a network that is silent must not keep us longer than we want to wait. So the asking is
//! done by a thread of its own, whose news the main thread tells, and which it leaves alone when its time is over.

use crate::connect::{Patience, connect, silent};
use crate::waiting::Waiting;
use lock_sync::{Config, Error, Guard, Locks, Mode, Progress};
use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After how long a first connect that is still under way is told of.
const SLOW: Duration = Duration::from_secs(2);

/// The request.
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) patience: Patience,
}

/// News of the asking.
pub(crate) enum News {
    Connected(Locks),
    Progress(Progress),
    /// A signal ends the wait.
    Signal,
    Ended(Result<Option<Guard>, End>),
}

/// Why the asking ended without an answer that says who has the lock.
pub(crate) enum End {
    /// By a signal.
    Closed,
    Failed(String),
}

/// The asking, under way.
pub(crate) struct Asking {
    patience: Patience,
    news: Receiver<News>,
    thread: JoinHandle<()>,
}

impl Asking {
    /// Begins to ask. `reached` is called when there is a connection, before anything is asked for. `again` makes
    /// the configuration anew.
    pub(crate) fn begin(
        wish: Wish,
        config: Config,
        again: impl Fn() -> Result<Config, String> + Send + 'static,
        reached: impl FnOnce(Locks, Sender<News>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, news) = channel();
        let patience = wish.patience;
        let ask = move || {
            // The asking goes on, though the main thread no longer listens.
            let tell = |news| drop(sender.send(news));
            let trouble = |error| tell(News::Progress(Progress::Trouble(error)));
            let locks = match connect(config, again, patience, trouble) {
                Ok(locks) => locks,
                Err(error) => return tell(News::Ended(Err(End::Failed(error)))),
            };
            reached(locks.clone(), sender.clone());
            tell(News::Connected(locks.clone()));
            let progress = &mut |progress: &Progress| tell(News::Progress(progress.clone()));
            let guard = locks.acquire_as(&wish.name, wish.mode, patience.wait(), progress);
            tell(News::Ended(guard.map_err(|error| match error {
                Error::Closed => End::Closed,
                error => End::Failed(error.to_string()),
            })));
        };
        let thread = std::thread::Builder::new().name("asking".to_string()).spawn(ask)?;
        Ok(Self { patience, news, thread })
    }

    /// Tells of the wait until it ends: with the guard, with none if somebody else has the lock, or with an error.
    /// `connected` says where the locks are.
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
                // As of the last answer.
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
