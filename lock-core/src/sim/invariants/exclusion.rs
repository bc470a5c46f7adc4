//! P1: at any moment at most one attempt for a name is held, as its caller would be told then.

use crate::name::LockName;
use alloc::format;
use alloc::string::String;

/// Who believes to hold what, as (lock, client), in any order.
pub(in super::super) fn check(beliefs: &[(&LockName, usize)]) -> Result<(), String> {
    for (at, (name, client)) in beliefs.iter().enumerate() {
        if let Some((_, other)) = beliefs[..at].iter().find(|(held, _)| held == name) {
            return Err(format!("clients {other} and {client} hold {name:?} at once"));
        }
    }
    Ok(())
}
