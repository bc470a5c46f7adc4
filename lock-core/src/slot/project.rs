//! The state that tells slots apart for a search through states.

use super::sight::Known;
use super::state::{Phase, Slot, Watched};
use crate::fence::Fence;
use crate::outcome::Holder;
use crate::time::Instant;

impl Slot {
    /// The same with times that are waited for as `time` sees them, times at which something was
    /// sent as `sent_at` does, tickets as `ticket` does, and no more of the counters than whether they count anything.
    pub(crate) fn project(
        &self,
        time: impl Fn(Instant) -> Instant,
        sent_at: impl Fn(Instant) -> Instant,
        since: impl Fn(u64) -> u64,
        ticket: impl Fn(u64) -> u64,
    ) -> Self {
        let phase = match self.phase {
            Phase::Waiting { retry_at } => Phase::Waiting { retry_at: time(retry_at) },
            Phase::Claiming { sent, waiting } => Phase::Claiming { sent: sent_at(sent), waiting },
            Phase::Draining { until } => Phase::Draining { until: time(until) },
            Phase::Held { deadline, renew_at, renewal_sent } => Phase::Held {
                deadline: time(deadline),
                renew_at: time(renew_at),
                renewal_sent: renewal_sent.map(&sent_at),
            },
            Phase::Releasing { retry_at, in_flight } => {
                Phase::Releasing { retry_at: time(retry_at), in_flight }
            }
            phase @ (Phase::Queued | Phase::Lost { .. } | Phase::Gone) => phase,
        };
        Self {
            phase,
            give_up: time(self.give_up),
            answer_deadline: time(self.answer_deadline),
            may_hold_until: self.may_hold_until.map(&time),
            stragglers_until: self.stragglers_until.map(&time),
            contention: self.contention.project(sent_at, since, ticket),
            back_off: self.back_off.project(),
            // It is the one of its lease, whichever that is.
            untold: self.untold.map(|_| Fence::new(0)),
            // These are only told.
            holder: self.holder.clone().filter(|_| !self.outdated).map(Holder::timeless),
            watched: self.watched.map(|it| Watched { since: time(it.since.after(it.ttl)), ..it }),
            outdated: false,
            withheld: false,
            // In the queue, it decides until when there is to be an answer.
            told: match phase {
                Phase::Queued => self.told.min(Known::Held),
                _ => Known::Nothing,
            },
            denied_at: Instant::default(),
            granted_at: Instant::default(),
            // While it is held, it is only told.
            failure: self.failure.clone().filter(|_| !matches!(phase, Phase::Held { .. })),
            ..self.clone()
        }
    }
}
