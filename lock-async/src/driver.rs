//! The task that moves commands between the engine and the server.
//!
//! ```text
//!   Locks, Guard  --- Call, on an unbounded channel --->  task: engine, backend,
//!   Attempt       <-- News, Release ------------------          the exchange under way
//!   Cell          <-- deadline, loss (atomic) --------
//! ```
//!
//! Callers own nothing that can be cut in half: a future that is dropped, wherever it is, only says
//! so to the task. While a command is under way the task still serves callers and timers, so that
//! a hung request delays no loss; wishes that gather meanwhile leave together in the next command.

#[cfg(test)]
mod tests;

use crate::backend::Backend;
use crate::clock;
use crate::error::ReleaseError;
use crate::guard::{Cell, Granted};
use crate::locks::{Progress, Wait};
use lock_core::{
    Engine, Event, Failure, Instant, LockId, LockName, LostReason, NotAcquired, Release, Timing,
};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The way to the task. When the last one is dropped, the task ends.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Shared>);

struct Shared {
    calls: mpsc::UnboundedSender<Call>,
    tickets: AtomicU64,
    timing: Timing,
}

/// Names an attempt before the engine does.
type Ticket = u64;

/// What callers want of the task.
enum Call {
    Acquire {
        ticket: Ticket,
        name: LockName,
        once: bool,
        give_up: Option<Instant>,
        news: mpsc::UnboundedSender<News>,
    },
    Release {
        ticket: Ticket,
        tell: Option<oneshot::Sender<Release>>,
    },
    Close,
}

/// What becomes of an attempt.
pub(crate) enum News {
    Progress(Progress),
    Granted(Granted),
    Not(NotAcquired),
    Closed,
}

impl Driver {
    /// Starts the task on the current runtime.
    pub(crate) fn start<B: Backend>(engine: Engine<B::Protocol>, backend: B) -> Self
    where
        Engine<B::Protocol>: Send,
    {
        let timing = *engine.timing();
        let (calls, heard) = mpsc::unbounded_channel();
        tokio::spawn(Task::new(engine, heard).run(backend));
        Self(Arc::new(Shared { calls, tickets: AtomicU64::new(0), timing }))
    }

    /// Wants `name`. The attempt ends when what is returned is dropped.
    pub(crate) fn acquire(&self, name: LockName, wait: Wait) -> Attempt {
        let ticket = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let (tell, news) = mpsc::unbounded_channel();
        let give_up = match wait {
            Wait::Never => Some(clock::now()),
            Wait::For(limit) => Some(clock::now().after(limit)),
            Wait::Forever => None,
        };
        let once = wait == Wait::Never;
        // Without a task the other end of `news` is dropped here, which is news too.
        let _ = self.0.calls.send(Call::Acquire { ticket, name, once, give_up, news: tell });
        Attempt { driver: self.clone(), ticket, news }
    }

    /// Ends every acquire that waits, now and later.
    pub(crate) fn close(&self) {
        let _ = self.0.calls.send(Call::Close);
    }
}

/// An attempt to hold a lock, from the wish to the release. Dropping it is the release.
pub(crate) struct Attempt {
    driver: Driver,
    ticket: Ticket,
    news: mpsc::UnboundedReceiver<News>,
}

impl Attempt {
    /// Waits for the next news. Cancel safe.
    pub(crate) async fn news(&mut self) -> News {
        self.news.recv().await.unwrap_or(News::Closed)
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.driver.0.timing
    }

