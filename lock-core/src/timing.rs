//! How long a lease counts, and when to do what about it.

use crate::error::TimingError;
use crate::time::Instant;
use core::time::Duration;

/// The times that a lease lives by.
///
/// The one theorem: the client reads its clock *c0* before the first byte of a request goes out.
/// The server, later, counts `ttl` from its own clock. The hold is valid while the client's clock
/// is below `c0 + k·ttl − margin`, and that is safe if and only if
/// `k ≤ (1 − ρ client) / (1 + ρ server)`, where the ρ are the greatest relative errors of the two
/// clocks' *rates*. Nothing is assumed about what time the clocks show. `chrony` slews a clock by
/// up to 8.3 %, which gives 0.846 for two clocks slewed in opposite directions; hence k = 5/6.
/// (Gray and Cheriton, *Leases*, 1989.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Timing {
    ttl: Duration,
    /// The longest TTL of all that use the server's locks.
    longest: Duration,
    request: Duration,
    /// The request's time was chosen by the caller.
    chosen: bool,
    /// How long it takes to connect and renew a lock, as far as the first connect showed.
    needs: Duration,
}

impl Timing {
    /// The TTL when none is asked for.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(30);
    const MIN_TTL: Duration = Duration::from_secs(1);
    const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
    const MIN_REQUEST: Duration = Duration::from_millis(10);
    const MAX_REQUEST: Duration = Duration::from_secs(5);
    const CONNECT: Duration = Duration::from_secs(10);
    const MARGIN: Duration = Duration::from_millis(1);
    pub(crate) const MAX_BACK_OFF: Duration = Duration::from_secs(1);
    const MIN_BACK_OFF: Duration = Duration::from_millis(1);

    /// Timing for leases of `ttl`, each request being allowed a quarter of the time that a
    /// lease counts as held, 5 s at most, or more if the [pace](crate::Pace) of the server needs it.
    ///
    /// # Errors
    /// [`TimingError::Ttl`] unless `ttl` is between 1 s and 24 h.
    pub fn new(ttl: Duration) -> Result<Self, TimingError> {
        if !(Self::MIN_TTL..=Self::MAX_TTL).contains(&ttl) {
            return Err(TimingError::Ttl);
        }
        let (request, needs) = (Duration::ZERO, Duration::ZERO);
        let timing = Self { ttl, longest: ttl, request, chosen: false, needs };
        Ok(Self { request: Self::MAX_REQUEST.min(timing.valid() / 4), ..timing })
    }

    /// The same with another budget for each request.
    ///
    /// # Errors
    /// [`TimingError`] if the budget is less than 10 ms, or more than a third of the time that a lease counts
    /// as held: one hung request must leave room for another.
    pub fn with_request(self, request: Duration) -> Result<Self, TimingError> {
        if request < Self::MIN_REQUEST {
            return Err(TimingError::NoTime);
        }
        if request > self.valid() / 3 {
            return Err(TimingError::Request { request, valid: self.valid() });
        }
        Ok(Self { request, chosen: true, ..self })
    }

    /// The same where others use the same locks with TTLs of up to `longest`. A server that forgets its locks when it restarts
    /// grants none before the leases of all of them have ended: see
    /// [`Acquire::min_uptime`](crate::Request::Acquire::min_uptime). Without this, all are taken to have this TTL.
    ///
    /// # Errors
    /// [`TimingError::LongestTtl`] if it is more than 24 h.
    pub fn with_longest_ttl(self, longest: Duration) -> Result<Self, TimingError> {
        if longest > Self::MAX_TTL {
            return Err(TimingError::LongestTtl);
        }
        Ok(Self { longest: longest.max(self.ttl), ..self })
    }

    /// Timing for leases of another TTL on the same way to the server. A request gets no more time than here.
    ///
    /// # Errors
    /// [`TimingError`]: as for [`new`](Self::new), or the TTL is too short for the time of a request or for the
    /// [pace](crate::Pace) of the server.
    pub fn lasting(self, ttl: Duration) -> Result<Self, TimingError> {
        let other = Self { needs: self.needs, ..Self::new(ttl)? };
        if self.chosen {
            return other.with_request(self.request);
        }
        if other.longest_request() < self.needs {
            return Err(other.too_short(self.needs));
        }
        Ok(Self { request: self.request.min(other.longest_request()), ..other })
    }

    /// What the server counts.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The longest TTL of all that use the server's locks.
    pub const fn longest_ttl(&self) -> Duration {
        self.longest
    }

    /// When a server to which a connection was opened at `opened` has certainly run for so long: by whatever clock.
    pub(crate) fn uptime_is_proven(&self, opened: Instant) -> Instant {
        opened.after(self.longest * 6 / 5)
    }

    /// How long one request may take before it is given up.
    pub const fn request(&self) -> Duration {
        self.request
    }

    /// How long each step of the first connect may take: as a request, if its time was chosen. Otherwise 10 s,
    /// which is long enough to find out which TTL a slow server needs.
    pub fn connect(&self) -> Duration {
        if self.chosen { self.request } else { Self::CONNECT }
    }

