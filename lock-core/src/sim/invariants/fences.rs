//! P2: of two grants of a name, the later has the greater fence.

use crate::fence::Fence;
use crate::name::LockName;
use crate::request::Mode;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// The last grants of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in super::super) struct Latest {
    pub(in super::super) any: Fence,
    pub(in super::super) exclusive: Fence,
}

/// Those who share a lock need not exclude one another.
pub(in super::super) fn granted(
    latest: &mut BTreeMap<LockName, Latest>,
    name: &LockName,
    fence: Fence,
    mode: Mode,
) -> Result<(), String> {
    let latest = latest.entry(name.clone()).or_default();
    let earlier = if mode == Mode::Shared { latest.exclusive } else { latest.any };
    latest.any = latest.any.max(fence);
    if mode == Mode::Exclusive {
        latest.exclusive = fence;
    }
    if fence <= earlier {
        return Err(format!("{name:?} was granted with fence {fence} after {earlier}"));
    }
    Ok(())
}