    /// Frees what is held, and tells how that went. The task sees to it that it is bounded in time.
    pub(crate) async fn release(self) -> Result<(), ReleaseError> {
        let within = self.timing().ttl();
        let (tell, told) = oneshot::channel();
        let _ = self.driver.0.calls.send(Call::Release { ticket: self.ticket, tell: Some(tell) });
        let unconfirmed = |reason: String| Err(ReleaseError::Unconfirmed { reason, within });
        match told.await {
            Ok(Release::NotOurs) => Err(ReleaseError::Lost(LostReason::Taken)),
            Ok(Release::Unconfirmed(failure)) => unconfirmed(failure.to_string()),
            Ok(_) => Ok(()),
            Err(_) => unconfirmed("the runtime that it was acquired on has ended".to_string()),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // For one that was released already, this says nothing new.
        let _ = self.driver.0.calls.send(Call::Release { ticket: self.ticket, tell: None });
    }
}

/// What the task owns, but for the backend.
struct Task<E> {
    engine: E,
    calls: mpsc::UnboundedReceiver<Call>,
    tickets: BTreeMap<Ticket, LockId>,
    waiting: BTreeMap<LockId, mpsc::UnboundedSender<News>>,
    guards: BTreeMap<LockId, Arc<Cell>>,
    leaving: BTreeMap<LockId, Leaving>,
    closed: bool,
    /// Nobody can call any more: until when what is being released is seen to.
    orphaned: Option<Instant>,
}

/// A caller that waits for a release.
struct Leaving {
    /// For so long, then it is told that nothing is known.
    until: Instant,
    tell: Tell,
}

enum Tell {
    Release(oneshot::Sender<Release>),
    /// Its wait was ended by [`Driver::close`].
    Closed(mpsc::UnboundedSender<News>),
}

impl<P: lock_core::Protocol> Task<Engine<P>> {
    fn new(engine: Engine<P>, calls: mpsc::UnboundedReceiver<Call>) -> Self {
        Self {
            engine,
            calls,
            tickets: BTreeMap::new(),
            waiting: BTreeMap::new(),
            guards: BTreeMap::new(),
            leaving: BTreeMap::new(),
            closed: false,
            orphaned: None,
        }
    }