    /// The longest time that a request may get, so that a lease outlives one that hangs and the next.
    pub(crate) fn longest_request(&self) -> Duration {
        if self.chosen { self.request } else { self.valid() / 4 }
    }

    /// The same for a server with which a request `needs` so long when its connection was cut.
    pub(crate) fn with_room_for(self, needs: Duration) -> Self {
        let request = needs.saturating_mul(2).min(self.longest_request()).max(self.request);
        Self { request, needs, ..self }
    }

    /// Why leases of this TTL cannot be kept on such a server, and which could: with a tenth to spare, in whole
    /// seconds, from ten on in steps of five.
    pub(crate) fn too_short(&self, needs: Duration) -> TimingError {
        let least = needs.saturating_mul(4).saturating_add(Self::MARGIN) * 6 / 5 * 11 / 10;
        let step = if least > Duration::from_secs(10) { 5 } else { 1 };
        let seconds = least.as_secs() + u64::from(least.subsec_nanos() > 0);
        let ttl = Duration::from_secs(seconds.div_ceil(step).saturating_mul(step));
        let chosen = self.chosen;
        TimingError::TooSlow { needs, allowed: self.longest_request(), ttl, chosen }
    }

    /// How long an answer is waited for by a caller that would rather not wait: two requests' time,
    /// for the first may meet a connection that has broken unnoticed.
    pub fn answer_grace(&self) -> Duration {
        self.request * 2
    }

    /// How long after a request was sent its grant or renewal counts: `k·ttl − margin`.
    pub fn valid(&self) -> Duration {
        self.ttl * 5 / 6 - Self::MARGIN
    }

    /// When a lease granted or renewed by a request sent at `sent` stops to count.
    pub(crate) fn deadline(&self, sent: Instant) -> Instant {
        sent.after(self.valid())
    }

    /// When a lease that the server may have granted by `now` has certainly ended there: a TTL, by
    /// whatever clock.
    pub(crate) fn surely_over(&self, now: Instant) -> Instant {
        now.after(self.ttl * 6 / 5)
    }

    /// How long after its last success a renewal is due.
    pub(crate) fn renew_every(&self) -> Duration {
        self.ttl / 3
    }

    /// The time that is left of a lease at least, as long as its renewals succeed in no time.
    pub(crate) fn due(&self) -> Duration {
        self.valid() - self.renew_every()
    }

    /// How much earlier than due a lease is renewed when a renewal leaves anyway: leases taken
    /// one by one fall into step, and are renewed by one statement.
    pub(crate) fn renew_early(&self) -> Duration {
        self.renew_every() / 2
    }

    /// How long one wait at the server lasts at most. A connection that waits cannot be kept
    /// alive meanwhile: a third of the TTL until it is kept, this, and a request's time must be
    /// less than what a lease counts for.
    pub fn wait(&self) -> Duration {
        self.ttl / 4
    }

    /// How long to wait after the `failures`-th failure in a row, before jitter.
    pub(crate) fn back_off(&self, failures: u32, round_trip: Duration) -> Duration {
        let first = round_trip.max(Self::MIN_BACK_OFF);
        let doubled = first.saturating_mul(1 << failures.min(20));
        // No more than a renewal's share of the lease, or failing renewals would be too few.
        doubled.min(Self::MAX_BACK_OFF).min(self.renew_every() / 4)
    }
}

