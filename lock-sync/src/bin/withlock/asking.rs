//! The wait for the lock, from the first connect to the grant.
//!
//! A silent server, resolver or network must not delay the end of the wait. So a thread of its own asks the
//! server and sends its news to the main thread. When the time is over, the main thread leaves that thread
//! alone.

use crate::connect::{Patience, away, connect, silent};
use crate::waiting::Waiting;
use lock_sync::{Config, Error, Guard, Locks, Mode, Progress};
use std::cell::Cell;
use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A first connect that takes longer is reported.
const SLOW: Duration = Duration::from_secs(2);
/// Time between two looks at the processes that wait for the lock.
const LOOK: Duration = Duration::from_secs(1);

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
    /// A process that withlock started has ended, or was stopped.
    Child,
    Ended(Result<Option<Guard>, End>),
}

/// The ends of a wait without an answer from the server.
pub(crate) enum End {
    /// A signal ended the wait, or the end of the guardian.
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
    /// Starts the asking thread. It calls `reached` before it asks for the lock. If there is a connection already, `reached` is
    /// called before this returns.
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
            let is_known = matches!(way, Way::Known(_));
            let locks = match way {
                Way::Known(locks) => locks,
                Way::To(config) => match connect(*config, patience) {
                    Ok(locks) => {
                        reached(locks.clone(), sender.clone());
                        locks
                    }
                    Err(error) => return tell(News::Ended(Err(End::Failed(error)))),
                },
            };
            let connected = Cell::new(false);
            let tell_connected = || {
                if !connected.replace(true) {
                    tell(News::Connected(locks.clone()));
                }
            };
            if is_known || patience == Patience::None {
                tell_connected();
            }
            let progressed = |progress: &Progress| {
                let news = match progress {
                    Progress::Trouble(why) if !connected.get() => Progress::Trouble(away(why)),
                    Progress::Busy(_) => {
                        tell_connected();
                        progress.clone()
                    }
                    _ => progress.clone(),
                };
                tell(News::Progress(news));
            };
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
                acquire.wait_limit(patience.wait()).mode(wish.mode).on_waiting(progressed).wait()
            };
            let guard = match ask(wish.keep) {
                // The server cannot keep it, so this process will.
                Err(Error::Claim(why)) if wish.keep.is_some() && why.is_about_keeping() => {
                    ask(None)
                }
                other => other,
            };
            tell(News::Ended(match guard {
                Ok(guard) => {
                    tell_connected();
                    Ok(Some(guard))
                }
                Err(Error::Busy(busy)) => {
                    progressed(&Progress::Busy(*busy));
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
    /// Calls `connected` once there is a connection. Ends the wait once `is_useless` says that the lock would be taken for nothing.
    pub(crate) fn end(
        self,
        waiting: &mut Waiting,
        mut connected: impl FnMut(Locks, &mut Waiting),
        is_useless: impl Fn() -> bool,
    ) -> Result<Option<Guard>, End> {
        let mut until = self.patience.to_connect(false);
        let mut slow = Instant::now().checked_add(SLOW);
        let (mut is_connected, mut ending) = (false, false);
        loop {
            let next = until.into_iter().chain(slow).min();
            let nap = next.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            // Before it is connected, no signal tells that the processes which wait for the lock have ended.
            let nap = if is_connected || ending { nap } else { nap.min(LOOK) };
            match self.news.recv_timeout(nap) {
                Ok(News::Connected(locks)) => {
                    (slow, is_connected) = (None, true);
                    connected(locks, waiting);
                    until = if ending { until } else { self.patience.to_answer() };
                    if is_useless() && !ending {
                        (ending, until) = (true, Patience::to_end());
                    }
                }
                Ok(News::Progress(progress)) => {
                    slow = None;
                    waiting.tell(&progress);
                    if !is_connected && !ending {
                        until = self.patience.to_connect(true);
                    }
                }
                Ok(News::Signal) => (ending, until) = (true, Patience::to_end()),
                Ok(News::Child) if is_useless() && !ending => {
                    (ending, until) = (true, Patience::to_end());
                }
                Ok(News::Child) => {}
                Ok(News::Ended(end)) => return end,
                Err(RecvTimeoutError::Timeout) if !ending && is_useless() => {
                    (ending, until) = (true, Patience::to_end());
                }
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
                    let why = last.map_or_else(|| silent(waiting.place()), str::to_string);
                    return Err(End::Failed(why));
                }
                Err(RecvTimeoutError::Disconnected) => match self.thread.join() {
                    Err(panic) => resume_unwind(panic),
                    Ok(()) => return Err(End::Failed(silent(waiting.place()))),
                },
            }
        }
    }
}

fn is_over(at: Instant) -> bool {
    at <= Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;
    use lock_sync::{Busy, Holder, LockName};

    /// The server said that somebody has the lock, and nothing since: the wait itself does not end.
    #[test]
    fn a_signal_ends_a_wait_in_which_nothing_is_heard() {
        let (sender, news) = channel();
        let name = LockName::new("n").expect("good");
        let holder = Holder::new("one", Duration::ZERO, SLOW);
        let busy = Progress::Busy(Busy::new(name, Some(holder)));
        sender.send(News::Progress(busy.clone())).expect("listened to");
        sender.send(News::Signal).expect("listened to");
        // Later news of the wait, and a connection, give it no more time.
        for late in [Progress::Trouble("away".to_string()), busy] {
            sender.send(News::Progress(late)).expect("listened to");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let locks = Locks::open(Config::sqlite(folder.path().join("locks.db"))).expect("opened");
        sender.send(News::Connected(locks)).expect("listened to");
        let thread = std::thread::spawn(|| {});
        let asking = Asking { patience: Patience::Endless, news, thread };
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut waiting = Waiting::new("n", "here", Level::Quiet, true);
            let end = asking.end(&mut waiting, |_, _| {}, || false);
            tell.send(matches!(end, Err(End::Closed))).expect("heard");
        });
        let closed = told.recv_timeout(Duration::from_secs(60));
        assert_eq!(closed, Ok(true), "it is not told that somebody has the lock");
    }

    /// The time for its answer begins then.
    #[test]
    fn without_a_wait_the_connection_is_told_before_the_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("locks.db");
        drop(Locks::open(Config::sqlite(path.clone())).expect("the table is made"));
        let file = rusqlite::Connection::open(&path).expect("opened");
        file.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
        let wish = Wish {
            name: "n".to_string(),
            mode: Mode::Exclusive,
            permits: None,
            and: Vec::new(),
            keep: None,
            patience: Patience::None,
        };
        let way = Way::To(Box::new(Config::sqlite(path.clone())));
        let asking = Asking::begin(wish, way, |_, _| {}).expect("a thread");
        let first = asking.news.recv_timeout(Duration::from_secs(60));
        file.execute_batch("ROLLBACK").expect("ended");
        assert!(matches!(first, Ok(News::Connected(_))));
        asking.thread.join().expect("no panic");
    }
}
