//! The engine: many attempts, one queue a name, commands in batches.

use crate::error::Failure;
use crate::event::{Event, LockId};
use crate::name::{LockName, Owner};
use crate::protocol::{Action, Claim, Protocol, Verdict};
use crate::rng::Rng;
use crate::slot::{Context, Input, Phase, Slot};
use crate::time::Instant;
use crate::timing::Timing;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

/// What an engine is made with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The lease times.
    pub timing: Timing,
    /// 128 random bits that no other engine has: owners are made from it, and jitter.
    pub seed: u128,
    /// How many claims a command carries at most.
    pub batch: usize,
    /// How many commands may be under way at once.
    pub in_flight: usize,
}

impl Config {
    /// One command at a time, of up to 512 claims.
    pub fn new(timing: Timing, seed: u128) -> Self {
        Self { timing, seed, batch: 512, in_flight: 1 }
    }
}

/// Names one command that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DispatchId(u64);

/// A command for the server. Answer it exactly once, with
/// [`handle_reply`](Engine::handle_reply).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch<C> {
    /// Names it in the answer.
    pub id: DispatchId,
    /// What is to be asked.
    pub command: C,
    /// Give it up at this time, and say so: an answer that comes later is of no use.
    pub deadline: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UnderWay {
    action: Action,
    sent: Instant,
    ids: Vec<LockId>,
}

/// Many lock attempts over one server, as a value.
///
/// Its methods are of four kinds:
///
/// * **mutators**, what the caller wants: [`acquire`](Self::acquire), [`release`](Self::release);
/// * **`handle_*`**, what has happened: [`handle_reply`](Self::handle_reply),
///   [`handle_hint`](Self::handle_hint), [`handle_timeout`](Self::handle_timeout);
/// * **`poll_*`**, what is to be done: [`poll_command`](Self::poll_command),
///   [`poll_event`](Self::poll_event), [`poll_timeout`](Self::poll_timeout);
/// * **getters**.
///
/// After any mutator or `handle_*`, poll commands and events until both are `None`; then sleep until
/// [`poll_timeout`](Self::poll_timeout) or an answer. Every method takes the time it is called at,
/// which must not go backwards; calling `handle_timeout` too often does no harm.
///
/// A command is made when it is taken, and a lease counts from that instant: take one only to
/// send it at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Engine<P: Protocol> {
    protocol: P,
    config: Config,
    rng: Rng,
    last_id: u64,
    last_dispatch: u64,
    slots: BTreeMap<LockId, Slot>,
    /// Attempts for one name, first come first served; only the first talks to the server.
    queues: BTreeMap<LockName, VecDeque<LockId>>,
    /// When each slot wants to be looked at. Derived from `slots`; see `index`.
    timers: BTreeSet<(Instant, LockId)>,
    /// Slots with a command due. Derived from `slots`; see `index`.
    due: BTreeSet<(Action, LockId)>,
    /// What `timers` and `due` have of each slot.
    indexed: BTreeMap<LockId, (Option<Instant>, Option<Action>)>,
    under_way: BTreeMap<DispatchId, UnderWay>,
    events: VecDeque<Event>,
    /// Of the last answered command: the natural unit of a back-off.
    round_trip: Duration,
}

impl<P: Protocol> Engine<P> {
    /// An engine without attempts. Less than one claim a command, or one command at a time, counts
    /// as one.
    pub fn new(protocol: P, mut config: Config) -> Self {
        config.batch = config.batch.max(1);
        config.in_flight = config.in_flight.max(1);
        let rng = Rng::new((config.seed >> 64) as u64 ^ config.seed as u64);
        Self {
            protocol,
            config,
            rng,
            last_id: 0,
            last_dispatch: 0,
            slots: BTreeMap::new(),
            queues: BTreeMap::new(),
            timers: BTreeSet::new(),
            due: BTreeSet::new(),
            indexed: BTreeMap::new(),
            under_way: BTreeMap::new(),
            events: VecDeque::new(),
            round_trip: Duration::ZERO,
        }
    }

    // -- mutators -------------------------------------------------------------------------------

