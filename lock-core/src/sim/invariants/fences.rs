//! P2: of two grants of a name, the later has the greater fence.

use crate::fence::Fence;
use crate::name::LockName;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// `latest` has the fence of each name's last grant.
pub(in super::super) fn granted(
    latest: &mut BTreeMap<LockName, Fence>,
    name: &LockName,
    fence: Fence,
) -> Result<(), String> {
    match latest.insert(name.clone(), fence) {
        Some(earlier) if fence <= earlier => {
            Err(format!("{name:?} was granted with fence {fence} after {earlier}"))
        }
        _ => Ok(()),
    }
}
