//! The limits of the lease times, from outside.

use lock_core::{Timing, TimingError};
use std::time::Duration;

#[test]
fn a_ttl_is_a_second_to_a_day_both_included() {
    let nano = Duration::from_nanos(1);
    for (good, bad) in [(Duration::from_secs(1), Duration::from_secs(1) - nano), (DAY, DAY + nano)]
    {
        assert_eq!(Timing::new(good).expect("a good TTL").ttl(), good);
        assert_eq!(Timing::new(bad), Err(TimingError::Ttl));
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn every_ttl_leaves_room_for_three_requests_before_its_deadline() {
    for seconds in [1, 2, 5, 10, 29, 30, 60, 3_600, 86_400] {
        let timing = Timing::new(Duration::from_secs(seconds)).expect("a good TTL");
        assert!(timing.request() * 3 <= timing.valid() && !timing.request().is_zero());
        assert!(timing.request() <= Duration::from_secs(5));
        assert!(timing.valid() < timing.ttl() * 5 / 6, "{seconds}");
        assert!(timing.valid() * 100 > timing.ttl() * 83, "{seconds}");
    }
}

#[test]
fn a_request_may_take_a_third_of_what_a_lease_counts_and_no_more() {
    let timing = Timing::new(Duration::from_secs(6)).expect("a good TTL");
    let third = timing.valid() / 3;
    let other = timing.with_request(third).expect("a good budget");
    assert_eq!((other.request(), other.ttl()), (third, timing.ttl()));
    let request = third + Duration::from_nanos(1);
    let valid = timing.valid();
    assert_eq!(timing.with_request(request), Err(TimingError::Request { request, valid }));
}
