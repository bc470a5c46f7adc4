//! Timers that are not set for each request.

use crate::clock;
use lock_core::Instant;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// A timer. It is set again only for an earlier time, and when it has gone off: most requests are answered
/// long before it does.
#[derive(Default)]
pub(crate) struct Alarm {
    /// [`None`] until it is set.
    sleep: Option<Pin<Box<Sleep>>>,
    /// [`None`] once it has gone off.
    at: Option<Instant>,
}

impl Alarm {
    /// Goes off at `at`, or before. If it should have gone off, the machine was suspended, which the runtime does not
    /// count.
    pub(crate) fn set(&mut self, now: Instant, at: Instant) {
        if self.at.is_none_or(|set| at < set || set <= now) {
            self.at = Some(at);
            // Made anew for times that are too far away to be added.
            let sleeps = sleep(at.since(now));
            match &mut self.sleep {
                Some(sleep) => sleep.set(sleeps),
                None => self.sleep = Some(Box::pin(sleeps)),
            }
        }
    }

    /// True if it goes off.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let sleep = self.sleep.as_mut().filter(|_| self.at.is_some());
        let goes_off = sleep.is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        if goes_off {
            self.at = None;
        }
        goes_off
    }

    /// What `work` comes to, or [`None`] if that takes longer than `limit`.
    pub(crate) async fn within<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let (mut work, began) = (pin!(work), clock::now());
        let until = began.after(limit);
        self.set(began, until);
        poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            // It may have been set for the limit of earlier work.
            while self.poll(cx) {
                let now = clock::now();
                if until <= now {
                    return Poll::Ready(None);
                }
                self.set(now, until);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_is_set_for_the_earliest_time_and_again_when_it_is_late() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut alarm = Alarm::default();
        let mut set_at = |now, until| {
            alarm.set(at(now), at(until));
            alarm.at
        };
        assert_eq!(set_at(0, 100), Some(at(100)));
        assert_eq!(set_at(1, 200), Some(at(100)), "it goes off early, which does no harm");
        assert_eq!(set_at(1, 50), Some(at(50)));
        // The machine was suspended: the runtime would let it go off 49 s from now.
        assert_eq!(set_at(60, 61), Some(at(61)));
    }

    #[tokio::test]
    async fn an_alarm_that_goes_off_is_set_no_more() {
        let mut alarm = Alarm::default();
        alarm.set(Instant::from_nanos(0), Instant::from_nanos(1));
        poll_fn(|cx| if alarm.poll(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert_eq!(alarm.at, None);
    }

    #[tokio::test]
    async fn work_has_its_own_limit_also_if_the_alarm_is_set_for_an_earlier_one() {
        let (mut alarm, began) = (Alarm::default(), clock::now());
        let millis = Duration::from_millis;
        assert_eq!(alarm.within(millis(20), async { 1 }).await, Some(1));
        assert_eq!(alarm.within(millis(60), std::future::pending::<()>()).await, None);
        assert!(clock::now().since(began) >= millis(60));
        let long = Duration::from_secs(60);
        assert_eq!(alarm.within(long, sleep(millis(1))).await, Some(()));
        assert_eq!(alarm.within(millis(20), std::future::pending::<()>()).await, None);
        assert!(clock::now().since(began) < long);
    }
}