    /// Wants `name` until `give_up`, [`None`] for as long as it takes. With `once`, the first
    /// "busy" ends it.
    ///
    /// The server is asked once at least: an attempt that was never denied goes on for
    /// [`Timing::patience`] after `give_up`, and so does one whose claim is under way then.
    ///
    /// Leads to [`Event::Granted`] or [`Event::NotAcquired`], unless released before.
    pub fn acquire(
        &mut self,
        now: Instant,
        name: LockName,
        once: bool,
        give_up: Option<Instant>,
    ) -> LockId {
        self.handle_timeout(now);
        self.last_id += 1;
        let id = LockId(self.last_id);
        let owner = Owner::new(self.config.seed.wrapping_add(u128::from(self.last_id)));
        let queue = self.queues.entry(name.clone()).or_default();
        let first = queue.is_empty();
        let rival = queue.iter().any(|ahead| self.slots[ahead].wanted());
        queue.push_back(id);
        let give_up = give_up.unwrap_or(Instant::from_nanos(u64::MAX));
        let last_call = give_up.after(self.config.timing.patience());
        self.slots.insert(id, Slot::new(name, owner, once, give_up, last_call));
        let input = match (first, rival) {
            (true, _) => Input::Front,
            (false, true) => Input::Rival,
            (false, false) => Input::Tick,
        };
        self.step(now, id, input);
        id
    }

    /// Wants no more of an attempt: gives up waiting, frees what is held. Legal in every phase, and
    /// a no-op for an attempt that has ended.
    ///
    /// Leads to one [`Event::Released`], at once if nothing was ever sent.
    pub fn release(&mut self, now: Instant, id: LockId) {
        self.handle_timeout(now);
        self.step(now, id, Input::Release);
    }

    // -- what has happened ------------------------------------------------------------------------

    /// Takes the answer to a command, or what is known of its fate. An id that is not under way is
    /// ignored.
    pub fn handle_reply(&mut self, now: Instant, id: DispatchId, reply: Result<P::Reply, Failure>) {
        self.handle_timeout(now);
        let Some(UnderWay { action, sent, ids }) = self.under_way.remove(&id) else { return };
        if reply.is_ok() {
            self.round_trip = now.since(sent).min(Timing::MAX_BACK_OFF);
        }
        let verdicts =
            reply.and_then(|reply| self.protocol.verdicts(action, reply)).and_then(|verdicts| {
                if verdicts.len() == ids.len() {
                    Ok(verdicts)
                } else {
                    Err(Failure::Unknown("the reply has the wrong number of entries".into()))
                }
            });
        match verdicts {
            Ok(verdicts) => {
                for (id, verdict) in ids.into_iter().zip(verdicts) {
                    self.answer(now, id, Ok(verdict));
                }
            }
            Err(failure) => {
                for id in ids {
                    self.answer(now, id, Err(failure.clone()));
                }
            }
        }
    }

    /// Something may have changed about `name` at the server: whoever waits for it tries again
    /// now. Safety never rests on it.
    pub fn handle_hint(&mut self, now: Instant, name: &LockName) {
        self.handle_timeout(now);
        if let Some(front) = self.queues.get(name).and_then(|queue| queue.front()).copied() {
            self.step(now, front, Input::Hint);
        }
    }

