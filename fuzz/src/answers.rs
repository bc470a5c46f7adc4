//! Consul's answers, as the clients of both drivers read them.

mod agent;

use agent::{Agent, SECRET};
use lock_core::{Failure, Fence, LostReason};
use std::time::Duration;

/// How long an acquire waits.
const LIMIT: Duration = Duration::from_millis(200);
/// How long some locks are held: more than a third of their TTL, so they are renewed.
const HOLD: Duration = Duration::from_millis(400);

/// Sends any answers to a driver that acquires a lock, renews it and releases it. There must be no panic, in any thread, and no lock that the
/// answers do not grant. Each error is one line without the token. The fuzzer's own limit finds what does not end.
///
/// The first byte chooses the driver, and whether the lock is held until it is renewed. The rest is answers, between zero bytes: see
/// `Agent`.
pub fn consul_answers(bytes: &[u8]) {
    if bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
        return;
    }
    let (first, answers) = bytes.split_first().unwrap_or((&0, &[]));
    let holds = first & 0b1_1110 == 0b1_1110;
    let agent = Agent::start(answers);
    let url = agent.url();
    if first & 1 == 0 {
        blocking(&agent, &url, holds)
    } else {
        on_tokio(&agent, &url, holds)
    };
    agent.stop();
}

fn blocking(agent: &Agent, url: &str, holds: bool) {
    use lock_sync::{Locks, Progress};
    let locks = match Locks::connect(url) {
        Ok(locks) => locks,
        Err(error) => return check(&error.to_string()),
    };
    let waiting = |news: &Progress| match news {
        Progress::Trouble(text) => check(text),
        other => check(&format!("{other:?}")),
    };
    match locks.acquire("a").timeout(LIMIT).on_waiting(waiting).wait() {
        Ok(guard) => {
            granted(agent, guard.fence());
            if holds {
                guard.wait_lost(HOLD).iter().for_each(lost);
                guard.last_failure().iter().for_each(failed);
            }
            if let Err(error) = guard.release() {
                check(&error.to_string());
            }
        }
        Err(error) => not_granted(&error),
    }
    if let Err(error) = locks.shutdown() {
        check(&error.to_string());
    }
}

fn on_tokio(agent: &Agent, url: &str, holds: bool) {
    use lock_async::{Locks, Progress};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let locks = match Locks::connect(url).await {
            Ok(locks) => locks,
            Err(error) => return check(&error.to_string()),
        };
        let waiting = |news: &Progress| match news {
            Progress::Trouble(text) => check(text),
            other => check(&format!("{other:?}")),
        };
        match locks.acquire("a").timeout(LIMIT).on_waiting(waiting).await {
            Ok(guard) => {
                granted(agent, guard.fence());
                if holds {
                    let lost_in_time = tokio::time::timeout(HOLD, guard.lost()).await;
                    lost_in_time.iter().for_each(lost);
                    guard.last_failure().iter().for_each(failed);
                }
                if let Err(error) = guard.release().await {
                    check(&error.to_string());
                }
            }
            Err(error) => not_granted(&error),
        }
        if let Err(error) = locks.shutdown().await {
            check(&error.to_string());
        }
    });
}

fn granted(agent: &Agent, fence: Fence) {
    assert!(agent.granted(fence), "{fence} by {:#?}", agent.exchanges());
}

/// A driver ends when one of its threads panics.
fn not_granted(error: &lock_sync::Error) {
    assert!(!matches!(error, lock_sync::Error::Closed), "the driver has ended");
    check(&error.to_string());
}

fn lost(reason: &LostReason) {
    assert!(!matches!(reason, LostReason::Unattended), "the driver has ended");
    check(&reason.to_string());
}

fn failed(failure: &Failure) {
    check(&failure.to_string());
}

fn check(text: &str) {
    assert!(!text.contains(SECRET), "{text}");
    assert!(!text.contains(char::is_control) && text.len() < 4000, "{text:?}");
}
