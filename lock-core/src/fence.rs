//! Fencing tokens.

use core::fmt;
use core::num::TryFromIntError;

/// A fencing token: greater for every later grant of the same name.
///
/// It is fixed for one hold and comes with the grant. Give it to the resource that the lock
/// protects, and let the resource refuse a fence lower than one it has seen: that is what stops a
/// holder that was paused, lost its lock and does not know it yet (Kleppmann, *How to do
/// distributed locking*, 2016).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Fence(u64);

impl Fence {
    /// The fence with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number to hand to the protected resource. It fits a signed 64-bit integer.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Fence {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<Fence> for u64 {
    fn from(fence: Fence) -> Self {
        fence.0
    }
}

/// For databases, whose `bigint` has a sign.
impl TryFrom<i64> for Fence {
    type Error = TryFromIntError;

    fn try_from(number: i64) -> Result<Self, TryFromIntError> {
        number.try_into().map(Self)
    }
}

/// For databases, whose `bigint` has a sign. It succeeds for the fence of every grant.
impl TryFrom<Fence> for i64 {
    type Error = TryFromIntError;

    fn try_from(fence: Fence) -> Result<Self, TryFromIntError> {
        fence.0.try_into()
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_fence_is_shown_as_its_number() {
        assert_eq!(Fence::new(42).to_string(), "42");
        assert_eq!(Fence::new(42).get(), 42);
        assert!(Fence::new(42) < Fence::new(43));
    }

    #[test]
    fn a_fence_is_a_number_of_either_kind() {
        let fence = Fence::from(42);
        assert_eq!((u64::from(fence), i64::try_from(fence)), (42, Ok(42)));
        assert_eq!(Fence::try_from(42_i64), Ok(fence));
        assert!(Fence::try_from(-1_i64).is_err() && i64::try_from(Fence::new(u64::MAX)).is_err());
    }
}