impl Default for Timing {
    fn default() -> Self {
        let (request, needs) = (Self::MAX_REQUEST, Duration::ZERO);
        let ttl = Self::DEFAULT_TTL;
        Self { ttl, longest: ttl, request, chosen: false, needs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_for_less_than_five_sixths_of_its_ttl() {
        let timing = Timing::new(Duration::from_secs(6)).expect("good");
        assert_eq!(timing.valid(), Duration::from_millis(4_999));
        let sent = Instant::from_nanos(1_000);
        assert_eq!(timing.deadline(sent), sent.after(Duration::from_millis(4_999)));
        assert_eq!(timing.surely_over(sent), sent.after(Duration::from_millis(7_200)));
    }

    #[test]
    fn what_cannot_be_safe_is_refused() {
        for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(86_401)] {
            assert_eq!(Timing::new(ttl), Err(TimingError::Ttl));
        }
        assert_eq!(Timing::new(Duration::MAX), Err(TimingError::Ttl));
        let timing = Timing::default();
        assert_eq!(timing.request(), Duration::from_secs(5));
        let short = Timing::new(Duration::from_secs(1)).expect("good");
        assert!(short.request() < short.valid() / 3);
        let day = Duration::from_secs(86_400);
        assert!(timing.with_longest_ttl(day).is_ok());
        for longest in [day + Duration::from_nanos(1), Duration::MAX] {
            assert_eq!(timing.with_longest_ttl(longest), Err(TimingError::LongestTtl));
        }
        let least = Duration::from_millis(10);
        for request in [Duration::ZERO, least - Duration::from_nanos(1)] {
            assert_eq!(timing.with_request(request), Err(TimingError::NoTime));
        }
        assert!(timing.with_request(least).is_ok());
        assert!(matches!(
            timing.with_request(Duration::from_secs(9)),
            Err(TimingError::Request { .. })
        ));
        assert!(timing.with_request(Duration::from_secs(8)).is_ok());
        assert_eq!(Timing::new(Timing::DEFAULT_TTL), Ok(timing));
    }

    #[test]
    fn another_ttl_keeps_the_limits_of_the_way_to_the_server() {
        let seconds = Duration::from_secs;
        let timing = Timing::default();
        let short = timing.lasting(seconds(1)).expect("good");
        assert_eq!((short.ttl(), short.request()), (seconds(1), short.valid() / 4));
        assert_eq!(timing.lasting(seconds(100)).expect("good").request(), timing.request());
        assert_eq!(timing.lasting(timing.ttl()), Ok(timing));
        let ttl = |ttl| timing.lasting(ttl);
        assert_eq!(ttl(Duration::from_millis(999)), Err(TimingError::Ttl));
        assert_eq!(ttl(seconds(86_401)), Err(TimingError::Ttl));
        // The caller's time for a request is too long for a lease of 1 s.
        let chosen = timing.with_request(seconds(2)).expect("good");
        assert!(matches!(chosen.lasting(seconds(1)), Err(TimingError::Request { .. })));
        assert_eq!(chosen.lasting(seconds(60)).expect("good").request(), seconds(2));
        // A lease of 5 s leaves a request 1 s, and this server needs more.
        let slow = timing.with_room_for(seconds(2));
        assert!(matches!(slow.lasting(seconds(5)), Err(TimingError::TooSlow { .. })));
        assert_eq!(slow.lasting(seconds(60)).expect("good").request(), slow.request());
    }

    #[test]
    fn back_off_doubles_up_to_a_bound() {
        let timing = Timing::default();
        let rtt = Duration::from_millis(3);
        assert_eq!(timing.back_off(0, rtt), rtt);
        assert_eq!(timing.back_off(3, rtt), rtt * 8);
        assert_eq!(timing.back_off(u32::MAX, rtt), Duration::from_secs(1));
        assert_eq!(timing.back_off(0, Duration::ZERO), Duration::from_millis(1));
        let short = Timing::new(Duration::from_secs(1)).expect("good");
        assert!(short.back_off(30, rtt) < short.renew_every());
    }

    /// Every millisecond of the first minute, and every minute of the first day, with a nanosecond more and less.
    fn every_ttl() -> impl Iterator<Item = Timing> {
        let minutes = (1..=1_440).map(|minute| Duration::from_secs(minute * 60));
        let milliseconds = (1_000..=60_000).map(Duration::from_millis);
        let nano = Duration::from_nanos(1);
        let around = move |ttl: Duration| [ttl.saturating_sub(nano), ttl, ttl + nano];
        milliseconds.chain(minutes).flat_map(around).filter_map(|ttl| Timing::new(ttl).ok())
    }

    /// The theorem in whole numbers, for clocks that chrony slews by 8.3 % in opposite directions. The server counts whole
    /// microseconds of a TTL.
    #[test]
    fn no_lease_counts_for_longer_than_the_server_keeps_it() {
        const SLOW: u128 = 917;
        const FAST: u128 = 1_083;
        let mut tried = 0;
        for timing in every_ttl() {
            let server = timing.ttl().as_micros() * 1_000;
            assert!(timing.valid().as_nanos() * FAST < server * SLOW, "{timing:?}");
            let over = timing.surely_over(Instant::from_nanos(0)).as_nanos();
            assert!(u128::from(over) * SLOW > timing.ttl().as_nanos() * FAST, "{timing:?}");
            tried += 1;
        }
        assert_eq!(tried, 59_001 * 3 - 1 + 1_440 * 3 - 1, "all but what is too short or too long");
    }

    #[test]
    fn every_lease_has_time_for_a_wait_and_a_request_before_its_deadline() {
        for timing in every_ttl() {
            let waits = timing.renew_every() + timing.wait() + timing.request();
            assert!(waits < timing.valid(), "{timing:?}");
            assert!(timing.renew_early() < timing.renew_every() && timing.due() < timing.valid());
        }
    }

    /// Around every power of two on the clock, and its ends.
    #[test]
    fn no_deadline_is_beyond_the_end_of_the_clock_or_before_its_request() {
        let near = |bit| [-1, 0, 1].map(|off: i128| (1_i128 << bit) + off);
        let instants = (0..=64).flat_map(near).filter_map(|nanos| u64::try_from(nanos).ok());
        for sent in instants.map(Instant::from_nanos) {
            for ttl in [1, 2, 30, 86_400].map(Duration::from_secs) {
                let timing = Timing::new(ttl).expect("good");
                let (deadline, over) = (timing.deadline(sent), timing.surely_over(sent));
                assert!(sent <= deadline && deadline <= over);
                assert!(deadline.since(sent) <= timing.valid());
                assert!(deadline == Instant::END || deadline.since(sent) == timing.valid());
            }
        }
    }
}
