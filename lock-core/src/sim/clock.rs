//! Clocks that run at different rates and show different times.

use crate::time::Instant;
use core::time::Duration;

/// How fast a clock runs against real time, as a fraction.
///
/// k = 5/6 is `(1 − ρ) / (1 + ρ)` for ρ = 1/11: [`SLOW`](Self::SLOW) and [`FAST`](Self::FAST) are
/// the corners of what the theorem in [`Timing`](crate::Timing) allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    num: u32,
    den: u32,
}

impl Rate {
    /// Real time.
    pub const TRUE: Self = Self::new(1, 1);
    /// The slowest clock that is allowed.
    pub const SLOW: Self = Self::new(10, 11);
    /// The fastest clock that is allowed.
    pub const FAST: Self = Self::new(12, 11);

    /// A clock that counts `num` seconds in `den` real ones. Neither may be zero.
    pub const fn new(num: u32, den: u32) -> Self {
        Self { num, den }
    }
}

/// A clock: what it shows is a function of real time, so it needs no ticking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clock {
    rate: Rate,
    /// What it shows at real time zero, in nanoseconds; falls when the clock is stopped.
    origin: i128,
}

impl Clock {
    /// A clock that runs at `rate` and shows `offset` at real time zero.
    pub const fn new(rate: Rate, offset: Duration) -> Self {
        Self { rate, origin: offset.as_nanos() as i128 }
    }

    /// What it shows at `real`.
    pub fn read(&self, real: Instant) -> Instant {
        let passed = i128::from(real.as_nanos()) * i128::from(self.rate.num);
        let shown = self.origin + passed / i128::from(self.rate.den);
        Instant::from_nanos(u64::try_from(shown.max(0)).unwrap_or(u64::MAX))
    }

    /// The first real time at which it shows `local` or more.
    pub fn when(&self, local: Instant) -> Instant {
        let to_pass = i128::from(local.as_nanos()) - self.origin;
        let (num, den) = (i128::from(self.rate.num), i128::from(self.rate.den));
        let real = (to_pass * den + num - 1).div_euclid(num).max(0);
        Instant::from_nanos(u64::try_from(real).unwrap_or(u64::MAX))
    }

    /// Steps it forward.
    pub(super) fn step(&mut self, by: Duration) {
        self.origin += by.as_nanos() as i128;
    }

    /// Sets it back.
    pub(super) fn set_back(&mut self, by: Duration) {
        self.origin -= by.as_nanos() as i128;
    }

    /// Takes back what it counted between two real times, as a clock does that stands still while
    /// the machine sleeps.
    pub(super) fn stood_still(&mut self, from: Instant, to: Instant) {
        let counted = self.read(to).since(self.read(from));
        self.origin -= counted.as_nanos() as i128;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_the_first_time_that_reads_so_much() {
        for rate in [Rate::SLOW, Rate::TRUE, Rate::FAST, Rate::new(1, 3)] {
            let clock = Clock::new(rate, Duration::from_nanos(1_000));
            for local in 1_001..1_200 {
                let local = Instant::from_nanos(local);
                let real = clock.when(local);
                assert!(clock.read(real) >= local, "{rate:?} {local:?}");
                let before = real.before(Duration::from_nanos(1));
                assert!(real == before || clock.read(before) < local, "{rate:?} {local:?}");
            }
            assert_eq!(clock.when(Instant::from_nanos(7)), Instant::from_nanos(0));
        }
    }

    #[test]
    fn the_corners_are_five_sixths_apart() {
        let real = Instant::from_nanos(11_000_000_000);
        let slow = Clock::new(Rate::SLOW, Duration::ZERO).read(real).as_nanos();
        let fast = Clock::new(Rate::FAST, Duration::ZERO).read(real).as_nanos();
        assert_eq!(slow * 6, fast * 5);
    }

    #[test]
    fn a_clock_can_stand_still() {
        let mut clock = Clock::new(Rate::TRUE, Duration::ZERO);
        clock.stood_still(Instant::from_nanos(10), Instant::from_nanos(30));
        assert_eq!(clock.read(Instant::from_nanos(35)), Instant::from_nanos(15));
    }
}
