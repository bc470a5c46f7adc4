//! A seeded generator for jitter. Not for secrets.

use core::time::Duration;

/// `SplitMix64` (Steele, Lea, Flood 2014): one word of state, so that an engine can be hashed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `count`; 0 below 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % count).unwrap_or_default()
    }

    /// A duration in the upper half of `full`: random enough that two waiters do not march in
    /// step, and never so short that a waiter spins.
    pub(crate) fn jitter(&mut self, full: Duration) -> Duration {
        let half = full / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half.saturating_add(Duration::from_nanos(self.next() % (nanos + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        // The first numbers of the authors' own program for this seed.
        let mut rng = Rng::new(1_234_567);
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([rng.next(), rng.next(), rng.next()], expected);
    }

    #[test]
    fn jitter_stays_in_the_upper_half_and_varies() {
        let full = Duration::from_millis(10);
        let mut rng = Rng::new(7);
        let drawn: alloc::vec::Vec<_> = (0..1000).map(|_| rng.jitter(full)).collect();
        assert!(drawn.iter().all(|d| *d >= full / 2 && *d <= full));
        assert!(drawn.iter().any(|d| *d < full * 6 / 10), "the low end is reached");
        assert!(drawn.iter().any(|d| *d > full * 9 / 10), "the high end is reached");
        assert_eq!(Rng::new(7).jitter(full), drawn[0], "the same seed gives the same jitter");
        rng.jitter(Duration::MAX);
        assert_eq!(rng.jitter(Duration::ZERO), Duration::ZERO);
    }
}
