//! The task's state: the engine and its callers.

use super::leaving::{Leaving, Tell};
use super::{Call, End, NO_LIMIT, News, news};
use crate::clock;
use crate::events::{Life, Teller, Told};
use crate::guard::{Granted, HoldState};
use crate::locks::Progress;
use lock_core::{Event, Failure, Fence, Instant, LockId, LockName, LostReason, Release};
use lock_shared::engine::{Engine, guard_counts};
use lock_shared::held as locks;
use lock_shared::unconfirmed::Unconfirmed;
use lock_shared::wish::waiting;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) struct State {
    pub(super) engine: Engine,
    waiting: BTreeMap<LockId, Wanted>,
    guards: BTreeMap<LockId, Held>,
    leaving: Leaving,
    closed: bool,
    /// The callers that wait for the task's end, in the order of their deadlines.
    shutdowns: VecDeque<Shutdown>,
    /// True once the task must end as soon as no guard is left.
    shut_down: bool,
    /// Deadline of the last releases, once no guard is left and none can come.
    ends_by: Option<Instant>,
    unconfirmed: Unconfirmed,
    events: Teller,
}

/// A caller that waits for a lock.
struct Wanted {
    name: LockName,
    news: news::Sender,
}

/// A guard.
pub(super) struct Held {
    name: LockName,
    fence: Fence,
    since: Instant,
    cell: Arc<HoldState>,
}

/// A caller that waits for the task's end.
struct Shutdown {
    /// Deadline. The caller then gets the number of remaining locks.
    until: Instant,
    tell: oneshot::Sender<End>,
}

impl State {
    pub(super) fn new(engine: Engine, within: Duration) -> Self {
        Self {
            engine,
            waiting: BTreeMap::new(),
            guards: BTreeMap::new(),
            leaving: Leaving::default(),
            closed: false,
            shutdowns: VecDeque::new(),
            shut_down: false,
            ends_by: None,
            unconfirmed: Unconfirmed::new(within),
            events: Teller::default(),
        }
    }

    pub(super) fn take(&mut self, call: Call) {
        let now = clock::now();
        match call {
            Call::Acquire { news, .. } if self.closed => drop(news),
            Call::Acquire { wish, give_up, news } => {
                let id = wish.begin(&mut self.engine, now, give_up);
                news.begun(id);
                self.waiting.insert(id, Wanted { name: wish.name.clone(), news });
            }
            Call::Release { target, keep, tell } => {
                let Some(id) = target.id() else { return };
                self.waiting.remove(&id);
                let held = self.guards.remove(&id);
                self.unconfirmed.gone(id);
                self.release(now, id, keep, held, tell.map(Tell::Release));
            }
            Call::Close => self.close(now),
            Call::Shutdown { tell } => {
                self.close(now);
                self.shut_down = true;
                let until = now.after(self.engine.timing().answer_grace());
                self.shutdowns.push_back(Shutdown { until, tell });
            }
        }
    }

    fn close(&mut self, now: Instant) {
        // The engine has ended an attempt that was just denied, and would never tell the end of its release.
        self.drain(now);
        self.closed = true;
        // The server may have granted locks meanwhile. They are released before the callers are told.
        for (id, wanted) in std::mem::take(&mut self.waiting) {
            self.release(now, id, None, None, Some(Tell::Closed(wanted.news)));
        }
    }

    /// Begins the end, once no guard is left and none can come: closes the sessions, and sets a deadline for
    /// the last releases.
    pub(super) fn begin_end(&mut self, now: Instant) {
        if self.ends_by.is_none() {
            self.ends_by = Some(now.after(self.engine.timing().answer_grace()));
            self.engine.close(now);
        }
    }

    /// The first deadline of a caller that waits for the task's end.
    pub(super) fn told_by(&self) -> Instant {
        self.shutdowns.front().map_or(NO_LIMIT, |first| first.until)
    }

    /// True if the task has nothing more to do, or no more time.
    pub(super) fn is_over(&self) -> bool {
        let settled = self.unsettled().1 == 0 && self.engine.sessions() == 0;
        self.ends_by.is_some_and(|until| settled || until <= clock::now())
    }

    /// Waits until the subscriber has received all events.
    pub(super) fn end_events(&mut self) -> impl Future<Output = ()> + use<> {
        std::mem::take(&mut self.events).end()
    }

    /// Ends the task now. Sends the result to all callers that wait for it.
    pub(super) fn end_now(mut self) -> End {
        let end = self.left(clock::now());
        for Shutdown { tell, .. } in std::mem::take(&mut self.shutdowns) {
            let _ = tell.send(end.clone());
        }
        end
    }

    /// The result, if the task ended now.
    fn left(&self, now: Instant) -> End {
        self.unconfirmed.left(now, self.guards.len(), self.engine.attempts())
    }

    /// The guards that hold their locks, and the attempts that are theirs or that wait for an answer.
    fn unsettled(&self) -> (usize, usize) {
        self.unconfirmed.unsettled(self.guards.len(), self.engine.attempts())
    }

    /// The next moment at which time alone makes something due.
    pub(super) fn timer(&self, now: Instant) -> Instant {
        // The runtime's timers do not count suspended time. While a lock is held, the clock is read now and
        // then, so that a machine that slept through its lease reports the loss soon after it resumes.
        const LOOK: Duration = Duration::from_secs(1);
        let look = (!self.guards.is_empty()).then(|| now.after(LOOK));
        let timers = self.engine.poll_timeout().into_iter().chain(look).chain(self.ends_by);
        timers.chain(self.leaving.until()).chain([self.told_by()]).min().unwrap_or(NO_LIMIT)
    }

