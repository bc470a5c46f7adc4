//! Pins: the writes of transactions that have pinned a lock are in the order of its fences.

use crate::fence::Fence;
use alloc::format;
use alloc::string::String;

/// A write of the holder that was granted `fence` commits after one of `last`.
pub(in super::super) fn check(last: Fence, fence: Fence) -> Result<(), String> {
    if fence < last { Err(format!("fence {fence} wrote after fence {last}")) } else { Ok(()) }
}
