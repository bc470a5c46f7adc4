//! Fencing tokens.

use core::fmt;

/// A fencing token: greater for every later grant of the same name.
///
/// It is fixed for one hold and comes with the grant. Give it to the resource that the lock
/// protects, and let the resource refuse a fence lower than one it has seen: that is what stops a
/// holder that was paused, lost its lock and does not know it yet (Kleppmann, *How to do
/// distributed locking*, 2016).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
}
