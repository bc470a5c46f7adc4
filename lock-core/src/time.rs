//! Time as a value that the caller passes in.

use core::time::Duration;

/// A point on the caller's clock, in nanoseconds since an origin of the caller's choice.
///
/// The core never reads a clock. The clock it is fed must never go backwards and **must count the
/// time that the machine is suspended**: `CLOCK_BOOTTIME` on Linux. The standard library's clock
/// does not count it there, and a laptop that slept through its lease would wake up believing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Instant(u64);

impl Instant {
    /// The end of time: later than anything is waited for.
    pub(crate) const END: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the clock's origin, the unit that is stored in tables.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `duration` later; the end of time when that is beyond it.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The instant `duration` earlier; the origin when that is before it.
    #[must_use]
    pub const fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// `duration` in nanoseconds, at most `u64::MAX` of them (584 years).
const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_stored_in_whole_microseconds() {
        let instant = Instant::from_nanos(5_000_000_999);
        assert_eq!((instant.as_nanos(), instant.as_micros()), (5_000_000_999, 5_000_000));
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Instant::from_nanos(u64::MAX);
        assert_eq!(Instant::from_nanos(5).after(Duration::MAX), end);
        assert_eq!(Instant::from_nanos(5).after(Duration::from_secs(u64::MAX / 2)), end);
        assert_eq!(end.after(Duration::from_nanos(1)), end);
        assert_eq!(Instant::from_nanos(5).before(Duration::MAX), Instant::from_nanos(0));
        assert_eq!(Instant::from_nanos(5).since(end), Duration::ZERO);
        assert_eq!(end.since(Instant::from_nanos(1)), Duration::from_nanos(u64::MAX - 1));
    }
}
