//! Late answers, stopped processes, and panics over an answer.

use super::*;
use std::sync::mpsc::channel;

const LATE: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_lease_counts_from_its_request() {
    let fake = Fake::default();
    *fake.0.pause.lock().expect("unpoisoned") = LATE;
    let guard = start(4, &fake).lock("a").await.expect("free");
    let most = guard.valid_for() - LATE;
    assert!(guard.remaining() <= most, "{:?}", guard.remaining());
    let (mut left, mut renewals) = (guard.remaining(), 0);
    while renewals < 2 {
        assert!(guard.is_held());
        let now = guard.remaining();
        assert!(now <= most, "{now:?}");
        renewals += u32::from(now > left);
        left = now;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// No task and no thread of the driver runs meanwhile, as in a process that is stopped.
#[tokio::test]
async fn the_first_call_after_a_stop_past_the_lease_says_that_it_is_over() {
    let locks = start(1, &Fake::default());
    let mut guards = Vec::new();
    for n in 0..4 {
        guards.push(locks.lock(n.to_string()).await.expect("free"));
    }
    let longest = guards.iter().map(crate::Guard::remaining).max().expect("some");
    std::thread::sleep(longest + Duration::from_millis(1));
    let [held, lost, remaining, called] = &guards[..] else { unreachable!("four") };
    assert!(!held.is_held());
    assert!(matches!(lost.lost_reason(), Some(LostReason::Deadline { .. })));
    assert_eq!(remaining.remaining(), Duration::ZERO);
    let (tell, told) = channel();
    called.on_lost(move |reason| tell.send(reason).expect("heard"));
    assert!(matches!(told.recv_timeout(SOON), Ok(LostReason::Deadline { .. })));
}

#[tokio::test]
async fn a_callback_for_a_loss_that_has_happened_runs_at_once() {
    let guard = start(1, &mute_after(1)).lock("a").await.expect("free");
    let lost = guard.lost().await;
    for _ in 0..2 {
        let (tell, told) = channel();
        guard.on_lost(move |reason| tell.send(reason).expect("heard"));
        assert_eq!(told.recv_timeout(SOON), Ok(lost.clone()));
    }
}

/// Gives so many answers.
fn mute_after(answers: usize) -> Fake {
    let answers = Some(Semaphore::new(answers));
    Fake(Arc::new(Script { answers, ..Script::default() }))
}

/// The server has executed the request, and nobody wants the lock any more by the time of the panic.
#[tokio::test]
async fn a_panic_over_the_answer_leaves_no_lock_behind() {
    let fake = Fake::default();
    let locks = start(30, &fake);
    *fake.0.pause.lock().expect("unpoisoned") = Duration::from_millis(20);
    fake.0.panics.store(true, Ordering::SeqCst);
    let waiting = locks.clone();
    let waiter = tokio::spawn(async move { waiting.lock("a").await.map(drop) });
    until(|| fake.0.began.lock().expect("unpoisoned").contains(&"acquire")).await;
    waiter.abort();
    until(|| fake.0.ended.lock().expect("unpoisoned").contains(&"release")).await;
}
