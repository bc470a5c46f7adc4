//! An attempt that waits behind a hold of its own client knows that somebody has the lock.

use crate::request::Mode;
use crate::sim::client::{Attempt, Stage};
use alloc::format;
use alloc::string::String;

/// Looks at what a client's callers were told. One that shares may be on its way out.
pub(in super::super) fn check(attempts: &[Attempt]) -> Result<(), String> {
    let holds = |one: &&Attempt| one.stage == Stage::Held && one.mode == Mode::Exclusive;
    for held in attempts.iter().filter(holds).filter(|held| held.name().is_some()) {
        let waits = |one: &&Attempt| one.stage == Stage::Wanting && one.name() == held.name();
        if let Some(unaware) = attempts.iter().filter(waits).find(|one| !one.told.0) {
            return Err(format!("{:?} waits for {:?}, untold", unaware.id, held.id));
        }
    }
    Ok(())
}
