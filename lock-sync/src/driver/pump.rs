//! The threads that move requests to the server and answers back.

use super::state::{State, Told};
use super::{NO_LIMIT, Teller, apart};
use crate::backend::{Backend, Backends};
use crate::process::Process;
use crate::{clock, events};
use lock_core::config::ShutdownError;
use lock_core::{ConnectionId, Dispatch, DispatchId, Failure, Instant, LostReason, Request};
use lock_shared::engine::Engine;
use lock_shared::threads::{Condvar, Mutex, MutexGuard, ThreadId, current, sleep};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tracing::Level;

pub(super) struct Shared {
    state: Mutex<State>,
    /// The pump and the keeper sleep on it.
    pub(super) timers: Condvar,
    /// The time that a grant counts.
    pub(super) valid: Duration,
    /// The time for which the server may keep an unreleased lock.
    pub(super) within: Duration,
    /// The process that owns the connections.
    pub(super) process: Process,
    teller: Teller,
}

/// The state, locked.
pub(super) type Locked<'a> = MutexGuard<'a, State>;

/// The error after a thread panicked in the middle of the state, which cannot be trusted any more.
#[derive(Debug)]
pub(super) struct Dead;

/// The result of an attempt to execute a request.
pub(super) enum Pumped<'a> {
    Did(Locked<'a>),
    /// No command is due, or another thread executes it.
    Nothing(Locked<'a>),
}

/// A request from the engine, and its backend.
struct Job {
    backend: Box<dyn Backend>,
    connection: ConnectionId,
    id: DispatchId,
    request: Request,
    sent: Instant,
    budget: Duration,
}

/// The ways to execute a request.
enum Start {
    Here(Job),
    /// On a thread of its own that nobody waits for.
    Apart(Job),
    /// Not at all, because there is no connection.
    NotSent(DispatchId),
}

impl Shared {
    pub(super) fn new(engine: Engine, backends: Box<dyn Backends>, within: Duration) -> Self {
        let (valid, teller) = (engine.timing().valid(), Teller::default());
        let state = Mutex::new(State::new(engine, backends, within, teller.clone()));
        let (timers, process) = (Condvar::new(), Process::current());
        Self { state, timers, valid, within, process, teller }
    }

    pub(super) fn lock(&self) -> Result<Locked<'_>, Dead> {
        self.checked(self.state.lock().map_err(drop))
    }

    /// The state, if it can be trusted.
    pub(super) fn checked<'a>(&self, state: Result<Locked<'a>, ()>) -> Result<Locked<'a>, Dead> {
        match state {
            Ok(state) if !state.dead => Ok(state),
            _ => Err(Dead),
        }
    }

    /// The state after a sleep, if it can be trusted.
    pub(super) fn woken<'a>(&self, state: Result<Locked<'a>, ()>) -> Result<Locked<'a>, Dead> {
        let state = self.checked(state)?;
        #[cfg(test)]
        let state = {
            let mut state = state;
            state.woken += 1;
            state
        };
        Ok(state)
    }

    /// Does `work`. A panic in it is a bug, and ends the driver: all guards and all callers are told, also
    /// callers that sleep.
    pub(super) fn alive<T>(&self, work: impl FnOnce() -> Result<T, Dead>) -> Result<T, Dead> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            self.die();
            Err(Dead)
        })
    }

    fn die(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.dead, true) {
            return;
        }
        let guards = std::mem::take(&mut state.guards);
        state.callers.values().for_each(|caller| caller.wake());
        let dropped = catch_unwind(AssertUnwindSafe(|| state.pool.drop_all()));
        drop(state);
        self.timers.notify_all();
        guards.values().for_each(|cell| cell.lose(LostReason::Unattended));
        self.teller.tell(Level::ERROR, events::ended);
        // From here on, others may acquire the locks that ended with a connection.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(dropped)));
    }

    /// Passes the engine's events to their callers and guards. Foreign code runs without the mutex.
    pub(super) fn settle<'a>(&'a self, mut state: Locked<'a>) -> Result<Locked<'a>, Dead> {
        loop {
            let told = state.drain();
            if told.is_empty() {
                return Ok(state);
            }
            drop(state);
            told.into_iter().for_each(Told::tell);
            state = self.lock()?;
        }
    }

    /// Closes one connection, or executes one request on this thread, if one is due and no other thread does.
    /// A request that waits at the server gets a thread of its own. The request must end by `until`.
    pub(super) fn pump<'a>(
        self: &'a Arc<Self>,
        state: Locked<'a>,
        until: Instant,
    ) -> Result<Pumped<'a>, Dead> {
        self.pump_as(state, until, false)
    }

    fn pump_as<'a>(
        self: &'a Arc<Self>,
        mut state: Locked<'a>,
        until: Instant,
        alone: bool,
    ) -> Result<Pumped<'a>, Dead> {
        if !state.paused.is_empty() && !state.paused.contains(&current().id()) {
            return Ok(Pumped::Nothing(state));
        }
        let sent = clock::now();
        if let Some(connection) = state.engine.poll_close(sent) {
            let dropped = state.pool.drop_connection(connection);
            drop(state);
            drop(dropped);
            return Ok(Pumped::Did(self.lock()?));
        }
        if state.engine.poll_connect(sent) {
            self.connect_apart(state);
            return Ok(Pumped::Did(self.lock()?));
        }
        let Some(dispatch) = state.engine.poll_request(sent) else {
            return Ok(Pumped::Nothing(state));
        };
        match check_out(&mut state, dispatch, sent, until, alone) {
            Start::NotSent(id) => {
                let failure = Failure::NotSent("no connection to the server is open".to_string());
                state.engine.handle_reply(clock::now(), id, Err(failure));
                drop(state);
            }
            Start::Here(job) => {
                // The other threads handle the timers while this one is busy.
                self.wake_workers(&state);
                drop(state);
                self.execute(job)?;
            }
            Start::Apart(job) => {
                drop(state);
                self.execute_apart(job);
            }
        }
        Ok(Pumped::Did(self.lock()?))
    }

    fn execute(&self, job: Job) -> Result<(), Dead> {
        let Job { mut backend, connection, id, request, sent, budget } = job;
        let execute = || backend.execute(request, sent, budget);
        let reply = catch_unwind(AssertUnwindSafe(execute))
            .unwrap_or_else(|_| Err(Failure::Unknown("the database client panicked".to_string())));
        let mut state = self.lock()?;
        let dropped = state.pool.give_back(connection, id, backend);
        state.engine.handle_reply(clock::now(), id, reply);
        drop(state);
        drop(dropped);
        Ok(())
    }

    fn execute_apart(self: &Arc<Self>, job: Job) {
        let shared = self.clone();
        let life = move || {
            let _ = shared.alive(|| {
                shared.execute(job)?;
                let state = shared.settle(shared.lock()?)?;
                shared.wake_workers(&state);
                Ok(())
            });
        };
        if let Err((error, life)) = apart("lock connection", life) {
            self.teller.tell(Level::WARN, move || events::no_thread(&error));
            life();
        }
    }

    /// Makes the first connect on a thread of its own, as no caller's limit bounds it.
    fn connect_apart(self: &Arc<Self>, mut state: Locked<'_>) {
        let Some(mut backends) = state.pool.take_backends() else { return };
        drop(state);
        let shared = self.clone();
        let life = move || {
            let _ = shared.alive(|| {
                let connected = catch_unwind(AssertUnwindSafe(|| backends.connect()));
                let panicked = Failure::Unknown("the database client panicked".to_string());
                let result = connected.unwrap_or_else(|_| Err(panicked.into()));
                let mut state = shared.lock()?;
                state.pool.put_backends(backends);
                state.engine.handle_connect(clock::now(), result);
                let state = shared.settle(state)?;
                shared.wake_workers(&state);
                Ok(())
            });
        };
        if let Err((error, life)) = apart("lock connect", life) {
            self.teller.tell(Level::WARN, move || events::no_thread(&error));
            life();
        }
    }

    /// Wakes the pump and the keeper if something is due before they wake up.
    pub(super) fn wake_workers(&self, state: &State) {
        let timer = state.timer(clock::now());
        if state.engine.has_work() || state.asleep_until.iter().any(|until| timer < *until) {
            self.timers.notify_all();
        }
    }

    /// The loop of the pump (`io`) or the keeper.
    pub(super) fn background(self: &Arc<Self>, io: bool) -> Result<(), Dead> {
        loop {
            let mut state = self.lock()?;
            state.engine.handle_timeout(clock::now());
            state = self.settle(state)?;
            // Only now: while there was something to tell, the mutex was free. From here on it is not, until the sleep.
            if state.stopped {
                return Ok(());
            }
            if io {
                let alone = state.pool.are_many();
                state = match self.pump_as(state, NO_LIMIT, alone)? {
                    Pumped::Did(_) => continue,
                    Pumped::Nothing(state) => state,
                };
            } else {
                // The pump sends what time has made due.
                self.wake_workers(&state);
            }
            let now = clock::now();
            let until = state.timer(now);
            state.asleep_until[usize::from(io)] = until;
            let nap = until.since(now).max(Duration::from_millis(1));
            let woken = self.timers.wait_timeout(state, nap);
            drop(self.woken(woken.map(|(state, _)| state).map_err(drop))?);
        }
    }

    /// Lets only this thread, and others that have such a pause, begin requests until the result is dropped. Returns
    /// when no request is in flight and no other thread has a pause, or after a request's time limit.
    ///
    /// The first connect writes to a file only for a moment, and may wait for one for long: it gets a second.
    pub(super) fn pause(&self) -> Pause<'_> {
        const CONNECT: Duration = Duration::from_secs(1);
        let (began, by) = (clock::now(), current().id());
        if let Ok(mut state) = self.lock() {
            state.paused.push(by);
        }
        while let Ok(state) = self.lock() {
            let request = state.engine.timing().request();
            let ours = state.paused.first() == Some(&by);
            let time = match (ours && !state.pool.is_asking(), state.pool.is_connecting()) {
                (true, false) => break,
                (true, true) => CONNECT.min(request),
                // A request that hangs has had its time by then.
                (false, _) => request,
            };
            if began.after(time) <= clock::now() {
                break;
            }
            drop(state);
            sleep(Duration::from_millis(1));
        }
        Pause { shared: self, by }
    }

    /// Waits until all releases are confirmed and no guard holds a lock, up to a caller's deadline. Returns
    /// what is left then.
    pub(super) fn drained(self: &Arc<Self>) -> Result<Result<(), ShutdownError>, Dead> {
        let mut state = self.lock()?;
        let until = clock::now().after(state.engine.timing().answer_grace());
        loop {
            state = self.settle(state)?;
            let now = clock::now();
            let (guards, attempts) = (state.guards.len(), state.engine.attempts());
            let (_, unsettled) = state.unconfirmed.unsettled(guards, attempts);
            if unsettled == 0 || until <= now {
                return Ok(state.unconfirmed.left(now, guards, attempts));
            }
            // A request may concern other callers, too. It needs a request's whole time, or is left to the
            // pump.
            let left = until.since(now);
            if left >= state.engine.timing().request() {
                match self.pump(state, NO_LIMIT)? {
                    Pumped::Did(did) => {
                        state = did;
                        continue;
                    }
                    Pumped::Nothing(idle) => drop(idle),
                }
            } else {
                self.wake_workers(&state);
                drop(state);
            }
            // A request is in flight, or waits for its next try.
            sleep(left.min(Duration::from_millis(1)));
            state = self.lock()?;
        }
    }

    /// Ends the driver, which nobody uses any more: finishes releases and closes the sessions, within a
    /// request's time limit, and ends the threads.
    pub(super) fn end(self: &Arc<Self>) -> Result<(), Dead> {
        let mut state = self.lock()?;
        state.engine.close(clock::now());
        let until = clock::now().after(state.engine.timing().request());
        while (state.engine.sessions() > 0 || state.engine.attempts() > 0) && clock::now() < until {
            state = match self.pump(state, until)? {
                Pumped::Did(state) => state,
                Pumped::Nothing(state) => {
                    // A request is in flight, or waits for its next try.
                    drop(state);
                    sleep(Duration::from_millis(1));
                    self.lock()?
                }
            };
        }
        // The last answer may have caused events.
        state = self.settle(state)?;
        state.stopped = true;
        let dropped = state.pool.drop_all();
        drop(state);
        self.timers.notify_all();
        drop(dropped);
        Ok(())
    }
}

/// While this exists, only threads that have one begin requests.
pub(super) struct Pause<'a> {
    shared: &'a Shared,
    by: ThreadId,
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        // In a fork, the copied mutex may be locked for ever.
        if self.shared.process.is_current()
            && let Ok(mut state) = self.shared.lock()
            && let Some(at) = state.paused.iter().rposition(|by| *by == self.by)
        {
            state.paused.remove(at);
            self.shared.wake_workers(&state);
        }
    }
}

fn check_out(
    state: &mut State,
    dispatch: Dispatch,
    sent: Instant,
    until: Instant,
    alone: bool,
) -> Start {
    let Dispatch { id, connection, request, deadline } = dispatch;
    let waits = request.waits();
    let for_waits = state.engine.waits_on(connection);
    let Some(backend) = state.pool.take(connection, id, waits, for_waits) else {
        return Start::NotSent(id);
    };
    let budget = deadline.min(until).since(sent);
    let job = Job { backend, connection, id, request, sent, budget };
    if waits || alone { Start::Apart(job) } else { Start::Here(job) }
}
