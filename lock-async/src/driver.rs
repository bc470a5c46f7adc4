//! The task that moves requests between the engine and the server.
//!
//! ```text
//!   Locks, Guard  --- Call, on an unbounded channel --->  task: engine, and for each connection
//!   Attempt       <-- News, in a slot; Release -------          a worker: its backend, and
//!   HoldState     <-- deadline, loss (atomic) ---          the request that is under way
//!   tracing       <-- events, by a task of its own ---
//! ```
//!
//! Callers own nothing that can be cut in half: a future that is dropped, wherever it is, only says
//! so to the task. While requests are under way the task still serves callers and timers, so that
//! a hung request delays no loss; wishes that gather meanwhile leave together in the next request.
//! Connections do not wait for each other: a wait at the server holds up nobody else.

mod calling;
mod leaving;
mod news;
mod pool;
mod pump;
mod repoll;
mod state;
#[cfg(test)]
mod tests;
mod worker;

use crate::backend::Backends;
use crate::clock;
use crate::guard::Granted;
use crate::locks::Progress;
use crate::process::Process;
use lock_core::config::{ReleaseError, ShutdownError};
use lock_core::sql::ConnectError;
use lock_core::{Failure, Instant, LockName, LostReason, NotAcquired, Reached, Release};
use lock_shared::engine::Engine;
use lock_shared::held::{Held, released};
use lock_shared::wish::Wish;
use pump::Pump;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A moment that never comes.
const NO_LIMIT: Instant = Instant::from_nanos(u64::MAX);

/// The handle of the task. When the last one is dropped, the task ends.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Shared>);

struct Shared {
    /// The process of the task. In a fork of it, nobody receives a call, and the channel must not be touched,
    /// because the task may have been using it.
    process: Process,
    calls: mpsc::UnboundedSender<Call>,
    /// The time that a grant counts.
    valid: Duration,
    /// The time after which an unreleased lock ends by itself.
    within: Duration,
    /// The result of the task, once it has ended in order.
    end: Arc<OnceLock<End>>,
}

/// The failure of what the task would have done, had its runtime not ended.
fn runtime_ended() -> Failure {
    Failure::Unknown("the runtime that it was acquired on has ended".to_string())
}

/// The result of the task.
type End = Result<(), ShutdownError>;

/// The end of the first connect.
type Connected = Result<Reached, ConnectError>;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A call to the task.
enum Call {
    Acquire { wish: Arc<Wish>, give_up: Option<Instant>, news: news::Sender },
    Release { target: news::Target, keep: Option<Duration>, tell: Option<oneshot::Sender<Release>> },
    Close,
    Shutdown { tell: oneshot::Sender<End> },
}

/// A report about an attempt.
pub(crate) enum News {
    Progress(Progress),
    Granted(Granted),
    Not(NotAcquired, Option<LockName>),
    Closed,
}

impl Driver {
    /// Starts the task on the current runtime. An unreleased lock ends by itself `within` that time.
    pub(crate) fn start<F: Backends>(engine: Engine, backends: F, within: Duration) -> Self {
        let (calls, heard) = mpsc::unbounded_channel();
        let (valid, end) = (engine.timing().valid(), Arc::new(OnceLock::new()));
        tokio::spawn(Pump::new(engine, backends, heard, within, end.clone()).run());
        Self(Arc::new(Shared { process: Process::current(), calls, valid, within, end }))
    }

    /// The time that a grant or renewal counts.
    pub(crate) fn valid_for(&self) -> Duration {
        self.0.valid
    }

    pub(crate) fn is_forked(&self) -> bool {
        !self.0.process.is_current()
    }

    fn call(&self, call: Call) {
        if !self.is_forked() {
            // Without a task, the channel for the answer is dropped here, which is an answer, too.
            let _ = self.0.calls.send(call);
        }
    }

    /// Starts an attempt to acquire a lock. Dropping the result ends it.
    pub(crate) fn acquire(&self, wish: &Arc<Wish>) -> Attempt {
        let (tell, news) = news::channel();
        let (wish, give_up) = (wish.clone(), wish.give_up(clock::now()));
        self.call(Call::Acquire { wish, give_up, news: tell });
        Attempt { driver: self.clone(), ended: false, news, keep: None }
    }

    /// Ends every acquire that waits, now and later.
    pub(crate) fn close(&self) {
        self.call(Call::Close);
    }

    /// Ends every acquire, waits until all that was held is freed, and ends the task. The task sees to
    /// it that it is bounded in time.
    pub(crate) async fn shutdown(&self) -> End {
        if self.is_forked() {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        self.call(Call::Shutdown { tell });
        match told.await {
            Ok(end) => end,
            Err(_) => {
                let within = self.0.within;
                self.0.end.get().cloned().unwrap_or(Err(ShutdownError::Ended { within }))
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A fork has one thread, so that none of its copies is dropped meanwhile.
        if Arc::strong_count(&self.0) == 1 && self.is_forked() {
            std::mem::forget(self.0.clone());
        }
    }
}

/// An attempt to hold a lock, from the wish to the release. Dropping it is the release.
pub(crate) struct Attempt {
    driver: Driver,
    /// True once its release is asked for.
    ended: bool,
    news: news::Receiver,
    /// How long after its grant the lock stays taken, once there is a guard.
    pub(crate) keep: Option<Duration>,
}

impl Attempt {
    /// Waits for the next news. Cancel safe.
    pub(crate) async fn news(&mut self) -> News {
        self.news.next().await
    }

    /// Frees what is held, and tells how that went. The task sees to it that it is bounded in time.
    pub(crate) async fn release(mut self, held: &Held) -> Result<(), ReleaseError> {
        let (tell, told) = oneshot::channel();
        self.ask_for_release(Some(tell));
        let release = match told.await {
            Ok(release) => release,
            Err(_) if self.driver.is_forked() => {
                return Err(ReleaseError::Lost(LostReason::Forked));
            }
            Err(_) => Release::Unconfirmed(runtime_ended()),
        };
        released(release, held.within(self.driver.0.within))
    }

    fn ask_for_release(&mut self, tell: Option<oneshot::Sender<Release>>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.driver.call(Call::Release { target: self.news.target(), keep: self.keep, tell });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.ask_for_release(None);
    }
}
