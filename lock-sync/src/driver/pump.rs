//! Commands on their way to the server and back, and the threads that see to it.

use super::state::{Outcome, State};
use super::{Command, NO_LIMIT, Reply, Speaks};
use crate::backend::{Backend, Backends};
use crate::clock;
use lock_core::{Dispatch, DispatchId, Engine, Failure, Instant, LockId, Release, Timing};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) struct Shared<F: Backends> {
    state: Mutex<State<F>>,
    /// The pump and the keeper sleep on it.
    pub(super) timers: Condvar,
    pub(super) timing: Timing,
    /// How long the server may keep what was not released.
    pub(super) within: Duration,
}

/// What came of an attempt to carry out a command.
pub(super) enum Pumped<'a, F: Backends> {
    Did(MutexGuard<'a, State<F>>),
    /// None is due, or somebody else is at it.
    Nothing(MutexGuard<'a, State<F>>),
}

/// A command that has been taken from the engine, and who is to carry it out.
struct Job<F: Backends> {
    backend: F::Backend,
    id: DispatchId,
    command: Command<F>,
    sent: Instant,
    budget: Duration,
}

/// How a command that is due leaves.
enum Leaving<F: Backends> {
    Here(Job<F>),
    /// On a thread of its own, which nobody waits for.
    Apart(Job<F>),
    /// It needs no server.
    Answered(Result<Reply<F>, Failure>, Option<F::Backend>),
}

impl<F: Backends> Shared<F> {
    pub(super) fn new(engine: Engine<Speaks<F>>, backends: F, within: Duration) -> Self {
        let timing = *engine.timing();
        let state = Mutex::new(State::new(engine, backends));
        Self { state, timers: Condvar::new(), timing, within }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one command on this thread, if one is due and nobody is at it; has it carried out,
    /// if it waits at the server. It is to end by `until`.
    pub(super) fn pump<'a>(
        self: &'a Arc<Self>,
        state: MutexGuard<'a, State<F>>,
        until: Instant,
    ) -> Pumped<'a, F> {
        self.pump_as(state, until, false)
    }

    fn pump_as<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State<F>>,
        until: Instant,
        apart: bool,
    ) -> Pumped<'a, F> {
        let sent = clock::now();
        let Some(dispatch) = state.engine.poll_command(sent) else {
            return Pumped::Nothing(state);
        };
        let id = dispatch.id;
        match leave(&mut state, dispatch, sent, until, apart) {
            Leaving::Answered(reply, dropped) => {
                state.engine.handle_reply(clock::now(), id, reply);
                drop(state);
                drop(dropped);
            }
            Leaving::Here(job) => {
                // Others rely on the timers while this thread is away.
                self.rouse(&state);
                drop(state);
                self.carry_out(job);
            }
            Leaving::Apart(job) => {
                drop(state);
                self.carry_out_apart(job);
            }
        }
        Pumped::Did(self.lock())
    }

    fn carry_out(&self, mut job: Job<F>) {
        let execute = || job.backend.execute(&job.command, job.sent, job.budget);
        let reply = catch_unwind(AssertUnwindSafe(execute))
            .unwrap_or_else(|_| Err(Failure::Unknown("the database driver panicked".to_string())));
        let mut state = self.lock();
        let dropped = state.lanes.give_back(job.id, job.backend);
        state.engine.handle_reply(clock::now(), job.id, reply);
        drop(state);
        drop(dropped);
    }

    fn carry_out_apart(self: &Arc<Self>, job: Job<F>) {
        // Where the system has no thread to give, the job is still here.
        let job = Arc::new(Mutex::new(Some(job)));
        let (shared, taken) = (self.clone(), job.clone());
        let take =
            |job: &Mutex<Option<Job<F>>>| job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let life = move || {
            if let Some(job) = take(&taken) {
                shared.carry_out(job);
                let mut state = shared.lock();
                state.drain();
                shared.rouse(&state);
            }
        };
        let spawned = std::thread::Builder::new().name("lock lane".to_string()).spawn(life);
        // The thread, if there is one, may not have taken it yet.
        if let Err(error) = spawned
            && let Some(job) = take(&job)
        {
            tracing::warn!(%error, "no thread for a request: it is made on another's");
            self.carry_out(job);
        }
    }

    /// Has `id` released, and waits for it as long as patience lasts.
    pub(super) fn release<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State<F>>,
        id: LockId,
    ) -> Release {
        let until = clock::now().after(self.timing.patience());
        state.callers.insert(id, Default::default());
        state.engine.release(clock::now(), id);
        let release = loop {
            state.drain();
            let caller = state.callers.entry(id).or_default();
            if let Some(Outcome::Released(release)) = caller.outcome.take() {
                break release;
            }
            let now = clock::now();
            if until <= now {
                break Release::Unconfirmed(Failure::Unknown("no answer in time".to_string()));
            }
            state = match self.pump(state, NO_LIMIT) {
                Pumped::Did(state) => state,
                Pumped::Nothing(state) => self.sleep(state, id, Some(until.since(now))),
            };
        };
        self.leave(state, id);
        release
    }

    /// Sleeps until something has become of `id`.
    pub(super) fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<F>>,
        id: LockId,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State<F>> {
        self.rouse(&state);
        let caller = state.callers.entry(id).or_default();
        caller.asleep = true;
        let wake = caller.wake.clone();
        state = match limit {
            None => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                wake.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.callers.entry(id).or_default().asleep = false;
        state
    }

    pub(super) fn leave(&self, mut state: MutexGuard<'_, State<F>>, id: LockId) {
        state.callers.remove(&id);
        self.rouse(&state);
    }

    /// Wakes the pump and the keeper if they would sleep through something.
    pub(super) fn rouse(&self, state: &State<F>) {
        let timer = state.timer(clock::now());
        if state.engine.has_command() || state.asleep_until.iter().any(|until| timer < *until) {
            self.timers.notify_all();
        }
    }

    /// The pump's life (`io`), or the keeper's.
    pub(super) fn background(self: &Arc<Self>, io: bool) {
        loop {
            let mut state = self.lock();
            if state.stopped {
                return;
            }
            state.engine.handle_timeout(clock::now());
            state.drain();
            if io {
                state = match self.pump_as(state, NO_LIMIT, F::LANES) {
                    Pumped::Did(_) => continue,
                    Pumped::Nothing(state) => state,
                };
            } else {
                // What time has made due is the pump's to send.
                self.rouse(&state);
            }
            let now = clock::now();
            let until = state.timer(now);
            state.asleep_until[usize::from(io)] = until;
            let nap = until.since(now).max(Duration::from_millis(1));
            drop(self.timers.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Nobody uses the driver any more: closes the sessions, within a request's time, and has the
    /// threads end.
    pub(super) fn end(self: &Arc<Self>) {
        let mut state = self.lock();
        state.engine.close(clock::now());
        let until = clock::now().after(self.timing.request());
        while state.engine.sessions() > 0 && clock::now() < until {
            state = match self.pump(state, until) {
                Pumped::Did(state) => state,
                Pumped::Nothing(state) => {
                    // Something is under way, or is to be tried again.
                    drop(state);
                    std::thread::sleep(Duration::from_millis(1));
                    self.lock()
                }
            };
        }
        state.stopped = true;
        let dropped = state.lanes.drop_all();
        drop(state);
        self.timers.notify_all();
        drop(dropped);
    }
}

fn leave<F: Backends>(
    state: &mut State<F>,
    dispatch: Dispatch<Command<F>>,
    sent: Instant,
    until: Instant,
    apart: bool,
) -> Leaving<F> {
    let Dispatch { id, lane, command, deadline } = dispatch;
    if let Some(reply) = F::Backend::dropped(&command) {
        return Leaving::Answered(Ok(reply), state.lanes.drop_lane(lane));
    }
    let waits = F::Backend::waits(&command);
    let for_waits = state.engine.waits_on(lane);
    let Some(backend) = state.lanes.take(lane, id, waits, for_waits) else {
        let failure = Failure::NotSent("there is no connection".to_string());
        return Leaving::Answered(Err(failure), None);
    };
    let budget = deadline.min(until).since(sent);
    let job = Job { backend, id, command, sent, budget };
    if waits || apart { Leaving::Apart(job) } else { Leaving::Here(job) }
}
