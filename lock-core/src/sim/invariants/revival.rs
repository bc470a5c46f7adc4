//! P5, at the client: events come in an order that makes sense. A lock that was lost is never held
//! again, and of an attempt that has ended nothing is told.

use crate::event::Event;
use crate::sim::client::{Attempt, Stage};
use crate::sim::target::Kind;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

/// Follows an attempt from event to event; [`None`] once it has ended.
pub(in super::super) fn told(
    attempt: &Attempt,
    event: &Event,
    now: Instant,
) -> Result<Option<Stage>, String> {
    let next = match (attempt.stage, event) {
        (Stage::Wanting, Event::Waiting { .. } | Event::Trouble { .. }) => Stage::Wanting,
        (Stage::Wanting, Event::Granted { deadline, .. }) if now < *deadline => Stage::Held,
        // A caller that releases may not yet have heard what was told before.
        (Stage::Wanting | Stage::Releasing, Event::NotAcquired { .. }) => Stage::Abandoned,
        (Stage::Held, Event::Renewed { deadline, .. }) if attempt.deadline <= Some(*deadline) => {
            Stage::Held
        }
        (Stage::Held, Event::RenewalFailed { .. }) => Stage::Held,
        (Stage::Held, Event::Lost { .. }) => Stage::Lost,
        (Stage::Releasing, Event::Lost { .. } | Event::Trouble { .. }) => Stage::Releasing,
        // What was due at that moment, such as the end of the attempt ahead, was told before the release.
        (Stage::Releasing, Event::Waiting { .. }) if attempt.kind != Kind::AnyOf => {
            Stage::Releasing
        }
        (Stage::Releasing, Event::Released { .. }) => return Ok(None),
        (stage, event) => return Err(format!("at {now:?}, {stage:?}, told {event:?}")),
    };
    Ok(Some(next))
}
