//! The clock whose readings the engine gets.

use lock_core::Instant;
use rustix::time::{ClockId, clock_gettime};

// These clocks count suspended time. `CLOCK_MONOTONIC` does so on Apple systems only. On systems other than
// Apple's, Linux and Android, a suspended holder may notice its loss late.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

#[cfg(lock_shuttle)]
pub use crate::threads::now;

/// Now, on a clock that all processes of this machine share since it booted.
#[cfg(not(lock_shuttle))]
pub fn now() -> Instant {
    let now = clock_gettime(CLOCK);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_runs_forward_at_the_pace_of_time() {
        let before = now();
        std::thread::sleep(Duration::from_millis(20));
        assert!(now().since(before) >= Duration::from_millis(20));
    }

    /// In a namespace whose boot clock is far ahead of its monotonic clock, as after a long suspension.
    #[test]
    #[cfg(target_os = "linux")]
    fn suspended_time_counts() {
        const INSIDE: &str = "LOCK_TEST_SUSPENDED";
        if std::env::var_os(INSIDE).is_some() {
            let running = clock_gettime(ClockId::Monotonic).tv_sec;
            let running = Duration::from_secs(u64::try_from(running).expect("positive"));
            let now = now().since(Instant::from_nanos(0));
            assert!(now > running + Duration::from_secs(900_000), "{now:?}");
            return;
        }
        let own = std::env::current_exe().expect("there is one");
        let status = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--time", "--boottime", "1000000", "--"])
            .arg(own)
            .args(["--exact", "clock::tests::suspended_time_counts"])
            .env(INSIDE, "1")
            .status();
        assert!(status.expect("util-linux").success());
    }
}