    async fn run<B: Backend<Protocol = P>>(mut self, mut backend: B) {
        while !self.is_over() {
            let sent = clock::now();
            let Some(dispatch) = self.engine.poll_command(sent) else {
                self.next(pin!(backend.idle())).await;
                continue;
            };
            let budget = dispatch.deadline.since(sent);
            let mut exchange = pin!(backend.execute(&dispatch.command, sent, budget));
            let mut exchange = pin!(poll_fn(|cx| {
                catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(cx))).unwrap_or_else(|_| {
                    let panicked = "the database driver panicked".to_string();
                    Poll::Ready(Err(Failure::Unknown(panicked)))
                })
            }));
            let reply = loop {
                if let Some(reply) = self.next(exchange.as_mut()).await {
                    break reply;
                }
            };
            self.engine.handle_reply(clock::now(), dispatch.id, reply);
        }
        backend.close().await;
    }

    /// Waits for one thing to happen: `work` is done, which is handed out, or somebody called, or
    /// a timer ran out, which is seen to here.
    async fn next<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let now = clock::now();
        self.engine.handle_timeout(now);
        self.drain();
        self.end_patience(now);
        if self.engine.has_command() {
            return None;
        }
        let mut nap = pin!(tokio::time::sleep(self.timer(now).since(now)));
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            match self.hear(cx) | nap.as_mut().poll(cx).is_ready() {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// When time alone gives something to do.
    fn timer(&self, now: Instant) -> Instant {
        // The runtime's timers do not count suspended time. While a lock is held, a look now and
        // then makes sure that a machine that slept through its lease says so soon after waking up.
        const LOOK: Duration = Duration::from_secs(1);
        let look = (!self.guards.is_empty()).then(|| now.after(LOOK));
        let leaving = self.leaving.values().map(|leaving| leaving.until);
        let timers = self.engine.poll_timeout().into_iter().chain(look).chain(self.orphaned);
        timers.chain(leaving).min().unwrap_or(Instant::from_nanos(u64::MAX))
    }

    /// Whether nobody can call any more, and nothing is left to be freed.
    fn is_over(&self) -> bool {
        let out_of_time = |until: Instant| until <= clock::now();
        self.orphaned.is_some_and(|until| self.engine.attempts() == 0 || out_of_time(until))
    }

    /// Takes all calls that have come; whether there was anything.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        let mut heard = false;
        while self.orphaned.is_none()
            && let Poll::Ready(call) = self.calls.poll_recv(cx)
        {
            heard = true;
            match call {
                Some(call) => self.take(call),
                None => self.orphaned = Some(clock::now().after(self.engine.timing().patience())),
            }
        }
        heard
    }

    fn take(&mut self, call: Call) {
        let now = clock::now();
        match call {
            Call::Acquire { news, .. } if self.closed => drop(news.send(News::Closed)),
            Call::Acquire { ticket, name, once, give_up, news } => {
                let id = self.engine.acquire(now, name, once, give_up);
                self.tickets.insert(ticket, id);
                self.waiting.insert(id, news);
            }
            Call::Release { ticket, tell } => {
                let Some(id) = self.tickets.remove(&ticket) else { return };
                self.waiting.remove(&id);
                self.guards.remove(&id);
                self.release(now, id, tell.map(Tell::Release));
            }
            Call::Close => {
                self.closed = true;
                // What the server may have granted meanwhile is freed before they are told.
                for (id, news) in std::mem::take(&mut self.waiting) {
                    self.release(now, id, Some(Tell::Closed(news)));
                }
            }
        }
    }

    fn release(&mut self, now: Instant, id: LockId, tell: Option<Tell>) {
        self.engine.release(now, id);
        if let Some(tell) = tell {
            let until = now.after(self.engine.timing().patience());
            self.leaving.insert(id, Leaving { until, tell });
        }
    }

    /// Tells those that have waited for a release long enough.
    fn end_patience(&mut self, now: Instant) {
        let over = self.leaving.iter().filter(|(_, leaving)| leaving.until <= now);
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(leaving) = self.leaving.remove(&id) {
                let failure = Failure::Unknown("no answer in time".to_string());
                leaving.tell(Release::Unconfirmed(failure));
            }
        }
    }

    /// Hands the engine's events to those they concern. Who has left meanwhile hears nothing.
    fn drain(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Granted { id, fence, deadline } => {
                    if let Some(news) = self.waiting.remove(&id) {
                        let cell = Arc::new(Cell::new(deadline));
                        self.guards.insert(id, cell.clone());
                        let _ = news.send(News::Granted(Granted { fence, cell }));
                    }
                }
                Event::NotAcquired { id, why } => {
                    if let Some(news) = self.waiting.remove(&id) {
                        let _ = news.send(News::Not(why));
                    }
                }
                Event::Released { id, release } => match self.leaving.remove(&id) {
                    Some(leaving) => leaving.tell(release),
                    None if matches!(release, Release::Unconfirmed(_)) => {
                        tracing::warn!(?release, "a lock was not released as it should be");
                    }
                    None => {}
                },
                Event::Waiting { id, holder } => self.report(id, Progress::Busy(holder)),
                Event::Trouble { id, failure } => {
                    self.report(id, Progress::Trouble(failure.to_string()))
                }
                Event::Renewed { id, deadline } => {
                    if let Some(cell) = self.guards.get(&id) {
                        cell.renewed(deadline);
                    }
                }
                Event::RenewalFailed { failure, .. } => {
                    tracing::warn!(%failure, "a renewal failed")
                }
                Event::Lost { id, reason } => {
                    if let Some(cell) = self.guards.get(&id) {
                        cell.lose(reason);
                    }
                }
                _ => {}
            }
        }
    }

    fn report(&mut self, id: LockId, progress: Progress) {
        if let Some(news) = self.waiting.get(&id) {
            let _ = news.send(News::Progress(progress));
        }
    }
}

impl Leaving {
    fn tell(self, release: Release) {
        match self.tell {
            Tell::Release(tell) => drop(tell.send(release)),
            Tell::Closed(news) => drop(news.send(News::Closed)),
        }
    }
}

/// The task ends before its guards only with the runtime: nobody will renew, nor tell of losses.
impl<E> Drop for Task<E> {
    fn drop(&mut self) {
        for cell in self.guards.values() {
            cell.lose(LostReason::Deadline);
        }
    }
}