    /// Handles timers and events that are due.
    pub(super) fn look(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
        self.drain(now);
        self.end_patience(now);
        if self.shut_down && self.unsettled().0 == 0 {
            self.begin_end(now);
        }
    }

    fn release(
        &mut self,
        now: Instant,
        id: LockId,
        keep: Option<Duration>,
        held: Option<Held>,
        tell: Option<Tell>,
    ) {
        self.engine.release_after(now, id, keep);
        if held.is_some() || tell.is_some() {
            let until = now.after(self.engine.timing().answer_grace());
            self.leaving.insert(id, held, tell.map(|tell| (until, tell)));
        }
    }

    /// Answers the callers whose deadline has passed.
    fn end_patience(&mut self, now: Instant) {
        while let Some(leaving) = self.leaving.pop(now) {
            let failure = Failure::Unknown("no answer in time".to_string());
            leaving.tell(Release::Unconfirmed(failure));
        }
        while self.shutdowns.front().is_some_and(|first| first.until <= now) {
            let first = self.shutdowns.pop_front();
            let _ = first.map(|first| first.tell.send(self.left(now)));
        }
    }

    /// Passes the engine's events to their callers. A caller that has gone gets nothing.
    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Granted { id, fence, deadline } => self.granted(now, id, fence, deadline),
                Event::NotAcquired { id, of, why } => {
                    if let Some(wanted) = self.waiting.remove(&id) {
                        wanted.news.end(News::Not(why, of));
                    }
                }
                Event::Released { id, release } => self.released(now, id, release),
                Event::Waiting { id, of, holder, withheld } => {
                    self.report(id, |name| waiting(of.unwrap_or(name), holder, withheld));
                }
                Event::Trouble { id, failure } => {
                    self.report(id, |_| Progress::Trouble(failure.to_string()))
                }
                Event::Renewed { id, deadline } => {
                    if let Some(held) = self.guards.get(&id) {
                        held.cell.renewed(deadline);
                        guard_counts(&mut self.engine, id, held.cell.deadline());
                        self.events.tell(held.event(now, Life::Renewed));
                    }
                }
                Event::RenewalFailed { id, failure, .. } => {
                    if let Some(held) = self.guards.get(&id) {
                        held.cell.renewal_failed(&failure);
                        self.events.tell(held.event(now, Life::RenewalFailed(failure)));
                    }
                }
                Event::Lost { id, reason } => {
                    if let Some(held) = self.guards.get(&id) {
                        self.unconfirmed.lost(&self.engine, id);
                        held.cell.lose(reason.clone());
                        self.events.tell(held.event(now, Life::Lost(reason)));
                    }
                }
                Event::WaitsLong { id, waited, of, holder } => {
                    if let Some(Wanted { name, .. }) = self.waiting.get(&id) {
                        let name = of.unwrap_or_else(|| name.clone());
                        self.events.tell(Told::WaitsLong { name, waited, holder });
                    }
                }
                Event::HeldLong { id, label, .. } => {
                    if let Some(held) = self.guards.get(&id) {
                        self.events.tell(held.event(now, Life::HeldLong(label)));
                    }
                }
                _ => {}
            }
        }
    }

    fn granted(&mut self, now: Instant, id: LockId, fence: Fence, deadline: Instant) {
        let Some(Wanted { name, news }) = self.waiting.remove(&id) else { return };
        let held = locks::Held::of(&self.engine, id, &name, fence);
        let cell = Arc::new(HoldState::new(deadline, held.valid_for()));
        guard_counts(&mut self.engine, id, cell.deadline());
        self.unconfirmed.granted(&held);
        self.guards.insert(id, Held { name, fence, since: now, cell: cell.clone() });
        news.end(News::Granted(Granted { held, cell }));
    }

    fn released(&mut self, now: Instant, id: LockId, release: Release) {
        self.unconfirmed.released(now, &release);
        let Some(mut left) = self.leaving.remove(id) else { return };
        if let Some(held) = &left.held {
            let released = locks::released(release.clone(), self.unconfirmed.within());
            held.cell.found(&released);
            self.events.tell(held.event(now, Life::Released(released)));
        }
        if let Some(caller) = left.tell() {
            caller.tell(release);
        }
    }

    /// Tells the caller, who wants the lock of this name.
    fn report(&mut self, id: LockId, progress: impl FnOnce(LockName) -> Progress) {
        if let Some(Wanted { name, news }) = self.waiting.get(&id) {
            news.progress(progress(name.clone()));
        }
    }
}

impl Held {
    fn event(&self, now: Instant, what: Life) -> Told {
        let held = now.since(self.since);
        Told::Guard { name: self.name.clone(), fence: self.fence, held, what }
    }
}

/// The task ends before its guards only with its runtime, or by a bug. Nobody will renew or report losses after that.
impl Drop for State {
    fn drop(&mut self) {
        for held in self.guards.values() {
            // A waker is foreign code, and must not keep the other guards from being told.
            let _ = catch_unwind(AssertUnwindSafe(|| held.cell.lose(LostReason::Unattended)));
        }
    }
}