    /// Notices what time alone has changed: deadlines passed, waits run out, retries due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.step(now, id, Input::Tick);
        }
    }

    // -- what is to be done -----------------------------------------------------------------------

    /// The next command to send, if one is due and may be under way: renewals before releases
    /// before claims. Its claims are sorted by name, so that two clients cannot deadlock, and no
    /// name is in it twice.
    ///
    /// May change after: any call but a getter.
    pub fn poll_command(&mut self, now: Instant) -> Option<Dispatch<P::Command>> {
        self.handle_timeout(now);
        if self.under_way.len() >= self.config.in_flight {
            return None;
        }
        let (action, _) = *self.due.first()?;
        let ids = self.batch(now, action);
        let claims = ids.iter().map(|id| self.claim(*id)).collect();
        let command = match action {
            Action::Acquire => self.protocol.acquire(claims),
            Action::Renew => self.protocol.renew(claims),
            Action::Release => self.protocol.release(claims),
        };
        let deadline = self.give_up_at(now, &ids);
        for id in &ids {
            self.step(now, *id, Input::Sent);
        }
        self.last_dispatch += 1;
        let id = DispatchId(self.last_dispatch);
        self.under_way.insert(id, UnderWay { action, sent: now, ids });
        Some(Dispatch { id, command, deadline })
    }

    /// The next thing to tell. May change after: any call but a getter.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) or
    /// [`poll_command`](Self::poll_command) if nothing else happens before; `None` for never.
    ///
    /// To be asked when commands and events are drained. May change after: any call but a getter.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    // -- getters ----------------------------------------------------------------------------------

    /// Whether [`poll_command`](Self::poll_command) would give a command that is already known to
    /// be due.
    pub fn has_command(&self) -> bool {
        !self.due.is_empty() && self.under_way.len() < self.config.in_flight
    }

    /// How many attempts are not yet settled, including those that only the engine still knows.
    pub fn attempts(&self) -> usize {
        self.slots.len()
    }

    /// Until when the attempt's lock is held if it is not renewed; `None` if it is not held.
    pub fn held_until(&self, id: LockId) -> Option<Instant> {
        match self.slots.get(&id)?.phase {
            Phase::Held { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// The lease times it was made with.
    pub fn timing(&self) -> &Timing {
        &self.config.timing
    }

    /// What tells engines apart for a search through states: without counters, jitter and what is
    /// derived, with times that are waited for as `time` sees them, and times at which something
    /// was sent as `sent_at` does.
    #[cfg(feature = "sim")]
    pub(crate) fn project(
        &self,
        time: impl Fn(Instant) -> Instant,
        sent_at: impl Fn(Instant) -> Instant,
    ) -> impl core::hash::Hash {
        let slots = self.slots.iter();
        let slots: Vec<_> = slots.map(|(id, slot)| (*id, slot.project(&time, &sent_at))).collect();
        let under_way = self.under_way.values();
        let under_way: Vec<_> = under_way
            .map(|command| UnderWay { sent: sent_at(command.sent), ..command.clone() })
            .collect();
        (self.last_id, slots, self.queues.clone(), under_way)
    }

    // -- inside -----------------------------------------------------------------------------------

    fn answer(&mut self, now: Instant, id: LockId, answer: Result<Verdict, Failure>) {
        self.step(now, id, Input::Answer(answer));
    }

    /// Steps a slot, keeps the indexes true and lets the next local rival come to the front.
    fn step(&mut self, now: Instant, id: LockId, input: Input) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let mut cx = Context {
            id,
            now,
            timing: &self.config.timing,
            round_trip: self.round_trip,
            rng: &mut self.rng,
            events: &mut self.events,
        };
        slot.step(input, &mut cx);
        // The phase it is in now may have a limit that has passed already.
        slot.step(Input::Tick, &mut cx);
        let next = if slot.contends() { None } else { self.leave_queue(id) };
        self.index(now, id);
        if self.slots[&id].phase == Phase::Gone {
            self.slots.remove(&id);
            self.indexed.remove(&id);
        }
        if let Some(next) = next {
            self.step(now, next, Input::Front);
        }
    }

    /// Takes an attempt out of its name's queue; the one that is in front thereby, if it was not.
    fn leave_queue(&mut self, id: LockId) -> Option<LockId> {
        let name = &self.slots[&id].name;
        let queue = self.queues.get_mut(name)?;
        let at = queue.iter().position(|waiting| *waiting == id)?;
        queue.remove(at);
        if queue.is_empty() {
            self.queues.remove(name);
            return None;
        }
        if at == 0 { queue.front().copied() } else { None }
    }

    fn index(&mut self, now: Instant, id: LockId) {
        let slot = &self.slots[&id];
        let new = (slot.wake(now), slot.due(now));
        let old = self.indexed.insert(id, new).unwrap_or((None, None));
        if old == new {
            return;
        }
        if let Some(at) = old.0 {
            self.timers.remove(&(at, id));
        }
        if let Some(action) = old.1 {
            self.due.remove(&(action, id));
        }
        self.timers.extend(new.0.map(|at| (at, id)));
        self.due.extend(new.1.map(|action| (action, id)));
    }

    /// The attempts that the next command is about, sorted by name.
    fn batch(&self, now: Instant, action: Action) -> Vec<LockId> {
        let mut ids: Vec<LockId> = self
            .due
            .range((action, LockId(0))..=(action, LockId(u64::MAX)))
            .map(|(_, id)| *id)
            .take(self.config.batch)
            .collect();
        if action == Action::Renew {
            let soon = now.after(self.config.timing.renew_early());
            let early = self
                .timers
                .range(..=(soon, LockId(u64::MAX)))
                .map(|(_, id)| *id)
                .filter(|id| self.slots[id].due(soon) == Some(Action::Renew))
                .filter(|id| self.slots[id].due(now).is_none());
            ids.extend(early.take(self.config.batch - ids.len()));
        }
        ids.sort_by(|a, b| (&self.slots[a].name, a).cmp(&(&self.slots[b].name, b)));
        // A lost attempt and its successor may both be releasing one name: one after the other.
        ids.dedup_by(|a, b| self.slots[a].name == self.slots[b].name);
        ids
    }

    fn claim(&self, id: LockId) -> Claim {
        let slot = &self.slots[&id];
        Claim { name: slot.name.clone(), owner: slot.owner }
    }

    /// A request's time: its budget, but no longer than the leases that it is to renew.
    fn give_up_at(&self, now: Instant, ids: &[LockId]) -> Instant {
        let budget = now.after(self.config.timing.request());
        match ids.iter().filter_map(|id| self.held_until(*id)).max() {
            Some(lost) => budget.min(lost),
            None => budget,
        }
    }
}
