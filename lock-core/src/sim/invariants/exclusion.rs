//! P1: at any moment at most one attempt for a name is held, as its caller would be told then.

use crate::name::LockName;
use crate::request::Mode;
use alloc::format;
use alloc::string::String;

/// Who believes to hold what, as (lock, client, how), in any order.
pub(in super::super) fn check(beliefs: &[(&LockName, usize, Mode)]) -> Result<(), String> {
    for (at, (name, client, mode)) in beliefs.iter().enumerate() {
        let excludes = |other: &Mode| *mode == Mode::Exclusive || *other == Mode::Exclusive;
        let mut others = beliefs[..at].iter();
        if let Some((_, other, _)) = others.find(|(held, _, by)| held == name && excludes(by)) {
            return Err(format!("clients {other} and {client} hold {name:?} at once"));
        }
    }
    Ok(())
}
