//! One engine again: it must say the same, and its driver must have called it lawfully.

use super::{Answer, At, Difference, Exchange, Hold, Seen, Trace};
use crate::engine::{Dispatch, DispatchId, Engine, Which};
use crate::error::Failure;
use crate::event::{Event, LockId};
use crate::outcome::Reply;
use crate::record::Call;
use crate::request::Mode;
use crate::sim::server::Connection;
use crate::sql::ConnectError;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// An engine that is called again.
struct Replay {
    engine: Engine,
    /// The time of the last call.
    last: Instant,
    /// Requests by their ids. The number is the exchange's, [`None`] once it was answered.
    sent: BTreeMap<DispatchId, Option<usize>>,
    modes: BTreeMap<LockId, Mode>,
    /// The holds that go on, by the exchange's number.
    held: BTreeMap<LockId, usize>,
    seen: Seen,
}

/// Replays a trace.
pub(super) fn replay(which: usize, trace: &Trace) -> Result<Seen, Difference> {
    let (capabilities, config) = (trace.head.capabilities.clone(), trace.head.config.clone());
    let engine = match trace.head.connected {
        true => Engine::new(capabilities, config),
        false => Engine::unconnected(capabilities, config),
    };
    let mut replay = Replay {
        engine,
        last: Instant::default(),
        sent: BTreeMap::new(),
        modes: BTreeMap::new(),
        held: BTreeMap::new(),
        seen: Seen::default(),
    };
    for (at, line) in trace.lines.iter().enumerate() {
        // The first line is the head.
        let number = at + 2;
        let differs = |what| Difference { trace: trace.name.clone(), line: number, what };
        let now = line.now.unwrap_or(replay.last);
        if now < replay.last {
            return Err(differs(format!("the time went back from {:?} to {now:?}", replay.last)));
        }
        if line.read < now {
            let read = line.read;
            return Err(differs(format!("the call of {read:?} has the time of {now:?}")));
        }
        replay.last = now;
        if matches!(line.call, Call::Refused) {
            break;
        }
        replay.call((which, number), now, line.read, &line.call).map_err(differs)?;
    }
    let end = trace.lines.last().map(|line| line.read).unwrap_or_default();
    for at in replay.held.into_values() {
        let hold = &mut replay.seen.holds[at];
        hold.until = hold.until.min(end);
    }
    Ok(replay.seen)
}

/// Compares what the driver was told with what the engine says now.
fn same<T: PartialEq + core::fmt::Debug>(told: &T, says: &T) -> Result<(), String> {
    match told == says {
        true => Ok(()),
        false => Err(format!("the driver was told {told:?}, and the engine says {says:?}")),
    }
}

impl Replay {
    fn call(&mut self, at: At, now: Instant, read: Instant, call: &Call) -> Result<(), String> {
        match call {
            Call::Want(which, wanted, id) => {
                // Several at once are exclusive.
                let one = matches!(which, Which::One(_));
                let mode = if one { wanted.mode } else { Mode::Exclusive };
                same(id, &self.engine.want(now, which.clone(), wanted.clone()))?;
                self.modes.insert(*id, mode);
            }
            Call::Release(id, keep) => {
                self.engine.release_after(now, *id, *keep);
                self.ends(*id, now);
            }
            Call::Open => self.engine.open(now),
            Call::Close => self.engine.close(now),
            Call::Timeout => self.engine.handle_timeout(now),
            Call::Connect(result) => {
                self.engine.handle_connect(now, result.clone().map_err(ConnectError::Failed));
            }
            Call::Refused => {}
            Call::Reply(id, reply) => {
                self.answered(now, *id, reply)?;
                self.engine.handle_reply(now, *id, reply.clone());
            }
            Call::PollClose(closes) => same(closes, &self.engine.poll_close(now))?,
            Call::PollConnect(connects) => same(connects, &self.engine.poll_connect(now))?,
            Call::PollRequest(told) => {
                let dispatch = self.engine.poll_request(now);
                same(told, &dispatch.as_ref().map(|one| format!("{one:?}")))?;
                if let Some(Dispatch { id, connection, request, .. }) = dispatch {
                    self.sent.insert(id, Some(self.seen.exchanges.len()));
                    let by = Connection { client: at.0, number: 0, id: connection };
                    let exchange = Exchange { at, by, request, sent: now, answer: None };
                    self.seen.exchanges.push(exchange);
                }
            }
            Call::Event(told) => {
                let event = self.engine.poll_event();
                same(&Some(told), &event.as_ref().map(|one| format!("{one:?}")).as_ref())?;
                if let Some(event) = event {
                    self.heard(at, read, event);
                }
            }
            Call::Guard(id, until) => {
                let least = self.engine.held_until(*id).unwrap_or_default();
                // A guard may know that it is lost, or be gone.
                if *until > least && *until < Instant::END {
                    return Err(format!(
                        "the guard of {id:?} counts until {until:?}, and the engine's hold until {least:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        now: Instant,
        id: DispatchId,
        reply: &Result<Reply, Failure>,
    ) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(&id) else {
            return Err(format!("{id:?} was never sent, and it is answered"));
        };
        let Some(exchange) = sent.take() else {
            return Err(format!("{id:?} is answered twice"));
        };
        let exchange = &mut self.seen.exchanges[exchange];
        let answer = match reply {
            Ok(Reply::Outcomes(outcomes)) => Answer::Outcomes(outcomes.clone()),
            Ok(Reply::Opened(name)) => Answer::Opened(name.clone()),
            // Who waited may have had the lock for a moment.
            Err(Failure::Rejected { .. }) if exchange.request.waits() => Answer::Unknown,
            Ok(_) | Err(Failure::NotSent(_) | Failure::Rejected { .. }) => Answer::Nothing,
            Err(Failure::Unknown(_) | Failure::Gone(_)) => Answer::Unknown,
        };
        exchange.answer = Some((now, answer));
        Ok(())
    }

    fn heard(&mut self, at: At, read: Instant, event: Event) {
        match event {
            Event::Granted { id, fence, deadline } => {
                let several = self.engine.fences(id);
                let one = self.engine.name(id).filter(|_| several.is_empty());
                let locks: Vec<_> =
                    one.map(|name| (name.clone(), fence)).into_iter().chain(several).collect();
                let mode = self.modes.get(&id).copied().unwrap_or_default();
                self.held.insert(id, self.seen.holds.len());
                self.seen.holds.push(Hold { at, locks, mode, since: read, until: deadline });
            }
            Event::Renewed { id, deadline } => {
                if let Some(hold) = self.held.get(&id) {
                    self.seen.holds[*hold].until = deadline;
                }
            }
            Event::Lost { id, .. } => self.ends(id, read),
            _ => {}
        }
    }

    /// The hold has ended by `now`, if its deadline had not passed before.
    fn ends(&mut self, id: LockId, now: Instant) {
        if let Some(hold) = self.held.remove(&id) {
            let until = &mut self.seen.holds[hold].until;
            *until = now.min(*until);
        }
    }
}
